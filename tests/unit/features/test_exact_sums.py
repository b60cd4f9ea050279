"""Consumes doubles of any size, checks that their sums are exact whatever the order, the parts and the surroundings."""

from __future__ import annotations

import math
from fractions import Fraction
from unittest import mock

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from assay.features import exact
from assay.features.exact import ExactSums, PassingSums, RunningSums

sizes = st.floats(min_value=1e-200, max_value=1e100) | st.floats(min_value=0.01, max_value=1e7)
numbers = st.lists(
    sizes | sizes.map(lambda v: -v) | st.sampled_from([0.1, -0.1, 1e16, 1.0, 2.0**52, -(2.0**31), 0.0]), max_size=30
)


def exactly(values) -> Fraction:
    return sum(map(Fraction, values), Fraction())


@settings(deadline=None)
@given(values=numbers, cuts=st.lists(st.integers(0, 30), max_size=4))
def test_parts_add_up_to_the_exact_sum_of_each_stretch(values, cuts):
    starts = sorted({0, *(cut for cut in cuts if cut < len(values))}) if values else []
    if not starts:
        return
    parts = ExactSums.of(np.array(values)).grouped(np.array(starts)).parts()
    for index, (start, stop) in enumerate(zip(starts, [*starts[1:], len(values)], strict=True)):
        assert exactly(float(part[index]) for part in parts) == exactly(values[start:stop])


@settings(deadline=None)
@given(values=numbers, data=st.data())
def test_the_sum_of_a_stretch_is_near_and_does_not_depend_on_what_lies_around_it(values, data):
    start = data.draw(st.integers(0, len(values)))
    stop = data.draw(st.integers(start, len(values)))
    around = data.draw(numbers)
    inside = values[start:stop]
    one = RunningSums(np.array(values, dtype=float)).between(np.array([start]), np.array([stop]))[0]
    shuffled = data.draw(st.permutations(inside))
    placed = np.array([*around, *shuffled, *around])
    other = RunningSums(placed).between(np.array([len(around)]), np.array([len(around) + len(inside)]))[0]
    assert one == other
    assert not math.copysign(1.0, one) < 0 or one < 0  # zero has one sign
    expected = exactly(inside)
    assert abs(Fraction(float(one)) - expected) <= abs(expected) * Fraction(1, 2**51)


@settings(deadline=None)
@given(values=numbers, data=st.data())
def test_sums_of_sums_are_the_sums_of_the_whole(values, data):
    """What tasks add up before a shuffle, added up after it, is what one task would have found, bit for bit."""
    if not values:
        return
    task = data.draw(st.lists(st.integers(0, 3), min_size=len(values), max_size=len(values)))
    partial = []
    for number in sorted(set(task)):
        mine = np.array([v for v, t in zip(values, task, strict=True) if t == number])
        partial += [float(part[0]) for part in ExactSums.of(mine).grouped(np.array([0])).parts()]
    whole = ExactSums.of(np.array(values)).grouped(np.array([0]))
    again = ExactSums.of(np.array(partial)).grouped(np.array([0]))
    assert whole.rounded()[0] == again.rounded()[0]
    assert [p[0] for p in whole.parts()] == [p[0] for p in again.parts()]


def test_running_sums_may_pass_the_range_of_64_bits():
    values = np.random.default_rng(3).uniform(0, 1e6, 1_000)
    sums = RunningSums(values)
    start = np.arange(990)
    before = sums.between(start, start + 10)
    sums._sums += np.int64(2**63 - 2**38)  # as if billions of rows came first: the running sums wrap
    assert (sums._sums.min() < 0) & (sums._sums.max() > 0)
    assert (sums.between(start, start + 10) == before).all()


def test_numbers_too_small_for_any_feature_are_dropped_alike_everywhere():
    tiny = np.array([5e-324, 1e-300, 1.0])
    assert ExactSums.of(tiny).grouped(np.array([0])).rounded()[0] == 1.0
    assert RunningSums(tiny).between(np.array([0]), np.array([2]))[0] == 0.0
    assert RunningSums(np.zeros(0)).between(np.zeros(0, int), np.zeros(0, int)).shape == (0,)


@settings(deadline=None)
@given(values=numbers, block=st.integers(1, 7), data=st.data())
def test_sums_in_passing_are_the_running_sums_to_the_last_bit(values, block, data):
    """Stretches in any order, empty ones and rows without a stretch among them."""
    pairs = data.draw(st.lists(st.tuples(st.integers(0, len(values)), st.integers(0, len(values))), max_size=9))
    if data.draw(st.booleans()):
        pairs = sorted(pairs)
    start = np.array([min(pair) for pair in pairs], dtype=np.int64)
    stop = np.array([max(pair) for pair in pairs], dtype=np.int64)
    array = np.array(values, dtype=float)
    with mock.patch.object(exact, "BLOCK", block):
        passing = PassingSums(lambda rows: array[rows], len(array)).between(start, stop)
        kept = RunningSums(array).between(start, stop)
    assert passing.tobytes() == kept.tobytes()
