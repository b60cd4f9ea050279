"""Consumes irregular histories, checks the history kernel against loops over all rows."""

from __future__ import annotations

import datetime as dt
import math

import numpy as np
import polars as pl
import pytest
from feature_harness import UTC_TIME, past_at_each_time, utc
from feature_oracle import STATISTICS, differs, expanding_of, history_of, is_known, remembered, seen
from hypothesis import given, settings
from hypothesis import strategies as st

from assay.features.condensed import condense, merge

START = utc("2019-12-28")
MICROSECOND = dt.timedelta(microseconds=1)
# Few distinct times, a quarter of a day apart and a microsecond around that: rows meet at one time and on window edges.
moments = st.builds(
    lambda quarters, off: START + dt.timedelta(hours=6 * quarters) + off * MICROSECOND,
    st.integers(0, 60) | st.integers(0, 2_000),
    st.sampled_from([0, 0, 0, -1, 1]),
)
values = st.one_of(
    st.none(),
    st.just(math.nan),
    st.sampled_from([0.1, 0.1, 7.0, -0.0, 1e9, 1e-9]),
    st.floats(-1e6, 1e6),
)
keys = st.sampled_from(["a", "b", None])
rows_of_history = st.lists(
    st.fixed_dictionaries({"k": keys, "l": st.sampled_from(["x", None]), "time": moments, "v": values}), max_size=25
)
delays = st.sampled_from([0.0, 0.0, 1 / 3, 0.25, 1.0, 7.5, 45.0, 400.0])
windows = st.lists(st.sampled_from([1, 2, 7, 30, 365]), unique=True, max_size=3)
lags_wanted = st.lists(st.integers(1, 6), unique=True, max_size=3)


def kernel(rows, by, **asked) -> pl.DataFrame:
    return past_at_each_time(rows, by, statistics=tuple(STATISTICS), **{k: _tuple(v) for k, v in asked.items()})


def _tuple(value):
    return tuple(value) if isinstance(value, list) else value


@settings(deadline=None)
@given(
    rows=rows_of_history,
    by=st.sampled_from([["k"], ["k", "l"], []]),
    delay_days=delays,
    lags=lags_wanted,
    windows_days=windows,
    windows_rows=st.lists(st.sampled_from([1, 2, 3, 9]), unique=True, max_size=2),
    max_history_days=st.sampled_from([None, None, 1, 20, 365]),
)
def test_history_is_what_loops_over_all_rows_find(rows, by, delay_days, max_history_days, **asked):
    limits = {"delay_days": delay_days, "max_history_days": max_history_days}
    found = kernel(rows, by, **asked, **limits, expanding=list(STATISTICS))
    assert {(tuple(row[c] for c in by), row["time"]) for row in rows} == {
        (tuple(row[c] for c in by), row["time"]) for row in found.iter_rows(named=True)
    }
    assert found.height == found.unique([*by, "time"]).height
    scale = max((abs(row["v"]) for row in rows if is_known(row["v"])), default=0.0)
    for row in found.iter_rows(named=True):
        at, key = row["time"], tuple(row[c] for c in by)
        expected = history_of(rows, by=by, value="v", key=key, at=at, **asked, **limits)
        past = seen(rows, by=by, value="v", delay_days=delay_days, key=key, at=at)
        expected |= expanding_of(remembered(past, at=at, **limits), at)
        assert set(expected) == set(row) - {*by, "time"}
        for name, number in expected.items():
            spread = name.startswith(("std", "ever_std"))
            assert not differs(row[name], number, scale=scale if spread else 0.0), (name, row, number)


@pytest.mark.parametrize("delay_days", [0.0, 1 / 3, 10.0])
@pytest.mark.parametrize("days", [1, 30])
def test_windows_begin_at_their_first_microsecond_and_end_before_their_last(delay_days, days):
    at = utc("2020-03-01T06:30:00")
    late = dt.timedelta(microseconds=round(delay_days * 86_400_000_000))
    edge = at - late - dt.timedelta(days=days)
    rows = [{"k": "a", "l": None, "time": at, "v": 1000.0}]
    for time, v in ((edge - MICROSECOND, 1.0), (edge, 2.0), (at - late - MICROSECOND, 4.0), (at - late, 8.0)):
        rows.append({"k": "a", "l": None, "time": time, "v": v})
    found = kernel(rows, ["k"], delay_days=delay_days, lags=[1], windows_days=[days]).filter(pl.col("time") == at)
    assert found[f"count_{days}d"].item() == 2
    assert found[f"min_{days}d"].item() == 2.0
    assert found[f"max_{days}d"].item() == 4.0
    assert found["lag_1"].item() == 4.0


