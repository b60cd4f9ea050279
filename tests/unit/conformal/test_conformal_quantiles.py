"""The conformal quantile against its definition, and groups against one group at a time."""

from __future__ import annotations

import itertools
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from assay.conformal import (
    conformal_quantile,
    conformal_quantiles,
    conformal_rank,
    grouped_quantiles,
    minimum_rows,
)

any_float = st.floats(allow_nan=False)
few_values = st.sampled_from([-np.inf, -1.5, -0.0, 0.0, 0.1, 0.1, 2.0, np.inf])  # ties are the rule here
score_lists = st.one_of(st.lists(any_float, max_size=40), st.lists(few_values, max_size=40))
levels = st.one_of(
    st.integers(1, 99).map(lambda percent: percent / 100),
    st.integers(1, 999).map(lambda permille: float(f"0.{permille:03d}")),
    st.floats(min_value=0.001, max_value=0.999),
)
level_lists = st.lists(levels, min_size=1, max_size=5)


def by_definition(scores: list[float], level: float) -> float:
    """inf {t : (number of scores <= t) / (n + 1) >= level}, in fractions; the point n + 1 lies at infinity."""
    for t in sorted(scores):
        if Fraction(sum(s <= t for s in scores), len(scores) + 1) >= Fraction(str(level)):
            return t
    return np.inf


def bits(values: np.ndarray) -> bytes:
    return np.ascontiguousarray(values, dtype=np.float64).tobytes()


@given(score_lists, levels)
def test_quantile_is_the_definition(scores, level):
    assert conformal_quantile(scores, level) == by_definition(scores, level)


@given(score_lists, level_lists)
def test_one_partial_sort_serves_all_levels(scores, wanted):
    together = conformal_quantiles(scores, wanted)
    assert together.shape == (len(wanted),)
    assert together.dtype == np.float64
    assert bits(together) == bits(np.array([conformal_quantile(scores, level) for level in wanted]))


@given(score_lists, level_lists)
def test_quantiles_rise_with_the_level(scores, wanted):
    rising = conformal_quantiles(scores, sorted(wanted))
    assert all(low <= high for low, high in itertools.pairwise(rising))


@given(score_lists, levels, st.randoms(use_true_random=False))
def test_order_of_rows_does_not_matter(scores, level, random):
    shuffled = list(scores)
    random.shuffle(shuffled)
    assert bits(conformal_quantiles(scores, [level])) == bits(conformal_quantiles(shuffled, [level]))


@given(
    st.lists(st.tuples(st.integers(0, 6), st.one_of(any_float, few_values)), max_size=80),
    level_lists,
    st.sampled_from([np.int64, np.int16, np.uint8]),
)
def test_groups_equal_one_group_at_a_time_to_the_bit(rows, wanted, kind):
    codes = np.array([code for code, _ in rows], dtype=kind)
    scores = np.array([score for _, score in rows], dtype=np.float64)
    quantiles, counts = grouped_quantiles(codes, scores, 8, wanted)
    assert quantiles.shape == (8, len(wanted))
    assert counts.tolist() == [int(np.sum(codes == group)) for group in range(8)]
    for group in range(8):
        assert bits(quantiles[group]) == bits(conformal_quantiles(scores[codes == group], wanted))


def test_more_groups_than_the_radix_sort_takes():
    rng = np.random.default_rng(3)
    groups = 70_000
    codes, scores = rng.integers(0, groups, 200_000), rng.exponential(size=200_000)
    quantiles, counts = grouped_quantiles(codes, scores, groups, (0.5, 0.8))
    assert counts.sum() == 200_000
    for group in (0, 1, 65_535, 65_536, groups - 1, int(np.argmax(counts))):
        assert bits(quantiles[group]) == bits(conformal_quantiles(scores[codes == group], (0.5, 0.8)))


def test_input_is_left_as_it_was():
    scores, codes = np.array([3.0, 1.0, 2.0, 0.5]), np.array([1, 0, 1, 0])
    conformal_quantiles(scores, (0.5, 0.8))
    grouped_quantiles(codes, scores, 2, (0.5,))
    assert scores.tolist() == [3.0, 1.0, 2.0, 0.5]
    assert codes.tolist() == [1, 0, 1, 0]


