"""Consumes the timeline of one value per key, produces its trends, change points, seasonality and smoothed level.

All are functions of the values that are seen alone: sums of values weighted by functions of their own time are exact
before they are rounded, once.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from assay.features.family import past_feature
from assay.features.history import spread
from assay.features.plan import OWN, Feature, FeaturePlan
from assay.features.timeline import DAY_US, days_us

if TYPE_CHECKING:
    from assay.features.timeline import Numbers, Positions, Timeline

BLOCK_HALFLIVES = 8
BLOCKS_BACK = 7  # a value this many blocks back has less than 2**-56 of the newest one's weight
LEAST_DETERMINANT = 1e-9


class Smoothing:
    """``ewm_{h}d``: exponentially weighted mean of the known values, with weights that halve every h days.

    Weights are those of the value's age against the newest known one; older than 64 half-lives before it, they are 0.
    Values are summed up in blocks of 8 half-lives on a grid of their own, so that no figure depends on where its key
    begins.
    """

    name = "smoothing"

    def features(self, plan: FeaturePlan, column: str, by: str) -> list[Feature]:
        """One per half-life."""
        if not wanted(plan, self.name, by):
            return []
        return [
            past_feature(self.name, column, by, f"ewm_{h:g}d", f"half-life of {h:g} days")
            for h in sorted(set(plan.settings.halflives_days))
        ]

    def compute(
        self, timeline: Timeline, plan: FeaturePlan, column: str, by: str, delay_us: int
    ) -> Mapping[str, Numbers]:
        """Doubles per cell; nothing known: NaN."""
        if not self.features(plan, column, by):
            return {}
        known = timeline.known(column)
        since = timeline.oldest(delay_us)
        seen, own = known.before[timeline.first_since(delay_us)], known.before[since]
        there = seen > own
        newest = known.at(seen - 1, there)
        found = {}
        for halflife in sorted(set(plan.settings.halflives_days)):
            means = _smoothed(timeline, column, halflife, since, newest)
            found[f"{column}__{by}__ewm_{halflife:g}d"] = np.where(there, means, np.nan)
        return found


def _smoothed(timeline: Timeline, column: str, halflife: float, since: Positions, newest: Positions) -> Numbers:
    """Weighted mean of the values in the cells since <= position <= newest, which are of one key."""
    length = days_us(BLOCK_HALFLIVES * halflife)

    def weights(times: Numbers) -> Numbers:
        block = np.floor_divide(times, length)
        decayed: Numbers = np.exp2((times - (block + 1) * length) / (halflife * DAY_US))
        return decayed

    def blocks() -> tuple[Positions, Positions, Positions]:
        place = timeline.times // length
        place -= place.min(initial=0) - BLOCKS_BACK
        if timeline.several:
            place += timeline.keys * (int(place.max(initial=0)) + 1)
        new = np.ones(len(place), dtype=bool)
        np.not_equal(place[1:], place[:-1], out=new[1:])
        starts = np.flatnonzero(new)
        return place, place[starts], np.append(starts, len(place))

    place, places, bounds = timeline.once(("blocks", halflife), blocks, bulky=True)
    since = np.minimum(since, newest)
    block, oldest = np.searchsorted(places, place[newest]), np.searchsorted(places, place[since])
    totals = []
    for moment in ("s", "n"):
        sums = timeline.sums(column, moment, weight=(("ewm", halflife), weights))
        wholes = timeline.once((column, "ewm", halflife, moment), partial(sums, bounds[:-1], bounds[1:]))
        if timeline.oldest_us is None:
            carry = partial(_carried, wholes, places, places)
            carried = timeline.once((column, "carried", halflife, moment), carry)[block]
        else:  # the oldest block may be remembered in part
            back = places[block] - places[oldest]
            split = (back > 0) & (back <= BLOCKS_BACK)
            part = sums(since, np.where(split, bounds[oldest + 1], since))
            carried = part * np.exp2(-BLOCK_HALFLIVES * np.minimum(back, BLOCKS_BACK))
            carried += _carried(wholes, places, places[block], after=places[oldest])
        totals.append(sums(np.maximum(bounds[block], since), newest + 1) + carried)
    with np.errstate(divide="ignore", invalid="ignore"):
        mean: Numbers = totals[0] / totals[1]
    return mean


def _carried(wholes: Numbers, places: Positions, of: Positions, *, after: Positions | int = -1) -> Numbers:
    """Decayed sums of the blocks whose place lies before `of` and after `after`; wholes: one per place."""
    total = np.zeros(len(of))
    for back in range(BLOCKS_BACK, 0, -1):
        index = np.minimum(np.searchsorted(places, of - back), len(places) - 1)
        hit = (places[index] == of - back) & (of - back > after)
        total += np.where(hit, wholes[index], 0.0) * 2.0 ** (-BLOCK_HALFLIVES * back)
    return total


class Trend:
    """Straight lines through the known values of a span of days, and of all that is known (``ever``).

    ``slope_{w}d``: least-squares slope in units a day.  ``trend_strength_{w}d``: share of the variance that the line
    explains (R²).  ``shift_{w}d``: change-point score, Welch's t between the newer and the older half of the span
    (Welch, 1947).
    """

    name = "trend"

    def features(self, plan: FeaturePlan, column: str, by: str) -> list[Feature]:
        """Three for each span, and slope and strength of all that is known."""
        spans = _spans(plan, self.name, by)
        found = []
        for label, words in [
            *((f"{d}d", f"{d} days") for d in spans),
            *([("ever", "all known values")] if spans else []),
        ]:
            names = ["slope", "trend_strength", *(["shift"] if label != "ever" else [])]
            found += [past_feature(self.name, column, by, f"{name}_{label}", words) for name in names]
        return found

    def compute(
        self, timeline: Timeline, plan: FeaturePlan, column: str, by: str, delay_us: int
    ) -> Mapping[str, Numbers]:
        """Doubles per cell; NaN for a slope of one moment, a strength of fewer than three values or no spread."""
        found: dict[str, Numbers] = {}
        spans = _spans(plan, self.name, by)
        if not spans:
            return found
        until = timeline.first_since(delay_us)
        prefix = f"{column}__{by}__"
        for days in spans:
            since = timeline.since(delay_us, days_us(days))
            found[f"{prefix}slope_{days}d"], found[f"{prefix}trend_strength_{days}d"] = _line(
                timeline, column, since, until
            )
            middle = np.maximum(since, timeline.first_since(delay_us + days_us(days) // 2))
            found[f"{prefix}shift_{days}d"] = _shift(timeline, column, since, middle, until)
        since = timeline.oldest(delay_us)
        found[f"{prefix}slope_ever"], found[f"{prefix}trend_strength_ever"] = _line(timeline, column, since, until)
        return found


def _days_of(times: Numbers) -> Numbers:
    return times / DAY_US


def _squared_days_of(times: Numbers) -> Numbers:
    return (times / DAY_US) ** 2


def _line(timeline: Timeline, column: str, since: Positions, until: Positions) -> tuple[Numbers, Numbers]:
    """Slope and R² of the least-squares line through the values of each stretch."""
    n = timeline.count(column, since, until)
    total = timeline.sums(column, "s")(since, until)
    square = timeline.sums(column, "q")(since, until)
    times = timeline.sums(column, "n", weight=("t", _days_of))(since, until)
    times_square = timeline.sums(column, "n", weight=("tt", _squared_days_of))(since, until)
    product = timeline.sums(column, "s", weight=("t", _days_of))(since, until)
    with np.errstate(divide="ignore", invalid="ignore"):
        covariance = product - times * total / n
        time_spread = spread(times_square, times, n)
        slope = np.where(time_spread > 0, covariance / time_spread, np.nan)
        values_spread = spread(square, total, n)
        strength = np.minimum(covariance * covariance / (time_spread * values_spread), 1.0)
        strength = np.where((n > 2) & (time_spread > 0) & (values_spread > 0), strength, np.nan)
    return slope, strength


def _shift(timeline: Timeline, column: str, since: Positions, middle: Positions, until: Positions) -> Numbers:
    """Welch's t of the values after and before the middle; NaN with fewer than two on a side or no spread at all."""
    halves = []
    for start, stop in ((middle, until), (since, middle)):
        n = timeline.count(column, start, stop)
        total = timeline.sums(column, "s")(start, stop)
        with np.errstate(divide="ignore", invalid="ignore"):
            squares = spread(timeline.sums(column, "q")(start, stop), total, n)
            halves.append((total / n, np.where(n > 1, squares / (n - 1) / n, np.nan)))
    (newer, newer_error), (older, older_error) = halves
    with np.errstate(divide="ignore", invalid="ignore"):
        error = np.sqrt(newer_error + older_error)
        score: Numbers = np.where(error > 0, (newer - older) / error, np.nan)
    return score


