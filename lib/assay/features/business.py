"""Consumes times, produces features of business days and of a market's trading sessions. All are known in advance."""

from __future__ import annotations

import datetime as dt
import functools
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from assay.config.dataset import CALENDAR
from assay.features.plan import Feature, FeaturePlan

if TYPE_CHECKING:
    import polars as pl

    from assay.features.timeline import Positions

EPOCH = dt.date(1970, 1, 1)
BUSINESS = (
    *("is_business_day", "business_day_of_month", "business_days_left"),
    *("is_quarter_start", "is_quarter_end", "is_year_start", "is_year_end", "days_to_quarter_end"),
)
SESSIONS = ("is_session", "sessions_since_break", "sessions_until_break", "days_since_session", "days_to_session")


class Business:
    """Business days and the turns of quarter and year, on the dataset's own clock.

    Business days are those on which the calendar's country works, weekends that it moved included; without a country,
    Monday to Friday. ``business_day_of_month`` counts up to and with the day, ``business_days_left`` after it.
    """

    name = "business"

    def features(self, plan: FeaturePlan, earlier: Sequence[Feature]) -> list[Feature]:
        """Where `calendar.business` asks for them."""
        return _features(self.name, BUSINESS if plan.temporal and plan.calendar.business else ())

    def add(self, frame: pl.DataFrame, plan: FeaturePlan, features: Sequence[Feature]) -> pl.DataFrame:
        """The frame with the columns of business days."""
        if not features:
            return frame
        return _with(frame, business(_local_days(frame, plan.zone), plan.calendar.country, plan.calendar.subdivision))


class Trading:
    """Sessions of a stock exchange: whole days, on the dataset's own clock.

    ``sessions_since_break``: sessions in a row up to and with the day, 0 on a closed one.  ``sessions_until_break``:
    in a row after it.  ``days_since_session``, ``days_to_session``: to the last one before and the first one after it.
    """

    name = "trading"

    def features(self, plan: FeaturePlan, earlier: Sequence[Feature]) -> list[Feature]:
        """Where `calendar.market` names an exchange."""
        return _features(self.name, SESSIONS if plan.temporal and plan.calendar.market else ())

    def add(self, frame: pl.DataFrame, plan: FeaturePlan, features: Sequence[Feature]) -> pl.DataFrame:
        """The frame with the columns of sessions."""
        if not features or plan.calendar.market is None:
            return frame
        return _with(frame, sessions(_local_days(frame, plan.zone), plan.calendar.market))


def business(days: Positions, country: str | None, subdivision: str | None) -> dict[str, np.ndarray]:
    """Features of days, counted from 1970-01-01."""
    first, open_days = _open_days(days, "country", country, subdivision)
    running = np.concatenate(([0], np.cumsum(open_days)))  # open days of the table before each of its days
    day = days.astype("datetime64[D]")
    month = day.astype("datetime64[M]")
    month_start, next_month = _day_number(month), _day_number(month + 1)
    months = month.astype(np.int64)
    next_quarter = _day_number((months - months % 3 + 3).astype("datetime64[M]"))
    in_quarter, in_year = months % 3, months % 12
    return {
        "is_business_day": open_days[days - first],
        "business_day_of_month": running[days + 1 - first] - running[month_start - first],
        "business_days_left": running[next_month - first] - running[days + 1 - first],
        "is_quarter_start": (days == month_start) & (in_quarter == 0),
        "is_quarter_end": (days == next_month - 1) & (in_quarter == 2),
        "is_year_start": (days == month_start) & (in_year == 0),
        "is_year_end": (days == next_month - 1) & (in_year == 11),
        "days_to_quarter_end": next_quarter - 1 - days,
    }


def sessions(days: Positions, market: str) -> dict[str, np.ndarray]:
    """Features of days, counted from 1970-01-01."""
    first, open_days = _open_days(days, "market", market, None)
    here = np.arange(len(open_days))
    closed_before = np.maximum.accumulate(np.where(open_days, -1, here))
    closed_after = _from_end(np.where(open_days, len(here), here))
    open_before = np.maximum.accumulate(np.where(open_days, here, -1))
    open_after = _from_end(np.where(open_days, here, len(here)))
    at = days - first
    return {
        "is_session": open_days[at],
        "sessions_since_break": at - closed_before[at],
        "sessions_until_break": closed_after[at + 1] - at - 1,
        "days_since_session": at - open_before[at - 1],
        "days_to_session": open_after[at + 1] - at,
    }


def _from_end(places: Positions) -> Positions:
    found: Positions = np.minimum.accumulate(places[::-1])[::-1]
    return found


def _day_number(months: npt.NDArray[np.datetime64]) -> Positions:
    return months.astype("datetime64[D]").astype(np.int64)


def _open_days(
    days: Positions, kind: str, code: str | None, subdivision: str | None
) -> tuple[int, npt.NDArray[np.bool_]]:
    """First day of a table with a year to spare on either side of `days`, and whether each of its days is open."""
    if not len(days):
        return 0, np.zeros(2, dtype=np.bool_)
    years = days[[days.argmin(), days.argmax()]].astype("datetime64[D]").astype("datetime64[Y]").astype(np.int64) + 1970
    return _open_years(kind, code, subdivision, int(years[0]) - 1, int(years[1]) + 1)


@functools.lru_cache(maxsize=8)
def _open_years(
    kind: str, code: str | None, subdivision: str | None, first: int, last: int
) -> tuple[int, npt.NDArray[np.bool_]]:
    import holidays

    start, stop = dt.date(first, 1, 1), dt.date(last, 12, 31)
    days = [start + dt.timedelta(days=i) for i in range((stop - start).days + 1)]
    if code is None:
        return (start - EPOCH).days, np.array([day.weekday() < 5 for day in days])
    # Two years more on either side: the days that fall into a year may be listed under its neighbours.
    years = range(first - 2, last + 3)
    if kind == "market":
        calendar = holidays.financial_holidays(code, years=years)
    else:
        calendar = holidays.country_holidays(code, subdiv=subdivision, years=years)
    return (start - EPOCH).days, np.array([calendar.is_working_day(day) for day in days])


def _local_days(frame: pl.DataFrame, zone: str) -> Positions:
    local = frame["time"].dt.convert_time_zone(zone).dt.replace_time_zone(None)
    return local.dt.epoch("d").to_numpy().astype(np.int64)


def _features(family: str, names: Sequence[str]) -> list[Feature]:
    return [Feature(CALENDAR + name, family, ("time",), "known in advance") for name in names]


def _with(frame: pl.DataFrame, columns: Mapping[str, np.ndarray]) -> pl.DataFrame:
    import polars as pl

    return frame.with_columns(
        pl.Series(CALENDAR + name, values.astype(np.float32), dtype=pl.Float32) for name, values in columns.items()
    )
