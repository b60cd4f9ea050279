"""Consumes times, produces calendar features: date parts, cycles and holidays. All are known in advance."""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from assay.errors import ConfigError
from assay.features.plan import Feature, FeaturePlan

if TYPE_CHECKING:
    import polars as pl

PREFIX = "calendar__"
CALENDAR = (
    *("year", "quarter", "month_of_year", "week_of_year", "day_of_year", "day_of_month", "day_of_week"),
    *("is_weekend", "is_month_start", "is_month_end", "days_in_month", "epoch_days"),
    *("year_sin", "year_cos", "week_sin", "week_cos"),
)
HOLIDAY = ("is_holiday", "days_since_holiday", "days_to_holiday")
FAR_DAYS = 366.0
LOCAL = "calendar__local_time"


class Calendar:
    """Date parts, cycles and holidays of a row's own time."""

    name = "calendar"

    def features(self, plan: FeaturePlan, earlier: Sequence[Feature]) -> list[Feature]:
        """Those that the flags and the dataset's calendar ask for."""
        if not plan.temporal:
            return []
        parts = (*CALENDAR, *(HOLIDAY if plan.calendar.country else ()))
        return [Feature(PREFIX + part, self.name, ("time",), "known in advance") for part in parts]

    def add(self, frame: pl.DataFrame, plan: FeaturePlan, features: Sequence[Feature]) -> pl.DataFrame:
        """The frame with the calendar columns."""
        if not features:
            return frame
        return calendar(frame, country=plan.calendar.country, subdivision=plan.calendar.subdivision, zone=plan.zone)


def check_calendar(country: str | None, subdivision: str | None) -> None:
    """Refuse a country or subdivision that the holiday calendar does not know.

    Raises:
        ConfigError: names the key and the nearest known code.
    """
    if country is None:
        return
    import difflib

    import holidays

    known = holidays.list_supported_countries()
    if country not in known:
        close = difflib.get_close_matches(country, list(known), n=1, cutoff=0.3)
        raise ConfigError(
            f"calendar.country: no holidays are known for {country!r}; it is an ISO 3166 code"
            + (f", did you mean {close[0]}?" if close else "")
        )
    if subdivision is not None and subdivision not in known[country]:
        raise ConfigError(
            f"calendar.subdivision: {subdivision!r} is no subdivision of {country}; known: {', '.join(known[country])}"
        )


def calendar(frame: pl.DataFrame, *, country: str | None, subdivision: str | None, zone: str = "UTC") -> pl.DataFrame:
    """Add the calendar columns (float32) to a frame with a UTC `time`; with a country, holiday columns too.

    zone: time zone whose days and months are counted.

    ``days_since_holiday`` and ``days_to_holiday`` are whole days to the nearest one, at most 366.
    """
    import polars as pl

    local = frame["time"].dt.convert_time_zone(zone).dt.replace_time_zone(None)
    frame = frame.with_columns(local.alias(LOCAL))
    time = pl.col(LOCAL)
    day = time.dt.ordinal_day()
    year_turn = 2 * math.pi * (day - 1) / 365.25
    week_turn = 2 * math.pi * (time.dt.weekday() - 1) / 7
    month_end = time.dt.month_end().dt.day()
    parts: dict[str, pl.Expr] = {
        "year": time.dt.year(),
        "quarter": time.dt.quarter(),
        "month_of_year": time.dt.month(),
        "week_of_year": time.dt.week(),
        "day_of_year": day,
        "day_of_month": time.dt.day(),
        "day_of_week": time.dt.weekday(),
        "is_weekend": time.dt.weekday() >= 6,
        "is_month_start": time.dt.day() == 1,
        "is_month_end": time.dt.day() == month_end,
        "days_in_month": month_end,
        "epoch_days": time.dt.epoch("d"),
        "year_sin": year_turn.sin(),
        "year_cos": year_turn.cos(),
        "week_sin": week_turn.sin(),
        "week_cos": week_turn.cos(),
    }
    frame = frame.with_columns(parts[name].cast(pl.Float32).alias(PREFIX + name) for name in CALENDAR)
    frame = frame.drop(LOCAL)
    if country is None:
        return frame
    since, until = _days_to_holidays(local, country, subdivision)
    columns = dict(zip(HOLIDAY, (since == 0, since, until), strict=True))
    return frame.with_columns(
        pl.Series(PREFIX + name, values.astype(np.float32), dtype=pl.Float32) for name, values in columns.items()
    )


def _days_to_holidays(time: pl.Series, country: str, subdivision: str | None) -> tuple[np.ndarray, np.ndarray]:
    import holidays

    days = time.dt.epoch("d").to_numpy().astype(np.int64)
    if not len(days):
        return np.zeros(0), np.zeros(0)
    epoch = dt.date(1970, 1, 1)
    first = (epoch + dt.timedelta(days=int(days.min()))).year
    last = (epoch + dt.timedelta(days=int(days.max()))).year
    # Two years on either side: the days that fall into a year may be listed under its neighbours, so with fewer years
    # a row's distances would depend on the years of the other rows.
    years = range(max(first - 2, 1), min(last + 2, 9998) + 1)
    found = holidays.country_holidays(country, subdiv=subdivision, years=years)
    dates = np.array(sorted((d - epoch).days for d in found), dtype=np.int64)
    if not len(dates):
        far = np.full(len(days), FAR_DAYS)
        return far, far
    before = np.searchsorted(dates, days, side="right") - 1
    after = np.searchsorted(dates, days, side="left")
    since = np.where(before >= 0, days - dates[np.maximum(before, 0)], FAR_DAYS)
    until = np.where(after < len(dates), dates[np.minimum(after, len(dates) - 1)] - days, FAR_DAYS)
    return np.minimum(since, FAR_DAYS), np.minimum(until, FAR_DAYS)
