"""Consumes the timeline of a price-like column, produces technical indicators of the bars that are known.

A bar is a time with a known value (the mean of several); periods are counted in bars. Start values are TA-Lib's: an
exponential average starts as the plain mean of its first period, so none is given before its period is full. With
`max_history_days` the first bar is the oldest one remembered.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import numpy as np

from assay.features.exact import RunningSums
from assay.features.family import past_feature
from assay.features.history import spread
from assay.features.plan import Feature, FeaturePlan
from assay.features.recurrence import recurrence
from assay.features.trend import wanted

if TYPE_CHECKING:
    from assay.features.timeline import Numbers, Positions, Timeline

PERIODIC = ("sma", "to_sma", "ema", "to_ema", "rsi", "volatility", "momentum", "roc")
MACD = ("macd", "macd_signal", "macd_histogram", "macd_relative", "macd_histogram_relative")
BOLLINGER = ("bollinger_upper", "bollinger_lower", "bollinger_percent", "bollinger_width")


class Technical:
    """Indicators of a price-like column, for the entity and, where asked, for groups.

    For each period p: ``sma_p``, ``ema_p``: averages; ``to_sma_p``, ``to_ema_p``: last price over them, minus 1;
    ``rsi_p``: Wilder's (1978), 0 to 100; ``volatility_p``: standard deviation (n - 1) of p logarithmic returns, per
    bar; ``momentum_p``: change over p bars; ``roc_p``: the same as a share of the earlier price.
    ``macd``, ``macd_signal``, ``macd_histogram``; ``macd_relative``, ``macd_histogram_relative``: over the last price.
    ``bollinger_upper``, ``bollinger_lower``; ``bollinger_percent``: 0 at the lower band, 1 at the upper;
    ``bollinger_width``: distance of the bands over their middle.
    Ratios and logarithms are null where a price is not above 0, an RSI where nothing moved.
    """

    name = "technical"

    def features(self, plan: FeaturePlan, column: str, by: str) -> list[Feature]:
        """Of the columns that `features.technical` names."""
        if column not in plan.settings.technical or not wanted(plan, self.name, by):
            return []
        fast, slow, signal = plan.settings.macd
        windows = {f"{name}_{p}": f"{p} observations" for p in _periods(plan) for name in PERIODIC}
        windows |= dict.fromkeys(MACD, f"{fast}, {slow} and {signal} observations")
        windows |= dict.fromkeys(BOLLINGER, f"{plan.settings.bollinger[0]} observations")
        return [past_feature(self.name, column, by, name, window, cost="scan") for name, window in windows.items()]

    def compute(
        self, timeline: Timeline, plan: FeaturePlan, column: str, by: str, delay_us: int
    ) -> Mapping[str, Numbers]:
        """Doubles per cell; NaN before a period is full."""
        bars = _Bars(timeline, column, delay_us)
        found: dict[str, Numbers] = {}
        last = bars.back(0)
        for period in _periods(plan):
            averages = {"sma": bars.mean(period), "ema": _exponential(bars, period)}
            for name, average in averages.items():
                found[f"{name}_{period}"] = average
                found[f"to_{name}_{period}"] = _change(last, average)
            found[f"rsi_{period}"] = _relative_strength(bars, period)
            found[f"volatility_{period}"] = _volatility(bars, period)
            found[f"momentum_{period}"] = last - bars.back(period)
            found[f"roc_{period}"] = _change(last, bars.back(period))
        found |= zip(MACD, _convergence(bars, *plan.settings.macd), strict=True)
        found |= zip(BOLLINGER, _bands(bars, *plan.settings.bollinger), strict=True)
        return {f"{column}__{by}__{name}": numbers for name, numbers in found.items()}


class _Bars:
    """The bars that each cell asked for may see.

    values: of all bars of all keys, in order.  first, stop: seen are the bars first <= bar < stop.
    """

    def __init__(self, timeline: Timeline, column: str, delay_us: int) -> None:
        known = timeline.known(column)
        self._timeline, self._column = timeline, column
        self.values = known.means
        self.first = known.before[timeline.oldest(delay_us)]
        self.stop = known.before[timeline.first_since(delay_us)]

    def at_least(self, bars: int) -> Positions:
        """Cells that see so many."""
        return np.flatnonzero(self.stop - self.first >= bars)

    def back(self, bars: int) -> Numbers:
        """The last price but so many."""
        found = np.full(len(self.stop), np.nan)
        cells = self.at_least(bars + 1)
        found[cells] = self.values[self.stop[cells] - 1 - bars]
        return found

    def mean(self, period: int) -> Numbers:
        """Mean of the last prices."""
        found = np.full(len(self.stop), np.nan)
        cells = self.at_least(period)
        found[cells] = self.mean_from(self.stop[cells] - period, period)
        return found

    def mean_from(self, start: Positions, period: int) -> Numbers:
        """Mean of so many prices from a bar on."""
        return self.sums("prices", self.values)(start, start + period) / period

    def sums(self, name: str, series: Numbers) -> Callable[[Positions, Positions], Numbers]:
        """A function (start, stop) -> sum of a series over bars start <= bar < stop."""
        running = self._timeline.once((self._column, "bars", name), lambda: RunningSums(series), bulky=True)
        return running.between

    def pair(self, make: Callable[[Numbers], tuple[Numbers, Numbers]]) -> tuple[Numbers, Numbers]:
        """Two series made of the prices of all bars, once."""
        return self._timeline.once((self._column, "bars", make), lambda: make(self.values))


def _exponential(bars: _Bars, period: int) -> Numbers:
    found = np.full(len(bars.stop), np.nan)
    cells = bars.at_least(period)
    first, weight = bars.first[cells], 2 / (period + 1)
    seed = bars.mean_from(first, period)[np.newaxis]
    drivers = [(bars.values, weight)]
    decay = np.array([[1 - weight]])
    found[cells] = recurrence(decay, drivers, seed, first + period - 1, bars.stop[cells] - 1)[0]
    return found


def _relative_strength(bars: _Bars, period: int) -> Numbers:
    """100 times the average gain over the average movement, both smoothed with weight 1 / period."""
    gains, losses = bars.pair(_moves)
    found = np.full(len(bars.stop), np.nan)
    cells = bars.at_least(period + 1)
    first = bars.first[cells]
    seed = np.stack(
        [
            bars.sums(name, moves)(first + 1, first + 1 + period) / period
            for name, moves in (("+", gains), ("-", losses))
        ]
    )
    drivers = [(gains, 1 / period), (losses, 1 / period)]
    up, down = recurrence(np.eye(2) * (1 - 1 / period), drivers, seed, first + period, bars.stop[cells] - 1)
    with np.errstate(divide="ignore", invalid="ignore"):
        found[cells] = 100 * up / (up + down)
    return found


def _moves(values: Numbers) -> tuple[Numbers, Numbers]:
    """Gain and loss of each bar against the one before; a key's first bar is never asked for."""
    change = np.diff(values, prepend=values[:1])
    return np.maximum(change, 0.0), np.maximum(-change, 0.0)


