"""Weighted conformal quantiles against their definition in fractions, and against the unweighted ones."""

from __future__ import annotations

import itertools
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from assay.conformal import (
    conformal_quantiles,
    exponential_weights,
    grouped_quantiles,
    grouped_weighted_quantiles,
    weighted_quantiles,
)

GROUPS = 6
few_values = st.sampled_from([-np.inf, -1.5, -0.0, 0.0, 0.1, 0.1, 2.0, np.inf])  # ties are the rule here
score = st.one_of(st.floats(allow_nan=False), few_values)
weight = st.one_of(st.sampled_from([0.0, 0.25, 0.5, 1.0]), st.floats(0, 1), st.floats(0, 1e-9))
level = st.one_of(st.integers(1, 99).map(lambda percent: percent / 100), st.floats(0.001, 0.999))
any_level = st.one_of(level, st.sampled_from([-np.inf, -0.2, 0.0, 1.0, 1.3, np.inf]))
weighted_rows = st.lists(st.tuples(st.integers(0, GROUPS - 2), score, weight), max_size=60)  # the last group is empty


def by_definition(scores, weights, wanted: float) -> float:
    """inf {t : mass of scores <= t >= level * (all mass + 1)}, in fractions, weights at their 32 binary places."""
    if wanted <= 0:
        return -np.inf
    if wanted >= 1:
        return np.inf
    masses = [Fraction(round(Fraction(w) * 2**32), 2**32) for w in weights]
    enough = Fraction(str(wanted)) * (sum(masses) + 1)
    for t in sorted(scores):
        if sum(m for s, m in zip(scores, masses, strict=True) if s <= t) >= enough:
            return t + 0.0
    return np.inf


def bits(values) -> bytes:
    return np.ascontiguousarray(values, dtype=np.float64).tobytes()


def columns(rows) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    codes, scores, weights = zip(*rows, strict=True) if rows else ((), (), ())
    return np.array(codes, dtype=np.int64), np.array(scores, dtype=np.float64), np.array(weights, dtype=np.float64)


@given(weighted_rows, st.lists(any_level, min_size=1, max_size=4))
def test_every_group_and_level_is_the_definition_to_the_bit(rows, levels):
    codes, scores, weights = columns(rows)
    found, counts = grouped_weighted_quantiles(codes, scores, weights, GROUPS, levels)
    assert found.shape == (GROUPS, len(levels))
    assert counts.tolist() == [int((codes == g).sum()) for g in range(GROUPS)]
    for g in range(GROUPS):
        own = codes == g
        assert bits(found[g]) == bits([by_definition(scores[own], weights[own], one) for one in levels])


@given(weighted_rows, st.lists(st.tuples(any_level, any_level), min_size=GROUPS, max_size=GROUPS))
def test_levels_of_each_group_are_those_of_one_group_at_a_time(rows, levels):
    codes, scores, weights = columns(rows)
    found, _ = grouped_weighted_quantiles(codes, scores, weights, GROUPS, levels)
    for g in range(GROUPS):
        own = codes == g
        assert bits(found[g]) == bits(weighted_quantiles(scores[own], weights[own], levels[g]))


@given(weighted_rows, st.lists(level, min_size=1, max_size=4))
def test_weights_of_one_are_the_plain_quantiles_to_the_bit(rows, levels):
    codes, scores, _ = columns(rows)
    found, counts = grouped_weighted_quantiles(codes, scores, np.ones(len(codes)), GROUPS, levels)
    plain, plain_counts = grouped_quantiles(codes, scores, GROUPS, levels)
    assert bits(found) == bits(plain)
    assert counts.tolist() == plain_counts.tolist()


@given(weighted_rows, st.lists(level, min_size=1, max_size=4), st.randoms(use_true_random=False))
def test_order_of_rows_does_not_matter(rows, levels, random):
    shuffled = list(rows)
    random.shuffle(shuffled)
    one, other = (grouped_weighted_quantiles(*columns(r), GROUPS, levels)[0] for r in (rows, shuffled))
    assert bits(one) == bits(other)


@given(weighted_rows, st.lists(any_level, min_size=2, max_size=5))
def test_quantiles_rise_with_the_level(rows, levels):
    found, _ = grouped_weighted_quantiles(*columns(rows), GROUPS, sorted(levels))
    assert all((low <= high).all() for low, high in itertools.pairwise(found.T))


@given(weighted_rows, level)
def test_a_row_of_no_weight_is_as_good_as_none(rows, wanted):
    codes, scores, weights = columns(rows)
    kept = weights > 2.0**-34
    one, _ = grouped_weighted_quantiles(codes, scores, np.where(kept, weights, 0.0), GROUPS, (wanted,))
    other, _ = grouped_weighted_quantiles(codes[kept], scores[kept], weights[kept], GROUPS, (wanted,))
    assert bits(one) == bits(other)


