"""Consumes observations of whole entities, produces feature rows: the kernels that run on executors."""

from __future__ import annotations

import dataclasses
import datetime as dt
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

import numpy as np
import pyarrow as pa
import pyarrow.ipc

from assay.features.catalog import features_of, numeric_features, past_families, past_features, row_families
from assay.features.condensed import MOMENTS, cell_starts, condense, merge
from assay.features.entity_rows import KEY, Codes, EntityRows, gathered
from assay.features.family import FLOAT32_MAX, float32_columns
from assay.features.plan import OWN, Feature, FeaturePlan
from assay.features.ranks import Ranks, rank_features
from assay.features.standing import beta, beta_features, now_column
from assay.features.timeline import DAY_US, Numbers, Timeline, days_us
from assay.runtime.arrow_files import conform_table
from assay.runtime.tables import FEATURES, TIME

if TYPE_CHECKING:
    import polars as pl

STEP = "__step"
BLOCK_ROWS = 65_536  # rows whose features are made at once: their columns stay in cache
MERGED_AT_ONCE = 200_000  # condensed rows
ASKED_AT_ONCE = 1_000_000  # cells of large timelines, which do not keep all sums for the next ones
HOUR_US = DAY_US // 24
_HALF_YEARS = tuple(dt.datetime(year, month, 15) for year in (1985, 2005, 2025) for month in (1, 7))


def feature_schema(plan: FeaturePlan) -> pa.Schema:
    """Schema of the features table: keys and categories as text, targets as double, features as float32."""
    return FEATURES.schema(
        [
            *(pa.field(name, pa.string()) for name in plan.texts),
            *(pa.field(name, pa.float64()) for name in plan.labels),
            *(pa.field(name, pa.float32()) for name in numeric_features(plan)),
        ]
    )


def observation_columns(plan: FeaturePlan) -> list[str]:
    """Columns of `observations` that the plan reads."""
    names = ["row_id", "time", *plan.texts, *plan.numeric, *plan.targets, *plan.codes]
    names += [*(h.column for h in plan.history), "month"]
    return list(dict.fromkeys(names))


def condensed_schema(plan: FeaturePlan, group: str) -> pa.Schema:
    """Schema of condensed rows of a group."""
    moments = [
        pa.field(f"{h.column}|{m}", pa.int64() if m == "n" else pa.float64()) for h in plan.history for m in MOMENTS
    ]
    return pa.schema([*(pa.field(c, pa.string()) for c in plan.groups[group]), pa.field("time", TIME), *moments])


def group_schema(plan: FeaturePlan, group: str) -> pa.Schema:
    """Schema of a group's features at each of its steps; `time` is the step's start on the dataset's own clock."""
    names = [f.name for item in plan.history for f in past_features(plan, item.column, group)]
    keys = [pa.field(c, pa.string()) for c in plan.groups[group]]
    betas = group in plan.markets and beta_features(plan, group)
    now = [pa.field(now_column(target), pa.float64()) for target in (plan.targets if betas else ())]
    return pa.schema([*keys, pa.field("time", TIME), *(pa.field(n, pa.float32()) for n in names), *now])


def step_of(plan: FeaturePlan) -> pl.Expr:
    """Start of the day or hour of `time` on the clock of the dataset's zone, where all days have 24 hours."""
    import polars as pl

    local = pl.col("time").dt.convert_time_zone(plan.zone).dt.replace_time_zone(None)
    return local.dt.truncate(plan.settings.group_step).dt.replace_time_zone("UTC")


def group_delay_us(plan: FeaturePlan, delay_days: float) -> int:
    """How far before a step's start a group's step must start for all its values to be known: the delay in whole steps.

    Where clocks are put forward, a value may come an hour later on the clock than its delay says.
    """
    if delay_days == 0:
        return 0
    moves = plan.zone != "UTC" and len({ZoneInfo(plan.zone).utcoffset(at) for at in _HALF_YEARS}) > 1
    return days_us(delay_days) + plan.group_step_us - 1 + (HOUR_US if moves else 0)