def _volatility(bars: _Bars, period: int) -> Numbers:
    returns, usable = bars.pair(_returns)
    found = np.full(len(bars.stop), np.nan)
    cells = bars.at_least(period + 1)
    stop = bars.stop[cells]
    start = stop - period
    n = bars.sums("usable", usable)(start, stop)
    total, square = bars.sums("returns", returns)(start, stop), bars.sums("squares", returns**2)(start, stop)
    with np.errstate(divide="ignore", invalid="ignore"):
        found[cells] = np.where(n == period, np.sqrt(spread(square, total, n) / (period - 1)), np.nan)
    return found


def _returns(values: Numbers) -> tuple[Numbers, Numbers]:
    """Logarithmic return of each bar, 0 where there is none, and 1 where there is one."""
    before = np.append(values[:1], values[:-1])
    usable = (values > 0) & (before > 0)
    logarithm = np.log(np.where(values > 0, values, 1.0))
    return np.where(usable, np.diff(logarithm, prepend=logarithm[:1]), 0.0), usable.astype(np.float64)


def _convergence(bars: _Bars, fast: int, slow: int, signal: int) -> tuple[Numbers, ...]:
    """MACD line, signal and histogram, and line and histogram over the last price.

    Both averages start with the bar that fills the slow one, the signal as the mean of the first lines.
    """
    cells = bars.at_least(slow + signal - 1)
    quick, slack, smooth = 2 / (fast + 1), 2 / (slow + 1), 2 / (signal + 1)
    at = bars.first[cells] + slow - 1
    ahead, behind = bars.mean_from(at - fast + 1, fast), bars.mean_from(at - slow + 1, slow)
    lines = ahead - behind
    for _ in range(signal - 1):
        at = at + 1
        ahead, behind = (1 - quick) * ahead + quick * bars.values[at], (1 - slack) * behind + slack * bars.values[at]
        lines = lines + (ahead - behind)
    matrix = np.array([[1 - quick, 0, 0], [0, 1 - slack, 0], [smooth * (1 - quick), -smooth * (1 - slack), 1 - smooth]])
    drivers = [(bars.values, factor) for factor in (quick, slack, smooth * (quick - slack))]
    seed = np.stack([ahead, behind, lines / signal])
    ahead, behind, level = recurrence(matrix, drivers, seed, at, bars.stop[cells] - 1)
    found = np.full((3, len(bars.stop)), np.nan)
    found[:, cells] = ahead - behind, level, (ahead - behind) - level
    last = bars.back(0)
    return (*found, _over(found[0], last), _over(found[2], last))


def _bands(bars: _Bars, period: int, width: float) -> tuple[Numbers, ...]:
    """Upper and lower band, place of the last price between them, and their distance over the middle."""
    found = np.full((2, len(bars.stop)), np.nan)
    cells = bars.at_least(period)
    stop = bars.stop[cells]
    total = bars.sums("prices", bars.values)(stop - period, stop)
    square = bars.sums("squared prices", bars.values**2)(stop - period, stop)
    found[:, cells] = total / period, width * np.sqrt(spread(square, total, np.full(len(stop), float(period))) / period)
    middle, reach = found
    with np.errstate(divide="ignore", invalid="ignore"):
        place = np.where(reach > 0, (bars.back(0) - (middle - reach)) / (2 * reach), np.nan)
    return middle + reach, middle - reach, place, _over(2 * reach, middle)


def _over(part: Numbers, whole: Numbers) -> Numbers:
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(whole > 0, part / whole, np.nan)


def _change(now: Numbers, before: Numbers) -> Numbers:
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where((now > 0) & (before > 0), now / before - 1, np.nan)


def _periods(plan: FeaturePlan) -> list[int]:
    return sorted(set(plan.settings.technical_periods))
