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
    among the last k, minus 1. Ratios are null unless both levels are above 0. A month of which a part is forgotten is
    forgotten.
    """

    name = "market"

    def features(self, plan: FeaturePlan, column: str, by: str) -> list[Feature]:
        """Of targets, by group."""
        if not plan.market or by == OWN or column not in plan.targets:
            return []
        last = "last whole month"
        momenta, trends = _months(plan)
        windows = {"level": last, "volume": last, "dispersion": last}
        windows |= {f"momentum_{k}m": f"{last} against {k} months before" for k in momenta}
        windows |= {f"trend_{k}m": f"{last} against the last {k} months" for k in trends}
        found = [past_feature("market", column, by, f"market_{name}", window) for name, window in windows.items()]
        return [Feature(f.name, "market", f.inputs, f.window, f.group, f.cost) for f in found]

    def compute(
        self, timeline: Timeline, plan: FeaturePlan, column: str, by: str, delay_us: int
    ) -> Mapping[str, Numbers]:
        """Doubles per cell."""
        if not self.features(plan, column, by):
            return {}
        figure, columns = timeline.once((column, "months"), lambda: _figures(timeline, column))
        delay = max(0, delay_us - plan.group_step_us + 1)  # months end where steps do: the delay itself is enough
        market = timeline.key * SPAN
        last = np.searchsorted(figure, market + timeline.months("UTC", back_us=delay) - 1, side="right") - 1
        if timeline.oldest_us is None:
            there = last >= np.searchsorted(figure, market)
            everywhere = np.arange(len(figure))
            found = timeline.once(
                (column, "compared"),
                lambda: columns | _compared(columns["level"], figure, everywhere, figure // SPAN * SPAN, plan),
            )
            found = {name: or_nan(there, values, last) for name, values in found.items()}
        else:
            first = market + timeline.months("UTC", back_us=delay + timeline.oldest_us + 1) + 1
            there = last >= np.searchsorted(figure, first)
            found = {name: or_nan(there, values, last) for name, values in columns.items()}
            for name, values in _compared(columns["level"], figure, last[there], first[there], plan).items():
                found[name] = np.full(len(last), np.nan)
                found[name][there] = values
        return {f"{column}__{by}__market_{name}": values for name, values in found.items()}


def _figures(timeline: Timeline, column: str) -> tuple[Positions, dict[str, Numbers]]:
    """Code of market and month, in order, and the figures of each."""
    known = np.flatnonzero(timeline.counts(column))
    # A cell without values between two others adds nothing.
    code = (timeline.keys * SPAN + timeline.months("UTC", everywhere=True))[known]
    starts = np.flatnonzero(np.diff(code, prepend=-1))
    ends = np.append(starts, len(known))[1:]
    first, stop = known[starts], known[ends - 1] + 1
    volume = timeline.count(column, first, stop)
    total, square = timeline.sums(column, "s")(first, stop), timeline.sums(column, "q")(first, stop)
    with np.errstate(divide="ignore", invalid="ignore"):
        level = total / volume
        deviation = np.sqrt(spread(square, total, volume) / (volume - 1))
        dispersion = np.where((volume > 1) & (level != 0), deviation / np.abs(level), np.nan)
    return code[starts], {"level": level, "volume": volume, "dispersion": dispersion}


def _compared(
    level: Numbers, figure: Positions, at: Positions, first: Positions, plan: FeaturePlan
) -> dict[str, Numbers]:
    """Momentum and trend of the figures at positions `at`; first: code of the first month that each may look at."""
    found, now = {}, level[at]
    momenta, trends = _months(plan)
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        for k in momenta:
            before = np.searchsorted(figure, figure[at] - k, side="right") - 1
            found[f"momentum_{k}m"] = _ratio(now, or_nan(before >= np.searchsorted(figure, first), level, before))
        for k in trends:
            total, count = np.zeros(len(at)), np.zeros(len(at))
            for back in range(k - 1, -1, -1):  # the oldest first
                month = figure[at] - back
                index = np.searchsorted(figure, month)
                hit = (figure[index] == month) & (month >= first)
                total += np.where(hit, level[index], 0.0)
                count += hit
            found[f"trend_{k}m"] = _ratio(now, total / count)
    return found


def _ratio(level: Numbers, before: Numbers) -> Numbers:
    return np.where((before > 0) & (level > 0), level / before - 1, np.nan)


def _months(plan: FeaturePlan) -> tuple[list[int], list[int]]:
    settings = plan.settings
    return sorted(set(settings.market_momentum_months)), sorted(set(settings.market_trend_months))