class Seasonality:
    """``season_{p}d``: share of the variance of all known values that a wave of period p explains, 0 to 1.

    It is the generalised Lomb-Scargle power (Zechmeister and Kürster, 2009), which takes values at any times. NaN
    before the values span one whole period, and with fewer than five of them.
    """

    name = "seasonality"

    def features(self, plan: FeaturePlan, column: str, by: str) -> list[Feature]:
        """One per period."""
        if not wanted(plan, self.name, by):
            return []
        return [
            past_feature(self.name, column, by, f"season_{period:g}d", f"period of {period:g} days")
            for period in sorted(set(plan.settings.seasonality_days))
        ]

    def compute(
        self, timeline: Timeline, plan: FeaturePlan, column: str, by: str, delay_us: int
    ) -> Mapping[str, Numbers]:
        """Doubles per cell."""
        found: dict[str, Numbers] = {}
        if not self.features(plan, column, by):
            return found
        until, since = timeline.first_since(delay_us), timeline.oldest(delay_us)
        known = timeline.known(column)
        seen, own = known.before[until], known.before[since]
        there = seen > own
        first, last = known.at(own, there), known.at(seen - 1, there)
        span = np.where(there, timeline.times[last] - timeline.times[first], 0)
        for period in sorted(set(plan.settings.seasonality_days)):
            power = _power(timeline, column, period, since, until)
            found[f"{column}__{by}__season_{period:g}d"] = np.where(span >= days_us(period), power, np.nan)
        return found


