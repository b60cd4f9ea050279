"""Consumes `predictions` of several targets, produces `decisions`: one score per row of what to go for.

Targets have different units, so each is first put on the same footing: a number becomes the share of earlier outcomes
that lie below it (its percentile), a class its probability. The score is their weighted mean, from 0 to 1.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pyarrow as pa

from assay.config import TargetConfig
from assay.config.dataset import stored_name
from assay.errors import DataError
from assay.model.registry import champion
from assay.model.row_sample import ROW, row_hash, sample_threshold
from assay.model.scale import Floats, as_floats
from assay.runtime.arrow_files import conform
from assay.runtime.conditions import Condition, period_conditions
from assay.runtime.job import Done, JobContext, Plan
from assay.runtime.plane import Output
from assay.runtime.tables import DECISIONS, FEATURES, PREDICTIONS

JOB = "decide"
POINTS = 1_001  # of a percentile's grid: a tenth of a percent
SAMPLE_ROWS = 200_000
TOP = 0.1  # share of rows that a decision goes for, where its worth is told


def plan(context: JobContext) -> Plan:
    """What is about to be combined."""
    predictions = context.version(PREDICTIONS.name, made_by="score")
    features = context.version(FEATURES.name, made_by="build_features")
    return Plan(
        job=JOB,
        inputs={PREDICTIONS.name: predictions, FEATURES.name: features},
        sections=("dataset", "where"),
        slots=[(DECISIONS.name, "all")],
        execute=lambda identity: Deciding(context, predictions, features).run(identity),
    )


class Deciding:
    """One run's combined score. predictions, features: versions of the tables."""

    def __init__(self, context: JobContext, predictions: int, features: int) -> None:
        self.context = context
        self.predictions, self.features = predictions, features
        dataset = context.config.dataset
        self.weights = dict(dataset.decision)
        self.targets = [target for target in dataset.targets if target.name in self.weights]

    def run(self, identity: str) -> Done:
        """Put on the same footing, combine, write, and see how well the score orders what came."""
        plane = self.context.plane
        with self.context.reporter.step("percentiles of earlier outcomes"):
            kernel = Combine(self.weights, {t.name: self.grid(t) for t in self.targets}, self.columns)
        scored = plane.read(
            PREDICTIONS.name,
            version=self.predictions,
            columns=["row_id", "target", "prediction"],
            where=[Condition("target", "in", tuple(self.weights))],
        )
        rows = plane.read(
            FEATURES.name, version=self.features, columns=["row_id", "time", "month", *self.columns.values()]
        )
        hint = plane.rows(PREDICTIONS.name, self.predictions)
        schema = DECISIONS.schema()
        joined = scored.join(rows, ["row_id"], rows_hint=hint).by_key(["row_id"], rows_hint=hint)
        with self.context.reporter.step("combining the targets"):
            written = joined.map(kernel, schema).write(
                [Output(DECISIONS, schema, self.context.commit(JOB, "all", identity))]
            )
        found = plane.read(
            DECISIONS.name, version=written[0].version, columns=["score", "realised"], where=KNOWN
        ).collect()
        metrics = worth(as_floats(found.column("score")), as_floats(found.column("realised")))
        metrics = {"decisions": float(written[0].rows), **metrics}
        summary = [f"{written[0].rows:,} rows scored by {', '.join(self.weights)} together (dataset.decision)"]
        if "decision_top_realised" in metrics:
            summary.append(
                f"of {found.num_rows:,} with all outcomes known, the best tenth by score came to "
                f"{metrics['decision_top_realised']:.3f}, all to {metrics['decision_realised']:.3f} "
                f"(rank correlation {metrics['decision_rank_correlation']:.3f})"
            )
        return Done(metrics=metrics, written=written, summary=summary)

    @property
    def columns(self) -> dict[str, str]:
        """Target -> its column among the features."""
        return {target.name: stored_name(target.name) for target in self.targets}

    def grid(self, target: TargetConfig) -> Floats | None:
        """Quantiles (POINTS,) of a number's outcomes before the test period, of a sample of rows; None for a class.

        Raises:
            DataError: there are none.
        """
        if target.task != "regression":
            return None
        split = champion(self.context.tracking, target.name).judged.facts["split"]
        column = self.columns[target.name]
        rows = sum(split[name]["rows"] for name in ("train", "tune", "calibrate"))
        found: list[Floats] = []
        for name in ("train", "tune", "calibrate"):
            flow = self.context.plane.read(
                FEATURES.name,
                version=self.features,
                columns=[ROW, column],
                where=[Condition(column, "not_null"), *period_conditions(split[name])],
            )
            kernel = Outcomes(column, sample_threshold(rows, SAMPLE_ROWS))
            found.append(as_floats(flow.map(kernel, OUTCOMES).collect().column("outcome")))
        outcomes = np.concatenate(found)
        if not len(outcomes):
            raise DataError(f"no outcome of {target.name!r} is known before its test period: nothing to compare with")
        return np.quantile(outcomes, np.linspace(0, 1, POINTS))


