"""Consumes times and rows, produces the starts of their periods, and one row per entity and period."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

from assay.config.dataset import AlignConfig
from assay.runtime.tables import SOURCE_ROWS

if TYPE_CHECKING:
    import polars as pl

EXACT_TIME = "exact time"  # no column of a dataset is stored under a name with a blank
GAPS = (dt.timedelta(minutes=30), dt.timedelta(hours=1), dt.timedelta(hours=2), dt.timedelta(days=1))


def period_start(time: pl.Series, frequency: str, zone: str) -> pl.Series:
    """Starts of the periods that UTC times lie in, as clocks of the zone show them, in UTC.

    Periods of up to an hour keep the clock's offset, so the hour that comes twice in autumn is two periods. Longer ones
    start when the clock first shows their start, or, where clocks were put forward over it, at the first moment after.
    """

    local = time.dt.convert_time_zone(zone).dt.replace_time_zone(None)
    floor = local.dt.truncate(frequency)
    if _is_within_an_hour(frequency):
        return time - (local - floor)
    return first_moment(floor, zone)


def first_moment(floor: pl.Series, zone: str) -> pl.Series:
    """When clocks of the zone first show a time (or, where they were put forward over it, the moment after), in UTC."""
    import polars as pl

    start = floor.dt.replace_time_zone(zone, ambiguous="earliest", non_existent="null")
    for gap in GAPS:
        if start.null_count() == floor.null_count():
            break
        later = (floor + gap).dt.replace_time_zone(zone, ambiguous="earliest", non_existent="null")
        start = pl.select(pl.coalesce(start, later)).to_series()
    return start.dt.convert_time_zone("UTC")


def _is_within_an_hour(frequency: str) -> bool:
    found = re.fullmatch(r"(\d+)(\D+)", frequency)
    assert found is not None
    return (found[2] == "m" and int(found[1]) <= 60) or frequency == "1h"


def merge_periods(
    rows: pl.DataFrame, key: Sequence[str], texts: Sequence[str], numbers: Sequence[str], align: AlignConfig
) -> pl.DataFrame:
    """One row per key (entity and period start), columns as they were, and how many rows each stands for.

    Missing values do not take part; a period of missing values alone stays missing. The source's file and row are those
    of the last one.
    """
    import polars as pl

    def of(name: str) -> pl.Expr:
        column = pl.col(name)
        if name in key:
            return column.first()
        if name in texts or (name in numbers and align.aggregate == "last"):
            return column.drop_nulls().last()
        if name in numbers:
            filled = column.drop_nulls()
            if align.aggregate == "sum":
                return pl.when(filled.len() > 0).then(filled.sum())
            found: pl.Expr = getattr(filled, align.aggregate)()
            return found
        return column.last()

    ordered = rows.sort(*key, EXACT_TIME, "source_file", "source_row")
    merged = ordered.group_by(list(key), maintain_order=True).agg(
        *(of(name).alias(name) for name in rows.columns if name not in (*key, SOURCE_ROWS)),
        pl.len().cast(pl.Int64).alias(SOURCE_ROWS),
    )
    return merged.select(rows.columns)
