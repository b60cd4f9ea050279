"""Consumes rows and tables of figures by group and season, produces each row's figures: those of its finest group."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from assay.errors import DataError
from assay.model.scale import Floats

if TYPE_CHECKING:
    import polars as pl

MIN_GROUP_ROWS = 5
Columns = Mapping[str, Sequence[Any]]


def season_of(time: pl.Expr, *, weekly: bool) -> pl.Expr:
    """Number of a row's season: its month, or month and day of the week (UTC) of data that know one."""
    import polars as pl

    month = time.dt.month().cast(pl.Int32) - 1
    return month * 7 + (time.dt.weekday().cast(pl.Int32) - 1) if weekly else month


def day_of(time: pl.Expr) -> pl.Expr:
    """A time in days since 1970."""
    return time.dt.epoch("us") / 86_400e6


def keyed_rows(batch: pa.RecordBatch, group_columns: Sequence[str], *, weekly: bool) -> pl.DataFrame:
    """A batch's rows with what figures are looked up by: `group_columns`, `season` and `day`."""
    import polars as pl

    time = pl.col("time")
    rows = pl.from_arrow(pa.Table.from_batches([batch.select(["time", *group_columns])]))
    assert isinstance(rows, pl.DataFrame)
    return rows.with_columns(season_of(time, weekly=weekly).alias("season"), day_of(time).alias("day"))


def finest(
    rows: pl.DataFrame, tables: Sequence[Columns], keys: Sequence[str], names: Iterable[str], *, by_season: bool = False
) -> dict[str, Floats]:
    """Name -> figure (n,) of each row's finest group that has it, NaN where none has.

    tables: by how many of `keys`; of groups, or with `by_season` of their seasons.
    """
    found = {}
    for name in names:
        figure = np.full(rows.height, np.nan)
        for depth, table in enumerate(tables):
            own = looked_up(rows, table, [*keys[:depth], *(["season"] if by_season else [])], name)
            figure = np.where(np.isfinite(own), own, figure)
        found[name] = figure
    return found


def looked_up(rows: pl.DataFrame, table: Columns, keys: list[str], name: str) -> Floats:
    """A figure of each row's group (n,), NaN where the group has none. Keys that are null are one group."""
    import polars as pl

    if not keys:
        value = table[name][0]
        return np.full(rows.height, np.nan if value is None else float(value))
    kinds = {key: pl.Int32 if key == "season" else pl.String for key in keys}
    facts = pl.DataFrame({n: table[n] for n in [*keys, name]}, schema={**kinds, name: pl.Float64})
    joined = rows.select(keys).join(facts, on=keys, how="left", nulls_equal=True, maintain_order="left")
    values: Floats = joined[name].to_numpy()
    return values


def fields_of(rules: type[Any], tree: Mapping[str, Any]) -> dict[str, Any]:
    """Fields of a dataclass with tables of groups and seasons, out of plain data.

    Raises:
        DataError: another version wrote it.
    """
    if set(tree) != {field.name for field in dataclasses.fields(rules)}:
        raise DataError("the model's baselines are those of another version of assay: train again")
    return {**tree, **{name: tuple(tree[name]) for name in ("group_columns", "groups", "seasons")}}