KNOWN = [Condition("realised", "not_null")]
OUTCOMES = pa.schema([pa.field("outcome", pa.float64())])


@dataclasses.dataclass(frozen=True)
class Outcomes:
    """Kernel: outcomes of a sample of rows. threshold: of `sample_threshold`."""

    column: str
    threshold: int

    def __call__(self, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """Column outcome."""
        for batch in batches:
            kept = row_hash(batch.column(ROW).to_numpy()) <= np.uint64(self.threshold)
            yield pa.record_batch({"outcome": pa.array(as_floats(batch.column(self.column))[kept])}, schema=OUTCOMES)


@dataclasses.dataclass(frozen=True)
class Combine:
    """Kernel over joined rows, those of a row_id together: rows of `DECISIONS`.

    weights: target -> weight; below 0 less is better.  grids: target -> quantiles of a number, None for classes.
    columns: target -> column of its outcome.
    """

    weights: Mapping[str, float]
    grids: Mapping[str, Floats | None]
    columns: Mapping[str, str]

    def __call__(self, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """One batch per task. Rows that not all targets were predicted of are left out."""
        import polars as pl

        parts = [batch for batch in batches if batch.num_rows]
        if not parts:
            return
        frame = pl.from_arrow(pa.Table.from_batches(parts))
        assert isinstance(frame, pl.DataFrame)
        told = frame.pivot("target", index="row_id", values="prediction", aggregate_function="first")
        named = {name: f"outcome of {name}" for name in self.weights}  # a target may be called like its column
        outcomes = frame.unique("row_id", keep="first", maintain_order=True).select(
            "row_id", "time", "month", *(pl.col(self.columns[name]).alias(column) for name, column in named.items())
        )
        rows = told.join(outcomes, on="row_id", how="left").sort("row_id")
        if set(self.weights) - set(rows.columns):
            return
        rows = rows.drop_nulls([*self.weights])
        score = self.combined({name: rows[name].to_numpy() for name in self.weights})
        realised = self.combined({name: rows[column].to_numpy() for name, column in named.items()})
        columns: dict[str, Any] = {name: rows[name] for name in ("row_id", "time", "month")}
        made = pl.DataFrame({**columns, "score": score, "realised": realised}).with_columns(
            pl.col("realised").fill_nan(None)
        )
        for batch in made.to_arrow().to_batches():
            yield conform(batch, DECISIONS.schema())

    def combined(self, values: Mapping[str, Any]) -> Floats:
        """Weighted mean (n,) of what targets are worth, 0 to 1; NaN where one is missing."""
        weights = np.abs(np.array([*self.weights.values()], dtype=np.float64))
        shares = []
        for name, given in self.weights.items():
            share = footing(np.asarray(values[name], dtype=np.float64), self.grids[name])
            shares.append(share if given > 0 else 1 - share)
        return np.asarray(weights @ np.vstack(shares) / weights.sum(), dtype=np.float64)


def footing(values: Floats, grid: Floats | None) -> Floats:
    """Numbers (n,) -> the share of earlier outcomes below them, ties counted half; probabilities as they are."""
    if grid is None:
        return values
    shares = np.linspace(0, 1, len(grid))
    below, within = np.searchsorted(grid, values, side="left"), np.searchsorted(grid, values, side="right")
    inside = np.interp(values, grid, shares)
    tied = (shares[np.minimum(below, len(grid) - 1)] + shares[np.maximum(within - 1, 0)]) / 2
    found = np.where(within > below, tied, inside)
    return np.where(np.isnan(values), np.nan, found)


def worth(score: Floats, realised: Floats) -> dict[str, float]:
    """How well a score orders what came: rank correlation, and what the best tenth came to. Few rows tell nothing."""
    from scipy.stats import spearmanr

    if len(score) < 10 or np.ptp(score) == 0 or np.ptp(realised) == 0:
        return {}
    best = np.argsort(-score, kind="stable")[: max(1, round(TOP * len(score)))]
    return {
        "decision_rank_correlation": float(spearmanr(score, realised).statistic),
        "decision_realised": float(realised.mean()),
        "decision_top_realised": float(realised[best].mean()),
    }
