"""Coverage of split conformal intervals on exchangeable data, against its exact distribution.

Without ties, m new rows beside n calibration rows are covered BetaBinomial(m, k, n + 1 - k) times, where
k = ceil((n + 1) * level) (Vovk 2012). Independent repetitions add up, so the distribution of their sum is that law's
R-fold convolution, and the bounds below are its exact quantiles: nothing is approximated by a normal. Every bound is
two-sided at a significance of 1e-6, so a right implementation fails a fresh seed once in a million; seeds are fixed,
so it fails never or always.

Power, computed from the same distributions and asserted below: each bound on the sum rejects the uncorrected quantile
(k = ceil(n * level)) with probability above 1 - 1e-9 at every size that is tested, and the bound on the spread
rejects a calibration of 12 rows where 400 were due with probability above 1 - 1e-9.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction

import numpy as np
import pytest
from scipy import stats

from assay.conformal import ALL_ROWS, SCORES, Calibration, Forecast, conformal_quantile, fit

pytestmark = pytest.mark.statistical

SIGNIFICANCE = 1e-6
REPETITIONS, NEW_ROWS = 4000, 50
SIZES = [(10, 0.8), (20, 0.9), (60, 0.95), (100, 0.9)]  # here ceil(n * level) is one rank below ceil((n + 1) * level)
every_size = pytest.mark.parametrize(("n", "level"), SIZES)
ABSOLUTE = SCORES["absolute"]


def due_rank(n: int, level: float) -> int:
    """The rank that the theorem asks for; not taken from the product, which is what stands trial here."""
    return math.ceil((n + 1) * Fraction(str(level)))


def coverage_law(m: int, n: int, k: int) -> np.ndarray:
    """P(c of m new rows are covered), c = 0 .. m."""
    return stats.betabinom(m, k, n + 1 - k).pmf(np.arange(m + 1))


def sum_law(law: np.ndarray, repetitions: int) -> np.ndarray:
    """Distribution of the sum of independent repetitions: the law's convolution with itself, by Fourier transform."""
    size = (len(law) - 1) * repetitions + 1
    return np.clip(np.fft.irfft(np.fft.rfft(law, size) ** repetitions, size), 0, None)


def bounds(law: np.ndarray, tail: float = SIGNIFICANCE / 2) -> tuple[int, int]:
    """Least and largest count that are not in a tail of at most `tail` probability."""
    return int(np.argmax(np.cumsum(law) > tail)), len(law) - 1 - int(np.argmax(np.cumsum(law[::-1]) > tail))


def outside(law: np.ndarray, low: int, high: int) -> float:
    return float(law[:low].sum() + law[high + 1 :].sum())


def uncorrected_quantile(scores: np.ndarray, level: float) -> float:
    """The mutant: the plain empirical quantile, ceil(n * level)-th smallest, without the row that is yet to come."""
    return float(np.sort(scores)[math.ceil(len(scores) * level - 1e-9) - 1])


def market(rng: np.random.Generator, rows: int) -> tuple[np.ndarray, np.ndarray]:
    """Predictions and heavy-tailed outcomes, (rows,). All share one shift and scale: exchangeable, not independent."""
    prediction = rng.normal(12, 1, rows)
    return prediction, prediction + rng.normal() + math.exp(rng.normal()) * rng.standard_t(3, rows)


def covered(prediction: np.ndarray, y: np.ndarray, quantile: np.ndarray | float) -> int:
    found = np.broadcast_to(np.asarray(quantile, dtype=np.float64), y.shape)[:, None]
    lower, upper = ABSOLUTE.interval(Forecast.of(prediction), found, ())
    return int(((y[:, None] >= lower) & (y[:, None] <= upper)).sum())


def simulate(n: int, level: float, quantile: Callable[[np.ndarray, float], float], seed: int) -> np.ndarray:
    """Covered rows among `NEW_ROWS` in each repetition, (REPETITIONS,)."""
    rng = np.random.default_rng(seed)
    counts = np.empty(REPETITIONS, dtype=int)
    for repetition in range(REPETITIONS):
        prediction, y = market(rng, n + NEW_ROWS)
        scores = ABSOLUTE.score(y[:n], Forecast.of(prediction[:n]), ())[:, 0]
        counts[repetition] = covered(prediction[n:], y[n:], quantile(scores, level))
    return counts


@every_size
def test_coverage_lies_within_exact_bounds(n, level):
    low, high = bounds(sum_law(coverage_law(NEW_ROWS, n, due_rank(n, level)), REPETITIONS))
    assert low <= simulate(n, level, conformal_quantile, seed=n).sum() <= high
    assert low >= level * NEW_ROWS * REPETITIONS * 0.99, "bounds this tight are what makes the test worth running"


@every_size
def test_control_the_uncorrected_quantile_is_rejected(n, level):
    low, _ = bounds(sum_law(coverage_law(NEW_ROWS, n, due_rank(n, level)), REPETITIONS))
    assert simulate(n, level, uncorrected_quantile, seed=n).sum() < low


@every_size
def test_power_against_the_uncorrected_quantile(n, level):
    k = due_rank(n, level)
    low, high = bounds(sum_law(coverage_law(NEW_ROWS, n, k), REPETITIONS))
    mutant = sum_law(coverage_law(NEW_ROWS, n, k - 1), REPETITIONS)
    assert outside(mutant, low, high) > 1 - 1e-9


