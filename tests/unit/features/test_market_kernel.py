"""Consumes irregular markets, checks the market kernel against loops over all rows."""

from __future__ import annotations

import datetime as dt

import polars as pl
import pytest
from feature_harness import UTC_TIME, utc
from feature_oracle import differs, market_of
from hypothesis import given, settings
from hypothesis import strategies as st

from assay.features.condensed import condense
from assay.features.market import market
from assay.features.timeline import Timeline

MICROSECOND = dt.timedelta(microseconds=1)
# Around the turn of a few months, some of which stay empty; a microsecond is enough to belong to the month before.
moments = st.builds(
    lambda month, days, off: (
        dt.datetime(2019 + month // 12, month % 12 + 1, 1, tzinfo=dt.UTC) + dt.timedelta(days=days) + off * MICROSECOND
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


def kernel(rows, by, zone="UTC", **settings) -> pl.DataFrame:
    frame = pl.DataFrame(rows, schema={"k": pl.String, "time": UTC_TIME, "v": pl.Float64})
    timeline = Timeline(condense(frame, by, ["v"]), by)
    found = market(timeline, value="v", prefix="m", zone=zone, **settings)
    return pl.concat([timeline.cells, found.rename(lambda name: name.removeprefix("m_"))], how="horizontal")


@settings(deadline=None)
@given(
    rows=rows_of_markets,
    by=st.sampled_from([["k"], []]),
    delay_days=st.sampled_from([0.0, 1 / 3, 1.0, 14.0, 45.0, 400.0]),
    momentum_months=st.lists(st.sampled_from([1, 2, 3, 12]), unique=True, max_size=3),
)
def test_market_is_what_loops_over_all_rows_find(rows, by, delay_days, momentum_months):
    settings = {"delay_days": delay_days, "momentum_months": momentum_months}
    found = kernel(rows, by, **settings)
    assert found.height == len({(tuple(row[c] for c in by), row["time"]) for row in rows})
    for row in found.iter_rows(named=True):
        expected = market_of(rows, by=by, value="v", key=tuple(row[c] for c in by), at=row["time"], **settings)
        assert set(expected) == set(row) - {*by, "time"}
        for name, number in expected.items():
            scale = 1.0 if name.startswith("momentum") else 0.0  # 1 is taken off a ratio near it
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
    rows = [
        {"k": "a", "time": utc("2019-12-31T15:00:00"), "v": 10.0},
        {"k": "a", "time": utc("2020-01-31T14:59:59"), "v": None},
        {"k": "a", "time": utc("2020-01-31T15:00:00"), "v": None},
    ]
    tokyo = kernel(rows, ["k"], zone="Asia/Tokyo", delay_days=0.0, momentum_months=[])
    assert tokyo["level"].to_list() == [None, None, 10.0]
    assert kernel(rows, ["k"], delay_days=0.0, momentum_months=[])["level"].to_list() == [None, 10.0, 10.0]


def test_a_market_without_any_value_has_empty_figures():
    rows = [{"k": "a", "time": utc("2020-01-15"), "v": None}]
    found = kernel(rows, ["k"], delay_days=0.0, momentum_months=[1])
    assert found.row(0)[2:] == (None, None, None)
