"""Consumes times, produces calendar features: date parts, hours, cycles and holidays. All are known in advance."""

from __future__ import annotations

import datetime as dt
import difflib
import functools
import math
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING

import numpy as np

from assay.config.dataset import CALENDAR
from assay.config.features import FourierConfig
from assay.errors import ConfigError
from assay.features.plan import Feature, FeaturePlan

if TYPE_CHECKING:
    import polars as pl

PARTS = (
    *("year", "quarter", "month_of_year", "week_of_year", "day_of_year", "day_of_month", "day_of_week"),
    *("is_weekend", "is_month_start", "is_month_end", "days_in_month", "epoch_days"),
    *("year_sin", "year_cos", "week_sin", "week_cos"),
)
HOURS = ("hour_of_day", "hour_of_week", "minute_of_hour")
HOLIDAY = ("is_holiday", "days_since_holiday", "days_to_holiday")
FAR_DAYS = 366.0
LOCAL = f"{CALENDAR}local_time"


class Calendar:
    """Date parts, hours, cycles and holidays of a row's own time.

    Cycles are ``{year,week,day}_{sin,cos}``, and ``_k`` after them for those that turn k times (Fourier terms).
    """

    name = "calendar"

    def features(self, plan: FeaturePlan, earlier: Sequence[Feature]) -> list[Feature]:
        """Those that the flags and the dataset's calendar ask for."""
        if not plan.temporal:
            return []
        parts = (*calendar_parts(plan.settings.fourier, _hours(plan)), *(HOLIDAY if plan.calendar.country else ()))
        return [Feature(CALENDAR + part, self.name, ("time",), "known in advance") for part in parts]

    def add(self, frame: pl.DataFrame, plan: FeaturePlan, features: Sequence[Feature]) -> pl.DataFrame:
        """The frame with the calendar columns."""
        import polars as pl

        if not features:
            return frame
        # A table has few times: what they have of the calendar is found once each.
        times, position = np.unique(frame["time"].to_physical().to_numpy(), return_inverse=True)
        column = pl.Series("time", times).cast(frame["time"].dtype)
        found = calendar(
            column.to_frame(),
            country=plan.calendar.country,
            subdivision=plan.calendar.subdivision,
            zone=plan.zone,
            fourier=plan.settings.fourier,
            hours=_hours(plan),
        )
        return frame.hstack(found.drop("time")[position])


def calendar_parts(fourier: FourierConfig, hours: bool) -> tuple[str, ...]:
    """Names of date parts, hours and cycles, without their prefix; `PARTS` by default."""
    parts = tuple(name for name in PARTS if not name.endswith(("_sin", "_cos")))
    return (*parts, *(HOURS if hours else ()), *(name for name, _, _ in _waves(fourier)))


def _hours(plan: FeaturePlan) -> bool:
    asked = plan.calendar.hours
    return plan.settings.group_step == "1h" if asked is None else asked


def _waves(fourier: FourierConfig) -> list[tuple[str, str, int]]:
    """Feature, cycle, and how often it turns in one."""
    return [
        (f"{cycle}_{wave}" + (f"_{turns}" if turns > 1 else ""), cycle, turns)
        for turns in range(1, max(fourier.year, fourier.week, fourier.day) + 1)
        for cycle in ("year", "week", "day")
        if turns <= getattr(fourier, cycle)
        for wave in ("sin", "cos")
    ]


def check_calendar(country: str | None, subdivision: str | None, market: str | None = None) -> None:
    """Refuse a country, subdivision or market that the holiday calendar does not know.

    Raises:
        ConfigError: names the key and the nearest known code.
    """
    import holidays

    if market is not None and market not in (markets := holidays.list_supported_financial()):
        raise ConfigError(
            f"calendar.market: no sessions are known for {market!r}; it is the code of an exchange"
            f"{_nearest(market, markets)}"
        )
    if country is None:
        return
    known = holidays.list_supported_countries()
    if country not in known:
        raise ConfigError(
            f"calendar.country: no holidays are known for {country!r}; it is an ISO 3166 code{_nearest(country, known)}"
        )
    if subdivision is not None and subdivision not in known[country]:
        raise ConfigError(
            f"calendar.subdivision: {subdivision!r} is no subdivision of {country}; known: {', '.join(known[country])}"
        )


