"""Coverage of weighted and adaptive conformal intervals: exact where theory is, and after shifts.

Segments are the repetitions: each has rows of its own, so one call simulates thousands of independent calibrations.
On exchangeable data the covered of m new rows are BetaBinomial(m, k, n + 1 - k), k the rank of the quantile (Vovk
2012), and bounds are exact quantiles of the sum over segments, two-sided at 1e-6 (see `test_split_coverage`).

Power, asserted below: the bounds reject a quantile one rank lower with probability above 1 - 1e-9; controls show that
they reject calibration without the correction, and by rows that are yet to come. After the shift that is tested, a
split-conformal interval covers 68 % where 90 % are promised: over 100,000 rows its share lies more than 100 standard
deviations outside the tolerance.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from scipy import stats
from test_split_coverage import bounds, coverage_law, outside, sum_law

from assay.conformal import (
    Adaptation,
    ScoredRows,
    adapt,
    grouped_quantiles,
    grouped_weighted_quantiles,
    known_scores,
    pace,
)
from assay.conformal.experts import STEP_SIZES

pytestmark = pytest.mark.statistical

SEGMENTS, NEW_ROWS = 3000, 20
SIZES = [(10, 0.8), (20, 0.9), (60, 0.95)]  # here ceil(n * level) is one rank below ceil((n + 1) * level)
every_size = pytest.mark.parametrize(("n", "level"), SIZES)


def exchangeable(n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Scores of n calibration rows and `NEW_ROWS` new ones per segment; a segment shares a scale, no two are alike."""
    rng = np.random.default_rng(seed)
    scores = np.exp(rng.normal(size=(SEGMENTS, 1))) * np.abs(rng.standard_t(3, (SEGMENTS, n + NEW_ROWS)))
    return scores[:, :n], scores[:, n:]


def codes(n: int) -> np.ndarray:
    return np.repeat(np.arange(SEGMENTS), n)


def law(n: int, rank: int) -> np.ndarray:
    return sum_law(coverage_law(NEW_ROWS, n, rank), SEGMENTS)


# --- weights ----------------------------------------------------------------------------------------------------------


@every_size
@pytest.mark.parametrize("weight", [1.0, 0.5])
def test_equal_weights_cover_within_exact_bounds(n, level, weight):
    """All weights w: the k-th smallest has mass k * w, and k * w >= level * (n * w + 1) is the rank."""
    rank = math.ceil(Fraction(str(level)) * (n + 1 / Fraction(weight)))
    known, new = exchangeable(n, seed=n)
    weights = np.full(known.size, weight)
    quantiles, _ = grouped_weighted_quantiles(codes(n), known.ravel(), weights, SEGMENTS, (level,))
    low, high = bounds(law(n, rank))
    assert low <= int((new <= quantiles).sum()) <= high
    assert outside(law(n, rank - 1), low, high) > 1 - 1e-9


@every_size
def test_control_without_the_weight_of_the_new_row_coverage_is_lost(n, level):
    rank = math.ceil(Fraction(str(level)) * (n + 1))
    known, new = exchangeable(n, seed=n)
    uncorrected = np.sort(known, axis=1)[:, [math.ceil(n * Fraction(str(level))) - 1]]
    assert int((new <= uncorrected).sum()) < bounds(law(n, rank))[0]


# --- one step of adaptive inference is split conformal ----------------------------------------------------------------


def first_step(known: np.ndarray, level: float, *, new: np.ndarray | None = None) -> np.ndarray:
    """Quantiles (G, 1) at the first step. new: rows that, against the rule, are known before they are predicted."""
    scores = known if new is None else np.concatenate([known, new], axis=1)
    at = np.full(scores.size, -1)
    rows = ScoredRows(codes(scores.shape[1]), scores.ravel(), at, at + 1)
    how = Adaptation((level,), step_size=0.05, min_rows=1, bounded=False)
    return adapt(rows, np.full(SEGMENTS, -1), how, stop=1).quantiles[0]


@every_size
def test_the_first_step_covers_within_exact_bounds(n, level):
    known, new = exchangeable(n, seed=100 + n)
    low, high = bounds(law(n, math.ceil(Fraction(str(level)) * (n + 1))))
    assert low <= int((new <= first_step(known, level)).sum()) <= high


@every_size
def test_control_without_the_finite_sample_correction_it_does_not(n, level, monkeypatch):
    rule = known_scores.needed_billionths
    monkeypatch.setattr(known_scores, "needed_billionths", lambda masses, levels: rule(masses - 1, levels))
    known, new = exchangeable(n, seed=100 + n)
    low, _ = bounds(law(n, math.ceil(Fraction(str(level)) * (n + 1))))
    assert int((new <= first_step(known, level)).sum()) < low


@every_size
def test_control_rows_that_are_known_too_early_give_themselves_away(n, level):
    """Calibration by the very rows that are judged covers more often than any honest one could."""
    known, new = exchangeable(n, seed=100 + n)
    leaked = first_step(known, level, new=new)
    _, high = bounds(law(n, math.ceil(Fraction(str(level)) * (n + 1))))
    assert int((new <= leaked).sum()) > high


