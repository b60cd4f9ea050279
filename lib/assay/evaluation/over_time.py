"""Consumes sums per day, produces coverage by calendar month and over a rolling window, and says whether it drifts."""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from assay.evaluation.parts import DAY, Sums
from assay.metrics import adjusted_p_values, binomial_bands, wilson_bands
from assay.runtime.tables import level_label

Z = 1.959963984540054  # of 95 %
LEAST_DAYS = 8  # with an interval, below which nothing is said of drift
Line = tuple[str, str, str, float | None, float | None, float | None, int]  # of the segment table
LEAST_ROWS = 30  # of a month or window that may be the worst


@dataclass(frozen=True)
class PeriodCoverage:
    """Coverage of the rows from start to end, both days included.

    low, high: what chance allows around the promise.  sure_low, sure_high: where the true coverage lies (Wilson, 95 %).
    off: whether it is off the promise beyond the rate of false discoveries among all periods of its kind.
    """

    start: dt.date
    end: dt.date
    rows: int
    coverage: float
    low: float
    high: float
    sure_low: float
    sure_high: float
    off: bool


@dataclass(frozen=True)
class Drift:
    """Coverage of the later half of rows minus that of the earlier half. low, high: 95 %, whole days as one draw."""

    earlier: float
    later: float
    low: float
    high: float
    since: dt.date

    @property
    def change(self) -> float:
        """Later minus earlier."""
        return self.later - self.earlier

    @property
    def certain(self) -> bool:
        """Whether chance does not explain it."""
        return self.low > 0 or self.high < 0


@dataclass(frozen=True)
class LevelOverTime:
    """One level. months: by calendar month (UTC).  windows: of `window_days`, ending on each day that has rows."""

    level: float
    window_days: int
    months: Sequence[PeriodCoverage]
    windows: Sequence[PeriodCoverage]
    drift: Drift | None

    @property
    def worst_month(self) -> PeriodCoverage | None:
        """The month with the lowest coverage, of those with enough rows."""
        return _worst(self.months)

    @property
    def worst_window(self) -> PeriodCoverage | None:
        """The same of windows."""
        return _worst(self.windows)


def _worst(periods: Sequence[PeriodCoverage]) -> PeriodCoverage | None:
    enough = [one for one in periods if one.rows >= LEAST_ROWS]
    return min(enough, key=lambda one: (one.coverage, one.start), default=None)


def coverage_over_time(
    tally: Sums[Any], levels: Sequence[float], *, window_days: int, false_discovery_rate: float
) -> list[LevelOverTime]:
    """Of each level, by sums per day. A level without any interval is left out."""
    days = tally.of(DAY).with_columns(pl.col("segment").str.to_date().alias("day")).sort("day")
    found = []
    for level in sorted(levels):
        label = level_label(level)
        part = days.select(
            "day", pl.col(f"coverage_{label}_sum").alias("inside"), pl.col(f"coverage_{label}_rows").alias("rows")
        ).filter(pl.col("rows") > 0)
        if part.height:
            months = part.group_by(pl.col("day").dt.truncate("1mo").alias("start")).agg(
                pl.col("inside", "rows").sum(), pl.col("day").max().alias("end")
            )
            rolling = part.rolling("day", period=f"{window_days}d", closed="right").agg(pl.col("inside", "rows").sum())
            rolling = rolling.rename({"day": "end"}).with_columns(
                (pl.col("end") - dt.timedelta(days=window_days - 1)).alias("start")
            )
            # A window that begins before the first day is none yet, unless there is no other.
            whole = rolling.filter(pl.col("start") >= part["day"].min())
            found.append(
                LevelOverTime(
                    level,
                    window_days,
                    _periods(months.sort("start"), level, false_discovery_rate),
                    _periods(whole if whole.height else rolling.tail(1), level, false_discovery_rate),
                    drift_of(part),
                )
            )
    return found


def _periods(frame: pl.DataFrame, level: float, rate: float) -> list[PeriodCoverage]:
    inside, rows = frame["inside"].to_numpy(), frame["rows"].to_numpy()
    (low, high), (sure_low, sure_high) = binomial_bands(level, rows), wilson_bands(inside, rows)
    off = adjusted_p_values(inside, rows, level) <= rate
    return [
        PeriodCoverage(
            start=start,
            end=end,
            rows=int(rows[i]),
            coverage=float(inside[i] / rows[i]),
            low=float(low[i]),
            high=float(high[i]),
            sure_low=float(sure_low[i]),
            sure_high=float(sure_high[i]),
            off=bool(off[i]),
        )
        for i, (start, end) in enumerate(zip(frame["start"], frame["end"], strict=True))
    ]


def drift_of(days: pl.DataFrame) -> Drift | None:
    """Earlier half of rows against the later one, cut between days; None with few days.

    days: day, inside and rows. A day's rows are one draw: the variance of each share is that of a ratio of sums over
    days (Cochran, 1977, ch. 9), and the halves are independent.
    """
    if days.height < LEAST_DAYS:
        return None
    upto = days["rows"].cum_sum().to_numpy()
    place = int(np.searchsorted(upto, upto[-1] / 2)) + 1
    if place < 2 or days.height - place < 2:
        return None
    shares, variance = [], 0.0
    for part in (days.head(place), days.tail(days.height - place)):
        inside, rows = part["inside"].to_numpy(), part["rows"].to_numpy()
        share = float(inside.sum() / rows.sum())
        spread = inside - share * rows
        variance += float((spread**2).sum()) / float(rows.sum()) ** 2 * part.height / (part.height - 1)
        shares.append(share)
    reach = Z * math.sqrt(variance)
    change = shares[1] - shares[0]
    return Drift(shares[0], shares[1], change - reach, change + reach, days["day"][place])


def time_lines(found: Sequence[LevelOverTime]) -> pl.DataFrame:
    """Rows of the segment table: rolling coverage, `segment` is a window's last day. Months are segments."""
    lines = [
        (f"window of {each.window_days} days", one.end.isoformat(), name, one.coverage, *ends, one.rows)
        for each in found
        for one in each.windows
        for name, ends in (
            (f"coverage_{level_label(each.level)}", (one.low, one.high)),
            (f"coverage_{level_label(each.level)}_confidence", (one.sure_low, one.sure_high)),
        )
    ]
    return long_lines(lines)


def long_lines(lines: Sequence[Line]) -> pl.DataFrame:
    """Lines (segment_column, segment, metric, value, low, high, rows) as rows of the segment table."""
    kinds = {"segment_column": pl.String, "segment": pl.String, "metric": pl.String}
    numbers = {"value": pl.Float64, "low": pl.Float64, "high": pl.Float64, "rows": pl.Int64}
    return pl.DataFrame(lines, schema={**kinds, **numbers}, orient="row").with_columns(
        pl.col("value", "low", "high").fill_nan(None)
    )
