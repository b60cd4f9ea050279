"""Consumes observations, checks that features built in part or in parts have the bits of those built at once."""

from __future__ import annotations

import datetime as dt

import polars as pl
import pyarrow as pa
import pytest
from feature_harness import features_of, observations, ranks_of, settings_of, utc, widest_plan
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from assay.features.kernel import BuildFeatures, Condense, GroupHistory, observation_columns, packed
from assay.features.routing import (
    SPAN,
    CountDays,
    Route,
    Widen,
    context_rows,
    counted_schema,
    cuts_of,
    lookback_days,
    past_columns,
    routed_schema,
)

START = utc("2020-01-20")
numbers = st.one_of(st.none(), st.floats(0.01, 1e6))
moments = st.builds(lambda hours: START + dt.timedelta(hours=hours), st.integers(0, 24 * 120))
rows = st.fixed_dictionaries(
    {
        "thing": st.sampled_from(["x", "y", None]),
        "place": st.sampled_from(["p", "q"]),
        "time": moments,
        "price": numbers,
        "sales": numbers,
        "size": numbers,
    }
)


def batches(frame: pl.DataFrame) -> list[pa.RecordBatch]:
    return frame.to_arrow(compat_level=pl.CompatLevel.oldest()).to_batches(max_chunksize=5)


def table(found) -> pl.DataFrame:
    return pl.from_arrow(pa.Table.from_batches(list(found)))


def built_in_parts(frame, plan, *, since=None, cuts=None) -> pl.DataFrame:
    """Features of the rows from `since` on, by tasks of whole spans, from no more than those rows need of the past."""
    since_us = None if since is None else int(since.timestamp()) * 1_000_000
    groups = {}
    for label in plan.groups:
        condensed = table(Condense(plan, label)(iter(batches(frame))))
        found = list(GroupHistory(plan, label, since_us)(iter(batches(condensed))))
        groups[label] = packed(pa.Table.from_batches(found))
    whole = frame.select(observation_columns(plan))
    flow = batches(whole)
    if since is not None:
        back = lookback_days(plan)
        old = whole.filter(pl.col("time") < since).select(past_columns(plan))
        if back is not None:
            old = old.filter(pl.col("time") >= since - dt.timedelta(days=back))
        schema = flow[0].schema
        flow = [*Widen(schema)(iter(batches(old))), *batches(whole.filter(pl.col("time") >= since))]
    routed = table(Route(plan, since_us, cuts or {})(iter(flow)))
    assert routed.columns == routed_schema(flow[0].schema).names
    tasks = routed.with_columns(task=pl.struct(*plan.entity, SPAN).hash(seed=1) % 2).partition_by("task")
    build = BuildFeatures(plan, groups, ranks_of([frame], plan))
    found = [batch for task in tasks for batch in build(iter(batches(task.drop("task"))))]
    return table(found).sort("row_id")


@settings(deadline=None, max_examples=40)
@given(
    world=st.lists(rows, min_size=2, max_size=25),
    month=st.sampled_from(["2020-02", "2020-03", "2020-04"]),
    oldest=st.sampled_from([None, 30]),
)
def test_building_the_later_months_gives_what_building_all_gives(world, month, oldest):
    plan = widest_plan(widest={"max_history_days": oldest})
    frame = observations([row | {"row_id": i} for i, row in enumerate(world)], plan)
    since = utc(f"{month}-01")
    expected = features_of(frame, plan).filter(pl.col("time") >= since)
    if expected.height:
        assert_frame_equal(built_in_parts(frame, plan, since=since), expected, check_exact=True)


@settings(deadline=None, max_examples=40)
@given(world=st.lists(rows, min_size=2, max_size=25), days=st.sets(st.integers(0, 120), min_size=1, max_size=4))
def test_an_entity_in_spans_has_the_features_of_an_entity_in_one_task(world, days):
    plan = widest_plan()
    frame = observations([row | {"row_id": i} for i, row in enumerate(world)], plan)
    first = int(START.timestamp()) // 86_400
    cuts = {(thing,): tuple(sorted(first + day for day in days)) for thing in ("x", None)}
    assert_frame_equal(built_in_parts(frame, plan, cuts=cuts), features_of(frame, plan), check_exact=True)


@settings(deadline=None, max_examples=8)
@given(world=st.lists(rows, min_size=8, max_size=25), day=st.integers(5, 100), oldest=st.sampled_from([None, 30]))
def test_what_is_large_is_built_with_less_memory_and_the_same_features(world, day, oldest):
    plan = widest_plan(widest={"max_history_days": oldest})
    frame = observations([row | {"row_id": i} for i, row in enumerate(world)], plan)
    expected = features_of(frame, plan)
    cuts = {("x",): (int(START.timestamp()) // 86_400 + day,)}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("assay.features.entity_rows.LARGE_ROWS", 3)  # keys by themselves
        patch.setattr("assay.features.entity_rows.FEW_ROWS", 2)
        patch.setattr("assay.features.timeline.LARGE_CELLS", 2)  # sums that are not kept
        patch.setattr("assay.features.kernel.ASKED_AT_ONCE", 4)
        patch.setattr("assay.features.kernel.BLOCK_ROWS", 3)
        patch.setattr("assay.features.exact.BLOCK", 2)
        assert_frame_equal(built_in_parts(frame, plan, cuts=cuts), expected, check_exact=True)


def test_entities_with_very_many_rows_are_cut_evenly_in_time(monkeypatch):
    monkeypatch.setattr("assay.features.routing.LEAST_COUNT", 10)
    plan = widest_plan()
    world = [{"row_id": i, "thing": "hot", "time": START + dt.timedelta(hours=i)} for i in range(960)]
    world += [{"row_id": 1_000 + i, "thing": "cold", "time": START + dt.timedelta(hours=i)} for i in range(60)]
    frame = observations(world, plan)
    counted = [table(CountDays(plan)(iter(batches(half)))) for half in (frame[:500], frame[500:])]
    rows_by_day = pl.concat(counted).to_arrow().cast(counted_schema(plan))
    monkeypatch.setattr("assay.features.routing.MOST_SPANS", 1)
    cuts = cuts_of(rows_by_day, plan, slots=4, hot_rows=100)
    first = int(START.timestamp()) // 86_400
    assert cuts == {("hot",): (first + 10, first + 20, first + 30)}
    assert context_rows(rows_by_day, plan, cuts) == 960 * 3 // 2
    assert cuts_of(rows_by_day, plan, slots=1, hot_rows=100) == {}
    assert cuts_of(rows_by_day, plan, slots=4, hot_rows=1_000) == {}


def test_what_needs_the_whole_past_reads_it_and_what_forgets_does_not():
    assert lookback_days(widest_plan()) is None
    bounded = lookback_days(widest_plan(settings=settings_of(max_history_days=30, halflives_days=())))
    assert bounded == 30 + 2.5 + 2