def test_many_rows_in_many_groups_at_once():
    rng = np.random.default_rng(5)
    groups, n = 70_000, 400_000  # more groups than the radix sort takes
    codes, scores = rng.integers(0, groups, n), rng.exponential(size=n)
    weights = exponential_weights(rng.integers(0, 900, n), 30)
    found, counts = grouped_weighted_quantiles(codes, scores, weights, groups, (0.5, 0.8))
    assert counts.sum() == n
    for group in (0, 1, 65_535, 65_536, groups - 1, int(np.argmax(counts))):
        own = codes == group
        assert bits(found[group]) == bits([by_definition(scores[own], weights[own], one) for one in (0.5, 0.8)])


def test_a_row_s_weight_halves_with_every_half_life():
    assert exponential_weights([0, 30, 60, 15], 30).tolist() == [1.0, 0.5, 0.25, 2**-0.5]
    assert exponential_weights(np.zeros((2, 3)), 1).shape == (2, 3)


def test_known_weighted_quantiles():
    """Of mass 1 + 0.5 + 0.5 and the new row's 1, half is 1.5: scores up to 2 have it, of the first alone only 1."""
    assert weighted_quantiles([1, 2, 3], [1, 0.5, 0.5], [0.5, 1 / 3, 0.66, 0.67]).tolist() == [2, 1, 3, np.inf]


def test_recent_rows_decide():
    """Errors doubled of late: weights by age see the new ones, plain quantiles the mean of both."""
    ages = np.arange(200)
    scores = np.where(ages < 50, 2.0, 1.0) + ages / 1e4
    assert conformal_quantiles(scores, (0.5,))[0] < 1.1
    assert weighted_quantiles(scores, exponential_weights(ages, 20), (0.5,))[0] > 2.0


def test_input_is_left_as_it_was():
    codes, scores, weights = np.array([1, 0, 1]), np.array([3.0, 1.0, 2.0]), np.array([0.5, 1.0, 0.25])
    grouped_weighted_quantiles(codes, scores, weights, 2, (0.5,))
    assert (codes.tolist(), scores.tolist(), weights.tolist()) == ([1, 0, 1], [3.0, 1.0, 2.0], [0.5, 1.0, 0.25])


def test_no_rows_and_no_groups():
    assert np.isposinf(weighted_quantiles([], [], (0.1, 0.9))).all()
    assert grouped_weighted_quantiles([], [], [], 0, (0.5,))[0].shape == (0, 1)


@pytest.mark.parametrize(
    ("codes", "scores", "weights", "levels", "message"),
    [
        ([0, 2], [1.0, 2.0], [1, 1], (0.5,), "codes run from 0 to 2, but there are 2 groups"),
        ([0], [1.0, 2.0], [1, 1], (0.5,), r"codes have shape \(1,\) for 2 scores"),
        ([0, 1], [1.0, np.nan], [1, 1], (0.5,), "1 of 2 conformity scores are NaN"),
        ([0, 1], [1.0, 2.0], [1], (0.5,), r"weights have shape \(1,\) for 2 scores"),
        ([0, 1], [1.0, 2.0], [1, 1.5], (0.5,), "1 of 2 weights lie outside 0 to 1"),
        ([0, 1], [1.0, 2.0], [-0.1, np.nan], (0.5,), "2 of 2 weights lie outside 0 to 1"),
        ([0, 1], [1.0, 2.0], [1, 1], (0.5, np.nan), "1 of 2 levels are NaN"),
        ([0, 1], [1.0, 2.0], [1, 1], [[0.5], [0.5], [0.5]], r"levels must be \(levels,\) or \(2, levels\)"),
        ([0, 1], [1.0, 2.0], [1, 1], 0.5, "levels must be"),
    ],
)
def test_wrong_arrays_are_refused(codes, scores, weights, levels, message):
    with pytest.raises(ValueError, match=message):
        grouped_weighted_quantiles(codes, scores, weights, 2, levels)


@pytest.mark.parametrize(
    ("ages", "halflife", "message"),
    [
        ([1, -1], 30, "1 of 2 ages are negative or NaN"),
        ([np.nan], 30, "1 of 1 ages"),
        ([1], 0, "halflife_days must be above 0, found 0"),
    ],
)
def test_wrong_ages_are_refused(ages, halflife, message):
    with pytest.raises(ValueError, match=message):
        exponential_weights(ages, halflife)
