"""Consumes condensed values per market and time, produces the market's level, volume and momentum by month.

A month's figures are known when the month is over and the availability delay has passed: a row at t sees the last
month that ended at or before t - delay, so no row of the same month and none at or after t.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from assay.features.history import delay_us

if TYPE_CHECKING:
    import polars as pl


def market(
    condensed: pl.DataFrame,
    *,
    by: Sequence[str],
    value: str,
    delay_days: float,
    momentum_months: Sequence[int],
    prefix: str,
) -> pl.DataFrame:
    """Market figures at every key and time of `condensed`.

    Returns:
        by, time and float32 ``{prefix}_level`` (mean of the value in the month), ``{prefix}_volume`` (rows with one)
        and ``{prefix}_momentum_{k}m`` (level over the level k months earlier, minus 1; null unless both are above 0).
    """
    import polars as pl

    keys = list(by)
    months = (
        condensed.filter(pl.col(f"{value}|n") > 0)
        .sort([*keys, "time"])
        .group_by([*keys, _month_index(pl.col("time")).alias("m")], maintain_order=True)
        .agg(pl.col(f"{value}|n").sum().alias("n"), pl.col(f"{value}|s").sum().alias("s"))
        .with_columns((pl.col("s") / pl.col("n")).alias("level"))
    )
    earlier = months.select(*keys, pl.col("m").alias("then"), pl.col("level").alias("before"))
    figures = months.select(*keys, "m", "level", "n")
    for k in momentum_months:
        aligned = _asof(figures.with_columns((pl.col("m") - k).alias("ask")), earlier, keys, "ask", "then")
        ratio = pl.when((pl.col("before") > 0) & (pl.col("level") > 0)).then(pl.col("level") / pl.col("before") - 1)
        figures = aligned.with_columns(ratio.cast(pl.Float32).alias(f"{prefix}_momentum_{k}m")).drop(
            "before", "ask", "then", strict=False
        )
    figures = figures.with_columns(
        pl.col("level").cast(pl.Float32).alias(f"{prefix}_level"),
        pl.col("n").cast(pl.Float32).alias(f"{prefix}_volume"),
    ).drop("level", "n")
    known_until = pl.col("time") - pl.duration(microseconds=delay_us(delay_days))
    asked = condensed.select(*keys, "time").with_columns((_month_index(known_until) - 1).alias("ask"))
    return _asof(asked, figures, keys, "ask", "m").drop("ask", "m", strict=False)


def _asof(left: pl.DataFrame, right: pl.DataFrame, keys: list[str], left_on: str, right_on: str) -> pl.DataFrame:
    """Latest row of `right` at or before each row of `left`."""
    return left.sort(left_on).join_asof(
        right.sort(right_on),
        left_on=left_on,
        right_on=right_on,
        by=keys or None,
        strategy="backward",
        check_sortedness=False,
    )


def _month_index(time: pl.Expr) -> pl.Expr:
    import polars as pl

    return (time.dt.year().cast(pl.Int64) * 12 + time.dt.month().cast(pl.Int64)).cast(pl.Int64)