# --- after a shift ----------------------------------------------------------------------------------------------------

SERIES, CALIBRATION, STEPS, PER_STEP, SHIFT = 100, 200, 500, 5, 150
LATE = 300  # from here on coverage is judged
TOLERANCE = 0.01
DEFAULT = {"step_size": pace.STEP_SIZE[pace.WIDTHS], "damping_rows": pace.DAMPING_ROWS[pace.WIDTHS]}


def shifted(seed: int, delay: int) -> ScoredRows:
    """Exponential scores that double at step `SHIFT`, `PER_STEP` a step in each of `SERIES` segments."""
    rng = np.random.default_rng(seed)
    first = -(CALIBRATION // PER_STEP)
    at = np.tile(np.repeat(np.arange(first, STEPS), PER_STEP), SERIES)
    scores = rng.exponential(size=len(at)) * np.where(at >= SHIFT, 2.0, 1.0)
    segment = np.repeat(np.arange(SERIES), len(at) // SERIES)
    return ScoredRows(segment, scores, at, np.where(at < 0, 0, at + delay))


def late_coverage(rows: ScoredRows, quantiles: np.ndarray) -> float:
    """Share of the rows from step `LATE` on that are covered. quantiles: (n,) what each was given."""
    late = rows.at >= LATE
    return float(np.mean(rows.scores[late, 0] <= quantiles[late]))


@pytest.mark.parametrize("delay", [1, 7])
@pytest.mark.parametrize(
    "settings",
    [
        {"step_size": 0.05, "damping_rows": 0.0},
        {"step_size": 0.05, "damping_rows": 10.0},
        DEFAULT | {"above_zero": (True,)},
        DEFAULT | {"above_zero": (False,)},
    ],
)
def test_adaptive_intervals_recover_after_a_shift(delay, settings):
    rows = shifted(seed=4, delay=delay)
    how = Adaptation((0.9,), min_rows=1, **settings)
    found = adapt(rows, np.full(SERIES, -1), how, stop=STEPS)
    coverage = late_coverage(rows, found.quantiles_for(rows.groups, np.maximum(rows.at, 0))[:, 0])
    assert abs(coverage - 0.9) < TOLERANCE
    assert np.isfinite(found.quantiles).all()


def test_control_split_conformal_loses_its_coverage():
    rows = shifted(seed=4, delay=1)
    known = rows.at < 0
    quantiles, _ = grouped_quantiles(rows.groups[known], rows.scores[known, 0], SERIES, (0.9,))
    coverage = late_coverage(rows, quantiles[rows.groups, 0])
    judged = int(np.sum(rows.at >= LATE))
    expected = 1 - math.sqrt(0.1)  # of twice an exponential score below its own 90 % quantile
    assert abs(coverage - expected) < 0.03
    assert judged >= 100_000
    assert stats.binom(judged, expected).sf(int(judged * (0.9 - TOLERANCE))) < 1e-9


def test_control_without_adaptation_all_scores_together_lose_it_too():
    rows = shifted(seed=4, delay=1)
    found = adapt(rows, np.full(SERIES, -1), Adaptation((0.9,), step_size=0.0, min_rows=1), stop=STEPS)
    coverage = late_coverage(rows, found.quantiles_for(rows.groups, np.maximum(rows.at, 0))[:, 0])
    assert coverage < 0.9 - 3 * TOLERANCE


# --- every month and segment of a market whose errors swell and calm down ---------------------------------------------

MARKET, DAYS, PER_DAY, MONTH = 8, 360, 25, 30
AIMS = {"step_size": pace.STEP_SIZE[pace.SINGLE], "damping_rows": pace.DAMPING_ROWS[pace.SINGLE]}


def swelling(seed: int) -> ScoredRows:
    """Errors of `MARKET` segments, whose scale wanders together by 10 % a day, with a month's memory."""
    rng = np.random.default_rng(seed)
    first = -120
    scale = np.zeros(DAYS - first)
    for day in range(1, len(scale)):
        scale[day] = scale[day - 1] * (1 - 1 / MONTH) + 0.1 * rng.standard_normal()
    at = np.tile(np.repeat(np.arange(first, DAYS), PER_DAY), MARKET)
    segment = np.repeat(np.arange(MARKET), len(at) // MARKET)
    grown = rng.uniform(-0.4, 0.4, MARKET)[segment] * (at >= 0)  # what each segment's errors are after calibration
    scores = np.abs(rng.standard_normal(len(at))) * np.exp(scale[at - first] + grown)
    return ScoredRows(segment, scores, at, np.maximum(at + 1, 0))


def worst(rows: ScoredRows, settings: Mapping[str, Any]) -> tuple[float, float, float]:
    """How far off the worst month and segment are, and the mean interval score."""
    parents = np.append(np.full(MARKET, MARKET), -1)
    timeline = adapt(rows, parents, Adaptation((0.8,), **settings), stop=DAYS)
    later = rows.where(rows.at >= 0)
    quantiles = timeline.quantiles_for(later.groups, later.at)[:, 0]
    held = later.scores[:, 0] <= quantiles
    means = [[held[of == one].mean() for one in np.unique(of)] for of in (later.at // MONTH, later.groups)]
    months, segments = (float(np.abs(np.array(each) - 0.8).max()) for each in means)
    outside = np.maximum(later.scores[:, 0] - quantiles, 0)
    return months, segments, float((2 * quantiles + 10 * outside).mean())


def test_widths_keep_the_promise_in_every_month_and_segment_for_hardly_wider_intervals():
    """Bounds that the project wants on real data: 5 points in a month, 3 in a segment. Control: shares that are aimed
    at miss that of months, and with a step size that is as quick their intervals are worse."""
    found = {name: [] for name in ("widths", "aims", "quick aims")}
    for seed in range(8):
        rows = swelling(seed)
        found["widths"].append(worst(rows, DEFAULT | {"above_zero": (True,)}))
        found["aims"].append(worst(rows, AIMS))
        found["quick aims"].append(worst(rows, DEFAULT))
    widths, aims, quick = (np.array(found[name]) for name in found)
    assert (widths[:, 0] < 0.05).all()
    assert (widths[:, 1] < 0.03).all()
    assert (aims[:, 0] > 0.05).any()
    assert widths[:, 2].mean() < 1.02 * aims[:, 2].mean()
    assert (quick[:, 2] > widths[:, 2]).all()


# --- how much alpha trembles ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("rows_per_step", "damping_rows"), [(1, 0.0), (1, 10.0), (10, 10.0), (40, 10.0)])
def test_alpha_trembles_as_little_as_the_formula_says(rows_per_step, damping_rows):
    """Standing data: variance step_size * level * (1 - level) / (2 * (n + damping)), within 30 %.

    60 series over 300 settled steps, of which a step is remembered for 1 / gain, 20 to 220: at least 80 independent
    looks, whose variance is known to 16 %; damping that is left out, a factor of 11 at one row per step, cannot pass.
    """
    level, step_size, series, steps, settled = 0.8, 0.05, 60, 600, 300
    rng = np.random.default_rng(rows_per_step)
    at = np.tile(np.concatenate([np.full(1000, -1), np.repeat(np.arange(steps), rows_per_step)]), series)
    rows = ScoredRows(np.repeat(np.arange(series), len(at) // series), rng.exponential(size=len(at)), at, at + 1)
    how = Adaptation((level,), step_size=step_size, damping_rows=damping_rows, min_rows=1)
    alpha = adapt(rows, np.full(series, -1), how, stop=steps).alpha[settled:, :, 0]
    expected = step_size * level * (1 - level) / (2 * (rows_per_step + damping_rows))
    assert 0.7 < np.mean((alpha - alpha.mean()) ** 2) / expected < 1.3


# --- step sizes that need not be chosen -------------------------------------------------------------------------------

CALM, REGIMES = 0.002, 0.128  # step sizes that suit a world without change, and one with much of it
WORLDS, LONG = 40, 1_200


def world(kind: str, seed: int) -> ScoredRows:
    """One row a step of each segment: scores alike for ever, or of a scale that jumps every 150 steps."""
    rng = np.random.default_rng(seed)
    at = np.tile(np.arange(-200, LONG), WORLDS)
    jumps = np.where((at // 150) % 2 == 1, 4.0, 1.0) if kind == "regimes" else 1.0
    scores = rng.exponential(size=len(at)) * jumps
    return ScoredRows(np.repeat(np.arange(WORLDS), LONG + 200), scores, at, np.maximum(at + 1, 0))


def judged(rows: ScoredRows, *step_sizes: float) -> tuple[float, float]:
    """Coverage, and the mean pinball loss of the quantiles at 90 %: of two that cover alike the steadier has less."""
    several = step_sizes if len(step_sizes) > 1 else ()
    how = Adaptation((0.9,), step_sizes[0], damping_rows=0, min_rows=1, window=200, step_sizes=several)
    timeline = adapt(rows, np.full(WORLDS, -1), how, stop=LONG)
    later = rows.where(rows.at >= 0)
    apart = later.scores[:, 0] - timeline.quantiles_for(later.groups, later.at)[:, 0]
    return float((apart <= 0).mean()), float(np.maximum(0.9 * apart, -0.1 * apart).mean())


@pytest.mark.parametrize("kind", ["alike", "regimes"])
def test_experts_do_nearly_as_well_as_the_step_size_that_suits_the_world(kind):
    """Control: the step size that suits the other world does worse than the experts, in each of the two."""
    rows = world(kind, seed=11)
    right, wrong = (CALM, REGIMES) if kind == "alike" else (REGIMES, CALM)
    coverage, loss = judged(rows, *STEP_SIZES)
    (_, best), (_, worst) = judged(rows, right), judged(rows, wrong)
    assert abs(coverage - 0.9) < (0.01 if kind == "alike" else 0.02)
    assert loss < 1.05 * best
    assert loss < worst
