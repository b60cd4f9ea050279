"""Consumes the timeline of one value per key, produces what was known of it strictly before each time.

A value of a row at time s with availability delay d is known after s + d; a row at time t sees values with
s + d < t and no others. Windows are spans of time [t - d - window, t - d). Each figure is a function of the values
that it sees alone, to the last bit: sums are exact before they are rounded, once.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from assay.features.timeline import DAY_US, Timeline, days_us

if TYPE_CHECKING:
    import polars as pl

# Squares are rounded once each and their sum once: less than this share of it is no spread (3e-8 of the values' size,
# which float32 could not tell apart either).
NO_SPREAD = 1e-15
FLOAT32_MAX = float(np.finfo(np.float32).max)


def history(
    timeline: Timeline,
    *,
    value: str,
    delay_days: float,
    lags: Sequence[int],
    windows_days: Sequence[int],
    statistics: Sequence[str],
    prefix: str,
    age: bool,
) -> pl.DataFrame:
    """History of one value at every cell of the timeline. Cost: O(cells x windows), whatever a window holds.

    Args:
        timeline: condensed rows of whole keys.
        value: the column whose history is wanted.
        delay_days: availability delay.
        lags: k-th last known value (mean of its time), k from 1.
        windows_days: spans for `statistics`.
        statistics: among mean, std (n - 1), min, max, count.
        prefix: of the columns' names.
        age: whether days since the last known value are wanted.

    Returns:
        float32 columns ``{prefix}lag_{k}``, ``{prefix}age_days``, ``{prefix}{stat}_{days}d``, one row per cell, in the
        timeline's order. Nothing known: null, and 0 for counts.
    """
    columns: dict[str, np.ndarray] = {}
    if lags or age:
        columns |= _lags(timeline, value, days_us(delay_days), lags, age)
    if windows_days:
        columns |= _windows(timeline, value, days_us(delay_days), windows_days, statistics)
    return float32_columns(columns, prefix)


def float32_columns(columns: dict[str, np.ndarray], prefix: str) -> pl.DataFrame:
    """Doubles as float32 columns; NaN becomes null, and what float32 cannot hold its largest number."""
    import polars as pl

    return pl.DataFrame(
        [
            pl.Series(prefix + name, np.clip(array, -FLOAT32_MAX, FLOAT32_MAX).astype(np.float32), nan_to_null=True)
            for name, array in columns.items()
        ]
    )


def _lags(timeline: Timeline, value: str, delay: int, lags: Sequence[int], age: bool) -> dict[str, np.ndarray]:
    counts = timeline.counts(value)
    known = np.flatnonzero(counts)
    before = np.concatenate(([0], np.cumsum(counts > 0)))
    # Per cell: how many known cells, of all keys, lie before what it may see, and before its own key.
    seen, own = before[timeline.first_since(delay)], before[timeline.key_start]
    means = timeline.sums(value, "s")(known, known + 1) / counts[known]

    columns = {f"lag_{k}": or_nan(seen - k >= own, means, seen - k) for k in lags}
    if age:
        latest = np.where(seen > own, seen - 1, 0)
        since = (timeline.time - timeline.time[known][latest]) / DAY_US if len(known) else np.zeros(len(seen))
        columns["age_days"] = np.where(seen > own, since, np.nan)
    return columns


def or_nan(there: np.ndarray, values: np.ndarray, positions: np.ndarray) -> np.ndarray:
    """values[positions] where `there`, else NaN."""
    return np.append(values, np.nan)[np.where(there, positions, -1)]


def _windows(
    timeline: Timeline, value: str, delay: int, windows_days: Sequence[int], statistics: Sequence[str]
) -> dict[str, np.ndarray]:
    until = timeline.first_since(delay)
    counts = np.concatenate(([0], np.cumsum(timeline.counts(value))))
    sums = timeline.sums(value, "s") if {"mean", "std"} & set(statistics) else None
    squares = timeline.sums(value, "q") if "std" in statistics else None
    least = timeline.extremes(value, "lo") if "min" in statistics else None
    greatest = timeline.extremes(value, "hi") if "max" in statistics else None
    columns: dict[str, np.ndarray] = {}
    for days in windows_days:
        since = timeline.first_since(delay + days_us(days))
        n = (counts[until] - counts[since]).astype(np.float64)
        if "count" in statistics:
            columns[f"count_{days}d"] = n
        with np.errstate(divide="ignore", invalid="ignore"):
            if sums is not None:
                total = sums(since, until)
                if "mean" in statistics:
                    columns[f"mean_{days}d"] = total / n
            if sums is not None and squares is not None:
                square = squares(since, until)
                spread = square - total * total / n
                spread = np.where(spread > NO_SPREAD * square, spread, 0.0)
                columns[f"std_{days}d"] = np.where(n > 1, np.sqrt(spread / (n - 1)), np.nan)
        if least is not None:
            columns[f"min_{days}d"] = _least(least, since, until)
        if greatest is not None:
            columns[f"max_{days}d"] = -_least(-greatest, since, until)
    return columns


def _least(values: np.ndarray, start: np.ndarray, stop: np.ndarray) -> np.ndarray:
    """Least value of each stretch start <= position < stop, NaN where it has none. O(n log longest), memory O(n).

    A stretch is covered by two overlapping ones whose length is a power of two; one such length is held at a time.
    """
    result = np.full(len(start), np.nan)
    lengths = stop - start
    level, table = 0, values
    while (lengths >= 1 << level).any():
        mine = np.flatnonzero((lengths >= 1 << level) & (lengths < 2 << level))
        result[mine] = np.fmin(table[start[mine]], table[stop[mine] - (1 << level)])
        table = np.fmin(table[: -(1 << level)], table[1 << level :])
        level += 1
    return result
