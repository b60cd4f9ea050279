"""Consumes the same observations in other orders, batches and tasks, checks that the features are the same bits."""

from __future__ import annotations

import datetime as dt

import polars as pl
from feature_harness import features_of, observations, plan_of, settings_of, utc
from hypothesis import given, settings
from hypothesis import strategies as st

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


@settings(deadline=None, max_examples=60)
@given(rows=observed, batch_rows=st.integers(1, 8), data=st.data())
def test_features_do_not_depend_on_order_batches_or_tasks(rows, batch_rows, data):
    plan = plan_of()
    frame = observations([row | {"row_id": i} for i, row in enumerate(rows)], plan)
    whole = features_of(frame, plan)
    order = data.draw(st.permutations(range(len(rows))))
    tasks = data.draw(st.lists(st.integers(0, 3), min_size=len(rows), max_size=len(rows)))
    again = features_of(frame[list(order)], plan, dealt=tasks, batch_rows=batch_rows)
    assert again.equals(whole)


@settings(deadline=None, max_examples=60)
@given(rows=observed, cut=st.integers(0, 30))
def test_building_up_to_a_time_is_building_all_and_looking_up_to_it(rows, cut):
    """Incremental equals full: what was built before later rows came is what is built with them, bit for bit."""
    plan = plan_of()
    frame = observations([row | {"row_id": i} for i, row in enumerate(rows)], plan)
    until = START + dt.timedelta(days=3 * cut)
    early = frame.filter(pl.col("time") <= until)
    if early.height:
        assert features_of(early, plan).equals(features_of(frame, plan).filter(pl.col("time") <= until))


@settings(deadline=None, max_examples=60)
@given(rows=observed)
def test_rows_that_no_window_reaches_any_more_change_no_window(rows):
    """What a month's features need of the past is bounded: history before the longest window leaves no trace in it."""
    plan = plan_of(settings=settings_of(lags=()))
    recent = [row | {"row_id": i} for i, row in enumerate(rows)]
    old = [
        row | {"row_id": 1_000 + i, "time": row["time"] - dt.timedelta(days=4_000), "price": 1e15}
        for i, row in enumerate(rows)
    ]
    names = ["row_id", *(f.name for f in catalog.features_of(plan) if f.window.endswith("days"))]
    alone = features_of(observations(recent, plan), plan).select(names)
    after = features_of(observations([*recent, *old], plan), plan).filter(pl.col("row_id") < 1_000).select(names)
    assert after.equals(alone)