@dataclasses.dataclass(frozen=True)
class Condense:
    """Kernel over any rows: one row per group and step of what it saw. Small, so that little is shuffled."""

    plan: FeaturePlan
    group: str

    def __call__(self, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """Rows of `condensed_schema`."""
        import polars as pl

        codes, values = Codes(self.plan.groups[self.group]), [h.column for h in self.plan.history]
        parts: list[pl.DataFrame] = []
        for batch in batches:
            if not batch.num_rows:
                continue
            frame = _frame(iter([batch]))
            frame = frame.select(codes.of(frame).alias(KEY), step_of(self.plan), *dict.fromkeys(values))
            parts.append(condense(frame, [KEY], values))
            if sum(part.height for part in parts) > 4 * parts[0].height + MERGED_AT_ONCE:
                parts = [merge(pl.concat(parts), [KEY], values)]
        if parts:
            whole = merge(pl.concat(parts), [KEY], values).join(codes.table(), on=KEY, maintain_order="left")
            yield from conform_table(whole.to_arrow(), condensed_schema(self.plan, self.group))


@dataclasses.dataclass(frozen=True)
class GroupHistory:
    """Kernel over condensed rows of whole groups: the group's history and market figures at each of its steps.

    since: only steps from about this time on are wanted (microseconds since 1970).
    """

    plan: FeaturePlan
    group: str
    since: int | None = None

    def __call__(self, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """Rows of `group_schema`."""
        import polars as pl

        plan, by = self.plan, list(self.plan.groups[self.group])
        condensed = _frame(batches)
        if not condensed.height:
            return
        rows = merge(condensed, by, [h.column for h in plan.history])
        timeline = Timeline(rows, by, oldest_us=plan.oldest_us)
        schema = group_schema(plan, self.group)
        asked = np.arange(len(timeline.times))
        if self.since is not None:
            asked = np.flatnonzero(timeline.times >= self.since - group_margin_us(plan))
        for positions in _blocks(asked, ASKED_AT_ONCE if timeline.large else BLOCK_ROWS):
            cells = timeline.cells[positions]
            found = past_of(timeline.at(positions), plan, self.group)
            now = [_means_at(timeline, t, positions) for t in plan.targets if now_column(t) in schema.names]
            yield from conform_table(pl.concat([cells, found, *now], how="horizontal").to_arrow(), schema)


def group_margin_us(plan: FeaturePlan) -> int:
    """How far before the first row to build the groups' tables begin: steps are of another clock, betas look back."""
    late = max((group_delay_us(plan, h.delay_days) for h in plan.history), default=0)
    return late + (2 + max(plan.settings.beta_days, default=0)) * DAY_US


def _means_at(timeline: Timeline, target: str, positions: np.ndarray) -> pl.DataFrame:
    """The target's mean in the cells themselves."""
    import polars as pl

    with np.errstate(invalid="ignore"):
        means = timeline.sums(target, "s")(positions, positions + 1) / timeline.counts(target)[positions]
    return pl.DataFrame([pl.Series(now_column(target), means, nan_to_null=True)])


def past_of(timeline: Timeline, plan: FeaturePlan, by: str) -> pl.DataFrame:
    """Features of the past of every column, float32, one row per cell asked for."""
    import polars as pl

    found = []
    for item in plan.history:
        delay = days_us(item.delay_days) if by == OWN else group_delay_us(plan, item.delay_days)
        for family in past_families(plan, by):
            if family.features(plan, item.column, by):
                found.append(float32_columns(family.compute(timeline, plan, item.column, by, delay)))
        timeline.done_with(item.column)
    return pl.concat(found, how="horizontal") if found else pl.DataFrame()


@dataclasses.dataclass(frozen=True)
class BuildFeatures:
    """Kernel over rows of whole entities: own history, the groups' features at each row's step, then rows' families.

    groups: label -> Arrow IPC bytes of the group's features, small enough for every task to hold.
    ranks: label -> the same of the group's counted values.
    """

    plan: FeaturePlan
    groups: dict[str, bytes]
    ranks: dict[str, bytes] = dataclasses.field(default_factory=dict)

    def __call__(self, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """Rows of `feature_schema`, a block at a time, by month, entity and time in each; context is left out."""

        schema, rows = feature_schema(self.plan), _RowFeatures(self.plan, self.groups, self.ranks)
        parts = gathered(batches, self.plan, rows.markets)
        while (part := next(parts, None)) is not None:
            built = self._built(part, rows)
            del part  # which it needs less and less of
            for found in built:
                yield from conform_table(found.to_arrow(), schema)

    def _built(self, part: EntityRows, rows: _RowFeatures) -> Iterator[pl.DataFrame]:
        import polars as pl

        plan, by = self.plan, [KEY]
        starts = cell_starts(part.past, [*by, "time"])
        cell_of_row = np.repeat(np.arange(len(starts), dtype=np.int32), np.diff(starts, append=part.past.height))
        if part.built is not None:
            cell_of_row = cell_of_row[part.built]
        frame, betas = part.rows.drop(KEY), rows.betas(part.past, starts)
        del starts
        values = [h.column for h in plan.history]
        timeline = Timeline(condense(part.past, by, values, in_order=True, lean=True), by, oldest_us=plan.oldest_us)
        del part
        for asked in _blocks(np.arange(frame.height), ASKED_AT_ONCE if timeline.large else BLOCK_ROWS):
            cells, position = np.unique(cell_of_row[asked], return_inverse=True)
            view = timeline.at(cells.astype(np.int64))
            found_betas = [beta(view) for beta in betas]  # first, while there is room
            own = pl.concat([past_of(view, plan, OWN), *found_betas], how="horizontal")
            for block in _blocks(np.arange(len(asked)), BLOCK_ROWS):
                found = frame[int(asked[0]) + int(block[0]) : int(asked[0]) + int(block[-1]) + 1]
                months = found["time"].to_numpy().astype("datetime64[M]")
                order = np.argsort(months, kind="stable")  # as the table is partitioned, which saves its writer to sort
                found = found[order]
                yield rows.add(found.hstack(own[position[block][order]]) if own.width else found)


class _RowFeatures:
    """What is added to rows that have their own history: the groups' features, then the families of rows."""

    def __init__(self, plan: FeaturePlan, groups: dict[str, bytes], ranks: dict[str, bytes]) -> None:
        self.plan = plan
        self.tables, self.now = {}, {}
        for label, table in groups.items():
            found = unpacked(table).rename({"time": STEP})
            now = [now_column(target) for target in plan.targets if now_column(target) in found.columns]
            self.tables[label] = found.drop(now)
            if now:
                self.now[label] = found.select(*plan.groups[label], STEP, *now)
        self.markets = {label: Codes(plan.groups[label]) for label in self.now}
        self.ranks = {label: Ranks(unpacked(table), plan, label) for label, table in ranks.items()}
        self.features: dict[str, list[Feature]] = {}
        for feature in features_of(plan):
            self.features.setdefault(feature.family, []).append(feature)

    def betas(self, past: pl.DataFrame, starts: np.ndarray) -> list[Callable[[Timeline], pl.DataFrame]]:
        """For each market, what gives betas at the cells asked for. past: see `EntityRows`; starts: of its cells."""
        import polars as pl

        plan, found = self.plan, list[Callable[[Timeline], pl.DataFrame]]()
        if not self.now:
            return []
        cells = past if len(starts) == past.height else past[starts]
        steps = cells.select(step_of(plan).dt.timestamp("us")).to_series()
        for label, codes in self.markets.items():
            on, known = plan.groups[label], codes.table()
            table = self.now[label].with_columns(pl.col(STEP).dt.timestamp("us"))
            table = table.join(known, on=on, nulls_equal=True) if on else table.join(known, how="cross")
            groups = cells[f"market {label}"]

            def at(asked: Timeline, label: str = label, table: pl.DataFrame = table, groups: pl.Series = groups) -> Any:
                columns: dict[str, Numbers] = {}
                mine = pl.DataFrame([groups.alias(KEY), steps.alias(STEP)])
                means = mine.join(table, on=[KEY, STEP], how="left", maintain_order="left").drop(KEY, STEP)
                del mine
                for item in plan.history:
                    if item.column in plan.targets:
                        market = means.drop_in_place(now_column(item.column)).cast(pl.Float64).fill_null(np.nan)
                        delay = group_delay_us(plan, item.delay_days)
                        columns |= beta(
                            asked,
                            plan,
                            item.column,
                            label,
                            market=market.to_numpy(),
                            steps=steps.to_numpy(),
                            delay_us=delay,
                        )
                return float32_columns(columns)

            found.append(at)
        return found

    def _ranked(self, frame: pl.DataFrame) -> pl.DataFrame:
        import polars as pl

        columns: dict[str, Numbers] = {}
        for label, ranks in self.ranks.items():
            for feature in rank_features(self.plan, label):
                (target,) = feature.inputs
                delay_days = next(h.delay_days for h in self.plan.history if h.column == target)
                delay = max(0, group_delay_us(self.plan, delay_days) - self.plan.group_step_us + 1)
                newest = frame.select(_month(pl.col(STEP) - pl.duration(microseconds=delay)) - 1).to_series()
                oldest = newest * 0
                if self.plan.oldest_us is not None:  # a month of which a part is forgotten is forgotten
                    forgotten = pl.duration(microseconds=delay + self.plan.oldest_us + 1)
                    oldest = frame.select(_month(pl.col(STEP) - forgotten) + 1).to_series()
                last = frame[self.plan.anchor(target)].cast(pl.Float64).fill_null(np.nan).to_numpy()
                columns[feature.name] = ranks.of(frame, target, last, oldest.to_numpy(), newest.to_numpy())
        return frame.hstack(float32_columns(columns)) if columns else frame

    def add(self, frame: pl.DataFrame) -> pl.DataFrame:
        """The frame with all columns of the features table."""
        import polars as pl

        plan = self.plan
        if self.tables:
            frame = frame.with_columns(step_of(plan).alias(STEP))
        for label, table in self.tables.items():
            on = [*plan.groups[label], STEP]
            frame = frame.join(table, on=on, how="left", maintain_order="left", nulls_equal=True)
        frame = self._ranked(frame)
        for family in row_families(plan):
            frame = family.add(frame, plan, self.features.get(family.name, []))
        frame = frame.with_columns(thresholds(plan))
        return frame.with_columns(pl.col(plan.numeric).clip(-FLOAT32_MAX, FLOAT32_MAX))


def thresholds(plan: FeaturePlan) -> list[pl.Expr]:
    """Targets that compare the row's own number: 1 where it is above, 0 where not, null where either is unknown.

    With the last known value it is compared as precisely as features are kept, in which equal values stay equal.
    """
    import polars as pl

    found = []
    for made in plan.thresholds:
        own = pl.col(made.column)
        if made.above is None:
            above = own.cast(pl.Float32) > pl.col(plan.anchor(made.column)).fill_nan(None)
        else:
            above = own > made.above
        found.append(above.cast(pl.Float64).alias(made.name))
    return found


def _month(time: pl.Expr) -> pl.Expr:
    import polars as pl

    return time.dt.year().cast(pl.Int64) * 12 + time.dt.month().cast(pl.Int64)


def _blocks(rows: np.ndarray, size: int) -> Sequence[np.ndarray]:
    return [rows[first : first + size] for first in range(0, len(rows), size)]


def _frame(batches: Iterator[pa.RecordBatch]) -> pl.DataFrame:
    import polars as pl

    found = [batch for batch in batches if batch.num_rows]
    frame = pl.from_arrow(pa.Table.from_batches(found)) if found else pl.DataFrame()
    assert isinstance(frame, pl.DataFrame)
    return frame


def unpacked(content: bytes) -> pl.DataFrame:
    """Read back `packed`."""
    import polars as pl

    frame = pl.from_arrow(pa.ipc.open_stream(content).read_all())
    assert isinstance(frame, pl.DataFrame)
    return frame


def packed(table: pa.Table) -> bytes:
    """A table as Arrow IPC bytes."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return bytes(sink.getvalue())
