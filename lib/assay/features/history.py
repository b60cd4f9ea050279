"""Consumes the timeline of one value per key, produces what was known of it strictly before each time.

A value of a row at time s with availability delay d is known after s + d; a row at time t sees values with
s + d < t and no others. Windows are spans of time [t - d - window, t - d), or the last so many known values. Each
figure is a function of the values that it sees alone, to the last bit: sums are exact before they are rounded, once.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from assay.features.family import or_nan, past_feature
from assay.features.plan import OWN, Feature, FeaturePlan
from assay.features.timeline import DAY_US, days_us

if TYPE_CHECKING:
    from assay.features.timeline import Numbers, Positions, Timeline

# Squares are rounded once each and their sum once: less than this share of it is no spread (3e-8 of the values' size,
# which float32 could not tell apart either).
NO_SPREAD = 1e-15
BLOCK = 64  # cells whose least value is looked up at once


class Lags:
    """``lag_{k}``: k-th last known value (mean of its time); ``age_days``: days since the last one."""

    name = "history"

    def features(self, plan: FeaturePlan, column: str, by: str) -> list[Feature]:
        """The entity's lags as configured, a group's first one."""
        lags = self._lags(plan, column, by)
        found = [past_feature(self.name, column, by, f"lag_{k}", f"{k} observations", cost="cheap") for k in lags]
        if plan.temporal:
            found.append(past_feature(self.name, column, by, "age_days", "since the last known value", cost="cheap"))
        return found

    def compute(
        self, timeline: Timeline, plan: FeaturePlan, column: str, by: str, delay_us: int
    ) -> Mapping[str, Numbers]:
        """Doubles per cell; nothing known: NaN."""
        known = timeline.known(column)
        # Per cell: how many known cells, of all keys, it may see, and how many its key does not remember.
        seen = known.before[timeline.first_since(delay_us)]
        own = known.before[timeline.oldest(delay_us)]
        prefix = f"{column}__{by}__"
        columns = {
            f"{prefix}lag_{k}": or_nan(seen - k >= own, known.means, seen - k) for k in self._lags(plan, column, by)
        }
        if plan.temporal:
            at = timeline.times[known.at(seen - 1, seen > own)]
            columns[f"{prefix}age_days"] = np.where(seen > own, (timeline.time - at) / DAY_US, np.nan)
        return columns

    def _lags(self, plan: FeaturePlan, column: str, by: str) -> tuple[int, ...]:
        if by == OWN:
            return plan.own_lags(column)
        return tuple(sorted(set(plan.settings.lags)))[:1] if plan.temporal else ()


class Windows:
    """``{statistic}_{days}d`` over spans of days, ``{statistic}_{rows}r`` over the last known values (times).

    Cost: O(cells x windows), whatever a window holds. Standard deviations divide by n - 1.
    """

    name = "history"

    def features(self, plan: FeaturePlan, column: str, by: str) -> list[Feature]:
        """The entity's and groups' windows."""
        return [
            past_feature(self.name, column, by, f"{statistic}_{label}", words)
            for label, words in self._labels(plan)
            for statistic in plan.settings.statistics
        ]

    def compute(
        self, timeline: Timeline, plan: FeaturePlan, column: str, by: str, delay_us: int
    ) -> Mapping[str, Numbers]:
        """Doubles per cell; nothing known: NaN, and 0 for counts."""
        if not plan.temporal:
            return {}
        until = timeline.first_since(delay_us)
        spans = [(f"{days}d", timeline.since(delay_us, days_us(days))) for days in _days(plan)]
        if rows := _rows(plan):
            known = timeline.known(column)
            seen, own = known.before[until], known.before[timeline.oldest(delay_us)]
            there = seen > own
            spans += [(f"{k}r", np.where(there, known.at(np.maximum(seen - k, own), there), until)) for k in rows]
        found = {}
        for label, since in spans:
            for name, numbers in statistics(timeline, column, since, until, plan.settings.statistics):
                found[f"{column}__{by}__{name}_{label}"] = numbers
        return found

    def _labels(self, plan: FeaturePlan) -> list[tuple[str, str]]:
        if not plan.temporal:
            return []
        days = [(f"{days}d", f"{days} days") for days in _days(plan)]
        return days + [(f"{rows}r", f"{rows} observations") for rows in _rows(plan)]


class Expanding:
    """``ever_{statistic}`` over everything known, and ``known_days``: days since the first known value."""

    name = "expanding"

    def features(self, plan: FeaturePlan, column: str, by: str) -> list[Feature]:
        """The configured statistics."""
        if not _wanted(plan, self.name, by) or not plan.settings.expanding:
            return []
        names = [*(f"ever_{statistic}" for statistic in plan.settings.expanding), "known_days"]
        return [past_feature(self.name, column, by, name, "all known values") for name in names]

    def compute(
        self, timeline: Timeline, plan: FeaturePlan, column: str, by: str, delay_us: int
    ) -> Mapping[str, Numbers]:
        """Doubles per cell; nothing known: NaN, and 0 for counts."""
        until, since = timeline.first_since(delay_us), timeline.oldest(delay_us)
        prefix = f"{column}__{by}__"
        wanted = plan.settings.expanding
        found = {f"{prefix}ever_{name}": n for name, n in statistics(timeline, column, since, until, wanted)}
        known = timeline.known(column)
        seen, own = known.before[until], known.before[since]
        at = timeline.times[known.at(own, seen > own)]
        found[f"{prefix}known_days"] = np.where(seen > own, (timeline.time - at) / DAY_US, np.nan)
        return found


def statistics(
    timeline: Timeline, column: str, since: Positions, until: Positions, wanted: Sequence[str]
) -> Iterator[tuple[str, Numbers]]:
    """Statistics of the known values in the cells since <= position < until, as (name, doubles per cell asked for)."""
    n = timeline.count(column, since, until)
    if "count" in wanted:
        yield "count", n
    if {"mean", "std"} & set(wanted):
        total = timeline.sums(column, "s")(since, until)
        with np.errstate(divide="ignore", invalid="ignore"):
            if "mean" in wanted:
                yield "mean", total / n
            if "std" in wanted:
                square = timeline.sums(column, "q")(since, until)
                yield "std", np.where(n > 1, np.sqrt(spread(square, total, n) / (n - 1)), np.nan)
    if "min" in wanted:
        yield "min", least(timeline.extremes(column, "lo"), since, until)
    if "max" in wanted:
        turned = timeline.once((column, "-hi"), lambda: -timeline.extremes(column, "hi"), bulky=True)
        yield "max", -least(turned, since, until)


def spread(square: Numbers, total: Numbers, n: Numbers) -> Numbers:
    """Sum of squared deviations from the mean, 0 where it is lost in the rounding of the sum of squares."""
    left = square - total * total / n
    return np.where(left > NO_SPREAD * square, left, 0.0)


def least(values: Numbers, start: Positions, stop: Positions) -> Numbers:
    """Least value of each stretch start <= position < stop, NaN where it has none. O(n), for any lengths.

    A short stretch is covered by two overlapping ones whose length is a power of two. A long one is the end of a block,
    whole blocks and the beginning of a block (van Herk, 1992).
    """
    result = np.full(len(start), np.inf)
    some = stop > start
    if some.any():
        first = int(start[some].min())
        near = values[first : int(stop.max())]
        _least(np.where(np.isnan(near), np.inf, near), start - first, stop - first, result)
    result[np.isinf(result)] = np.nan
    return result


def _least(values: Numbers, start: Positions, stop: Positions, result: Numbers) -> None:
    """The same with infinity for what is missing, as NumPy compares plain numbers many at a time."""
    lengths = stop - start
    _least_of_short(values, start, stop, lengths, result)
    long = np.flatnonzero(lengths > BLOCK)
    if len(long):
        begin, last = start[long], stop[long] - 1
        blocks = np.pad(values, (0, -len(values) % BLOCK), constant_values=np.inf).reshape(-1, BLOCK)
        from_start = np.minimum.accumulate(blocks, axis=1)
        to_end = np.minimum.accumulate(blocks[:, ::-1], axis=1)[:, ::-1]
        edges = np.minimum(to_end[begin // BLOCK, begin % BLOCK], from_start[last // BLOCK, last % BLOCK])
        whole = np.full(len(long), np.inf)
        _least(from_start[:, -1], begin // BLOCK + 1, last // BLOCK, whole)
        result[long] = np.minimum(edges, whole)


def _least_of_short(values: Numbers, start: Positions, stop: Positions, lengths: Positions, result: Numbers) -> None:
    levels = np.frexp(lengths.astype(np.float32))[1] - 1  # of the greatest power of two that is no longer
    levels[(lengths <= 0) | (lengths > BLOCK)] = -1
    wanted, table = np.bincount(levels + 1)[1:], values
    for level, count in enumerate(wanted):
        if count:
            mine = np.flatnonzero(levels == level)
            result[mine] = np.minimum(table[start[mine]], table[stop[mine] - (1 << level)])
        if level + 1 < len(wanted):
            table = np.minimum(table[: -(1 << level)], table[1 << level :])


def _wanted(plan: FeaturePlan, family: str, by: str) -> bool:
    return plan.temporal and (by == OWN or family in plan.settings.group_families)


def _days(plan: FeaturePlan) -> list[int]:
    return sorted(set(plan.settings.windows_days))


def _rows(plan: FeaturePlan) -> list[int]:
    return sorted(set(plan.settings.windows_rows))
