"""Consumes pairs of samples, checks that their distances are SciPy's and those of the definitions."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import stats

from assay.monitoring.samples import (
    BINS,
    MOST_CATEGORIES,
    area_between,
    categories_apart,
    decile_edges,
    largest_distance,
    new_categories,
    numbers_apart,
)

pytestmark = pytest.mark.filterwarnings("ignore:divide by zero")  # SciPy's, of its p-value of one row and one
SAMPLES = {
    "normal": (lambda r, n: r.normal(size=n), lambda r, n: r.normal(0.3, 1.5, n)),
    "tied": (lambda r, n: r.integers(0, 6, n), lambda r, n: r.integers(1, 9, n)),
    "one_value": (lambda r, n: np.zeros(n), lambda r, n: np.zeros(n)),
    "apart": (lambda r, n: r.random(n), lambda r, n: 5 + r.random(n)),
    "skewed": (lambda r, n: r.lognormal(size=n), lambda r, n: r.lognormal(0.1, 1, n)),
}


def drawn(kind, n, m, dtype=np.float32, seed=3):
    draw = np.random.default_rng(seed)
    return tuple(np.sort(make(draw, size).astype(dtype)) for make, size in zip(SAMPLES[kind], (n, m), strict=True))


@pytest.mark.parametrize("sizes", [(1, 1), (1, 7), (400, 400), (1000, 37), (37, 1000), (2500, 1999)], ids=str)
@pytest.mark.parametrize("kind", SAMPLES)
def test_statistics_of_numbers_are_scipys(kind, sizes):
    one, other = drawn(kind, *sizes)
    found = numbers_apart(one, other)
    wide = one.astype(float), other.astype(float)  # newer versions of SciPy answer in float32
    assert found.ks == pytest.approx(stats.ks_2samp(*wide, method="asymp").statistic, abs=1e-12)
    wanted = stats.wasserstein_distance(*wide)
    assert found.wasserstein == pytest.approx(wanted, rel=1e-9, abs=1e-12)
    assert found.spread == pytest.approx(np.std(one.astype(float)))
    assert found.medians == pytest.approx((np.median(one.astype(float)), np.median(other.astype(float))))
    assert (found.reference, found.current) == sizes
    assert found.bins.sum(axis=1).tolist() == list(sizes)


values = arrays(np.float64, st.integers(1, 40), elements=st.integers(-3, 3).map(float) | st.floats(-1e6, 1e6))


@settings(max_examples=150, deadline=None)
@given(values, values)
def test_any_two_samples_are_as_far_apart_as_scipy_says(one, other):
    one, other = np.sort(one), np.sort(other)
    assert largest_distance(one, other) == pytest.approx(
        stats.ks_2samp(one, other, method="asymp").statistic, abs=1e-12
    )
    assert area_between(one, other) == pytest.approx(stats.wasserstein_distance(one, other), rel=1e-7, abs=1e-7)
    assert largest_distance(one, other) == pytest.approx(largest_distance(other, one), abs=1e-12)
    assert largest_distance(one, one) == 0.0
    assert area_between(one, one) == 0.0


def test_bins_are_the_references_deciles():
    one, other = drawn("normal", 1000, 500)
    found = numbers_apart(one, other)
    assert found.bins[0].tolist() == [100] * BINS
    edges = np.quantile(one, np.arange(1, BINS) / BINS, method="inverted_cdf")
    np.testing.assert_array_equal(decile_edges(one), edges)
    wanted, _ = np.histogram(-other, np.concatenate([[-np.inf], -edges[::-1], [np.inf]]))  # closed above, not below
    assert found.bins[1].tolist() == wanted[::-1].tolist()


def test_ties_make_fewer_bins_and_no_empty_one():
    one = np.sort(np.repeat([0.0, 1.0, 2.0], [700, 200, 100]))
    found = numbers_apart(one, np.array([-5.0, 0.5, 9.0]))
    assert found.bins.tolist() == [[700, 200, 100], [1, 1, 1]]


def test_a_constant_that_moves_is_in_another_bin():
    """One bin alone would say that nothing changed."""
    constant = np.full(9, 2.5, dtype=np.float32)
    found = numbers_apart(constant, np.array([0.0, 2.5, 2.6], dtype=np.float32))
    assert found.bins.tolist() == [[0, 9, 0], [1, 1, 1]]
    assert found.ks == pytest.approx(1 / 3)


def test_a_sample_without_values_has_bins_and_no_distance():
    some, none = np.arange(20.0), np.empty(0)
    for one, other in ((some, none), (none, some), (none, none)):
        found = numbers_apart(one, other)
        assert np.isnan([found.ks, found.wasserstein]).all()
        assert found.bins.sum(axis=1).tolist() == [len(one), len(other)]


def test_categories_are_counted_side_by_side():
    found = categories_apart({"a": 5, "b": 9}, {"b": 2, "c": 4, "d": 1})
    assert found.bins.tolist() == [[9, 5, 0, 0], [2, 0, 4, 1]]
    assert (found.reference, found.current, found.new) == (14, 7, 5)
    assert new_categories({"a": 5}, {"b": 1, "c": 4, "a": 9}, 1) == ["c"]
    assert categories_apart({}, {}).bins.shape == (2, 0)


def test_rare_categories_share_a_bin():
    many = {f"{number:05d}": number + 1 for number in range(MOST_CATEGORIES + 50)}
    found = categories_apart(many, {"00000": 7, "new": 2})
    assert found.bins.shape == (2, MOST_CATEGORIES)
    assert found.bins[0, -1] == sum(range(1, 52))
    assert found.bins[1, -1] == 9
    assert found.bins[0].sum() == sum(many.values())


@pytest.mark.parametrize("sizes", [(60_000, 41_000), (41_000, 60_000), (50_000, 50_000), (90_000, 300)], ids=str)
@pytest.mark.parametrize("kind", SAMPLES)
def test_of_many_rows_too_statistics_are_scipys(kind, sizes):
    one, other = drawn(kind, *sizes)
    found = numbers_apart(one, other)
    wide = one.astype(float), other.astype(float)
    assert found.ks == pytest.approx(stats.ks_2samp(*wide, method="asymp").statistic, abs=1e-15)
    wanted = stats.wasserstein_distance(*wide)
    assert found.wasserstein == pytest.approx(wanted, rel=1e-9, abs=1e-12)
    assert found.spread == pytest.approx(np.std(one.astype(float)), rel=1e-12)


def test_the_largest_distance_is_found_wherever_it_is():
    """Between two values of the grid too, by a step that no other value of the column shows."""
    one = np.arange(40_000.0)
    for place in (0, 1, 17, 20_001, 39_998):
        other = np.sort(np.concatenate([one[: len(one) - 700], np.full(700, one[place] + 0.25)]))
        wanted = stats.ks_2samp(one, other, method="asymp").statistic
        assert largest_distance(one, other) == pytest.approx(wanted, abs=1e-15)
        assert largest_distance(other, one) == pytest.approx(wanted, abs=1e-15)


def test_a_large_mean_costs_no_digits():
    one = np.sort(np.random.default_rng(1).normal(1e9, 1, 30_000))
    assert numbers_apart(one, one).spread == pytest.approx(np.std(one), rel=1e-9)
