"""Consumes dated values per key, produces what was known of them strictly before each time. Polars, one task's rows.

A value of a row at time s with availability delay d is known after s + d; a row at time t sees values with
s + d < t and no others. Windows are spans of time [t - d - window, t - d).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import polars as pl

DAY_US = 86_400_000_000


def delay_us(days: float) -> int:
    """Days as whole microseconds."""
    return round(days * DAY_US)


def condense(frame: pl.DataFrame, by: Sequence[str], values: Sequence[str]) -> pl.DataFrame:
    """One row per key and time with count, sum, sum of squares, least and greatest of each value.

    Adds ``{v}|n {v}|s {v}|q {v}|lo {v}|hi``. Rows can be condensed in parts and `merge`d.
    """
    import polars as pl

    return frame.group_by([*by, "time"]).agg(
        expression
        for v in values
        for expression in (
            pl.col(v).count().cast(pl.Int64).alias(f"{v}|n"),
            pl.col(v).sum().alias(f"{v}|s"),
            (pl.col(v) ** 2).sum().alias(f"{v}|q"),
            pl.col(v).min().alias(f"{v}|lo"),
            pl.col(v).max().alias(f"{v}|hi"),
        )
    )


def merge(parts: pl.DataFrame, by: Sequence[str], values: Sequence[str]) -> pl.DataFrame:
    """Condensed rows of several parts as one condensed row per key and time.

    Parts are added in order of their values, so that the sums do not depend on how rows were dealt to tasks.
    """
    import polars as pl

    ordered = parts.sort([*by, "time", *(c for v in values for c in (f"{v}|s", f"{v}|n"))])
    return ordered.group_by([*by, "time"], maintain_order=True).agg(
        expression
        for v in values
        for expression in (
            pl.col(f"{v}|n").sum(),
            pl.col(f"{v}|s").sum(),
            pl.col(f"{v}|q").sum(),
            pl.col(f"{v}|lo").min(),
            pl.col(f"{v}|hi").max(),
        )
    )


def history(
    condensed: pl.DataFrame,
    *,
    by: Sequence[str],
    value: str,
    delay_days: float,
    lags: Sequence[int],
    windows_days: Sequence[int],
    statistics: Sequence[str],
    prefix: str,
    age: bool,
) -> pl.DataFrame:
    """History of one value at every key and time of `condensed`.

    Args:
        condensed: rows of `condense`, one per key and time, any order.
        by: key columns.
        value: the column whose history is wanted.
        delay_days: availability delay.
        lags: k-th last known value (mean of its time), k from 1.
        windows_days: spans for `statistics`.
        statistics: among mean, std (n - 1), min, max, count.
        prefix: of the new columns' names.
        age: whether days since the last known value are wanted.

    Returns:
        by, time and float32 columns ``{prefix}lag_{k}``, ``{prefix}age_days``, ``{prefix}{stat}_{days}d``, one row per
        key and time. Nothing known: null, and 0 for counts.
    """
    import polars as pl

    keys, delay = list(by), delay_us(delay_days)
    # Key order is not enough: window functions cut groups by key, so each key's rows must be in order of time.
    base = condensed.sort([*keys, "time"])
    result = base.select([*keys, "time"]).with_columns((pl.col("time").dt.timestamp("us") - delay).alias("q"))
    known = base.filter(pl.col(f"{value}|n") > 0)
    if lags or age:
        result = _with_lags(result, known, keys, value, lags, prefix, age)
    if windows_days:
        result = _with_windows(result, known, keys, value, delay, windows_days, statistics, prefix)
    return result.drop("q")


def _with_lags(
    result: pl.DataFrame,
    known: pl.DataFrame,
    keys: list[str],
    value: str,
    lags: Sequence[int],
    prefix: str,
    age: bool,
) -> pl.DataFrame:
    import polars as pl

    mean = pl.col(f"{value}|s") / pl.col(f"{value}|n")
    shifted = [_over(mean.shift(k - 1), keys).cast(pl.Float32).alias(f"{prefix}lag_{k}") for k in lags]
    states = known.select(*keys, pl.col("time").dt.timestamp("us").alias("s"), *shifted)
    joined = result.sort("q").join_asof(
        states.sort("s"),
        left_on="q",
        right_on="s",
        by=keys or None,
        strategy="backward",
        allow_exact_matches=False,
        check_sortedness=False,
    )
    if age:
        joined = joined.with_columns(
            ((pl.col("time").dt.timestamp("us") - pl.col("s")) / DAY_US).cast(pl.Float32).alias(f"{prefix}age_days")
        )
    return joined.drop("s", strict=False).sort([*keys, "time"])


def _with_windows(
    result: pl.DataFrame,
    known: pl.DataFrame,
    keys: list[str],
    value: str,
    delay: int,
    windows_days: Sequence[int],
    statistics: Sequence[str],
    prefix: str,
) -> pl.DataFrame:
    import polars as pl

    moments = [f"{value}|{m}" for m in ("n", "s", "q", "lo", "hi")]
    events = known.select(*keys, pl.col("time").dt.timestamp("us").alias("at"), *moments, pl.lit(False).alias("asks"))
    asks = result.select(
        *keys,
        pl.col("q").alias("at"),
        *(pl.lit(None).cast(known.schema[m]).alias(m) for m in moments),
        pl.lit(True).alias("asks"),
    )
    line = pl.concat([events, asks]).sort([*keys, "at", "asks"]).with_columns(pl.from_epoch("at", time_unit="us"))
    wanted: list[pl.Expr] = []
    for days in windows_days:
        window = f"{days}d"

        def rolled(moment: str, how: str, window: str = window) -> pl.Expr:
            method = getattr(pl.col(f"{value}|{moment}"), f"rolling_{how}_by")
            return _over(method("at", window_size=window, closed="left", min_samples=1), keys)

        n = rolled("n", "sum").fill_null(0)
        filled = pl.when(n > 0)
        if "count" in statistics:
            wanted.append(n.cast(pl.Float32).alias(f"{prefix}count_{days}d"))
        if "mean" in statistics:
            wanted.append(filled.then(rolled("s", "sum") / n).cast(pl.Float32).alias(f"{prefix}mean_{days}d"))
        if "std" in statistics:
            squares = rolled("q", "sum") - rolled("s", "sum") ** 2 / n
            deviation = (pl.max_horizontal(squares, pl.lit(0.0)) / (n - 1)).sqrt()
            wanted.append(pl.when(n > 1).then(deviation).cast(pl.Float32).alias(f"{prefix}std_{days}d"))
        if "min" in statistics:
            wanted.append(filled.then(rolled("lo", "min")).cast(pl.Float32).alias(f"{prefix}min_{days}d"))
        if "max" in statistics:
            wanted.append(filled.then(rolled("hi", "max")).cast(pl.Float32).alias(f"{prefix}max_{days}d"))
    answers = line.with_columns(wanted).filter("asks").sort([*keys, "at"])
    names = [e.meta.output_name() for e in wanted]
    # Both are sorted by key and time, and every row of `result` asked exactly once.
    return pl.concat([result.sort([*keys, "time"]), answers.select(names)], how="horizontal")


def _over(expression: pl.Expr, keys: list[str]) -> pl.Expr:
    return expression.over(keys) if keys else expression
