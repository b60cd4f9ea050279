"""Consumes a trained model and its calibration period, produces `calibrations` and the registered, calibrated model."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa

from assay.config import TargetConfig
from assay.config.dataset import stored_name
from assay.conformal.calibration import Calibration, fit
from assay.conformal.conformity import ERRORS, SCORED, ConformityScores, ErrorRows, Older, score_of, scores_in
from assay.conformal.difficulty import LEAST_ROWS, Difficulty
from assay.conformal.scores import AbsoluteResidual, NormalisedResidual
from assay.errors import ConfigError
from assay.model.bundle import Model
from assay.model.carried import Carried
from assay.model.registry import Calibrated, TrainedRun, load_trained, register
from assay.model.row_sample import sample_threshold
from assay.model.verdict import Verdict
from assay.runtime.conditions import Condition, period_conditions
from assay.runtime.job import Done, JobContext, Plan
from assay.runtime.plane import Flow, Output, Written
from assay.runtime.tables import CALIBRATIONS, FEATURES, level_label

JOB = "calibrate"
COVERAGE_GATE = "coverage_gate.json"  # beside the other gates of the training run
PYFUNC = Path(__file__).with_name("pyfunc.py")
SCALE_ROWS = 50_000  # most rows that a scale is learned from; more tell it little


def plan(context: JobContext, target: TargetConfig, trained_run_id: str) -> Plan:
    """What calibration is about to do for the models of one training run."""
    trained = load_trained(context.tracking, trained_run_id)
    version = context.version(FEATURES.name, made_by="build_features")
    return Plan(
        job=JOB,
        inputs={FEATURES.name: version},
        sections=("dataset", "training", "gates", "conformal", "where"),
        slots=[(CALIBRATIONS.name, target.name)],
        extra={"target": target.name, "model": trained.serves.version, "tested": trained.model.version},
        execute=lambda identity: Calibrating(context, target, trained, version).run(identity),
    )


class Calibrating:
    """The calibration of one training run's models, each on rows that it, or its like of an earlier time, never saw."""

    def __init__(self, context: JobContext, target: TargetConfig, trained: TrainedRun, version: int) -> None:
        self.context = context
        self.config = context.config
        self.target = target
        self.trained = trained
        self.version = version
        self.segments = tuple(stored_name(s) for s in context.config.dataset.segments)

    def run(self, identity: str) -> Done:
        """Score, fit, judge the coverage, register."""
        trained, tracking = self.trained, self.context.tracking
        kind, difficulty, older = self.how()
        with self.context.reporter.step("conformity scores of the calibration period"):
            scored = self.scored(self.earlier, "calibrate", kind, difficulty)
            scored = older.without(scored) if older is not None else scored
        with self.context.reporter.step("conformity scores of the test period"):
            later = self.scored(trained.model, "test", kind, difficulty)
        tested = self.fitted(scored, kind, difficulty)
        held = coverage_of(tested, later)
        found = verdict(held, tested.levels, self.config.profile.gates.coverage_shortfall)
        tracking.of_run(trained.run_id, [dataclasses.asdict(v) for v in found], COVERAGE_GATE)
        metrics = {f"test_coverage_{level_label(lv)}": c for lv, c in zip(tested.levels, held, strict=True)}
        failed = [v.rule for v in found if not v.passed]
        if failed and self.config.training.force_production_quality:
            return Done(metrics=metrics, written=[], summary=[f"refused: {failed[0]}"], refused="; ".join(failed))
        both = pa.concat_tables([scored, later])
        served = self.fitted(both, kind, difficulty) if trained.served is not None else tested
        with self.context.reporter.step("registering the calibrated model"):
            written = self.write(served, tested, identity)
            tracking.json(served.to_dict(), "calibration.json")
            number = register(
                tracking,
                trained,
                served.to_dict(),
                served.version,
                PYFUNC,
                tested=Calibrated(trained.model, tested.to_dict(), tested.version) if trained.served else None,
            )
        everyone = served.quantiles[""]
        own = sum(1 for label in served.quantiles if label and served.label_used(label) == label)
        what = "sets" if trained.model.outcome.decides else "intervals"
        summary = [
            *(f"below threshold, not enforced: {rule}" for rule in failed),
            f"calibrated on {everyone.rows:,} rows ({kind} scores); {own} of {len(served.quantiles) - 1} segments have "
            f"{served.min_segment_rows} rows or more and {what} of their own",
            f"registered {trained.registered_name} version {number}, now champion",
        ]
        metrics |= {"calibration_rows": float(everyone.rows), "calibrated_segments": float(own)}
        metrics |= dict(zip(quantile_names(served), everyone.quantiles, strict=True))
        return Done(metrics=metrics, written=written, summary=summary)

    @property
    def earlier(self) -> Model:
        """The model that did not learn from the calibration period."""
        return self.trained.held_back or self.trained.model

    def how(self) -> tuple[str, Difficulty | None, Older | None]:
        """The kind of score, and for normalised ones the scale and the rows that it was learned from.

        Raises:
            ConfigError: the model cannot have that score.
        """
        conformal = self.config.profile.conformal
        try:
            kind = score_of(self.trained.model, conformal.score, conformal.levels)
        except ValueError as error:
            raise ConfigError(str(error)) from None
        if kind != NormalisedResidual.name:
            return kind, None, None
        with self.context.reporter.step("how large an error is usual"):
            rows = self.scored(self.earlier, "calibrate", AbsoluteResidual.name, None)
            older = Older.of(rows, conformal.scale_share, drawn=self.earlier.drawn)
            count = rows.num_rows - older.without(rows).num_rows
            if count >= LEAST_ROWS:
                return kind, self.learned_scale(older, count), older
        self.context.reporter.say(
            f"  {self.target.name}: {count} of {rows.num_rows:,} calibration rows are set apart for the scale of "
            f"normalised scores, which needs {LEAST_ROWS}: absolute scores instead (conformal.scale_share, "
            "split.calibrate)",
            "yellow",
        )
        return AbsoluteResidual.name, None, None

    def learned_scale(self, older: Older, count: int) -> Difficulty:
        """The scale, of a sample of the rows that are set apart; count: how many those are."""
        kernel = ErrorRows(Carried.of(self.earlier), older, sample_threshold(count, SCALE_ROWS))
        found = self.labelled(self.earlier, "calibrate").map(kernel, ERRORS).collect()
        types = self.earlier.encoding.feature_types
        inputs = found.column("inputs").combine_chunks().flatten().to_numpy().reshape(-1, len(types))
        return Difficulty.learned(inputs, found.column("error").to_numpy(), types)

    def scored(self, model: Model, period: str, kind: str, difficulty: Difficulty | None) -> pa.Table:
        """Conformity scores of the labelled rows of a period: rows of `SCORED`."""
        levels = self.config.profile.conformal.levels
        kernel = ConformityScores(Carried.of(model), self.segments, levels, kind, difficulty)
        return self.labelled(model, period).map(kernel, SCORED).collect()

    def labelled(self, model: Model, period: str) -> Flow:
        """The labelled rows of a period, with all that their scores need."""
        column = stored_name(self.target.name)
        where = [
            *(Condition(stored_name(c), "==", v) for c, v in self.config.where),
            Condition(column, "not_null"),
            *period_conditions(model.facts["split"][period]),
        ]
        columns = list(dict.fromkeys(["row_id", "time", *model.input_columns, *self.segments, column]))
        return self.context.plane.read(FEATURES.name, version=self.version, columns=columns, where=where)

    def fitted(self, scored: pa.Table, kind: str, difficulty: Difficulty | None) -> Calibration:
        """The calibration of rows of `SCORED`."""
        conformal = self.config.profile.conformal
        return fit(
            scores_in(scored),
            np.array(scored.column("label").to_pylist(), dtype=object),
            conformal.levels,
            min_segment_rows=conformal.min_segment_rows,
            segment_columns=self.segments,
            score=kind,
            shrinkage_rows=conformal.shrinkage_rows,
            difficulty=difficulty,
        )

    def write(self, served: Calibration, tested: Calibration, identity: str) -> Sequence[Written]:
        """Both calibrations as rows of `calibrations`."""
        schema, name = CALIBRATIONS.schema(), self.target.name
        rows = _rows(served, self.trained.serves.version, name)
        if self.trained.served is not None:
            rows = pa.concat_tables([rows, _rows(tested, self.trained.model.version, name)])
        commit = self.context.commit(JOB, name, identity, calibration=served.version)
        return self.context.plane.rows_of(CALIBRATIONS, schema, rows.cast(schema)).write(
            [Output(CALIBRATIONS, schema, commit, owns={"target": name})]
        )