def _nearest(code: str, known: Collection[str]) -> str:
    close = difflib.get_close_matches(code, list(known), n=1, cutoff=0.3)
    return f", did you mean {close[0]}?" if close else ""


def calendar(
    frame: pl.DataFrame,
    *,
    country: str | None,
    subdivision: str | None,
    zone: str = "UTC",
    fourier: FourierConfig | None = None,
    hours: bool = False,
) -> pl.DataFrame:
    """Add the calendar columns (float32) to a frame with a UTC `time`; with a country, holiday columns too.

    zone: time zone whose days and months are counted.  fourier: cycles; by default one of the year and the week.

    ``days_since_holiday`` and ``days_to_holiday`` are whole days to the nearest one, at most 366.
    """
    import polars as pl

    local = frame["time"].dt.convert_time_zone(zone).dt.replace_time_zone(None)
    frame = frame.with_columns(local.alias(LOCAL))
    time = pl.col(LOCAL)
    day = time.dt.ordinal_day()
    hour = time.dt.hour().cast(pl.Int32)
    turned = {
        "year": (day - 1) / 365.25,
        "week": (time.dt.weekday() - 1) / 7,
        "day": (hour * 60 + time.dt.minute()) / 1440,
    }
    fourier = FourierConfig() if fourier is None else fourier
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
        "hour_of_day": hour,
        "hour_of_week": (time.dt.weekday() - 1).cast(pl.Int32) * 24 + hour,
        "minute_of_hour": time.dt.minute(),
    }
    for name, cycle, turns in _waves(fourier):
        angle = 2 * math.pi * turns * turned[cycle]
        parts[name] = angle.sin() if "_sin" in name else angle.cos()
    wanted = calendar_parts(fourier, hours)
    frame = frame.with_columns(parts[name].cast(pl.Float32).alias(CALENDAR + name) for name in wanted)
    frame = frame.drop(LOCAL)
    if country is None:
        return frame
    since, until = _days_to_holidays(local, country, subdivision)
    columns = dict(zip(HOLIDAY, (since == 0, since, until), strict=True))
    return frame.with_columns(
        pl.Series(CALENDAR + name, values.astype(np.float32), dtype=pl.Float32) for name, values in columns.items()
    )


def _days_to_holidays(time: pl.Series, country: str, subdivision: str | None) -> tuple[np.ndarray, np.ndarray]:
    days = time.dt.epoch("d").to_numpy().astype(np.int64)
    if not len(days):
        return np.zeros(0), np.zeros(0)
    epoch = dt.date(1970, 1, 1)
    first = (epoch + dt.timedelta(days=int(days.min()))).year
    last = (epoch + dt.timedelta(days=int(days.max()))).year
    # Two years on either side: the days that fall into a year may be listed under its neighbours, so with fewer years
    # a row's distances would depend on the years of the other rows.
    dates = _holidays(country, subdivision, max(first - 2, 1), min(last + 2, 9998))
    if not len(dates):
        far = np.full(len(days), FAR_DAYS)
        return far, far
    before = np.searchsorted(dates, days, side="right") - 1
    after = np.searchsorted(dates, days, side="left")
    since = np.where(before >= 0, days - dates[np.maximum(before, 0)], FAR_DAYS)
    until = np.where(after < len(dates), dates[np.minimum(after, len(dates) - 1)] - days, FAR_DAYS)
    return np.minimum(since, FAR_DAYS), np.minimum(until, FAR_DAYS)


@functools.lru_cache(maxsize=64)
def _holidays(country: str, subdivision: str | None, first: int, last: int) -> np.ndarray:
    """Days since 1970 of the holidays of some years, in order."""
    import holidays

    found = holidays.country_holidays(country, subdiv=subdivision, years=range(first, last + 1))
    return np.array(sorted((day - dt.date(1970, 1, 1)).days for day in found), dtype=np.int64)
