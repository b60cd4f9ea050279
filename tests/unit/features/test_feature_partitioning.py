"""Consumes the same observations in other orders, batches and tasks, checks that the features are the same bits."""

from __future__ import annotations

import datetime as dt
import re

import polars as pl
import pytest
from feature_harness import features_of, observations, plan_of, settings_of, utc
from hypothesis import given, settings
from hypothesis import strategies as st

from assay.features import catalog, kernel
from assay.features.plan import HistoryOf

START = utc("2020-01-20")
# Values of very different sizes: the order in which doubles are added would show.
numbers = st.one_of(st.none(), st.sampled_from([0.1, 0.2, 0.3, 1e16, -1e16, 1e-9]), st.floats(-1e6, 1e6))
observed = st.lists(
    st.fixed_dictionaries(
        {
            "thing": st.sampled_from(["x", "y", "z"]),
            "place": st.sampled_from(["p", "q", None]),
            "time": st.integers(0, 30).map(lambda day: START + dt.timedelta(days=3 * day)),
            "price": numbers,
            "sales": numbers,
            "size": numbers,
        }
    ),
    min_size=1,
    max_size=30,
)


PLANS = [
    plan_of(),
    plan_of(zone="America/New_York", settings=settings_of(group_step="1h", max_history_days=30)),
]


@settings(deadline=None, max_examples=50)
@given(rows=observed, plan=st.sampled_from(PLANS), batch_rows=st.integers(1, 8), data=st.data())
def test_features_do_not_depend_on_order_batches_or_tasks(rows, plan, batch_rows, data):
    frame = observations([row | {"row_id": i} for i, row in enumerate(rows)], plan)
    whole = features_of(frame, plan)
    order = data.draw(st.permutations(range(len(rows))))
    tasks = data.draw(st.lists(st.integers(0, 3), min_size=len(rows), max_size=len(rows)))
    again = features_of(frame[list(order)], plan, dealt=tasks, batch_rows=batch_rows)
    assert again.equals(whole)


@pytest.mark.parametrize("block_rows", [1, 2, 7])
def test_features_do_not_depend_on_how_many_rows_are_built_at_once(block_rows):
    """Blocks may end in the middle of an entity and between rows of one time."""

    @settings(deadline=None, max_examples=15)
    @given(rows=observed, plan=st.sampled_from(PLANS))
    def check(rows, plan):
        frame = observations([row | {"row_id": i} for i, row in enumerate(rows)], plan)
        whole = features_of(frame, plan)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(kernel, "BLOCK_ROWS", block_rows)
            assert features_of(frame, plan).equals(whole)

    check()


@settings(deadline=None, max_examples=50)
@given(rows=observed, plan=st.sampled_from(PLANS), cut=st.integers(0, 30))
def test_building_up_to_a_time_is_building_all_and_looking_up_to_it(rows, plan, cut):
    """Incremental equals full: what was built before later rows came is what is built with them, bit for bit."""
    frame = observations([row | {"row_id": i} for i, row in enumerate(rows)], plan)
    until = START + dt.timedelta(days=3 * cut)
    early = frame.filter(pl.col("time") <= until)
    if early.height:
        assert features_of(early, plan).equals(features_of(frame, plan).filter(pl.col("time") <= until))


LONG_AGO = dt.timedelta(days=4_000)


def check_that_the_long_past_leaves_no_trace(rows, plan, names) -> None:
    recent = [row | {"row_id": i} for i, row in enumerate(rows)]
    old = [row | {"row_id": 1_000 + i, "time": row["time"] - LONG_AGO, "price": 1e15} for i, row in enumerate(rows)]
    alone = features_of(observations(recent, plan), plan).select("row_id", *names)
    after = features_of(observations([*recent, *old], plan), plan).select("row_id", *names)
    assert after.filter(pl.col("row_id") < 1_000).equals(alone)


@settings(deadline=None, max_examples=25)
@given(rows=observed)
def test_rows_that_no_window_reaches_any_more_change_no_window(rows):
    """What a month's features need of the past is bounded: history before the longest window leaves no trace in it."""
    plan = plan_of(settings=settings_of(lags=()))
    bounded = [f.name for f in catalog.features_of(plan) if re.fullmatch(r"\d+ days", f.window)]
    assert len(bounded) > 70
    check_that_the_long_past_leaves_no_trace(rows, plan, bounded)


@settings(deadline=None, max_examples=25)
@given(
    rows=observed,
    zone=st.sampled_from(["UTC", "America/New_York"]),
    group_step=st.sampled_from(["1d", "1h"]),
    delay_days=st.sampled_from([0.0, 0.3, 5.0]),
)
def test_what_is_forgotten_changes_no_feature(rows, zone, group_step, delay_days):
    """With a bound on what is remembered, an incremental build reads that much and no more, for every family."""
    chosen = settings_of(max_history_days=400, group_step=group_step, halflives_days=(0.5, 100.0))
    plan = plan_of(settings=chosen, zone=zone, history=(HistoryOf("price", delay_days), HistoryOf("sales", 2.5)))
    check_that_the_long_past_leaves_no_trace(rows, plan, [f.name for f in catalog.features_of(plan)])
