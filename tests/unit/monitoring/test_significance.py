"""Consumes compared samples, checks their tests against SciPy's and their alarms against chance."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from scipy import stats

from assay.monitoring.samples import Apart, categories_apart, numbers_apart
from assay.monitoring.significance import adjusted, evidences, indices, ks_p, pearson


def evidence(apart, missing=(0, 0), *, numeric):
    """Of one pair alone."""
    return evidences([apart], [missing], [numeric])[0]


def pair(n, m, shift=0.0, seed=0):
    draw = np.random.default_rng(seed)
    return np.sort(draw.normal(size=n)), np.sort(draw.normal(shift, 1, m))


@pytest.mark.parametrize("sizes", [(1, 9), (20, 30), (4000, 2500), (2500, 4000)], ids=str)
def test_p_values_of_numbers_are_scipys(sizes):
    one, other = pair(*sizes, shift=0.02)
    wanted = stats.ks_2samp(one, other, method="asymp")
    found = evidence(numbers_apart(one, other), numeric=True)
    assert found.ks_p == pytest.approx(wanted.pvalue, rel=1e-9)
    assert found.p == found.ks_p
    assert np.isnan([found.chi2, found.chi2_p, found.missing_p]).all()


def test_p_values_of_categories_are_scipys():
    apart = categories_apart({"a": 40, "b": 30, "c": 9}, {"a": 20, "b": 40, "d": 5})
    wanted = stats.chi2_contingency([[40, 30, 9, 0], [20, 40, 0, 5]], correction=False)
    found = evidence(apart, numeric=False)
    assert (found.chi2, found.chi2_p) == pytest.approx((wanted.statistic, wanted.pvalue))
    assert np.isnan(found.ks_p)


def test_shares_of_missing_values_are_tested_too():
    one, other = pair(500, 480)
    wanted = stats.chi2_contingency([[500, 480], [0, 20]], correction=False)
    found = evidence(numbers_apart(one, other), (0, 20), numeric=True)
    assert found.missing_p == pytest.approx(wanted.pvalue)
    assert found.p == pytest.approx(min(1, 2 * min(found.ks_p, found.missing_p)))


def test_indices_are_those_of_their_definitions():
    psi, _, js = indices(np.array([[10, 20, 70], [30, 30, 40]]))
    p, q = np.array([0.1, 0.2, 0.7]), np.array([0.3, 0.3, 0.4])
    assert psi == pytest.approx(np.sum((q - p) * np.log(q / p)))
    middle = (p + q) / 2
    assert js**2 == pytest.approx(0.5 * np.sum(p * np.log2(p / middle)) + 0.5 * np.sum(q * np.log2(q / middle)))


def test_an_empty_bin_counts_for_half_a_row():
    psi, _, js = indices(np.array([[0, 100], [50, 50]]))
    assert psi == pytest.approx((0.5 - 0.005) * np.log(0.5 / 0.005) + (0.5 - 1) * np.log(0.5 / 1))
    assert 0 < js < 1
    assert indices(np.array([[0, 0, 7], [0, 0, 9]]))[0] == 0.0
    assert np.isnan(indices(np.array([[0, 0], [3, 4]]))).all()


def test_what_psi_is_by_chance_is_exceeded_once_in_twenty():
    draw = np.random.default_rng(5)
    over = 0
    for _ in range(1000):
        one, other = np.sort(draw.normal(size=400)), np.sort(draw.normal(size=150))
        psi, by_chance, _ = indices(numbers_apart(one, other).bins)
        over += psi > by_chance
    assert stats.binomtest(over, 1000, 0.05).pvalue > 0.001


def test_nothing_is_said_where_nothing_is_known():
    nothing = evidence(Apart(0, 0, np.zeros((2, 0), dtype=np.int64)), numeric=True)
    assert nothing.p == 1.0
    assert np.isnan([nothing.psi, nothing.js, nothing.ks_p]).all()
    assert np.isnan(pearson(np.array([[3, 4], [0, 0]]))).all()
    assert np.isnan([ks_p(np.nan, 3, 4), ks_p(1.0, 1, 1), ks_p(1.0, 0, 1)]).all()


def test_of_two_hundred_columns_without_drift_none_is_called():
    """With one in twenty each, ten would be."""
    draw = np.random.default_rng(7)
    p = [
        evidence(numbers_apart(np.sort(draw.normal(size=300)), np.sort(draw.normal(size=300))), numeric=True).p
        for _ in range(200)
    ]
    assert np.sum(np.array(p) < 0.05) >= 3
    assert not (adjusted(p) < 0.05).any()
    assert adjusted([]).shape == (0,)
    np.testing.assert_allclose(adjusted([0.01, 0.02, 0.03, 0.9]), [0.04, 0.04, 0.04, 0.9])


@pytest.mark.parametrize("n", [100, 499, 500, 2_500, 40_000, 100_000, 3_000_000])
def test_the_tail_of_smirnovs_test_is_scipys(n):
    """Where his sum is told by few of its terms, and on both sides of that."""
    d = np.sqrt(np.array([0.3, 1.0, 2.19, 2.21, 3.0, 9.0, 50.0, 300.0, 371.0]) / n)
    wanted = [stats.kstwo.sf(one, n) for one in d]
    assert ks_p(d, np.full(9, 2 * n), np.full(9, 2 * n)) == pytest.approx(wanted, rel=1e-9, abs=1e-300)


def test_the_tail_is_smirnovs_up_to_the_last_row_that_scipy_adds_up():
    assert ks_p([0.0021], [1_900_000], [1_900_000]) == pytest.approx([stats.kstwo.sf(0.0021, 950_000)], rel=1e-9)


def test_many_pairs_are_tested_as_each_would_be_alone():
    pairs = [
        numbers_apart(*pair(n, m, 0.1, seed)) for seed, (n, m) in enumerate([(900, 800), (3, 2), (0, 9), (70, 70)])
    ]
    pairs += [categories_apart({"a": 40, "b": 30}, {"a": 20, "d": 5}), categories_apart({}, {}), pairs[0]]
    missing, numeric = [(number, 2 * number) for number in range(7)], [True] * 4 + [False] * 2 + [True]
    together = evidences(pairs, missing, numeric)
    alone = [evidence(one, gone, numeric=number) for one, gone, number in zip(pairs, missing, numeric, strict=True)]
    assert repr(together) == repr(alone)


def test_where_a_distance_has_an_error_the_least_it_may_be_is_tested():
    apart = numbers_apart(*pair(4000, 4000, 0.05))
    exact = evidence(apart, numeric=True)
    told = evidence(dataclasses.replace(apart, ks=apart.ks + 0.004, error=0.004), numeric=True)
    assert told.ks_p == pytest.approx(exact.ks_p)
    assert evidence(dataclasses.replace(apart, error=0.004), numeric=True).ks_p > exact.ks_p
    assert evidence(dataclasses.replace(apart, error=1.0), numeric=True).ks_p == 1.0
