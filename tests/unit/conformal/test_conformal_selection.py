"""Selection by cells gives what a sort of everything gives, whatever the sample said."""

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
    """Cells from 16 rows on, by samples so poor that some scores lie outside of them, in passes of 16 rows."""
    monkeypatch.setattr(selection, "_CHUNK", 16)
    monkeypatch.setattr(selection, "_COUNTED", 32)
    monkeypatch.setattr(selection, "_CELLS", 5)
    monkeypatch.setattr(selection, "_SAMPLED", 2)
    monkeypatch.setattr(selection, "_SAMPLE_ROWS", 1)
    monkeypatch.setattr(selection, "_DEVIATIONS", 0.7)


@pytest.mark.usefixtures("early")
@given(rows_of, st.lists(st.floats(0.01, 0.99), min_size=1, max_size=4))
def test_cells_give_what_one_group_at_a_time_gives(rows, levels):
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


@pytest.fixture
def sorted_rows(monkeypatch):
    """How many rows were sorted, call by call."""
    found, sort = [], selection._at_masses
    monkeypatch.setattr(selection, "_at_masses", lambda *args: found.append(len(args[1])) or sort(*args))
    return found


@pytest.mark.usefixtures("early")
def test_scores_are_found_between_the_outer_cells_and_in_them(monkeypatch):
    """A sample that brackets most of the wanted scores and misses some: else one of the two would go untested."""
    rng, places, outer = np.random.default_rng(1), [], 6
    codes, scores = rng.integers(0, 40, 4000), rng.exponential(size=4000)
    cells = selection._cells
    monkeypatch.setattr(selection, "_cells", lambda *args: places.append(cells(*args)) or places[-1])
    found, _ = grouped_quantiles(codes, scores, 40, (0.8, 0.4))
    at = [places[0][(codes == g) & (scores == found[g, k])][0] % 7 for g in range(40) for k in range(2)]
    assert {0, outer} & set(at)
    assert sum(0 < place < outer for place in at) > 40


@pytest.mark.parametrize("weighted", [False, True])
def test_few_rows_are_sorted(weighted, sorted_rows):
    rng = np.random.default_rng(2)
    codes, age = rng.integers(0, 100, 1_000_000), rng.integers(0, 365, 1_000_000)
    scores = rng.exponential(size=1_000_000) * (1 + 3 * (age < 60))  # the newest rows err more
    if weighted:
        grouped_weighted_quantiles(codes, scores, exponential_weights(age, 30), 100, (0.8, 0.9))
    else:
        grouped_quantiles(codes, scores, 100, (0.8, 0.9))
    assert len(sorted_rows) == 1
    assert sorted_rows[0] < 30_000


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
