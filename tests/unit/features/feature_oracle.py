"""Consumes plain rows, produces the features that kernels should give: loops over all rows, fractions, no tricks."""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Sequence
from fractions import Fraction
from typing import Any

import numpy as np
from scipy import stats

LARGEST_FLOAT32 = float(np.finfo(np.float32).max)
DAY = dt.timedelta(days=1)
Row = dict[str, Any]


def delay(days: float) -> dt.timedelta:
    return dt.timedelta(microseconds=round(days * 86_400_000_000))


def is_known(value: float | None) -> bool:
    return value is not None and math.isfinite(value)


def seen(rows: Sequence[Row], *, by: Sequence[str], value: str, delay_days: float, key: tuple, at: dt.datetime) -> list:
    """(time, value) of the rows of a key whose value is known strictly before a time."""
    return [
        (row["time"], row[value])
        for row in rows
        if tuple(row[c] for c in by) == key and is_known(row[value]) and row["time"] + delay(delay_days) < at
    ]


def mean(values: Sequence[float]) -> float | None:
    return float(sum(map(Fraction, values)) / len(values)) if values else None


def deviation(values: Sequence[float]) -> float | None:
    if len(values) < 2:
        return None
    middle = sum(map(Fraction, values)) / len(values)
    return math.sqrt(sum((Fraction(v) - middle) ** 2 for v in values) / (len(values) - 1))


STATISTICS = {
    "mean": mean,
    "std": deviation,
    "min": lambda values: min(values, default=None),
    "max": lambda values: max(values, default=None),
    "count": len,
}


def remembered(past: Sequence, *, at: dt.datetime, delay_days: float, max_history_days: int | None) -> list:
    """What of a past, as (time, value), is not forgotten at a time."""
    if max_history_days is None:
        return list(past)
    return [(time, v) for time, v in past if time >= at - delay(delay_days) - max_history_days * DAY]


def history_of(
    rows: Sequence[Row],
    *,
    by: Sequence[str],
    value: str,
    delay_days: float,
    lags: Sequence[int],
    windows_days: Sequence[int],
    key: tuple,
    at: dt.datetime,
    windows_rows: Sequence[int] = (),
    max_history_days: int | None = None,
) -> dict[str, float | None]:
    """History features of one key at one time."""
    past = seen(rows, by=by, value=value, delay_days=delay_days, key=key, at=at)
    past = remembered(past, at=at, delay_days=delay_days, max_history_days=max_history_days)
    times = sorted({time for time, _ in past}, reverse=True)
    found: dict[str, float | None] = {}
    for k in lags:
        found[f"lag_{k}"] = mean([v for time, v in past if time == times[k - 1]]) if k <= len(times) else None
    found["age_days"] = (at - times[0]) / DAY if times else None
    until = at - delay(delay_days)
    for days in windows_days:
        inside = [v for time, v in past if until - days * DAY <= time < until]
        for name, statistic in STATISTICS.items():
            found[f"{name}_{days}d"] = statistic(inside)
    for count in windows_rows:
        inside = [v for time, v in past if time in times[:count]]
        for name, statistic in STATISTICS.items():
            found[f"{name}_{count}r"] = statistic(inside)
    return found


def expanding_of(past: Sequence, at: dt.datetime) -> dict[str, float | None]:
    """Statistics of everything known and remembered, as (time, value), at a time."""
    found = {f"ever_{name}": statistic([v for _, v in past]) for name, statistic in STATISTICS.items()}
    return {**found, "known_days": (at - min(time for time, _ in past)) / DAY if past else None}


def smoothed(past: Sequence, halflife_days: float) -> float | None:
    """Mean of a past with weights that halve every so many days before its newest value."""
    if not past:
        return None
    newest = max(time for time, _ in past)
    weights = [2.0 ** (-((newest - time) / DAY) / halflife_days) for time, _ in past]
    return math.fsum(w * v for w, (_, v) in zip(weights, past, strict=True)) / math.fsum(weights)


