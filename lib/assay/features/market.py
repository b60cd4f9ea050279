"""Consumes the timeline of one value per market, produces the market's figures by month.

A month's figures are known when the month is over and the availability delay has passed: a row at t sees the last
month with values that ended at or before t - delay, so no row of the same month and none at or after t.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from assay.features.family import or_nan, past_feature
from assay.features.history import spread
from assay.features.plan import OWN, Feature, FeaturePlan

if TYPE_CHECKING:
    from assay.features.timeline import Numbers, Positions, Timeline

# More than the months that a time can have: a market's code and a month make one sortable number.
SPAN = 1 << 20


class Market:
    """Figures of a market's last whole month with values, for every target and group.

    ``market_level``: mean of the values.  ``market_volume``: rows with one.  ``market_dispersion``: standard deviation
    (n - 1) over the size of the mean.  ``market_momentum_{k}m``: level over the level of the last month with values at
    least k months earlier, minus 1.  ``market_trend_{k}m``: level over the mean level of the months with values
    among the last k, minus 1. Ratios are null unless both levels are above 0.
    """

    name = "market"

    def features(self, plan: FeaturePlan, column: str, by: str) -> list[Feature]:
        """Of targets, by group."""
        if not plan.market or by == OWN or column not in plan.targets:
            return []
        last = "last whole month"
        windows = {"level": last, "volume": last, "dispersion": last}
        windows |= {f"momentum_{k}m": f"{last} against {k} months before" for k in _months(plan)[0]}
        windows |= {f"trend_{k}m": f"{last} against the last {k} months" for k in _months(plan)[1]}
        found = [past_feature("market", column, by, f"market_{name}", window) for name, window in windows.items()]
        return [Feature(f.name, "market", f.inputs, f.window, f.group, f.cost) for f in found]

    def compute(
        self, timeline: Timeline, plan: FeaturePlan, column: str, by: str, delay_us: int
    ) -> Mapping[str, Numbers]:
        """Doubles per cell."""
        if not self.features(plan, column, by):
            return {}
        figure, columns = timeline.once((column, "months"), lambda: _figures(timeline, plan, column))
        delay = max(0, delay_us - plan.group_step_us + 1)  # months end where steps do: the delay itself is enough
        asked = timeline.key * SPAN + timeline.months("UTC", back_us=delay) - 1
        return {f"{column}__{by}__market_{name}": _latest(values, figure, asked) for name, values in columns.items()}


def _figures(timeline: Timeline, plan: FeaturePlan, column: str) -> tuple[Positions, dict[str, Numbers]]:
    """Code of market and month, in order, and the figures of each."""
    known = timeline.known(column).positions
    # A cell without values between two others adds nothing.
    code = (timeline.keys * SPAN + timeline.months("UTC", everywhere=True))[known]
    starts = np.flatnonzero(np.diff(code, prepend=-1))
    ends = np.append(starts, len(known))[1:]
    first, stop = known[starts], known[ends - 1] + 1
    figure = code[starts]
    volume = timeline.count(column, first, stop)
    total, square = timeline.sums(column, "s")(first, stop), timeline.sums(column, "q")(first, stop)
    momenta, trends = _months(plan)
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        level = total / volume
        deviation = np.sqrt(spread(square, total, volume) / (volume - 1))
        dispersion = np.where((volume > 1) & (level != 0), deviation / np.abs(level), np.nan)
        columns = {"level": level, "volume": volume, "dispersion": dispersion}
        for k in momenta:
            columns[f"momentum_{k}m"] = _ratio(level, _latest(level, figure, figure - k))
        for k in trends:
            columns[f"trend_{k}m"] = _ratio(level, _mean_of_last(level, figure, k))
    return figure, columns


def _ratio(level: Numbers, before: Numbers) -> Numbers:
    return np.where((before > 0) & (level > 0), level / before - 1, np.nan)


def _mean_of_last(level: Numbers, figure: Positions, months: int) -> Numbers:
    """Mean of the levels of the same market in the months from `figure` back, added up oldest first."""
    total, count = np.zeros(len(level)), np.zeros(len(level))
    for back in range(months - 1, -1, -1):
        index = np.minimum(np.searchsorted(figure, figure - back), max(len(figure) - 1, 0))
        hit = figure[index] == figure - back
        total += np.where(hit, level[index], 0.0)
        count += hit
    return total / count


def _latest(values: Numbers, figure: Positions, asked: Positions) -> Numbers:
    """Value of the last figure of the same market at or before each one asked for, NaN where there is none."""
    position = np.searchsorted(figure, asked, side="right") - 1
    there = position >= 0
    there[there] = figure[position[there]] // SPAN == asked[there] // SPAN
    return or_nan(there, values, position)


def _months(plan: FeaturePlan) -> tuple[list[int], list[int]]:
    settings = plan.settings
    return sorted(set(settings.market_momentum_months)), sorted(set(settings.market_trend_months))
