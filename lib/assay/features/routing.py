"""Consumes observations, produces the same rows dealt to tasks: which are built, which are only looked back upon.

Rows before the first month that has to be built are context: their past is needed, their features are there already.
An entity with very many rows is cut into spans of time that are built side by side; each has the rows before it as
context. Neither changes a feature.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from assay.features.plan import FeaturePlan
from assay.features.timeline import DAY_US, days_us
from assay.runtime.arrow_files import conform_table

if TYPE_CHECKING:
    import polars as pl

CONTEXT, SPAN = "__context", "__span"
HOT_ROWS = 1_000_000  # rows from which on an entity is cut
LEAST_COUNT = 20_000  # rows of an entity in one share that are worth reporting
ROWS_PER_SPAN = 500_000
MOST_SPANS = 10
Key = tuple[str | None, ...]


def routed_schema(schema: pa.Schema) -> pa.Schema:
    """Rows with what they are to their task."""
    return pa.schema([*schema, pa.field(CONTEXT, pa.bool_()), pa.field(SPAN, pa.int32())])


def counted_schema(plan: FeaturePlan) -> pa.Schema:
    """Rows of an entity by day."""
    keys = [pa.field(name, pa.string()) for name in plan.entity]
    return pa.schema([*keys, pa.field("day", pa.int64()), pa.field("rows", pa.int64())])


@dataclasses.dataclass(frozen=True)
class CountDays:
    """Kernel: rows by day (since 1970, UTC) of the entities that have many in this share.

    by_day: False to count an entity's rows as those of one day, which is cheap enough to find out whether any is hot.
    """

    plan: FeaturePlan
    by_day: bool = True

    def __call__(self, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """Rows of `counted_schema`."""
        import polars as pl

        entity = list(self.plan.entity)
        found: list[pl.DataFrame] = []
        for batch in batches:
            frame = pl.from_arrow(pa.Table.from_batches([batch]))
            assert isinstance(frame, pl.DataFrame)
            days = (pl.col("time").dt.epoch("d") if self.by_day else pl.lit(0)).cast(pl.Int64).alias("day")
            found.append(frame.group_by(*entity, days).agg(pl.len().cast(pl.Int64).alias("rows")))
        if found:
            whole = pl.concat(found).group_by(*entity, "day").agg(pl.col("rows").sum())
            many = whole.filter(pl.col("rows").sum().over(entity) >= LEAST_COUNT)
            yield from conform_table(many.to_arrow(), counted_schema(self.plan))


def any_hot(counted: pa.Table, plan: FeaturePlan) -> bool:
    """Whether an entity has so many rows that it is cut."""
    return any(rows >= HOT_ROWS for rows in _rows_by_entity(counted, plan).values())


def _rows_by_entity(counted: pa.Table, plan: FeaturePlan) -> dict[Key, int]:
    import polars as pl

    frame = pl.from_arrow(counted)
    assert isinstance(frame, pl.DataFrame)
    return {tuple(key): int(rows) for *key, rows in frame.group_by(*plan.entity).agg(pl.col("rows").sum()).rows()}


def cuts_of(
    counted: pa.Table, plan: FeaturePlan, *, slots: int, hot_rows: int = HOT_ROWS
) -> dict[Key, tuple[int, ...]]:
    """Entity -> days (since 1970) at which it is cut, of entities with `hot_rows` rows or more.

    Spans have about `ROWS_PER_SPAN` rows, so that what is built of them fits into memory. Where nothing is forgotten
    each has the whole past beside it; then there are no more than `MOST_SPANS`, or as many as run at once.
    """
    import polars as pl

    frame = pl.from_arrow(counted)
    assert isinstance(frame, pl.DataFrame)
    entity = list(plan.entity)
    days = frame.group_by(*entity, "day").agg(pl.col("rows").sum()).sort("day")
    cuts: dict[Key, tuple[int, ...]] = {}
    for key, mine in days.partition_by(entity, as_dict=True).items():
        total = int(mine["rows"].sum())
        spans = -(-total // min(ROWS_PER_SPAN, hot_rows))
        spans = spans if lookback_days(plan) is not None else min(max(slots, MOST_SPANS), spans)
        if total < hot_rows or spans < 2:
            continue
        before = mine["rows"].cum_sum() - mine["rows"]
        bounds = [mine.filter(before >= total * span // spans)["day"].min() for span in range(1, spans)]
        cuts[tuple(key)] = tuple(sorted({int(b) for b in bounds if isinstance(b, int)}))
    return {key: found for key, found in cuts.items() if found}


def context_rows(counted: pa.Table, plan: FeaturePlan, cuts: Mapping[Key, tuple[int, ...]]) -> int:
    """How many rows spans look back on, at most, all of them together."""
    rows = _rows_by_entity(counted, plan)
    return sum(rows[key] * len(found) // 2 for key, found in cuts.items())


@dataclasses.dataclass(frozen=True)
class Route:
    """Kernel: each row once to be built, and as context to every later span of its entity.

    since: rows before it are context (microseconds since 1970, or None).  cuts: as `cuts_of` has them.
    """

    plan: FeaturePlan
    since: int | None
    cuts: Mapping[Key, tuple[int, ...]]

    def __call__(self, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """Rows of `routed_schema`; context has nothing but keys, times and the values whose past is wanted."""
        import polars as pl

        for batch in batches:
            frame = pl.from_arrow(pa.Table.from_batches([batch]))
            assert isinstance(frame, pl.DataFrame)
            old = pl.lit(False) if self.since is None else pl.col("time").dt.timestamp("us") < self.since
            frame = frame.with_columns(old.alias(CONTEXT), pl.lit(0, dtype=pl.Int32).alias(SPAN))
            parts = self._spans(frame) if self.cuts else iter([frame])
            schema = routed_schema(batch.schema)
            for part in parts:
                if part.height:
                    yield from conform_table(part.to_arrow(), schema)

    def _spans(self, frame: pl.DataFrame) -> Iterator[pl.DataFrame]:
        import polars as pl

        kept = {CONTEXT, SPAN, *past_columns(self.plan)}
        rest, back = frame, lookback_days(self.plan)
        for key, cuts in self.cuts.items():
            mine = pl.all_horizontal(
                pl.col(n).eq_missing(pl.lit(v)) for n, v in zip(self.plan.entity, key, strict=True)
            )
            hot, rest = rest.filter(mine), rest.filter(~mine)
            span = np.searchsorted(cuts, hot["time"].dt.epoch("d").cast(pl.Int64).to_numpy(), side="right")
            hot = hot.with_columns(pl.Series(SPAN, span.astype(np.int32)))
            yield hot
            for later, cut in enumerate(cuts, start=1):
                before = hot.filter(pl.col(SPAN) < later)
                if back is not None:
                    since = cut * DAY_US - days_us(back)
                    before = before.filter(pl.col("time").dt.timestamp("us") >= since)
                yield before.with_columns(
                    pl.lit(True).alias(CONTEXT),
                    pl.lit(later, dtype=pl.Int32).alias(SPAN),
                    *(pl.lit(None, dtype=kind).alias(n) for n, kind in frame.schema.items() if n not in kept),
                )
        yield rest


@dataclasses.dataclass(frozen=True)
class Widen:
    """Kernel: the same rows with the columns that they lack, empty."""

    schema: pa.Schema

    def __call__(self, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """Rows of the wider schema."""
        for batch in batches:
            columns = [
                batch.column(f.name) if f.name in batch.schema.names else pa.nulls(batch.num_rows, f.type)
                for f in self.schema
            ]
            yield pa.record_batch(columns, schema=self.schema)


def past_columns(plan: FeaturePlan) -> list[str]:
    """Columns of `observations` whose past is wanted, and what tells rows apart."""
    names = ["row_id", "time", *plan.entity, *(h.column for h in plan.history), *plan.settings.forward_fill]
    if plan.market and plan.settings.beta_days:
        names += [column for label in plan.markets for column in plan.groups[label]]
    return list(dict.fromkeys(names))


def lookback_days(plan: FeaturePlan) -> float | None:
    """Days before a row's time that its own history needs, None for all of them."""
    settings = plan.settings
    if settings.max_history_days is None or settings.technical:
        return None
    smoothed = 80 * max(settings.halflives_days, default=0.0)  # 64 half-lives, and the blocks they begin in
    return settings.max_history_days + max((h.delay_days for h in plan.history), default=0.0) + smoothed + 2


def month_start(month: str) -> dt.datetime:
    """First moment of a partition's month (YYYY-MM)."""
    year, number = month.split("-")
    return dt.datetime(int(year), int(number), 1, tzinfo=dt.timezone.utc)
