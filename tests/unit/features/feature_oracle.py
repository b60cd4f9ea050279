"""Consumes plain rows, produces the features that kernels should give: loops over all rows, fractions, no tricks."""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Sequence
from fractions import Fraction
from typing import Any

import numpy as np

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
) -> dict[str, float | None]:
    """History features of one key at one time."""
    past = seen(rows, by=by, value=value, delay_days=delay_days, key=key, at=at)
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
    return found


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
) -> dict[str, float | None]:
    """Market figures of one key at one time: those of the last month with values that is over, and was known."""
    values: dict[int, list[float]] = {}
    for row in rows:
        month = month_of(row["time"])
        over = _first_moment(month + 1)
        if tuple(row[c] for c in by) == key and is_known(row[value]) and over + delay(delay_days) <= at:
            values.setdefault(month, []).append(row[value])
    names = ["level", "volume", *(f"momentum_{k}m" for k in momentum_months)]
    if not values:
        return dict.fromkeys(names)
    last = max(values)
    found: dict[str, float | None] = {"level": mean(values[last]), "volume": len(values[last])}
    for k in momentum_months:
        earlier = [month for month in values if month <= last - k]
        before = mean(values[max(earlier)]) if earlier else None
        level = found["level"]
        rises = before is not None and before > 0 and level is not None and level > 0
        found[f"momentum_{k}m"] = level / before - 1 if rises else None
    return found


def _first_moment(month: int) -> dt.datetime:
    return dt.datetime(month // 12, month % 12 + 1, 1, tzinfo=dt.UTC)


def differs(found: float | None, expected: float | None, *, scale: float = 0.0) -> bool:
    """Whether a float32 feature is not the expected number, to float32's precision of itself and of `scale`."""
    if found is None or expected is None:
        return (found is None) != (expected is None)
    expected = min(max(expected, -LARGEST_FLOAT32), LARGEST_FLOAT32)
    return not math.isclose(found, expected, rel_tol=1e-6, abs_tol=1e-7 * scale + 1e-37)