def line_of(past: Sequence) -> tuple[float | None, float | None]:
    """Slope, a day, and R² of the least-squares line through a past."""
    values = [v for _, v in past]
    first = min((time for time, _ in past), default=None)
    if len({time for time, _ in past}) < 2:
        return None, None
    fit = stats.linregress([(time - first) / DAY for time, _ in past], values)
    return fit.slope, fit.rvalue**2 if len(values) > 2 and len(set(values)) > 1 else None


def shift_of(past: Sequence, *, middle: dt.datetime) -> float | None:
    """Welch's t of the values since the middle and of those before it."""
    newer = [v for time, v in past if time >= middle]
    older = [v for time, v in past if time < middle]
    if min(len(newer), len(older)) < 2 or len(set(newer)) == len(set(older)) == 1:
        return None
    return float(stats.ttest_ind(newer, older, equal_var=False).statistic)


def wave_of(past: Sequence, period_days: float) -> float | None:
    """Share of the variance that the least-squares fit of a level and one wave explains."""
    values = np.array([v for _, v in past])
    if len(values) < 5 or len(set(values)) == 1:
        return None
    times = [time for time, _ in past]
    if max(times) - min(times) < delay(period_days):
        return None
    turn = np.array([2 * math.pi * ((time - times[0]) / DAY) / period_days for time in times])
    design = np.stack([np.ones_like(turn), np.cos(turn), np.sin(turn)], axis=1)
    if np.linalg.det(np.cov(design[:, 1:].T, bias=True)) < 1e-9:  # the times do not tell a wave from a level
        return None
    rest = values - design @ np.linalg.lstsq(design, values, rcond=None)[0]
    return float(1 - (rest @ rest) / ((values - values.mean()) @ (values - values.mean())))


def month_of(time: dt.datetime) -> int:
    return time.year * 12 + time.month - 1


def market_of(
    rows: Sequence[Row],
    *,
    by: Sequence[str],
    value: str,
    delay_days: float,
    momentum_months: Sequence[int],
    key: tuple,
    at: dt.datetime,
    trend_months: Sequence[int] = (),
    max_history_days: int | None = None,
) -> dict[str, float | None]:
    """Market figures of one key at one time: those of the last month with values that is over, and was known.

    A month of which a part is forgotten is forgotten.
    """
    oldest = None if max_history_days is None else at - delay(delay_days) - max_history_days * DAY
    values: dict[int, list[float]] = {}
    for row in rows:
        month = month_of(row["time"])
        over = _first_moment(month + 1)
        if tuple(row[c] for c in by) == key and is_known(row[value]) and over + delay(delay_days) <= at:
            if oldest is not None and _first_moment(month) < oldest:
                continue
            values.setdefault(month, []).append(row[value])
    names = ["level", "volume", "dispersion"]
    names += [*(f"momentum_{k}m" for k in momentum_months), *(f"trend_{k}m" for k in trend_months)]
    if not values:
        return dict.fromkeys(names)
    last = max(values)
    level, spread = mean(values[last]), deviation(values[last])
    assert level is not None
    found: dict[str, float | None] = {"level": level, "volume": len(values[last])}
    found["dispersion"] = spread / abs(level) if spread is not None and level != 0 else None

    def rise(before: float | None) -> float | None:
        return level / before - 1 if before is not None and before > 0 and level > 0 else None

    for k in momentum_months:
        earlier = [month for month in values if month <= last - k]
        found[f"momentum_{k}m"] = rise(mean(values[max(earlier)]) if earlier else None)
    for k in trend_months:
        levels = [mean(values[month]) for month in values if last - k < month <= last]
        found[f"trend_{k}m"] = rise(mean([v for v in levels if v is not None]))
    return found


def _first_moment(month: int) -> dt.datetime:
    return dt.datetime(month // 12, month % 12 + 1, 1, tzinfo=dt.timezone.utc)


def differs(found: float | None, expected: float | None, *, scale: float = 0.0) -> bool:
    """Whether a float32 feature is not the expected number, to float32's precision of itself and of `scale`."""
    if found is None or expected is None:
        return (found is None) != (expected is None)
    expected = min(max(expected, -LARGEST_FLOAT32), LARGEST_FLOAT32)
    return not math.isclose(found, expected, rel_tol=1e-6, abs_tol=1e-7 * scale + 1e-37)
