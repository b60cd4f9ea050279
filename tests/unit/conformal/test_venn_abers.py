"""Consumes scores and outcomes, checks Venn-Abers pairs against refits of scikit-learn's isotonic regression."""

from __future__ import annotations

import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.isotonic import IsotonicRegression

from assay.conformal.venn_abers import fit_venn_abers

# Few distinct scores, so that there are ties; new scores fall on them, between them and beyond them.
calibration = st.lists(st.tuples(st.integers(0, 12), st.booleans()), min_size=1, max_size=25)


def naive(scores, outcomes, new):
    """By definition: two isotonic regressions for every new score."""
    fits = ([IsotonicRegression().fit([*scores, s], [*outcomes, o]).predict([s])[0] for s in new] for o in (0, 1))
    return tuple(map(np.array, fits))


@given(calibration)
def test_the_pair_is_that_of_refits(rows):
    scores, outcomes = np.array([s for s, _ in rows], dtype=float), np.array([float(o) for _, o in rows])
    new = np.arange(-0.5, 13, 0.5)
    for found, expected in zip(fit_venn_abers(scores, outcomes).pair(new), naive(scores, outcomes, new), strict=True):
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-12)


@given(calibration)
def test_the_probability_rises_with_the_score_and_is_never_sure(rows):
    pair = fit_venn_abers([s for s, _ in rows], [o for _, o in rows])
    p0, p1 = pair.pair(np.arange(-0.5, 13, 0.5))
    assert (p0 < p1).all()
    assert (np.diff(p0) >= 0).all()
    assert (np.diff(p1) >= 0).all()
    found = pair.probability(np.arange(-0.5, 13, 0.5))
    assert (found > 0).all()
    assert (found < 1).all()
    assert (np.diff(found) >= -1e-15).all()


def test_one_of_the_two_is_calibrated_whatever_the_scores_say():
    """Vovk and Petej 2014, theorem 1: choose p0 where the outcome is 0 and p1 where it is 1; that is calibrated."""
    random = np.random.default_rng(3)
    sums = np.zeros(3)
    for _ in range(400):
        truth = random.random(80)
        outcomes = (random.random(80) < truth).astype(float)
        scores = truth**3  # far from the truth
        p0, p1 = fit_venn_abers(scores[:-1], outcomes[:-1]).pair(scores[-1:])
        right = p1[0] if outcomes[-1] else p0[0]
        sums += [right, outcomes[-1], scores[-1]]
    assert sums[0] == pytest.approx(sums[1], abs=4 * np.sqrt(400 * 0.2))
    assert abs(sums[2] - sums[1]) > 80  # a control: the scores are not


def test_a_million_rows_take_seconds_and_few_steps():
    random = np.random.default_rng(0)
    scores = random.random(300_000)
    started = time.perf_counter()
    pair = fit_venn_abers(scores, random.random(300_000) < scores)
    assert time.perf_counter() - started < 20
    assert len(pair.low.at) + len(pair.high.at) < 10_000
    np.testing.assert_allclose(pair.probability(np.linspace(0.05, 0.95, 19)), np.linspace(0.05, 0.95, 19), atol=0.03)


@pytest.mark.parametrize(
    ("scores", "outcomes"), [([], []), ([1.0], [0.0, 1.0]), ([np.nan], [1.0]), ([0.5], [2.0]), ([[0.5]], [[1.0]])]
)
def test_what_is_no_calibration_set_is_refused(scores, outcomes):
    with pytest.raises(ValueError, match=r"do not fit|must be numbers"):
        fit_venn_abers(scores, outcomes)
