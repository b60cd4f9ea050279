"""Consumes predictions and outcomes, produces `performance`: how each model did, day by day."""

from __future__ import annotations

import math
from collections.abc import Sequence

import polars as pl
import pyarrow as pa

from assay.config.dataset import stored_name
from assay.model.outcome_rows import OutcomeRows
from assay.monitoring.days import ANCHOR, DaySums, added, columns_of, day_schema
from assay.monitoring.performance import figures, matured
from assay.monitoring.watching import Watching
from assay.runtime.conditions import Condition
from assay.runtime.job import Done, Plan
from assay.runtime.monitoring_tables import CHAMPION_ROLE, PERFORMANCE, SHADOW_ROLE
from assay.runtime.plane import Flow
from assay.runtime.tables import FEATURES, PREDICTIONS, SHADOW_PREDICTIONS, level_label

JOB = "performance"


def plan(watching: Watching) -> Plan:
    """What is about to be summed."""
    shadows = watching.context.plane.version(SHADOW_PREDICTIONS.name)
    inputs = {**watching.inputs, **({SHADOW_PREDICTIONS.name: shadows} if shadows is not None else {})}
    return watching.plan(JOB, inputs, PERFORMANCE, lambda identity: Performance(watching).run(identity))


class Performance:
    """One target's predictions, by day and model."""

    def __init__(self, watching: Watching) -> None:
        self.watching, self.context = watching, watching.context
        self.levels = tuple(watching.champion.calibration["levels"])
        self.classes = watching.champion.model.outcome.classes

    def run(self, identity: str) -> Done:
        """Join, sum, write."""
        with self.context.reporter.step("joining predictions with outcomes"):
            days = self.days()
        schema = performance_schema(self.levels)
        table = self.table(days, schema)
        written = self.watching.write(PERFORMANCE, table, JOB, identity, owns=self._owned(schema))
        mine = days.filter(pl.col("role") == CHAMPION_ROLE)
        known, rows = (float(mine[name].sum()) for name in ("known", "rows"))
        told = [f"{rows:,.0f} predictions since the test period began, {known:,.0f} with an outcome"]
        return Done(metrics={"watched_rows": rows, "watched_outcomes": known}, written=written, summary=told)

    def _owned(self, schema: pa.Schema) -> dict[str, str]:
        """The target's rows; with other levels the table is made anew."""
        plane = self.context.plane
        fits = plane.version(PERFORMANCE.name) is None or plane.schema(PERFORMANCE.name).names == schema.names
        return {"target": self.watching.target.name} if fits or len(self.context.config.dataset.targets) > 1 else {}

    def days(self) -> pl.DataFrame:
        """Sums by day, model and role, and whether the day's outcomes had time to come in."""
        parts = [self.summed(PREDICTIONS.name, CHAMPION_ROLE)]
        there = self.context.plane.version(SHADOW_PREDICTIONS.name)
        if there is not None:
            parts.append(self.summed(SHADOW_PREDICTIONS.name, SHADOW_ROLE))
        days = pl.concat(parts)
        known = self.context.config.dataset.known_until(self.watching.target.name, self.watching.now)
        ripe = matured(days, known).select("day", pl.lit(value=True).alias("matured")).unique()
        return days.join(ripe, on="day", how="left", maintain_order="left").with_columns(
            pl.col("matured").fill_null(value=False)
        )

    def summed(self, table: str, role: str) -> pl.DataFrame:
        """Sums of one table of predictions."""
        plane, classes = self.context.plane, bool(self.classes)
        version = plane.version(table) if role == SHADOW_ROLE else self.watching.predictions
        assert version is not None
        known = set(plane.schema(table).names)
        levels = tuple(level for level in self.levels if f"width_{level_label(level)}" in known)
        where = [self.watching.of_target, *self._times()]
        scored = plane.read(table, version=version, columns=columns_of(levels, classes=classes), where=where)
        joined = scored.join(self.outcomes(), ["row_id"], rows_hint=plane.rows(table, version))
        found = joined.map(DaySums(levels, self.classes), day_schema(levels)).collect()
        sums = pl.from_arrow(found)
        assert isinstance(sums, pl.DataFrame)
        lacking = [name for name in day_schema(self.levels).names if name not in sums.columns]
        sums = added(sums).with_columns(pl.lit(None, pl.Float64).alias(name) for name in lacking)
        return sums.select(*day_schema(self.levels).names, pl.lit(role).alias("role"))

    def outcomes(self) -> Flow:
        """What came true of the same rows, and where their entities stood before."""
        scale = self.watching.champion.model.scale
        outcome = stored_name(self.watching.target.name)
        read = self.context.plane.read(
            FEATURES.name,
            version=self.watching.features,
            columns=list(dict.fromkeys(["row_id", outcome, *scale.columns])),
            where=[*self.watching.where, *self._times()],
        )
        kernel = OutcomeRows(outcome, numbers=((ANCHOR, scale.anchor),))
        return read.map(kernel, kernel.schema)

    def _times(self) -> list[Condition]:
        """From the start of the test period, or of the reference window, until now."""
        reference, current = self.watching.windows
        found = [Condition("time", ">=", reference.start)] if reference.start is not None else []
        return [*found, *([Condition("time", "<", current.end)] if current.end is not None else [])]

    def table(self, days: pl.DataFrame, schema: pa.Schema) -> pa.Table:
        """Rows of `performance`."""
        rows = []
        for one in days.iter_slices(1):
            of_day = figures(one.drop("role", "matured"), self.levels, classes=bool(self.classes))
            keys = {name: one[name][0] for name in ("day", "role", "model_version", "matured")}
            told = {name: value for name, value in of_day.items() if name in schema.names and not math.isnan(value)}
            rows.append({**told, **keys, "target": self.watching.target.name})
        return pa.Table.from_pylist(rows, schema)


def performance_schema(levels: Sequence[float]) -> pa.Schema:
    """Schema of `performance` with these levels."""
    names = [f"{name}_{level_label(level)}" for level in levels for name in ("coverage", "width")]
    return PERFORMANCE.schema([pa.field(name, pa.float64()) for name in names])