@every_size
def test_spread_between_calibration_sets_is_the_law_s_own(n, level):
    """Not only the mean: repetitions outside the law's central 95 % are as many as the law says."""
    law = coverage_law(NEW_ROWS, n, due_rank(n, level))
    low, high = bounds(law, tail=0.025)
    counts = simulate(n, level, conformal_quantile, seed=1000 + n)
    strays = int(((counts < low) | (counts > high)).sum())
    fewest, most = stats.binom(REPETITIONS, outside(law, low, high)).interval(1 - SIGNIFICANCE)
    assert fewest <= strays <= most


@every_size
def test_ties_never_cost_coverage(n, level):
    """Scores rounded to whole units: coverage is at least what it is without ties, never below the lower bound."""
    low, _ = bounds(sum_law(coverage_law(NEW_ROWS, n, due_rank(n, level)), REPETITIONS))
    rng = np.random.default_rng(n)
    scores = np.round(np.abs(3 * rng.standard_t(3, (REPETITIONS, n + NEW_ROWS))))
    hits = [(row[n:] <= conformal_quantile(row[:n], level)).sum() for row in scores]
    assert sum(hits) >= low


# --- segments ---------------------------------------------------------------------------------------------------------

SCALES = {"calm": 0.2, "usual": 1.0, "wild": 5.0}
SEGMENT_ROWS = {"calm": 150, "usual": 80, "wild": 40}
SEGMENT_REPETITIONS = 400


def calibrated(rng: np.random.Generator, level: float, min_segment_rows: int) -> Calibration:
    labels = np.repeat(np.array([*SEGMENT_ROWS], dtype=object), [*SEGMENT_ROWS.values()])
    noise = rng.standard_t(3, len(labels)) * np.array([SCALES[label] for label in labels])
    return fit(np.abs(noise), labels, (level,), min_segment_rows=min_segment_rows)


def segment_coverage(level: float, min_segment_rows: int, seed: int) -> dict[str, int]:
    """Covered rows of each segment over all repetitions, `NEW_ROWS` new ones in each."""
    rng = np.random.default_rng(seed)
    hits = dict.fromkeys(SCALES, 0)
    for _ in range(SEGMENT_REPETITIONS):
        calibration = calibrated(rng, level, min_segment_rows)
        for label, scale in SCALES.items():
            prediction = rng.normal(size=NEW_ROWS)
            quantiles, _ = calibration.quantiles_for(np.full(NEW_ROWS, label, dtype=object))
            y = prediction + scale * rng.standard_t(3, NEW_ROWS)
            hits[label] += covered(prediction, y, quantiles[:, 0])
    return hits


def segment_bounds(label: str, level: float) -> tuple[int, int]:
    n = SEGMENT_ROWS[label]
    return bounds(sum_law(coverage_law(NEW_ROWS, n, due_rank(n, level)), SEGMENT_REPETITIONS))


@pytest.mark.parametrize("level", [0.8, 0.9])
def test_every_segment_keeps_the_promise_by_itself(level):
    for label, hits in segment_coverage(level, min_segment_rows=40, seed=11).items():
        low, high = segment_bounds(label, level)
        assert low <= hits <= high, label


@pytest.mark.parametrize("level", [0.8, 0.9])
def test_control_one_calibration_for_all_fails_in_segments(level):
    """Where errors differ in scale, all rows together cover the calm segment too often and the wild one too rarely."""
    hits = segment_coverage(level, min_segment_rows=1_000, seed=11)
    assert hits["calm"] > segment_bounds("calm", level)[1]
    assert hits["wild"] < segment_bounds("wild", level)[0]


# --- fallback ---------------------------------------------------------------------------------------------------------

FEW, ALL, BATCH, FALLBACK_REPETITIONS = 12, 400, 500, 400


def strays(min_segment_rows: int, seed: int) -> tuple[int, str]:
    """Repetitions in which a segment of `FEW` rows is covered outside the central 95 % of what `ALL` rows allow."""
    low, high = fallback_band()
    rng = np.random.default_rng(seed)
    labels = np.array(["few"] * FEW + ["many"] * (ALL - FEW), dtype=object)
    found, used = 0, set()
    for _ in range(FALLBACK_REPETITIONS):
        scores = rng.exponential(size=ALL)
        calibration = fit(scores, labels, (0.9,), min_segment_rows=min_segment_rows)
        quantiles, source = calibration.quantiles_for(np.full(BATCH, "few", dtype=object))
        hits = int((rng.exponential(size=BATCH) <= quantiles[:, 0]).sum())
        found += not low <= hits <= high
        used |= set(source)
    return found, used.pop()


def fallback_law() -> np.ndarray:
    return coverage_law(BATCH, ALL, due_rank(ALL, 0.9))


def fallback_band() -> tuple[int, int]:
    return bounds(fallback_law(), tail=0.025)


def most_strays() -> int:
    share = outside(fallback_law(), *fallback_band())
    return int(stats.binom(FALLBACK_REPETITIONS, share).isf(SIGNIFICANCE))


def test_a_small_segment_that_falls_back_is_as_steady_as_all_rows():
    found, used = strays(min_segment_rows=100, seed=23)
    assert used == ALL_ROWS
    assert found <= most_strays()


def test_control_without_the_fallback_a_small_segment_strays():
    found, used = strays(min_segment_rows=1, seed=23)
    assert used == "few"
    assert found > most_strays()


def test_power_against_a_missing_fallback():
    share = outside(coverage_law(BATCH, FEW, due_rank(FEW, 0.9)), *fallback_band())
    assert stats.binom(FALLBACK_REPETITIONS, share).sf(most_strays()) > 1 - 1e-9
