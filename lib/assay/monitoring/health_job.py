"""Consumes `drift_detections` and `performance`, produces `health`: one number a day, and what it is made of."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Mapping
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa

from assay.model.bundle import Model
from assay.monitoring.health import (
    WHOLE,
    Part,
    coverage_part,
    error_part,
    features_part,
    health_of,
    quality_part,
    response_part,
    volume_part,
)
from assay.monitoring.performance import between
from assay.monitoring.watching import Watching
from assay.runtime.conditions import Condition
from assay.runtime.job import Done, Plan
from assay.runtime.monitoring_tables import CHAMPION_ROLE, DRIFT_DETECTIONS, HEALTH, PERFORMANCE
from assay.runtime.tables import level_label

JOB = "health"
CALLS = 20  # whose median is how long a row takes
# Column of `performance` -> the sum that it is the mean of.
SUMS = {"mse": "loss", "log_loss": "loss", "mae": "absolute"}


def plan(watching: Watching) -> Plan:
    """What health is about to be told from."""
    inputs = watching.versions(DRIFT_DETECTIONS, PERFORMANCE)
    return watching.plan(JOB, inputs, HEALTH, lambda identity: Health(watching, inputs).run(identity))


class Health:
    """One target's health."""

    def __init__(self, watching: Watching, inputs: Mapping[str, int]) -> None:
        self.watching, self.context, self.inputs = watching, watching.context, inputs
        self.levels = tuple(watching.champion.calibration["levels"])
        self.model = watching.champion.model

    def run(self, identity: str) -> Done:
        """Read, judge, write."""
        with self.context.reporter.step("how healthy the champion is"):
            parts = health_of(self.parts())
        common = {"model_version": self.model.version, **self.watching.dated}
        table = pa.Table.from_pylist([{**dataclasses.asdict(part), **common} for part in parts], HEALTH.schema())
        written = self.watching.write(HEALTH, table, JOB, identity)
        scores = {part.part: part.score for part in parts if part.score is not None}
        metrics = {"health" if name == WHOLE else f"health_{name}": score for name, score in scores.items()}
        return Done(metrics=metrics, written=written, summary=told(self.watching.target.name, parts))

    def parts(self) -> list[Part]:
        """All parts but the whole."""
        config, classes = self.watching.config, self.model.outcome.decides
        days = self.days()
        reference, current = (between(days, window.start, window.end) for window in self.watching.windows)
        before, now = (part.filter(pl.col("matured")) for part in (reference, current))
        awaiting = current.filter(pl.col("awaited") > 0)
        return [
            error_part(before, now, awaiting, self.levels[0], config, classes=classes),
            coverage_part(before, now, self.levels, config),
            features_part(self.drifted(), self.model.importance_shares()),
            quality_part(reference, current),
            volume_part(reference, current),
            response_part(milliseconds_of(self.model), config.response_ms),
        ]

    def days(self) -> pl.DataFrame:
        """Sums of the champion's days, as `performance` has their means."""
        of_champion = Condition("role", "==", CHAMPION_ROLE)
        rows = pl.from_arrow(self.watching.rows(PERFORMANCE, self.inputs[PERFORMANCE.name], of_champion))
        assert isinstance(rows, pl.DataFrame)
        known = pl.col("known").fill_null(0.0)
        sums = {SUMS[name]: pl.col(name).fill_null(0.0) * known for name in SUMS if rows[name].is_not_null().any()}
        for label in map(level_label, self.levels):
            sums[f"held_{label}"] = pl.col(f"coverage_{label}").fill_null(0.0) * known
            sums[f"width_{label}"] = pl.col(f"width_{label}").fill_null(0.0) * known
        sums["bad"] = pl.col("bad_share").fill_null(0.0) * pl.col("rows")
        sums["awaited_width"] = pl.col("awaited_width").fill_null(0.0) * pl.col("awaited")
        lacking = {name: pl.lit(0.0) for name in ("loss", "absolute") if name not in sums}
        return rows.sort("day").with_columns(**lacking, **sums)

    def drifted(self) -> list[dict[str, Any]]:
        """What was detected of all rows at this date."""
        version, of_all = self.inputs[DRIFT_DETECTIONS.name], Condition("segment", "==", "")
        found = self.watching.rows(DRIFT_DETECTIONS, version, self.watching.of_date, of_all)
        rows: list[dict[str, Any]] = found.to_pylist()
        return rows


def milliseconds_of(model: Model) -> float:
    """Time that the prediction of one row takes, the median of several."""
    texts = set(model.encoding.categories)
    fields = [pa.field(c, pa.string() if c in texts else pa.float32()) for c in model.input_columns]
    row = pa.RecordBatch.from_pylist([{}], pa.schema(fields))
    model.predict(row)
    times = []
    for _ in range(CALLS):
        start = time.perf_counter()
        model.predict(row)
        times.append(time.perf_counter() - start)
    return float(1000 * np.median(times))


def told(target: str, parts: list[Part]) -> list[str]:
    """Health for the terminal: the whole, and what takes points away."""
    whole, *rest = parts
    lines = [f"health of {target}: " + (f"{whole.score:.0f} of 100" if whole.score is not None else "not known yet")]
    for part in sorted(rest, key=lambda part: part.score if part.score is not None else 101.0):
        if part.score is not None and part.score < 100:
            change = f" ({part.change:+.1%})" if part.change is not None and part.part != "response" else ""
            lines.append(f"  {part.part} {part.score:.0f}{change}: {part.detail or part.unit}")
    return lines
