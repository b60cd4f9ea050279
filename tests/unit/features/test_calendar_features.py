"""Consumes times, checks calendar features against Python's own calendar, and that no row depends on another."""

from __future__ import annotations

import datetime as dt
import math
from zoneinfo import ZoneInfo

import holidays
import polars as pl
import pytest
from feature_harness import UTC_TIME, utc
from hypothesis import given, settings
from hypothesis import strategies as st

from assay.errors import ConfigError
from assay.features.calendar import HOLIDAY, PARTS, calendar, check_calendar

moments = st.datetimes(dt.datetime(1950, 1, 1), dt.datetime(2060, 12, 31), timezones=st.just(dt.timezone.utc))


def calendar_of(times, country=None, subdivision=None, zone="UTC") -> pl.DataFrame:
    frame = pl.DataFrame({"time": pl.Series(times, dtype=UTC_TIME)})
    found = calendar(frame, country=country, subdivision=subdivision, zone=zone)
    assert set(found.dtypes[1:]) == {pl.Float32}
    return found.rename(lambda name: name.removeprefix("calendar__"))


@settings(deadline=None)
@given(time=moments, zone=st.sampled_from(["UTC", "America/New_York", "Asia/Tokyo"]))
def test_date_parts_are_those_of_pythons_calendar(time, zone):
    local = time.astimezone(ZoneInfo(zone))
    month_days = ((local.replace(day=28) + dt.timedelta(days=4)).replace(day=1) - dt.timedelta(days=1)).day
    day = local.timetuple().tm_yday
    expected = {
        "year": local.year,
        "quarter": (local.month + 2) // 3,
        "month_of_year": local.month,
        "week_of_year": local.isocalendar().week,
        "day_of_year": day,
        "day_of_month": local.day,
        "day_of_week": local.isoweekday(),
        "is_weekend": float(local.isoweekday() >= 6),
        "is_month_start": float(local.day == 1),
        "is_month_end": float(local.day == month_days),
        "days_in_month": month_days,
        "epoch_days": (local.date() - dt.date(1970, 1, 1)).days,
        "year_sin": math.sin(2 * math.pi * (day - 1) / 365.25),
        "year_cos": math.cos(2 * math.pi * (day - 1) / 365.25),
        "week_sin": math.sin(2 * math.pi * (local.isoweekday() - 1) / 7),
        "week_cos": math.cos(2 * math.pi * (local.isoweekday() - 1) / 7),
    }
    assert tuple(expected) == PARTS
    assert calendar_of([time], zone=zone).drop("time").row(0) == pytest.approx(tuple(expected.values()), abs=1e-6)


@settings(deadline=None)
@given(time=moments)
def test_holidays_are_those_of_the_library(time):
    known = holidays.country_holidays("US", subdiv="TX", years=range(time.year - 2, time.year + 3))
    days = sorted(day for day in known)
    today = time.date()
    since = min((today - day).days for day in days if day <= today)
    until = min((day - today).days for day in days if day >= today)
    found = calendar_of([time], "US", "TX").row(0)[-3:]
    assert found == (float(today in known), min(since, 366), min(until, 366))


@pytest.mark.parametrize(("country", "subdivision"), [("US", "TX"), ("JP", None), ("SA", None), ("DE", "BY")])
@settings(deadline=None)
@given(time=moments, others=st.lists(moments, max_size=5))
def test_the_calendar_of_a_row_does_not_depend_on_the_other_rows(country, subdivision, time, others):
    alone = calendar_of([time], country, subdivision)
    among = calendar_of([*others, time], country, subdivision)
    assert among.tail(1).equals(alone)


def test_no_country_means_no_holiday_columns_and_no_rows_make_none():
    assert calendar_of([utc("2020-02-29")]).columns == ["time", *PARTS]
    assert calendar_of([], "US").columns == ["time", *PARTS, *HOLIDAY]


@pytest.mark.parametrize(
    ("country", "subdivision", "hint"), [("UX", None, "did you mean"), ("US", "XX", "calendar.subdivision: 'XX'")]
)
def test_unknown_countries_are_refused_with_the_nearest(country, subdivision, hint):
    with pytest.raises(ConfigError, match=hint):
        check_calendar(country, subdivision)