def coverage_of(calibration: Calibration, scored: pa.Table) -> list[float]:
    """Per level the share of rows of `SCORED` whose scores are within the quantiles of their segment."""
    quantiles, _ = calibration.quantiles_for(np.array(scored.column("label").to_pylist(), dtype=object))
    scores, parts = scores_in(scored), calibration.parts
    within = scores[:, [part.column for part in parts]] <= quantiles
    own = [[place for place, part in enumerate(parts) if part.level == at] for at in range(len(calibration.levels))]
    return [float(within[:, places].all(axis=1).mean()) for places in own]


def verdict(held: Sequence[float], levels: Sequence[float], shortfall: float | None) -> list[Verdict]:
    """The gate's outcome for the level that falls short most; none without a gate."""
    if shortfall is None:
        return []
    coverage, level = min(zip(held, levels, strict=True), key=lambda pair: pair[0] - pair[1])
    least = level - shortfall
    rule = (
        f"the {level:.0%} interval holds {coverage:.1%} of the test period's outcomes, the least allowed {least:.1%} "
        "(gates.coverage_shortfall)"
    )
    return [Verdict("coverage", coverage >= least, coverage, least, rule)]


def quantile_names(calibration: Calibration) -> list[str]:
    """Metric names of a segment's quantiles: quantile_80, or, where each end has its own, quantile_80_0 and _1."""
    parts = calibration.parts
    alone = len(parts) == len(calibration.levels)
    return [
        f"quantile_{level_label(calibration.levels[part.level])}" + ("" if alone else f"_{part.column}")
        for part in parts
    ]


def _rows(calibration: Calibration, model_version: str, target: str) -> pa.Table:
    """The calibration as rows of `calibrations`."""
    rows = [
        {
            "segment": label,
            "used": calibration.label_used(label),
            "level": calibration.levels[part.level],
            "part": part.column,
            "score": calibration.score,
            "quantile": quantile,
            "rows": found.rows,
            "model_version": model_version,
            "calibration_version": calibration.version,
            "target": target,
        }
        for label, found in calibration.quantiles.items()
        for part, quantile in zip(calibration.parts, found.quantiles, strict=True)
    ]
    return pa.Table.from_pylist(rows, schema=CALIBRATIONS.schema())
