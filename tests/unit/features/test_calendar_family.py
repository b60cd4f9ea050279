"""Consumes times, checks Fourier terms, hours, business days and sessions against Python's dates and known days."""

from __future__ import annotations

import datetime as dt
import math
from zoneinfo import ZoneInfo

import holidays
import numpy as np
import polars as pl
import pytest
from feature_harness import UTC_TIME, settings_of, utc, widest_plan
from hypothesis import given, settings
from hypothesis import strategies as st

from assay.config.dataset import CalendarConfig
from assay.config.features import FourierConfig
from assay.errors import ConfigError
from assay.features.business import Business, Trading, business, sessions
from assay.features.calendar import HOLIDAY, HOURS, PARTS, Calendar, calendar, calendar_parts, check_calendar

moments = st.datetimes(dt.datetime(1950, 1, 1), dt.datetime(2060, 12, 31), timezones=st.just(dt.timezone.utc))
dates = moments.map(lambda moment: moment.date())


def number(day: dt.date) -> int:
    return (day - dt.date(1970, 1, 1)).days


def one(columns: dict[str, np.ndarray]) -> dict[str, float]:
    return {name: float(values[0]) for name, values in columns.items()}


@settings(deadline=None)
@given(time=moments, zone=st.sampled_from(["UTC", "America/New_York", "Asia/Kolkata"]))
def test_hours_and_cycles_are_those_of_the_local_clock(time, zone):
    local = time.astimezone(ZoneInfo(zone))
    fourier = FourierConfig(year=12, week=3, day=2)
    found = calendar(
        pl.DataFrame({"time": pl.Series([time], dtype=UTC_TIME)}),
        country=None,
        subdivision=None,
        zone=zone,
        fourier=fourier,
        hours=True,
    ).row(0, named=True)
    assert found["calendar__hour_of_day"] == local.hour
    assert found["calendar__hour_of_week"] == local.weekday() * 24 + local.hour
    assert found["calendar__minute_of_hour"] == local.minute
    turned = {
        "year": (local.timetuple().tm_yday - 1) / 365.25,
        "week": local.weekday() / 7,
        "day": (local.hour * 60 + local.minute) / 1440,
    }
    for cycle, most in (("year", 12), ("week", 3), ("day", 2)):
        for k in range(1, most + 1):
            suffix = f"_{k}" if k > 1 else ""
            angle = 2 * math.pi * k * turned[cycle]
            assert found[f"calendar__{cycle}_sin{suffix}"] == pytest.approx(math.sin(angle), abs=1e-6)
            assert found[f"calendar__{cycle}_cos{suffix}"] == pytest.approx(math.cos(angle), abs=1e-6)


def test_what_the_calendar_lists_is_what_the_dataset_asks_for():
    assert calendar_parts(FourierConfig(), False) == PARTS
    assert not any("sin" in name for name in calendar_parts(FourierConfig(year=0, week=0), False))
    hourly = widest_plan(calendar=CalendarConfig(), settings=settings_of(group_step="1h"))
    names = [f.name.removeprefix("calendar__") for f in Calendar().features(hourly, [])]
    assert names == list(calendar_parts(FourierConfig(), True))
    assert set(HOURS) < set(names)
    assert not set(HOLIDAY) & set(names)
    quiet = widest_plan(calendar=CalendarConfig(hours=False), settings=settings_of(group_step="1h"))
    assert not set(HOURS) & {f.name.removeprefix("calendar__") for f in Calendar().features(quiet, [])}
    assert not Business().features(hourly, [])
    assert not Trading().features(hourly, [])
    assert not Trading().features(widest_plan(temporal=False), [])


@settings(deadline=None, max_examples=40)
@given(day=dates, country=st.sampled_from([("US", "TX"), ("SA", None), (None, None)]))
def test_business_days_are_counted_one_by_one(day, country):
    known = (
        holidays.country_holidays(country[0], country[1], years=range(day.year - 2, day.year + 3))
        if country[0]
        else None
    )

    def is_open(one_day: dt.date) -> bool:
        return one_day.weekday() < 5 if known is None else known.is_working_day(one_day)

    month_start = day.replace(day=1)
    next_month = (month_start + dt.timedelta(days=31)).replace(day=1)
    days = [month_start + dt.timedelta(days=i) for i in range((next_month - month_start).days)]
    quarter_end = next(
        end
        for i in range(100)
        if (end := day + dt.timedelta(days=i)).month % 3 == 0 and (end + dt.timedelta(days=1)).day == 1
    )
    assert one(business(np.array([number(day)]), *country)) == {
        "is_business_day": is_open(day),
        "business_day_of_month": sum(is_open(d) for d in days if d <= day),
        "business_days_left": sum(is_open(d) for d in days if d > day),
        "is_quarter_start": (day.month % 3, day.day) == (1, 1),
        "is_quarter_end": day == quarter_end,
        "is_year_start": (day.month, day.day) == (1, 1),
        "is_year_end": (day.month, day.day) == (12, 31),
        "days_to_quarter_end": (quarter_end - day).days,
    }


