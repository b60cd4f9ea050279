"""Consumes observations of whole entities, produces feature rows: the kernels that run on executors."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.ipc

from assay.features.calendar import calendar
from assay.features.history import condense, history, merge
from assay.features.market import market
from assay.features.plan import OWN, FeaturePlan
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
        pa.field(f"{h.column}|{m}", pa.int64() if m == "n" else pa.float64())
        for h in plan.history
        for m in ("n", "s", "q", "lo", "hi")
    ]
    return pa.schema([*(pa.field(c, pa.string()) for c in plan.groups[group]), pa.field("time", TIME), *moments])


def group_schema(plan: FeaturePlan, group: str) -> pa.Schema:
    """Schema of a group's features at each of its times."""
    names = [f.name for f in plan.features() if f"__{group}__" in f.name and f.family in {"group_history", "market"}]
    keys = [pa.field(c, pa.string()) for c in plan.groups[group]]
    return pa.schema([*keys, pa.field("time", TIME), *(pa.field(n, pa.float32()) for n in names)])


@dataclasses.dataclass(frozen=True)
class Condense:
    """Kernel over any rows: one row per group and time of what it saw. Small, so that little is shuffled."""

    plan: FeaturePlan
    group: str

    def __call__(self, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """Rows of `condensed_schema`."""
        by, values = self.plan.groups[self.group], [h.column for h in self.plan.history]
        schema = condensed_schema(self.plan, self.group)
        parts = [condense(_frame([batch]), by, values) for batch in batches if batch.num_rows]
        if parts:
            yield from conform_table(_merged(parts, by, values).to_arrow(), schema)


@dataclasses.dataclass(frozen=True)
class GroupHistory:
    """Kernel over condensed rows of whole groups: the group's history and market figures at each of its times."""

    plan: FeaturePlan
    group: str

    def __call__(self, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """Rows of `group_schema`."""
        plan, by = self.plan, list(self.plan.groups[self.group])
        found = list(batches)
        if not found:
            return
        condensed = _merged([_frame(found)], by, [h.column for h in plan.history]).sort([*by, "time"])
        result = condensed.select([*by, "time"])
        for item in plan.history:
            if plan.temporal:
                part = history(
                    condensed,
                    by=by,
                    value=item.column,
                    delay_days=item.delay_days,
                    lags=plan.lags[:1],
                    windows_days=plan.windows_days,
                    statistics=plan.statistics,
                    prefix=f"{item.column}__{self.group}__",
                    age=True,
                )
                result = result.join(part, on=[*by, "time"], how="left", maintain_order="left", nulls_equal=True)
            if plan.market and item.column in plan.targets:
                part = market(
                    condensed,
                    by=by,
                    value=item.column,
                    delay_days=item.delay_days,
                    momentum_months=plan.momentum_months,
                    prefix=f"{item.column}__{self.group}__market",
                )
                result = result.join(part, on=[*by, "time"], how="left", maintain_order="left", nulls_equal=True)
        yield from conform_table(result.to_arrow(), group_schema(plan, self.group))


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

        plan, found = self.plan, list(batches)
        if not found:
            return
        frame = _frame(found).sort([*plan.entity, "time", "row_id"])
        if plan.temporal or plan.anchors:
            frame = self._own_history(frame)
        for label, packed in self.groups.items():
            table = pa.ipc.open_stream(packed).read_all()
            right = pl.from_arrow(table)
            assert isinstance(right, pl.DataFrame)
            on = [*plan.groups[label], "time"]
            frame = frame.join(right, on=on, how="left", maintain_order="left", nulls_equal=True)
        if plan.temporal:
            frame = calendar(frame, country=plan.country, subdivision=plan.subdivision)
        yield from conform_table(frame.to_arrow(), feature_schema(plan))

    def _own_history(self, frame: pl.DataFrame) -> pl.DataFrame:
        plan, by = self.plan, list(self.plan.entity)
        condensed = condense(frame, by, [h.column for h in plan.history])
        for item in plan.history:
            lags = plan.own_lags(item.column)
            if not (lags or plan.temporal):
                continue
            part = history(
                condensed,
                by=by,
                value=item.column,
                delay_days=item.delay_days,
                lags=lags,
                windows_days=plan.windows_days if plan.temporal else (),
                statistics=plan.statistics,
                prefix=f"{item.column}__{OWN}__",
                age=plan.temporal,
            )
            frame = frame.join(part, on=[*by, "time"], how="left", maintain_order="left", nulls_equal=True)
        return frame


def _merged(parts: list[pl.DataFrame], by: tuple[str, ...] | list[str], values: list[str]) -> pl.DataFrame:
    import polars as pl

    return merge(pl.concat(parts), by, values)


def _frame(batches: list[pa.RecordBatch]) -> pl.DataFrame:
    import polars as pl

    frame = pl.from_arrow(pa.Table.from_batches(batches))
    assert isinstance(frame, pl.DataFrame)
    return frame
