"""Consumes observations of whole entities, produces feature rows: the kernels that run on executors."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.ipc

from assay.features.calendar import calendar
from assay.features.condensed import MOMENTS, cell_starts, condense, merge
from assay.features.history import FLOAT32_MAX, history
from assay.features.market import market
from assay.features.plan import OWN, FeaturePlan
from assay.features.relative import relative
from assay.features.timeline import Timeline
from assay.runtime.arrow_files import conform_table
from assay.runtime.tables import FEATURES, TIME

if TYPE_CHECKING:
    import polars as pl


def feature_schema(plan: FeaturePlan) -> pa.Schema:
    """Schema of the features table: keys and categories as text, targets as double, features as float32."""
    return FEATURES.schema(
        [
            *(pa.field(name, pa.string()) for name in plan.texts),
            *(pa.field(name, pa.float64()) for name in plan.targets),
            *(pa.field(name, pa.float32()) for name in plan.numeric_features()),
        ]
    )


def observation_columns(plan: FeaturePlan) -> list[str]:
    """Columns of `observations` that the plan reads."""
    names = ["row_id", "time", *plan.texts, *plan.numeric, *plan.targets, *(h.column for h in plan.history), "month"]
    return list(dict.fromkeys(names))


def condensed_schema(plan: FeaturePlan, group: str) -> pa.Schema:
    """Schema of condensed rows of a group."""
    moments = [
        pa.field(f"{h.column}|{m}", pa.int64() if m == "n" else pa.float64()) for h in plan.history for m in MOMENTS
    ]
    return pa.schema([*(pa.field(c, pa.string()) for c in plan.groups[group]), pa.field("time", TIME), *moments])


def group_schema(plan: FeaturePlan, group: str) -> pa.Schema:
    """Schema of a group's features at each of its times."""
    names = [f.name for f in plan.features() if f.group == group]
    keys = [pa.field(c, pa.string()) for c in plan.groups[group]]
    return pa.schema([*keys, pa.field("time", TIME), *(pa.field(n, pa.float32()) for n in names)])


@dataclasses.dataclass(frozen=True)
class Condense:
    """Kernel over any rows: one row per group and time of what it saw. Small, so that little is shuffled."""

    plan: FeaturePlan
    group: str

    def __call__(self, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """Rows of `condensed_schema`."""
        import polars as pl

        by, values = self.plan.groups[self.group], [h.column for h in self.plan.history]
        parts = [condense(_frame(iter([batch])), by, values) for batch in batches if batch.num_rows]
        if parts:
            whole = merge(pl.concat(parts), by, values)
            yield from conform_table(whole.to_arrow(), condensed_schema(self.plan, self.group))


@dataclasses.dataclass(frozen=True)
class GroupHistory:
    """Kernel over condensed rows of whole groups: the group's history and market figures at each of its times."""

    plan: FeaturePlan
    group: str

    def __call__(self, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """Rows of `group_schema`."""
        import polars as pl

        plan, by = self.plan, list(self.plan.groups[self.group])
        condensed = _frame(batches)
        if not condensed.height:
            return
        timeline = Timeline(merge(condensed, by, [h.column for h in plan.history]), by)
        found = [timeline.cells]
        for item in plan.history:
            if plan.temporal:
                found.append(
                    history(
                        timeline,
                        value=item.column,
                        delay_days=item.delay_days,
                        lags=plan.lags[:1],
                        windows_days=plan.windows_days,
                        statistics=plan.statistics,
                        prefix=f"{item.column}__{self.group}__",
                        age=True,
                    )
                )
            if plan.market and item.column in plan.targets:
                found.append(
                    market(
                        timeline,
                        value=item.column,
                        delay_days=item.delay_days,
                        momentum_months=plan.momentum_months,
                        prefix=f"{item.column}__{self.group}__market",
                        zone=plan.zone,
                    )
                )
        yield from conform_table(pl.concat(found, how="horizontal").to_arrow(), group_schema(plan, self.group))


@dataclasses.dataclass(frozen=True)
class BuildFeatures:
    """Kernel over rows of whole entities: own history, calendar, and the groups' features joined at each row's time.

    groups: label -> Arrow IPC bytes of the group's features, small enough for every task to hold.
    """

    plan: FeaturePlan
    groups: dict[str, bytes]

    def __call__(self, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """Rows of `feature_schema`, sorted by entity and time."""
        import polars as pl

        plan, frame = self.plan, _frame(batches)
        if not frame.height:
            return
        frame = frame.sort([*plan.entity, "time", "row_id"])
        if plan.temporal or plan.anchors:
            frame = self._own_history(frame)
        for label, packed in self.groups.items():
            table = pa.ipc.open_stream(packed).read_all()
            right = pl.from_arrow(table)
            assert isinstance(right, pl.DataFrame)
            on = [*plan.groups[label], "time"]
            frame = frame.join(right, on=on, how="left", maintain_order="left", nulls_equal=True)
        if plan.temporal:
            for target in plan.anchors:
                columns, ratio = plan.relatives(target), target in plan.ratios
                frame = relative(frame, anchor=plan.anchor(target), columns=columns, ratio=ratio)
            frame = calendar(frame, country=plan.country, subdivision=plan.subdivision, zone=plan.zone)
        frame = frame.with_columns(pl.col(plan.numeric).clip(-FLOAT32_MAX, FLOAT32_MAX))
        yield from conform_table(frame.to_arrow(), feature_schema(plan))

    def _own_history(self, frame: pl.DataFrame) -> pl.DataFrame:
        import polars as pl

        plan, by = self.plan, list(self.plan.entity)
        timeline = Timeline(condense(frame, by, [h.column for h in plan.history], in_order=True), by)
        found = []
        for item in plan.history:
            lags = plan.own_lags(item.column)
            if lags or plan.temporal:
                found.append(
                    history(
                        timeline,
                        value=item.column,
                        delay_days=item.delay_days,
                        lags=lags,
                        windows_days=plan.windows_days if plan.temporal else (),
                        statistics=plan.statistics,
                        prefix=f"{item.column}__{OWN}__",
                        age=plan.temporal,
                    )
                )
        features = pl.concat(found, how="horizontal")
        lengths = np.diff(cell_starts(frame, [*by, "time"]), append=frame.height)
        return frame.hstack(features[np.repeat(np.arange(len(lengths)), lengths)])


def _frame(batches: Iterator[pa.RecordBatch]) -> pl.DataFrame:
    import polars as pl

    found = [batch for batch in batches if batch.num_rows]
    frame = pl.from_arrow(pa.Table.from_batches(found)) if found else pl.DataFrame()
    assert isinstance(frame, pl.DataFrame)
    return frame