@settings(deadline=None, max_examples=40)
@given(day=dates, market=st.sampled_from(["NYSE", "LSE", "XSAU"]))
def test_sessions_are_counted_one_by_one(day, market):
    known = holidays.financial_holidays(market, years=range(day.year - 2, day.year + 3))

    def run(step: int) -> int:
        length = 0
        while known.is_working_day(day + dt.timedelta(days=step * (length + (step > 0)))):
            length += 1
        return length

    def nearest(step: int) -> int:
        return next(i for i in range(1, 40) if known.is_working_day(day + dt.timedelta(days=step * i)))

    assert one(sessions(np.array([number(day)]), market)) == {
        "is_session": known.is_working_day(day),
        "sessions_since_break": run(-1),
        "sessions_until_break": run(1),
        "days_since_session": nearest(-1),
        "days_to_session": nearest(1),
    }


def test_new_york_closed_for_independence_and_for_mourning():
    """Facts from the exchange's own announcements."""
    friday = one(sessions(np.array([number(dt.date(2020, 7, 3))]), "NYSE"))
    assert friday == {
        "is_session": 0,
        "sessions_since_break": 0,
        "sessions_until_break": 0,
        "days_since_session": 1,
        "days_to_session": 3,
    }
    tuesday = one(sessions(np.array([number(dt.date(2018, 12, 4))]), "NYSE"))  # Wednesday the 5th: G. H. W. Bush
    assert (tuesday["sessions_since_break"], tuesday["sessions_until_break"], tuesday["days_to_session"]) == (2, 0, 2)


@pytest.mark.realdata
def test_every_day_of_real_prices_is_a_session(real_data):
    days = pl.read_parquet(real_data / "sp500_daily.parquet", columns=["Date"])["Date"].unique().str.to_date()
    found = sessions(days.dt.epoch("d").to_numpy().astype(np.int64), "NYSE")["is_session"]
    assert [str(day) for day, is_open in zip(days, found, strict=True) if not is_open] == []
    between = pl.date_range(days.min(), days.max(), eager=True)
    all_days = sessions(between.dt.epoch("d").to_numpy().astype(np.int64), "NYSE")["is_session"]
    assert all_days.sum() == len(days)


@settings(deadline=None, max_examples=40)
@given(time=moments, others=st.lists(moments, max_size=5))
def test_a_rows_days_do_not_depend_on_the_other_rows(time, others):
    plan = widest_plan(zone="America/New_York")
    for family in (Business(), Trading(), Calendar()):
        features = family.features(plan, [])
        alone, among = (
            family.add(pl.DataFrame({"time": pl.Series(times, dtype=UTC_TIME)}), plan, features)
            for times in ([time], [*others, time])
        )
        assert among.tail(1).equals(alone)
        assert alone.columns == ["time", *(f.name for f in features)]
        assert set(alone.dtypes[1:]) == {pl.Float32}


def test_no_rows_make_no_features_and_a_day_starts_where_the_zone_says():
    plan = widest_plan(zone="America/New_York")
    for family in (Business(), Trading()):
        empty = pl.DataFrame({"time": pl.Series([], dtype=UTC_TIME)})
        assert family.add(empty, plan, family.features(plan, [])).height == 0
    friday_evening = pl.DataFrame({"time": pl.Series([utc("2020-01-25T03:00")], dtype=UTC_TIME)})
    assert Trading().add(friday_evening, plan, Trading().features(plan, []))["calendar__is_session"].item() == 1


def test_an_unknown_market_is_refused_with_the_nearest():
    with pytest.raises(ConfigError, match=r"calendar.market: no sessions are known for 'NYSEE'.*did you mean NYSE\?"):
        check_calendar(None, None, "NYSEE")
    check_calendar("US", None, "NYSE")