def _power(timeline: Timeline, column: str, period: float, since: Positions, until: Positions) -> Numbers:
    turn = 2 * np.pi / (period * DAY_US)
    waves = {"cos": lambda t: np.cos(turn * t), "sin": lambda t: np.sin(turn * t)}
    waves |= {"coscos": lambda t: np.cos(turn * t) ** 2, "cossin": lambda t: np.cos(turn * t) * np.sin(turn * t)}

    def summed(moment: str, wave: str) -> Numbers:
        return timeline.sums(column, moment, weight=((wave, period), waves[wave]))(since, until)

    n = timeline.count(column, since, until)
    total = timeline.sums(column, "s")(since, until)
    square = timeline.sums(column, "q")(since, until)
    c, s, cc, cs = (summed("n", wave) for wave in ("cos", "sin", "coscos", "cossin"))
    with np.errstate(divide="ignore", invalid="ignore"):
        yy = spread(square, total, n)
        yc, ys = summed("s", "cos") - total * c / n, summed("s", "sin") - total * s / n
        ss = (n - cc) - s * s / n
        cc, cs = cc - c * c / n, cs - c * s / n
        determinant = cc * ss - cs * cs
        power = (ss * yc * yc + cc * ys * ys - 2 * cs * yc * ys) / (yy * determinant)
        usable = (n > 4) & (yy > 0) & (determinant > LEAST_DETERMINANT * n * n)
        return np.where(usable, np.clip(power, 0.0, 1.0), np.nan)


def wanted(plan: FeaturePlan, family: str, by: str) -> bool:
    """Whether the flags and the dataset ask for a family of the past."""
    return plan.temporal and (by == OWN or family in plan.settings.group_families)


def _spans(plan: FeaturePlan, family: str, by: str) -> list[int]:
    return sorted(set(plan.settings.trend_days)) if wanted(plan, family, by) else []
