"""Consumes irregular markets, checks the market kernel against loops over all rows."""

from __future__ import annotations

import datetime as dt

import polars as pl
import pytest
from feature_harness import features_of, observations, past_at_each_time, plan_of, utc
from feature_oracle import differs, market_of
from hypothesis import given, settings
from hypothesis import strategies as st

MICROSECOND = dt.timedelta(microseconds=1)
# Around the turn of a few months, some of which stay empty; a microsecond is enough to belong to the month before.
moments = st.builds(
    lambda month, days, off: (
        dt.datetime(2019 + month // 12, month % 12 + 1, 1, tzinfo=dt.timezone.utc)
        + dt.timedelta(days=days)
        + off * MICROSECOND
    ),
    st.sampled_from([0, 1, 2, 5, 11, 12, 13, 26]),
    st.sampled_from([0, 0, 1, 14, 27.5]),
    st.sampled_from([0, 0, -1, 1]),
)
# Sums are exact down to 1e-200; a market whose level is less than that has no momentum.
amounts = st.floats(-1e3, 1e6).map(lambda value: round(value, 9))
values = st.one_of(st.none(), st.sampled_from([0.1, 100.0, 0.0, -5.0, 1e9]), amounts)
rows_of_markets = st.lists(
    st.fixed_dictionaries({"k": st.sampled_from(["a", "b", None]), "time": moments, "v": values}), max_size=25
)


def kernel(rows, by, *, delay_days, momentum_months, trend_months=(), max_history_days=None) -> pl.DataFrame:
    return past_at_each_time(
        rows,
        by,
        delay_days=delay_days,
        market=True,
        market_momentum_months=tuple(momentum_months),
        market_trend_months=tuple(trend_months),
        max_history_days=max_history_days,
    )


@settings(deadline=None)
@given(
    rows=rows_of_markets,
    by=st.sampled_from([["k"], []]),
    delay_days=st.sampled_from([0.0, 1 / 3, 1.0, 14.0, 45.0, 400.0]),
    momentum_months=st.lists(st.sampled_from([1, 2, 3, 12]), unique=True, max_size=3),
    trend_months=st.lists(st.sampled_from([2, 3, 12]), unique=True, max_size=2),
    max_history_days=st.sampled_from([None, None, 31, 100, 365]),
)
def test_market_is_what_loops_over_all_rows_find(rows, by, **asked):
    found = kernel(rows, by, **asked)
    assert found.height == len({(tuple(row[c] for c in by), row["time"]) for row in rows})
    largest = max((abs(row["v"]) for row in rows if row["v"] is not None), default=0.0)
    for row in found.iter_rows(named=True):
        expected = market_of(rows, by=by, value="v", key=tuple(row[c] for c in by), at=row["time"], **asked)
        assert set(expected) == set(row) - {*by, "time"}
        for name, number in expected.items():
            scale = 1.0 if name.startswith(("momentum", "trend")) else 0.0  # 1 is taken off a ratio near it
            if name == "dispersion" and expected["level"]:
                scale = largest / abs(expected["level"])
            assert not differs(row[name], number, scale=scale), (name, row, number)


@pytest.mark.parametrize("delay_days", [0.0, 0.5, 10.0])
def test_a_month_is_seen_from_the_moment_that_it_is_over_and_known(delay_days):
    known = utc("2020-03-01") + dt.timedelta(days=delay_days)
    rows = [
        {"k": "a", "time": utc("2020-01-15"), "v": 10.0},
        {"k": "a", "time": utc("2020-02-01"), "v": 20.0},
        {"k": "a", "time": utc("2020-03-01") - MICROSECOND, "v": 40.0},
        {"k": "a", "time": utc("2020-03-01"), "v": 1e6},
        {"k": "a", "time": known - MICROSECOND, "v": None},
        {"k": "a", "time": known, "v": None},
    ]
    found = kernel(rows, ["k"], delay_days=delay_days, momentum_months=[1])
    before, after = (found.filter(pl.col("time") == time) for time in (known - MICROSECOND, known))
    assert before["level"].item() == 10.0
    assert after["level"].item() == 30.0
    assert after["volume"].item() == 2.0
    assert after["momentum_1m"].item() == 2.0


def test_months_are_those_of_the_datasets_zone():
    """Noon of 1 January in Tokyo, written at the Tokyo midnight before, is December for UTC alone."""
    times = ("2019-12-31T15:00:00", "2020-01-31T14:59:59", "2020-01-31T15:00:00", "2020-02-01T00:00:00")
    rows = [{"row_id": i, "time": utc(time), "thing": "a", "price": 10.0} for i, time in enumerate(times)]
    levels = {}
    for zone in ("Asia/Tokyo", "UTC"):
        plan = plan_of(zone=zone)
        levels[zone] = features_of(observations(rows, plan), plan)["price__all__market_level"].to_list()
    assert levels["Asia/Tokyo"] == [None, None, 10.0, 10.0]
    assert levels["UTC"] == [None, 10.0, 10.0, 10.0]


def test_a_market_without_any_value_has_empty_figures():
    rows = [{"k": "a", "time": utc("2020-01-15"), "v": None}]
    found = kernel(rows, ["k"], delay_days=0.0, momentum_months=[1])
    assert found.columns[2:] == ["level", "volume", "dispersion", "momentum_1m"]
    assert found.row(0)[2:] == (None, None, None, None)
