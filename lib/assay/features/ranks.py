"""Consumes the values of a market by month, produces the rank of an entity's last value among them.

Values are counted in bins that are 2.2 % wide (32 to the octave), so that counts add up exactly however rows are dealt
to tasks, and a market of any number of entities fits into a small table.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from assay.features.plan import Feature, FeaturePlan
from assay.runtime.arrow_files import conform_table

if TYPE_CHECKING:
    import polars as pl

    from assay.features.timeline import Numbers, Positions

BINS_PER_OCTAVE = 32
SIDE = BINS_PER_OCTAVE * 1_100  # more bins than positive doubles fill
WIDTH = 4 * SIDE
MONTHS = 1 << 20


def rank_features(plan: FeaturePlan, by: str) -> list[Feature]:
    """``market_rank``: share of the values of the market's last whole month that are below the entity's last known
    value, those of its own bin counted by half; 0 to 1.
    """
    window = "last value among the last whole month"
    asked = plan.market and "rank" in plan.settings.market_standing
    wanted = [t for t in plan.targets if asked and 1 in plan.own_lags(t)]
    return [Feature(f"{t}__{by}__market_rank", "rank", (t,), window, by, "scan") for t in wanted]


def counted_bins_schema(plan: FeaturePlan, group: str) -> pa.Schema:
    """Values of a target in a bin, by group and month."""
    keys = [pa.field(name, pa.string()) for name in plan.groups[group]]
    numbers = [pa.field("target", pa.int32()), *(pa.field(n, pa.int64()) for n in ("month", "bin", "values"))]
    return pa.schema([*keys, *numbers])


@dataclasses.dataclass(frozen=True)
class CountBins:
    """Kernel over any rows: how many values each bin holds, by group, target and month on the dataset's clock."""

    plan: FeaturePlan
    group: str

    def __call__(self, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """Rows of `counted_bins_schema`."""
        import polars as pl

        keys = list(self.plan.groups[self.group])
        found: list[pl.DataFrame] = []
        for batch in batches:
            frame = pl.from_arrow(pa.Table.from_batches([batch]))
            assert isinstance(frame, pl.DataFrame)
            local = pl.col("time").dt.convert_time_zone(self.plan.zone)
            month = (local.dt.year().cast(pl.Int64) * 12 + local.dt.month().cast(pl.Int64)).alias("month")
            for number, target in enumerate(self.plan.targets):
                values = frame.select(*keys, month, pl.col(target).cast(pl.Float64)).filter(pl.col(target).is_finite())
                bins = pl.Series("bin", bin_of(values[target].to_numpy()))
                counted = values.with_columns(bins).group_by(*keys, "month", "bin").agg(values=pl.len().cast(pl.Int64))
                found.append(counted.with_columns(target=pl.lit(number, dtype=pl.Int32)))
            if len(found) > 16:
                found = [_added(found, keys)]
        if found:
            yield from conform_table(_added(found, keys).to_arrow(), counted_bins_schema(self.plan, self.group))


@dataclasses.dataclass(frozen=True)
class AddBins:
    """Kernel over counts of whole groups: one row per group, target, month and bin."""

    plan: FeaturePlan
    group: str

    def __call__(self, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """Rows of `counted_bins_schema`."""
        import polars as pl

        tables = [pa.Table.from_batches([b]) for b in batches if b.num_rows]
        if tables:
            frame = pl.from_arrow(pa.concat_tables(tables))
            assert isinstance(frame, pl.DataFrame)
            added = _added([frame], list(self.plan.groups[self.group]))
            yield from conform_table(added.to_arrow(), counted_bins_schema(self.plan, self.group))


def _added(parts: list[pl.DataFrame], keys: list[str]) -> pl.DataFrame:
    import polars as pl

    columns = [*keys, "target", "month", "bin"]
    whole = pl.concat([part.select(*columns, "values") for part in parts])
    return whole.group_by(columns).agg(pl.col("values").sum())


def bin_of(values: Numbers) -> Positions:
    """Number of the bin of each value, rising with the values; NaN has the lowest."""
    with np.errstate(divide="ignore", invalid="ignore"):
        size = np.floor(np.log2(np.abs(values)) * BINS_PER_OCTAVE) + SIDE
    signed = np.where(values > 0, size, np.where(values < 0, -size, 0.0))
    return np.where(np.isfinite(values), np.nan_to_num(signed), -2 * SIDE).astype(np.int64)


class Ranks:
    """The counted values of a market, ready to be asked."""

    def __init__(self, counted: pl.DataFrame, plan: FeaturePlan, group: str) -> None:
        """counted: rows of `counted_bins_schema` of all groups."""
        import polars as pl

        self._keys = list(plan.groups[group])
        self._codes = counted.select(self._keys).unique(maintain_order=True).with_row_index("code")
        rows = counted.with_columns(pl.Series("code", self._code_of(counted)))
        self._targets = {}
        for number, target in enumerate(plan.targets):
            mine = rows.filter(pl.col("target") == number).sort("code", "month", "bin")
            figure = (mine["code"] * MONTHS + mine["month"]).to_numpy()
            values = mine["values"].to_numpy()
            starts = np.flatnonzero(np.diff(figure, prepend=-1))
            place = np.repeat(np.arange(len(starts)), np.diff(starts, append=len(figure)))
            total = np.add.reduceat(values, starts) if len(starts) else values
            before = np.cumsum(values) - values
            below = before - before[starts][place] if len(starts) else before
            self._targets[target] = (
                figure[starts],
                place * WIDTH + mine["bin"].to_numpy() + 2 * SIDE,
                below,
                values,
                total,
            )

    def _code_of(self, frame: pl.DataFrame) -> Positions:
        if not self._keys:
            return np.zeros(frame.height, dtype=np.int64)
        joined = frame.select(self._keys).join(
            self._codes, on=self._keys, how="left", nulls_equal=True, maintain_order="left"
        )
        found: Positions = joined["code"].fill_null(MONTHS).cast(int).to_numpy()
        return found

    def of(self, frame: pl.DataFrame, target: str, last: Numbers, oldest: Positions, newest: Positions) -> Numbers:
        """Rank of each row's last value in the newest month of its market among those that it may see; else NaN."""
        figures, places, below, values, totals = self._targets[target]
        result = np.full(frame.height, np.nan)
        if not len(figures):
            return result
        code = self._code_of(frame)
        position = np.searchsorted(figures, code * MONTHS + newest, side="right") - 1
        there = np.isfinite(last) & (position >= 0)
        there &= figures[np.maximum(position, 0)] >= code * MONTHS + oldest
        position, bins = position[there], bin_of(last[there])
        entry = np.searchsorted(places, position * WIDTH + bins + 2 * SIDE, side="right") - 1
        inside = (entry >= 0) & (places[np.maximum(entry, 0)] // WIDTH == position)
        same = inside & (places[np.maximum(entry, 0)] % WIDTH == bins + 2 * SIDE)
        entry = np.maximum(entry, 0)
        count = np.where(inside, below[entry] + values[entry] * np.where(same, 0.5, 1.0), 0.0)
        result[there] = count / totals[position]
        return result
