"""Consumes the timeline of one value per market, produces the market's level, volume and momentum by month.

A month's figures are known when the month is over and the availability delay has passed: a row at t sees the last
month with values that ended at or before t - delay, so no row of the same month and none at or after t.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from assay.features.history import float32_columns, or_nan
from assay.features.timeline import Timeline, days_us

if TYPE_CHECKING:
    import polars as pl

# More than the months that a time can have: a market's code and a month make one sortable number.
SPAN = 1 << 20


def market(
    timeline: Timeline,
    *,
    value: str,
    delay_days: float,
    momentum_months: Sequence[int],
    prefix: str,
    zone: str = "UTC",
) -> pl.DataFrame:
    """Market figures at every cell of the timeline.

    Returns:
        float32 ``{prefix}_level`` (mean of the value in the month), ``{prefix}_volume`` (rows with one) and
        ``{prefix}_momentum_{k}m`` (level over the level of the last month with values that is at least k months
        earlier, minus 1; null unless both levels are above 0), one row per cell, in the timeline's order.
    """
    known = np.flatnonzero(timeline.counts(value))
    # Figures: one per market and month with values, in order; a cell without values between two others adds nothing.
    figure = (timeline.key * SPAN + timeline.months(zone))[known]
    starts = np.flatnonzero(np.diff(figure, prepend=-1))
    ends = np.append(starts, len(known))[1:]
    first, stop = known[starts], known[ends - 1] + 1
    figure = figure[starts]
    volume = np.add.reduceat(timeline.counts(value)[known], starts) if len(starts) else np.zeros(0)
    level = timeline.sums(value, "s")(first, stop) / volume
    columns = {"level": level, "volume": volume.astype(np.float64)}
    for k in momentum_months:
        before = _latest(level, figure, figure - k)
        with np.errstate(divide="ignore", invalid="ignore"):
            columns[f"momentum_{k}m"] = np.where((before > 0) & (level > 0), level / before - 1, np.nan)
    asked = timeline.key * SPAN + timeline.months(zone, back_us=days_us(delay_days)) - 1
    return float32_columns({name: _latest(values, figure, asked) for name, values in columns.items()}, f"{prefix}_")


def _latest(values: np.ndarray, figure: np.ndarray, asked: np.ndarray) -> np.ndarray:
    """Value of the last figure of the same market at or before each one asked for, NaN where there is none."""
    position = np.searchsorted(figure, asked, side="right") - 1
    there = position >= 0
    there[there] = figure[position[there]] // SPAN == asked[there] // SPAN
    return or_nan(there, values, position)
