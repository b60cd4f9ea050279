"""Consumes the training period, produces tables of figures by group and season: what rules without a model know."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

import pyarrow as pa

from assay.model.group_tables import MIN_GROUP_ROWS, day_of, season_of
from assay.runtime.arrow_files import conform_table
from assay.runtime.conditions import Condition
from assay.runtime.plane import Flow, Plane
from assay.runtime.tables import FEATURES
from assay.training.split import Period

if TYPE_CHECKING:
    import polars as pl

MIN_LINE_ROWS = 20
WEEKLY_BELOW_DAYS = 4.0
Figures = list[dict[str, Any]]


class GroupKernel(Protocol):
    """Kernel over whole groups: rows of `schema`, of groups (season null) and of their seasons."""

    @property
    def schema(self) -> pa.Schema:
        """A `group_schema`."""

    def __call__(self, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """Rows of groups and of their seasons."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainingGroups:
    """Rows of the training period, by groups.

    group_columns: from the widest group to the finest.  periods: consecutive ones, that are learned from.
    times: how many distinct times they have, which tells whether days of the week matter.
    """

    plane: Plane
    version: int
    where: Sequence[Condition]
    target: str
    group_columns: tuple[str, ...]
    periods: Sequence[Period]
    times: int

    @property
    def end_days(self) -> float:
        """End of the training period, in days since 1970."""
        return self.periods[-1].last.timestamp() / 86_400

    @property
    def span_days(self) -> float:
        """Length of the training period."""
        return (self.periods[-1].last - self.periods[0].first).total_seconds() / 86_400

    @property
    def weekly(self) -> bool:
        """Whether seasons are days of the week within months."""
        return self.span_days / max(1, self.times - 1) < WEEKLY_BELOW_DAYS

    @property
    def features(self) -> list[str]:
        """Names of all columns there are."""
        return list(self.plane.schema(FEATURES.name).names)

    def read(self, columns: Sequence[str]) -> Flow:
        """Columns of the features."""
        return self.plane.read(FEATURES.name, version=self.version, columns=list(columns), where=self.where)

    def levels(
        self, kernel_of: Callable[[tuple[str, ...]], GroupKernel]
    ) -> Iterator[tuple[list[str], Figures, Figures]]:
        """Keys, figures of the groups and of their seasons, from all rows to the finest groups; one shuffle for each.

        kernel_of: from the keys of a level.  Rows come in order of their keys.
        """
        flow = self.read(list(dict.fromkeys([*self.group_columns, "time", self.target])))
        rows = sum(period.rows for period in self.periods)
        for depth in range(len(self.group_columns) + 1):
            keys = self.group_columns[:depth]
            kernel = kernel_of(keys)
            found = flow.by_key(keys, rows_hint=rows).map(kernel, kernel.schema).collect()
            ordered = found.sort_by([(name, "ascending") for name in [*keys, "season"]]).to_pylist()
            whole, parts = ([r for r in ordered if (r["season"] is None) == of_all] for of_all in (True, False))
            yield list(keys), whole, parts


def table_of(rows: Sequence[Mapping[str, Any]], names: Sequence[str]) -> dict[str, list[Any]]:
    """Rows as columns."""
    return {name: [row[name] for row in rows] for name in names}


def group_schema(keys: Sequence[str], figures: Sequence[str]) -> pa.Schema:
    """Figures of a group (season null) or of one of its seasons."""
    numbers = [pa.field("season", pa.int32()), *(pa.field(name, pa.float64()) for name in figures)]
    return pa.schema([*(pa.field(key, pa.string()) for key in keys), *numbers])


def grouped(
    batches: Iterator[pa.RecordBatch],
    schema: pa.Schema,
    keys: Sequence[str],
    columns: Mapping[str, pl.Expr],
    groups: Sequence[pl.Expr],
    seasons: Sequence[pl.Expr],
    *,
    weekly: bool,
) -> Iterator[pa.RecordBatch]:
    """Rows of a `group_schema`: of groups and of their seasons with `MIN_GROUP_ROWS` or more, and always of all rows.

    columns: what figures are made of, beside `day`.  groups, seasons: figures of each; those of the schema that are not
    among them are null. The order of rows changes nothing: figures are added up in order of time and columns.
    """
    import polars as pl

    found = list(batches)
    if not found:
        return
    rows = pl.from_arrow(pa.Table.from_batches(found))
    assert isinstance(rows, pl.DataFrame)
    time, count = pl.col("time"), pl.len().alias("rows")
    rows = rows.select(*keys, season_of(time, weekly=weekly).alias("season"), day_of(time).alias("day"), **columns)
    rows = rows.sort("day", *columns)
    for by, figures in (([*keys], groups), ([*keys, "season"], seasons)):
        if by:
            frame = rows.group_by(by, maintain_order=True).agg(*figures, count).filter(pl.col("rows") >= MIN_GROUP_ROWS)
        else:
            frame = rows.select(*figures, count)
        missing = [pl.lit(None).alias(name) for name in schema.names if name not in frame.columns]
        yield from conform_table(frame.with_columns(missing).select(schema.names).to_arrow(), schema)


def slope(value: pl.Expr) -> pl.Expr:
    """Of a group's line of least squares in time, per day."""
    import polars as pl

    day = pl.col("day")
    return ((day - day.mean()) * (value - value.mean())).sum() / _spread()


def of_line(figure: pl.Expr, least_span_days: float) -> pl.Expr:
    """A figure of groups that have a line: with `MIN_LINE_ROWS` or more over `least_span_days`; null of others."""
    import polars as pl

    day = pl.col("day")
    enough = (pl.len() >= MIN_LINE_ROWS) & (day.max() - day.min() >= least_span_days) & (_spread() > 0)
    return pl.when(enough).then(figure)


def _spread() -> pl.Expr:
    import polars as pl

    day = pl.col("day")
    return (day - day.mean()).pow(2).sum()
