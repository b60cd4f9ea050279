"""Consumes hourly, daily, weekly, monthly and irregular series, checks their windows against counts made by hand."""

from __future__ import annotations

import datetime as dt

import polars as pl
import pytest
from feature_harness import features_of, observations, plan_of, settings_of, utc

from assay.features.plan import HistoryOf

START = utc("2021-01-01")
HOURLY = [START + dt.timedelta(hours=h) for h in range(24 * 10)]
DAILY = [START + dt.timedelta(days=d) for d in range(60)]
WEEKLY = [START + dt.timedelta(weeks=w) for w in range(20)]
MONTHLY = [utc(f"2021-{month:02}-01") for month in range(1, 13)]
IRREGULAR = [utc(f"2021-{day}") for day in ("01-01", "01-02", "01-02T12:00:00", "01-20", "02-27", "03-01")]
TWICE = [time for time in DAILY for _ in range(2)]

# What the last row sees: known values in 3 and 40 days, in the last 2 times, and ever; days since the last one; values
# in 3 and 40 days and ever in the whole market by day, where another entity has one at each of the times too.
LAST = {
    "hourly": (HOURLY, 72, 239, 2, 239, 1 / 24, 2 * 72, 2 * 216, 2 * 216),
    "daily": (DAILY, 3, 40, 2, 59, 1.0, 2 * 3, 2 * 40, 2 * 59),
    "weekly": (WEEKLY, 0, 5, 2, 19, 7.0, 2 * 0, 2 * 5, 2 * 19),
    "monthly": (MONTHLY, 0, 1, 2, 11, 30.0, 2 * 0, 2 * 1, 2 * 11),
    "irregular": (IRREGULAR, 1, 2, 2, 5, 2.0, 2 * 1, 2 * 2, 2 * 5),
    "several rows at one time": (TWICE, 6, 80, 4, 118, 1.0, 2 * 6, 2 * 80, 2 * 118),
}


def last_row(times, **changes) -> dict[str, float | None]:
    asked = settings_of(windows_days=(3, 40), windows_rows=(2,), statistics=("count", "min", "max"))
    plan = plan_of(settings=asked, **{"history": (HistoryOf("price", 0.0),), "groups": {"all": ()}, **changes})
    # Values are numbered in order of time: the least and the greatest of a window say which it holds.
    number = {time: float(i + 1) for i, time in enumerate(sorted(set(times)))}
    rows = [{"thing": thing, "time": time, "price": number[time]} for time in times for thing in ("a", "b")]
    frame = observations([row | {"row_id": i} for i, row in enumerate(rows)], plan)
    found = features_of(frame, plan).filter(pl.col("thing") == "a").row(-1, named=True)
    return {name.removeprefix("price__"): number for name, number in found.items()}


@pytest.mark.parametrize("rhythm", LAST)
def test_windows_hold_what_their_days_and_rows_say_in_every_rhythm(rhythm):
    times, short, long, rows, ever, age, market_short, market_long, market_ever = LAST[rhythm]
    last = last_row(times)
    names = ("count_3d", "count_40d", "count_2r", "ever_count")
    assert tuple(last[f"own__{name}"] for name in names) == (short, long, rows, ever)
    assert last["own__age_days"] == pytest.approx(age)
    market = (market_short, market_long, market_ever)
    assert tuple(last[f"all__{name}"] for name in ("count_3d", "count_40d", "ever_count")) == market
    newest = len(set(times)) - 1.0
    assert (last["own__lag_1"], last["own__lag_2"], last["own__min_2r"]) == (newest, newest - 1, newest - 1)
    assert (last["own__ever_min"], last["own__ever_max"]) == (1.0, newest)


@pytest.mark.parametrize(("group_step", "seen", "newest"), [("1d", 216, 216.0), ("1h", 239, 239.0)])
def test_an_hourly_market_is_seen_as_of_the_day_or_the_hour(group_step, seen, newest):
    asked = settings_of(group_step=group_step)
    plan = plan_of(settings=asked, groups={"all": ()})
    rows = [{"row_id": i, "thing": "a", "time": time, "price": i + 1.0} for i, time in enumerate(HOURLY)]
    last = features_of(observations(rows, plan), plan).row(-1, named=True)
    assert last["price__all__ever_count"] == seen
    assert last["price__all__ever_max"] == newest


@pytest.mark.parametrize(("delay_days", "newest"), [(0.0, 59.0), (0.5, 59.0), (1.0, 58.0), (6.9, 53.0), (7.0, 52.0)])
def test_a_horizon_or_a_delay_moves_windows_and_lags_back(delay_days, newest):
    """Daily values known so many days later, the last of which stands in row 60: strictly before its time."""
    last = last_row(DAILY, history=(HistoryOf("price", delay_days),))
    assert (last["own__lag_1"], last["own__max_3d"], last["own__ever_count"]) == (newest, newest, newest)
    assert last["own__count_3d"] == 3


@pytest.mark.parametrize(("days", "own"), [(1, 1), (10, 10), (1_000, 59)])
def test_what_is_forgotten_is_in_no_window(days, own):
    plan = plan_of(settings=settings_of(max_history_days=days), groups={"all": ()}, history=(HistoryOf("price", 0.0),))
    rows = [{"row_id": i, "thing": "a", "time": time, "price": i + 1.0} for i, time in enumerate(DAILY)]
    last = features_of(observations(rows, plan), plan).row(-1, named=True)
    for by in ("own", "all"):
        assert last[f"price__{by}__ever_count"] == own
        assert last[f"price__{by}__count_40d"] == min(own, 40)
        assert last[f"price__{by}__ever_min"] == 60 - own
        assert last[f"price__{by}__known_days"] == own
