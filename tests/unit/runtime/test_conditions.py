"""Consumes row conditions, checks their Arrow masks against plain Python, and that pruning never loses a row."""

from __future__ import annotations

import datetime as dt
import math
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from assay.runtime.conditions import Condition, mask, may_hold, month_label, period_conditions

TIME = pa.timestamp("us", tz="UTC")
COMPARE = {"==": lambda a, b: a == b, ">=": lambda a, b: a >= b, "<": lambda a, b: a < b}
moments = st.datetimes(dt.datetime(1900, 1, 1), dt.datetime(2100, 1, 1), timezones=st.just(dt.timezone.utc))
edges = st.builds(
    lambda month, off: (
        dt.datetime(2019 + month // 12, month % 12 + 1, 1, tzinfo=dt.timezone.utc) + dt.timedelta(microseconds=off)
    ),
    st.integers(0, 30),
    st.integers(-1, 1),
)
texts = st.sampled_from(["a", "B", "é", "a b", ""])
numbers = st.sampled_from([0.0, -1.5, 2.0, math.nan, math.inf])


def holds(value: Any, condition: Condition) -> bool:
    if condition.op in {"is_null", "not_null"}:
        return (value is None) == (condition.op == "is_null")
    if condition.op == "in":
        return value in condition.value
    return value is not None and COMPARE[condition.op](value, condition.value)


@settings(deadline=None)
@given(data=st.data(), kind=st.sampled_from([(TIME, moments | edges), (pa.string(), texts), (pa.float64(), numbers)]))
def test_masks_are_what_python_says(data, kind):
    arrow_type, values = kind
    column = data.draw(st.lists(st.none() | values, max_size=12))
    one_condition = st.builds(Condition, st.just("c"), st.sampled_from(["==", ">=", "<"]), values)
    if arrow_type == pa.string():
        one_condition |= st.builds(Condition, st.just("c"), st.just("in"), st.lists(texts, max_size=2).map(tuple))
    conditions = data.draw(
        st.lists(
            one_condition | st.builds(Condition, st.just("c"), st.sampled_from(["is_null", "not_null"])), max_size=3
        )
    )
    batch = pa.record_batch({"row": pa.array(range(len(column)), pa.int64()), "c": pa.array(column, arrow_type)})
    kept = mask(batch, conditions)
    found = kept.column("row").to_pylist()
    assert found == [i for i, value in enumerate(column) if all(holds(value, c) for c in conditions)]
    assert (kept is batch) == (len(found) == len(column))  # nothing is copied for nothing


@settings(deadline=None)
@given(row=moments | edges, bound=moments | edges, op=st.sampled_from(["==", ">=", "<"]), hours=st.integers(-12, 14))
def test_a_month_with_a_row_that_fulfils_the_condition_is_never_left_out(row, bound, op, hours):
    condition = Condition("time", op, bound.astimezone(dt.timezone(dt.timedelta(hours=hours))))
    if holds(row, condition):
        assert may_hold({"month": month_label(row)}, [condition])


@pytest.mark.parametrize(
    ("op", "bound", "kept"),
    [
        ("<", "2020-03-01T00:00:00+00:00", ["2020-01", "2020-02"]),
        ("<", "2020-03-01T00:00:00.000001+00:00", ["2020-01", "2020-02", "2020-03"]),
        ("<", "2020-03-01T02:00:00+03:00", ["2020-01", "2020-02"]),
        (">=", "2020-03-31T23:59:59.999999+00:00", ["2020-03", "2020-04"]),
        (">=", "2020-04-01T00:00:00+00:00", ["2020-04"]),
    ],
)
def test_months_that_cannot_fulfil_the_condition_are_left_out(op, bound, kept):
    condition = Condition("time", op, dt.datetime.fromisoformat(bound))
    months = ["2020-01", "2020-02", "2020-03", "2020-04"]
    assert [month for month in months if may_hold({"month": month, "target": "price"}, [condition])] == kept


def test_partitions_of_another_value_are_left_out_and_unknown_ones_are_not():
    condition = Condition("target", "==", "price")
    assert may_hold({"target": "price"}, [condition])
    assert not may_hold({"target": "Price"}, [condition])
    assert not may_hold({"target": None}, [condition])
    assert may_hold(
        {"month": None}, [condition, Condition("time", "<", dt.datetime(2020, 1, 1, tzinfo=dt.timezone.utc))]
    )
    assert may_hold({}, [Condition("target", "is_null")])


def test_a_time_without_zone_is_refused():
    with pytest.raises(ValueError, match="time zone"):
        Condition("time", "<", dt.datetime(2020, 1, 1))


def test_a_period_kept_as_data_becomes_conditions():
    start, end = "2020-01-01T00:00:00+00:00", "2020-02-01T00:00:00+00:00"
    moments_of = [dt.datetime.fromisoformat(text) for text in (start, end)]
    both = period_conditions({"start": start, "end": end})
    assert both == [Condition("time", ">=", moments_of[0]), Condition("time", "<", moments_of[1])]
    assert period_conditions({"start": None, "end": end}) == both[1:]
    assert period_conditions({}) == []


@pytest.mark.parametrize(("months", "kept"), [(("2019-01", "2019-03"), True), (("2019-03",), False), ((), False)])
def test_partitions_that_are_not_listed_are_left_out(months, kept):
    assert may_hold({"month": "2019-01"}, [Condition("month", "in", months)]) is kept
