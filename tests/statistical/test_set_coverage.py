"""Coverage of sets of classes on exchangeable data, against its exact distribution.

As in `test_split_coverage`, whose laws and bounds these are: without ties, m new rows beside n calibration rows are
covered BetaBinomial(m, k, n + 1 - k) times. Sets by class have that law in the rows of each class, with its own n.
A map of probabilities that was fitted on other rows changes nothing of it; one that was fitted on the sets' own rows
does, and here is measured by how much. Every bound has a significance of 1e-6; seeds are fixed.
"""

from __future__ import annotations

import numpy as np
import pytest
from test_split_coverage import bounds, coverage_law, due_rank, sum_law

from assay.conformal.class_calibration import fit_classes
from assay.conformal.class_probabilities import FITS
from assay.conformal.class_sets import SET_SCORES, uniform

pytestmark = pytest.mark.statistical

NEW_ROWS, REPETITIONS = 50, 2_000
SIZES = [(20, 0.9), (60, 0.95), (100, 0.8)]
every_score = pytest.mark.parametrize("score", sorted(SET_SCORES))
every_size = pytest.mark.parametrize(("n", "level"), SIZES)


def market(rng, rows, classes):
    """Codes, and probabilities that are not those the codes come from: promises must not hang on a good model."""
    truth = rng.dirichlet(np.linspace(2, 0.6, classes), rows)
    codes = (truth.cumsum(axis=1) < rng.random((rows, 1))).sum(axis=1)
    said = truth**2 * rng.uniform(0.7, 1.3, truth.shape)
    return np.minimum(codes, classes - 1), said / said.sum(axis=1, keepdims=True)


def fitted(codes, said, draws, score, level, *, by_class=False, probability_map=None):
    labels = np.full(len(codes), "", dtype=object)
    return fit_classes(
        codes,
        said,
        labels,
        draws,
        (level,),
        score=score,
        by_class=by_class,
        probability_map=probability_map,
        min_segment_rows=1,
    )


def covered(calibration, codes, said, draws):
    """Whether each row's class is in its set, (n,)."""
    labels = np.full(len(codes), "", dtype=object)
    (sets,) = calibration.sets(calibration.calibrated(said), labels, draws)
    return sets[np.arange(len(codes)), codes]


def simulate(score, n, level, classes, seed, method=None, taught=0, reuse=False):
    """Covered rows of all repetitions. method, taught: a map of so many other rows; reuse: of the n themselves."""
    rng = np.random.default_rng(seed)
    hits = 0
    for _ in range(REPETITIONS):
        codes, said = market(rng, taught + n + NEW_ROWS, classes)
        draws = uniform(rng.integers(-(2**63), 2**63 - 1, len(codes)))  # as of rows with such ids
        own, new = slice(taught, taught + n), slice(taught + n, None)
        seen = own if reuse else slice(0, taught)
        probability_map = FITS[method](codes[seen], said[seen]) if method else None
        found = fitted(codes[own], said[own], draws[own], score, level, probability_map=probability_map)
        hits += int(covered(found, codes[new], said[new], draws[new]).sum())
    return hits


def law(n, level, repetitions=REPETITIONS):
    return bounds(sum_law(coverage_law(NEW_ROWS, n, due_rank(n, level)), repetitions))


@every_size
@every_score
@pytest.mark.parametrize("classes", [2, 6])
def test_coverage_lies_within_exact_bounds(score, n, level, classes):
    low, high = law(n, level)
    assert low <= simulate(score, n, level, classes, seed=n + classes) <= high


@every_size
def test_control_adaptive_sets_without_draws_cover_too_much_of_two_classes(n, level):
    """Every row whose likelier class did not come scores 1: a promise above the accuracy needs full sets."""
    rng, hits = np.random.default_rng(n), 0
    for _ in range(REPETITIONS):
        codes, said = market(rng, n + NEW_ROWS, 2)
        found = SET_SCORES["aps"].score(codes, said)
        found[found > 1 - 1e-12] = 1.0
        hits += int((found[n:] <= np.sort(found[:n])[due_rank(n, level) - 1]).sum())
    assert hits > law(n, level)[1]


@every_score
@pytest.mark.parametrize("level", [0.8, 0.9])
def test_every_class_keeps_the_promise_by_itself(score, level):
    """n and m differ by class and repetition; given them, each class's count has its own law."""
    rng, repetitions, classes = np.random.default_rng(5), 400, 3
    hits = np.zeros((2, classes), dtype=int)
    laws: list[list[np.ndarray]] = [[] for _ in range(classes)]
    for _ in range(repetitions):
        codes, said = market(rng, 240, classes)
        draws = uniform(rng.integers(-(2**63), 2**63 - 1, len(codes)))
        old, new = slice(0, 180), slice(180, None)
        for row, by_class in enumerate((False, True)):
            found = fitted(codes[old], said[old], draws[old], score, level, by_class=by_class)
            inside = covered(found, codes[new], said[new], draws[new])
            hits[row] += [int(inside[codes[new] == k].sum()) for k in range(classes)]
        for k in range(classes):
            n, m = int((codes[old] == k).sum()), int((codes[new] == k).sum())
            full = np.zeros(61)
            if due_rank(n, level) > n:
                full[m] = 1.0  # too few rows for a quantile: the class is in every set
            else:
                full[: m + 1] = coverage_law(m, n, due_rank(n, level))
            laws[k].append(full)
    low, high = zip(*(bounds(summed(each)) for each in laws), strict=True)
    assert (low <= hits[1]).all()
    assert (hits[1] <= high).all()
    # A control: one calibration for all covers the common class too often and the rare one too rarely.
    assert hits[0, 0] > high[0]
    assert hits[0, -1] < low[-1]


def summed(laws):
    """Distribution of the sum of independent counts with these laws, (R, m + 1)."""
    size = (len(laws[0]) - 1) * len(laws) + 1
    return np.clip(np.fft.irfft(np.prod(np.fft.rfft(np.array(laws), size, axis=1), axis=0), size), 0, None)


@every_score
def test_a_map_that_learned_from_other_rows_costs_no_coverage(score):
    n, level = 60, 0.9
    low, high = law(n, level)
    assert low <= simulate(score, n, level, 3, seed=31, method="temperature", taught=60) <= high


@pytest.mark.parametrize("method", ["isotonic", "venn_abers"])
def test_steps_make_ties_which_only_adaptive_sets_break(method):
    n, level = 60, 0.9
    low, high = law(n, level)
    assert low <= simulate("aps", n, level, 2, seed=32, method=method, taught=60) <= high
    assert simulate("lac", n, level, 2, seed=32, method=method, taught=60) > high


def test_control_isotonic_regression_of_the_sets_own_rows_breaks_the_promise():
    """Why the rows are parted: isotonic regression knows the outcomes of the rows that it has seen."""
    n, level = 60, 0.9
    assert simulate("aps", n, level, 3, seed=33, method="isotonic", reuse=True) < law(n, level)[0]