def test_rank_is_exact_where_floating_point_is_not():
    cases = [(n, Fraction(p, 1000)) for n in range(1, 400) for p in (1, 70, 290, 550, 570, 580, 700, 900, 950, 999)]
    wrong = 0
    for n, level in cases:
        exact = -(-(n + 1) * level // 1)
        assert conformal_rank(n, float(level)) == exact
        wrong += int(np.ceil((n + 1) * float(level))) != exact
    assert wrong > 0, "the cases must hold some that plain floating point gets wrong, or they prove nothing"


@pytest.mark.parametrize(
    ("n", "level", "rank"), [(9, 0.9, 9), (10, 0.9, 10), (99, 0.8, 80), (99, 0.07, 7), (0, 0.5, 1)]
)
def test_known_ranks(n, level, rank):
    assert conformal_rank(n, level) == rank


def test_rank_takes_the_shortest_text_of_any_float_type():
    assert conformal_rank(9, np.float64(0.9)) == 9
    assert conformal_rank(9, np.float32(0.9)) == 9


@given(levels)
def test_minimum_rows_is_where_quantiles_become_finite(level):
    rows = minimum_rows(level)
    assert np.isfinite(conformal_quantile(np.ones(rows), level))
    assert np.isposinf(conformal_quantile(np.ones(rows - 1), level))


@pytest.mark.parametrize(("level", "rows"), [(0.5, 1), (0.8, 4), (0.9, 9), (0.95, 19), (0.99, 99), (0.975, 39)])
def test_known_minimum_rows(level, rows):
    assert minimum_rows(level) == rows


def test_one_row():
    assert conformal_quantile([7.0], 0.5) == 7.0
    assert np.isposinf(conformal_quantile([7.0], 0.51))


def test_no_rows_promise_nothing():
    assert np.isposinf(conformal_quantiles([], (0.1, 0.9))).all()
    quantiles, counts = grouped_quantiles(np.array([], dtype=int), [], 2, (0.5, 0.9))
    assert np.isposinf(quantiles).all()
    assert counts.tolist() == [0, 0]
    assert grouped_quantiles([], [], 0, (0.5,))[0].shape == (0, 1)


def test_ties_of_signed_zeros_have_one_bit_pattern():
    assert bits(conformal_quantiles([0.0, -0.0, -0.0], [0.5])) == bits(np.array([0.0]))


def test_nan_scores_are_counted():
    with pytest.raises(ValueError, match=r"2 of 4 conformity scores are NaN"):
        conformal_quantile([1.0, np.nan, 2.0, np.nan], 0.5)
    with pytest.raises(ValueError, match=r"1 of 2 conformity scores are NaN"):
        grouped_quantiles([0, 1], [1.0, np.nan], 2, (0.5,))


@pytest.mark.parametrize("level", [0.0, 1.0, -0.1, 90, float("nan"), float("inf"), True, "most"])
def test_levels_outside_the_unit_interval_are_refused(level):
    for call in (
        lambda: conformal_rank(10, level),
        lambda: minimum_rows(level),
        lambda: conformal_quantile([1.0], level),
        lambda: grouped_quantiles([0], [1.0], 1, (level,)),
    ):
        with pytest.raises(ValueError, match="level"):
            call()


@pytest.mark.parametrize(
    ("codes", "scores", "message"),
    [
        ([0, 2], [1.0, 2.0], "codes run from 0 to 2, but there are 2 groups"),
        ([-1, 0], [1.0, 2.0], "codes run from -1"),
        ([0], [1.0, 2.0], r"codes have shape \(1,\) for 2 scores"),
        ([0.0, 1.0], [1.0, 2.0], "codes must be integers, found float64"),
        ([0, 1], [[1.0, 2.0]], "scores must be one-dimensional"),
    ],
)
def test_wrong_arrays_are_refused(codes, scores, message):
    with pytest.raises(ValueError, match=message):
        grouped_quantiles(codes, scores, 2, (0.5,))


def test_negative_rows_are_refused():
    with pytest.raises(ValueError, match="-1 rows"):
        conformal_rank(-1, 0.5)
