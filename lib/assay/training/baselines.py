"""Consumes the training period, produces the strongest simple alternatives: what a model must beat to be worth it."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from assay.model.baselines import MIN_GROUP_ROWS, Baselines, season_of
from assay.runtime.arrow_files import conform_table
from assay.runtime.conditions import Condition
from assay.runtime.plane import Plane
from assay.runtime.tables import FEATURES
from assay.training.split import Period

if TYPE_CHECKING:
    import polars as pl

MIN_LINE_ROWS = 20
WEEKLY_BELOW_DAYS = 4.0
FIGURES = ("median", "days", "level", "slope")


def fit_baselines(
    plane: Plane,
    *,
    version: int,
    where: Sequence[Condition],
    target: str,
    transform: str,
    group_columns: Sequence[str],
    periods: Sequence[Period],
    times: int,
) -> Baselines:
    """Exact figures over the training period: one task for all rows' target, one shuffle for each level of groups.

    group_columns: from the widest group to the finest.  periods: consecutive ones, that are learned from.
    times: how many distinct times they have, which tells whether days of the week matter.
    """
    first, last = periods[0], periods[-1]
    span = (last.last - first.first).total_seconds() / 86_400
    weekly = span / max(1, times - 1) < WEEKLY_BELOW_DAYS
    columns = list(dict.fromkeys([*group_columns, "time", target]))
    flow = plane.read(FEATURES.name, version=version, columns=columns, where=where)
    groups, seasons = [], []
    for depth in range(len(group_columns) + 1):
        keys = tuple(group_columns[:depth])
        kernel = GroupFigures(keys, target, transform, weekly, least_span_days=span / 2)
        found = flow.by_key(keys, rows_hint=first.rows + last.rows).map(kernel, figures_schema(keys)).collect()
        ordered = found.sort_by([(name, "ascending") for name in [*keys, "season"]])
        whole = [row for row in ordered.to_pylist() if row["season"] is None]
        parts = [row for row in ordered.to_pylist() if row["season"] is not None]
        groups.append(_columns(whole, [*keys, *FIGURES]))
        seasons.append(_columns(parts, [*keys, "season", "median"]))
    return Baselines(
        transform=transform,
        group_columns=tuple(group_columns),
        end_days=last.last.timestamp() / 86_400,
        span_days=span,
        groups=tuple(groups),
        seasons=tuple(seasons),
        weekly=weekly,
        **past_columns(plane.schema(FEATURES.name).names, target),
    )


def past_columns(names: Sequence[str], target: str) -> dict[str, Any]:
    """Which features tell of a row's own past and of its market: fields of `Baselines`.

    Of several markets the last one is taken, of several momenta that of the fewest months.
    """
    own = {field: f"{target}__own__{name}" for field, name in (("last_value", "lag_1"), ("age_days", "age_days"))}
    found: dict[str, Any] = {field: name for field, name in own.items() if name in names}
    levels = [n for n in names if n.startswith(f"{target}__") and n.endswith("__market_level")]
    if levels:
        found["market_level"] = levels[-1]
        of_months = re.compile(re.escape(levels[-1].removesuffix("level")) + r"momentum_(\d+)m")
        momenta = {int(match[1]): name for name in names if (match := of_months.fullmatch(name))}
        if momenta:
            found |= {"market_momentum": momenta[min(momenta)], "momentum_months": min(momenta)}
    return found


def _columns(rows: Sequence[dict[str, Any]], names: Sequence[str]) -> dict[str, list[Any]]:
    return {name: [row[name] for row in rows] for name in names}


def figures_schema(keys: Sequence[str]) -> pa.Schema:
    """Figures of a group (season null) or of one of its seasons."""
    numbers = [pa.field("season", pa.int32()), *(pa.field(name, pa.float64()) for name in FIGURES)]
    return pa.schema([*(pa.field(key, pa.string()) for key in keys), *numbers])


@dataclasses.dataclass(frozen=True)
class GroupFigures:
    """Kernel over whole groups: median and line of each, and the medians of its seasons, where rows are enough.

    A line needs 20 rows over `least_span_days`; of fewer it has its level, and the slope is null. The order of rows
    changes nothing: figures are added up in order of time and target.
    """

    keys: tuple[str, ...]
    target: str
    transform: str
    weekly: bool
    least_span_days: float

    def __call__(self, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """Rows of `figures_schema`."""
        import polars as pl

        found = list(batches)
        if not found:
            return
        rows = pl.from_arrow(pa.Table.from_batches(found))
        assert isinstance(rows, pl.DataFrame)
        value = pl.col(self.target).cast(pl.Float64)
        day = pl.col("time").dt.epoch("us") / 86_400e6
        scaled = value.log() if self.transform == "log" else value
        season = season_of(pl.col("time"), weekly=self.weekly).alias("season")
        rows = rows.select(*self.keys, season, day.alias("day"), value.alias("value"), scaled.alias("scaled"))
        rows = rows.sort("day", "value")
        groups = self._grouped(rows, [*self.keys], self._group_figures())
        seasons = self._grouped(rows, [*self.keys, "season"], [pl.col("value").median().alias("median")])
        schema = figures_schema(self.keys)
        for frame in (groups, seasons):
            missing = [pl.lit(None).alias(name) for name in schema.names if name not in frame.columns]
            yield from conform_table(frame.with_columns(missing).select(schema.names).to_arrow(), schema)

    def _group_figures(self) -> list[pl.Expr]:
        import polars as pl

        day, scaled = pl.col("day"), pl.col("scaled")
        spread = (day - day.mean()).pow(2).sum()
        slope = ((day - day.mean()) * (scaled - scaled.mean())).sum() / spread
        enough = (pl.len() >= MIN_LINE_ROWS) & (day.max() - day.min() >= self.least_span_days) & (spread > 0)
        return [
            pl.col("value").median().alias("median"),
            day.mean().alias("days"),
            scaled.mean().alias("level"),
            pl.when(enough).then(slope).alias("slope"),
        ]

    def _grouped(self, rows: pl.DataFrame, keys: list[str], figures: list[pl.Expr]) -> pl.DataFrame:
        import polars as pl

        count = pl.len().alias("rows")
        if not keys:
            return rows.select(*figures, count)
        return rows.group_by(keys, maintain_order=True).agg(*figures, count).filter(pl.col("rows") >= MIN_GROUP_ROWS)