def test_a_day_is_24_hours_also_when_clocks_change():
    """Times are instants: a window of one day over the night of 29 March 2020 in Berlin is not an hour short."""
    berlin = dt.timezone(dt.timedelta(hours=2))
    at = dt.datetime(2020, 3, 29, 12, tzinfo=berlin)
    rows = [{"k": "a", "l": None, "time": at - dt.timedelta(hours=h), "v": float(h)} for h in (0, 1, 24, 25)]
    found = kernel(rows, ["k"], delay_days=0.0, windows_days=[1]).filter(pl.col("time") == at)
    assert found["max_1d"].item() == 24.0


@settings(deadline=None)
@given(value=st.floats(1e-6, 1e9), times=st.integers(2, 40))
def test_values_that_are_all_the_same_have_no_spread(value, times):
    rows = [{"k": "a", "l": None, "time": START + dt.timedelta(hours=h), "v": value} for h in range(times)]
    found = kernel(rows, ["k"], delay_days=0.0, windows_days=[30])
    assert set(found["std_30d"].to_list()) <= {None, 0.0}


def test_a_large_value_that_has_left_the_window_leaves_nothing_behind():
    rows = [{"k": "a", "l": None, "time": START, "v": 1e15}]
    rows += [{"k": "a", "l": None, "time": START + dt.timedelta(days=d), "v": 0.1} for d in range(1, 40)]
    found = kernel(rows, ["k"], delay_days=0.0, windows_days=[7]).filter(pl.col("time") > START + dt.timedelta(days=9))
    assert set(found["mean_7d"].to_list()) == {pl.Series([0.1], dtype=pl.Float32).item()}
    assert set(found["std_7d"].to_list()) == {0.0}


def test_infinite_values_count_as_missing_and_huge_ones_do_not_break_anything():
    rows = [
        {"k": "a", "l": None, "time": START + dt.timedelta(days=d), "v": v}
        for d, v in enumerate([math.inf, 1e300, -1e300, 3.0, 4.0])
    ]
    found = kernel(rows, ["k"], delay_days=0.0, lags=[1], windows_days=[30])
    assert found["count_30d"].to_list() == [0, 0, 1, 2, 3]
    largest = float(np.finfo(np.float32).max)  # an infinite feature would stop XGBoost
    assert found["lag_1"].to_list() == [None, None, largest, -largest, 3.0]


@settings(deadline=None)
@given(rows=rows_of_history, by=st.sampled_from([["k"], ["k", "l"], []]), data=st.data())
def test_condensing_in_parts_and_merging_in_any_grouping_gives_the_same_rows(rows, by, data):
    frame = pl.DataFrame(rows, schema={"k": pl.String, "l": pl.String, "time": UTC_TIME, "v": pl.Float64})
    whole = condense(frame, by, ["v"])
    task = data.draw(st.lists(st.integers(0, 2), min_size=len(rows), max_size=len(rows)))
    order = data.draw(st.permutations(range(len(rows))))
    dealt = frame.with_columns(pl.Series("task", task, dtype=pl.Int64))[list(order)]
    a, b, c = (condense(dealt.filter(pl.col("task") == t).drop("task"), by, ["v"]) for t in range(3))

    def merged(*parts: pl.DataFrame) -> pl.DataFrame:
        return merge(pl.concat(parts), by, ["v"])

    assert merged(merged(a, b), c).equals(whole)
    assert merged(a, merged(c, b)).equals(whole)
    assert merged(whole).equals(whole)


def test_no_rows_make_no_cells():
    found = kernel([], ["k"], delay_days=0.0, lags=[1], windows_days=[7])
    assert found.height == 0
    assert {"lag_1", "age_days", "std_7d"} <= set(found.columns)
