"""Consumes values in any order, sizes and parts, checks that a sketch's error is never exceeded, and its distances."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from assay.monitoring.samples import known, numbers_apart
from assay.monitoring.sketch import Sketch
from assay.monitoring.weighted import points_apart

SIZE = 16
KINDS = {
    "normal": lambda r, n: r.normal(size=n),
    "tied": lambda r, n: r.integers(0, 7, n),
    "one_value": lambda r, n: np.full(n, 2.5),
    "skewed": lambda r, n: r.lognormal(0, 2, n),
    "two_values": lambda r, n: r.random(n) < 0.999,
    "missing": lambda r, n: np.where(r.random(n) < 0.3, r.choice([np.nan, np.inf, -np.inf], n), r.normal(size=n)),
}
ORDERS = {"drawn": lambda v: v, "rising": np.sort, "falling": lambda v: np.sort(v)[::-1]}


def sketched(values, cuts=(), size=SIZE):
    sketch = Sketch(size)
    for part in np.split(values, cuts):
        sketch.add(part)
    return sketch


def drawn(kind, n, seed=1, order="drawn"):
    return ORDERS[order](KINDS[kind](np.random.default_rng(seed), n).astype(np.float32))


def largest_error(sketch, values):
    """By how much the sketch's counts are too low and too high, at each value and just before it."""
    finite, points = np.sort(values[np.isfinite(values)]), sketch.points()
    if not len(finite):
        return 0, 0
    at = np.unique(finite)
    at = np.concatenate([np.nextafter(at, np.float32(-np.inf)), at])
    gaps = points.up_to(at) - np.searchsorted(finite, at, "right")
    return -int(gaps.min()), int(gaps.max())


def holds(sketch, values):
    low, high = largest_error(sketch, values)
    finite = int(np.isfinite(values).sum())
    return low <= sketch.low and high <= sketch.high and sketch.points().rows == finite


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("n", [0, 1, 16, 127, 128, 129, 1000, 40_000])
def test_counts_are_never_further_off_than_stated(kind, n, order):
    values = drawn(kind, n, order=order)
    sketch = sketched(values, range(100, n, 100))
    assert holds(sketch, values)
    sketch.shrink()
    assert holds(sketch, values)


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from([*KINDS]), st.integers(0, 3000), st.sampled_from([*ORDERS])), max_size=6),
    st.integers(1, 700),
    st.booleans(),
    st.integers(2, 60),
)
def test_however_rows_come_and_sketches_meet_the_error_holds(parts, every, shrunk, size):
    whole, values = Sketch(size), []
    for seed, (kind, n, order) in enumerate(parts):
        values.append(drawn(kind, n, seed, order))
        one = sketched(values[-1], range(every, n, every), size)
        if shrunk:
            one.shrink()
        whole.merge(Sketch.of_row(one.as_row(), size))
    assert holds(whole, np.concatenate([np.empty(0), *values]))


@pytest.mark.parametrize("kinds", [("normal", "skewed"), ("tied", "tied"), ("missing", "normal"), ("one_value",) * 2])
@pytest.mark.parametrize("sizes", [(30, 40), (900, 20_000), (60_000, 50_000)], ids=str)
def test_distances_are_within_the_stated_error_of_scipys(kinds, sizes):
    one, other = (drawn(kind, n, seed) for seed, (kind, n) in enumerate(zip(kinds, sizes, strict=True)))
    found = points_apart(sketched(one, size=64).points(), sketched(other, size=64).points())
    one, other = (known(values).astype(float) for values in (one, other))
    wanted = stats.ks_2samp(one, other, method="asymp").statistic
    assert abs(found.ks - wanted) <= found.error + 1e-12
    assert (found.error > 0) == (max(sizes) >= 512)
    reach = max(one[-1], other[-1]) - min(one[0], other[0])
    assert abs(found.wasserstein - stats.wasserstein_distance(one, other)) <= found.error * reach + 1e-9
    assert (found.reference, found.current) == (len(one), len(other))
    assert found.bins.sum(axis=1).tolist() == [len(one), len(other)]
    exact = numbers_apart(one, other)
    if found.bins.shape == exact.bins.shape:
        gaps = np.abs(np.cumsum(found.bins, axis=1) / found.bins.sum(axis=1, keepdims=True)).max()
        assert gaps <= 1 + 1e-12
    for median, values in zip(found.medians, (one, other), strict=True):
        place = np.searchsorted(values, median, "right") / len(values), np.searchsorted(values, median) / len(values)
        assert place[1] - found.error - 1 / len(values) <= 0.5 <= place[0] + found.error + 1 / len(values)


def test_few_values_are_told_exactly():
    one, other = np.sort(drawn("normal", 120)), np.sort(drawn("tied", 100, 2))
    found, wanted = points_apart(sketched(one).points(), sketched(other).points()), numbers_apart(one, other)
    assert found.error == 0
    assert found.bins.tolist() == wanted.bins.tolist()
    for name in ("ks", "wasserstein", "spread", "medians"):
        assert getattr(found, name) == pytest.approx(getattr(wanted, name))


def test_a_sketch_is_small_and_its_error_too():
    """At the usual size 5M values have an error below 0.001, whose points fit a task by the hundred."""
    sketch = Sketch(8192)
    draw = np.random.default_rng(3)
    for _ in range(77):
        sketch.add(draw.normal(size=65_536).astype(np.float32))
    points = sketch.points()
    assert points.rows == 77 * 65_536
    assert points.error < 0.0006
    assert len(points.values) < 60_000
    sketch.shrink()
    assert len(sketch.points().values) <= 8192 + 16
    assert sketch.points().error < 0.001


def test_equal_values_in_equal_parts_make_equal_sketches():
    values = drawn("normal", 5000)
    one, other = (sketched(values, range(70, 5000, 70)) for _ in range(2))
    assert repr(one.as_row()) == repr(other.as_row())


def test_without_a_value_there_is_no_distance():
    some, none = sketched(drawn("normal", 50)).points(), sketched(np.full(9, np.nan, np.float32)).points()
    for one, other in ((some, none), (none, some), (none, none)):
        found = points_apart(one, other)
        assert np.isnan([found.ks, found.wasserstein]).all()
        assert found.bins.sum(axis=1).tolist() == [one.rows, other.rows]
