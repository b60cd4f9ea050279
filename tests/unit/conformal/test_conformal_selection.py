"""Selection between brackets gives what a sort of everything gives, whatever the sample said."""

from __future__ import annotations

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
    selection,
)

GROUPS = 3
score = st.one_of(
    st.floats(allow_nan=False), st.integers(0, 30).map(float), st.sampled_from([-np.inf, -0.0, 0.0, 1.0, np.inf])
)
rows_of = st.lists(st.tuples(st.integers(0, GROUPS - 1), score, st.sampled_from([0.0, 0.2, 0.5, 1.0])), max_size=150)


def bits(values) -> bytes:
    return np.ascontiguousarray(values, dtype=np.float64).tobytes()


@pytest.fixture
def early(monkeypatch):
    """Brackets from 16 rows on, by samples so poor that some are missed, in passes of 16 rows."""
    monkeypatch.setattr(selection, "_CHUNK", 16)
    monkeypatch.setattr(selection, "_SAMPLED", 2)
    monkeypatch.setattr(selection, "_SAMPLE_ROWS", 1)
    monkeypatch.setattr(selection, "_DEVIATIONS", 0.7)


@pytest.mark.usefixtures("early")
@given(rows_of, st.lists(st.floats(0.01, 0.99), min_size=1, max_size=4))
def test_brackets_give_what_one_group_at_a_time_gives(rows, levels):
    codes, scores, weights = (np.array(c) for c in zip(*rows, strict=True)) if rows else (np.zeros(0, int),) * 3
    plain, counts = grouped_quantiles(codes, scores, GROUPS, levels)
    weighted, _ = grouped_weighted_quantiles(codes, scores, weights, GROUPS, levels)
    for group in range(GROUPS):
        own = codes == group
        assert counts[group] == own.sum()
        assert bits(plain[group]) == bits(conformal_quantiles(scores[own], levels))
        sorted_whole = _by_sorting(scores[own], weights[own], levels)
        assert bits(weighted[group]) == bits(sorted_whole)


def _by_sorting(scores, weights, levels) -> list[float]:
    order = np.argsort(scores)
    masses = np.cumsum(np.rint(weights[order] * 2**32).astype(np.int64)).tolist()
    needed = _needed(masses[-1] if masses else 0, levels)
    return [next((scores[i] + 0.0 for i, m in zip(order, masses, strict=True) if m >= need), np.inf) for need in needed]


def _needed(total: int, levels) -> list[int]:
    return [-int(-(total + 2**32) * Fraction(str(level)) // 1) for level in levels]


@pytest.mark.usefixtures("early")
def test_both_ways_are_taken():
    """A sample that finds most brackets and misses some: else one of the two ways would go untested."""
    rng = np.random.default_rng(1)
    codes, scores = rng.integers(0, 40, 4000), rng.exponential(size=4000)
    found, shares = np.full((40, 2), np.nan), np.broadcast_to([0.8, 0.4], (40, 2))
    rows, _, hit = selection._bracketed(
        codes, scores, None, 40, lambda rows: rows[:, None] * [4, 2] // 5, shares, found
    )
    assert rows.tolist() == np.bincount(codes).tolist()
    assert 8 < hit.sum() < 80
    assert (np.isnan(found) == ~hit).all()


@pytest.mark.parametrize("kind", ["exponential", "cauchy", "ties", "sorted", "infinite"])
def test_a_million_rows(kind):
    rng = np.random.default_rng(7)
    n, groups, levels = 1_000_000, 300, (0.9, 0.5, 0.8)
    scores = {
        "exponential": lambda: rng.exponential(size=n),
        "cauchy": lambda: rng.standard_cauchy(n),
        "ties": lambda: rng.integers(0, 4, n).astype(float),
        "sorted": lambda: np.arange(n, dtype=float),
        "infinite": lambda: np.where(rng.random(n) < 0.7, rng.choice([-np.inf, np.inf], n), rng.random(n)),
    }[kind]()
    codes = np.minimum(rng.geometric(0.01, n) - 1, groups - 1)  # groups of 10,000 rows and of none
    found, counts = grouped_quantiles(codes, scores, groups, levels)
    weights = exponential_weights(rng.integers(0, 400, n), 60)
    weighted, _ = grouped_weighted_quantiles(codes, scores, weights, groups, levels)
    for group in (0, 1, 7, 60, 200, groups - 2, groups - 1):
        own = codes == group
        assert bits(found[group]) == bits(conformal_quantiles(scores[own], levels))
        assert bits(weighted[group]) == bits(_by_sorting(scores[own], weights[own], levels))
    assert counts.sum() == n
