"""Error rates and power of experiments that are looked at every day, by simulation.

A rate is below its limit if its exact upper bound (Clopper and Pearson) at a significance of 1e-6 is: a rule that errs
in 5 % or more passes with a probability of 1e-6 at most, one that errs in 3.5 % fails with less than 1e-6 (asserted
below). Seeds are fixed, so a test fails never or always. Days are few (28 to 56), and each simulated experiment is
looked at on every day from the 14th on.

Power of the rule, asserted below within 3 points and a day: with a day's noise of 5 % of the champion's loss and an
autocorrelation of 0.2, a challenger that saves 5 % is promoted in 99 of 100 experiments, in half of all by day 35; one
that saves 3 % in 83, in half of all by day 44; one that saves 1 % in 15. With a noise of 2 % the last is promoted in
56, in half of all by day 52.

Controls are rules that must fail the same test: a t-test of each day's figures by itself, rows that are taken as
independent, days that are, skewness left out, and arms whose entities are forgotten.
"""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from scipy import stats

from assay.config.experiments import ExperimentsConfig
from assay.deployment.experiment import decide
from assay.deployment.experiment_days import Arm, EntityMoments, arm_days, paired_days
from assay.deployment.experiment_evidence import evidence
from assay.deployment.experiment_harm import harm_p

pytestmark = pytest.mark.statistical

SIGNIFICANCE = 1e-6
EXPERIMENTS, DAYS, FIRST_LOOK, ALPHA = 20_000, 56, 14, 0.05
Sums = tuple[np.ndarray, np.ndarray]  # differences and champion's losses, (experiments, days)


def upper_bound(errors: int, of: int) -> float:
    """Exact upper bound of a rate that so many errors leave possible."""
    return float(stats.beta.isf(SIGNIFICANCE, errors + 1, of - errors))


def lower_bound(errors: int, of: int) -> float:
    return float(stats.beta.ppf(SIGNIFICANCE, errors, of - errors + 1))


def test_power_of_the_test_of_rates():
    most = max(k for k in range(EXPERIMENTS) if upper_bound(k, EXPERIMENTS) < ALPHA)
    assert stats.binom(EXPERIMENTS, ALPHA).cdf(most) <= SIGNIFICANCE
    assert stats.binom(EXPERIMENTS, 0.035).sf(most) < 1e-6


# --- days -------------------------------------------------------------------------------------------------------------


def shocks(rng: np.random.Generator, kind: str, shape: tuple[int, int]) -> np.ndarray:
    """Mean 0, variance 1."""
    if kind == "normal":
        return rng.normal(size=shape)
    if kind == "heavy tails":  # no fourth moment
        return rng.standard_t(3, shape) / np.sqrt(3)
    if kind == "skewed":  # now and then the challenger is much worse: skewness 1.4
        return (rng.gamma(2, size=shape) - 2) / np.sqrt(2)
    assert kind == "very skewed"  # 6.2
    return (rng.lognormal(size=shape) - np.exp(0.5)) / np.sqrt(np.exp(2) - np.exp(1))


def dependent(
    rng: np.random.Generator, rho: float, kind: str = "normal", days: int = DAYS, size: int = EXPERIMENTS
) -> np.ndarray:
    """Days of an autoregression, mean 0 and variance 1."""
    values = shocks(rng, kind, (size, days + 20))
    for day in range(1, days + 20):
        values[:, day] = rho * values[:, day - 1] + np.sqrt(1 - rho**2) * values[:, day]
    return values[:, 20:]


def overlapping(rng: np.random.Generator, span: int, days: int = DAYS, size: int = EXPERIMENTS) -> np.ndarray:
    """Days whose labels look ahead `span` days, so that they share what happens there."""
    total = np.cumsum(rng.normal(size=(size, days + span)), axis=1)
    return (total[:, span:] - total[:, :-span]) / np.sqrt(span)


def equal_arms(name: str, days: int = DAYS) -> Sums:
    """Challengers that are, in the mean, exactly as good as the champion; a day's noise is 5 %."""
    rng = np.random.default_rng(sum(map(ord, name)) + days)
    level = np.exp(0.2 * dependent(rng, 0.8, days=days))  # the champion's loss has good weeks and bad ones
    kinds = ("normal", "heavy tails", "skewed", "very skewed")
    kind = next((kind for kind in reversed(kinds) if kind in name), "normal")
    rho = float(name.rsplit(" ", 1)[-1]) if name[-1].isdigit() else 0.0
    noise = overlapping(rng, 7, days) if name.startswith("labels") else dependent(rng, rho, kind, days)
    if name == "volatile":
        level = np.exp(dependent(rng, 0.8, days=days))
    if name == "market jumps":
        level = level * np.where(np.arange(days) >= 2 * days // 3, 4.0, 1.0)
    if name == "rows by weekday":
        level = level * rng.poisson(np.where(np.arange(days) % 7 < 5, 300, 60), level.shape)
    return 0.05 * noise * level, level


WORLDS = [
    "normal", "heavy tails", "skewed", "very skewed", "normal 0.3", "normal 0.5", "heavy tails 0.3", "skewed 0.3",
    "labels of 7 days", "volatile", "market jumps", "rows by weekday",
]  # fmt: skip
every_world = pytest.mark.parametrize("world", WORLDS)


# --- promotion --------------------------------------------------------------------------------------------------------


def promotions(sums: Sums, *, planned: int = DAYS, block_days: int = 7, min_effect: float = 0.0) -> np.ndarray:
    """Day of each experiment's promotion under daily looks, infinite without one."""
    difference, champion = sums
    found = np.full(len(difference), np.inf)
    for day in range(FIRST_LOOK, planned + 1):
        one = evidence(difference[:, :day], champion[:, :day], planned_days=planned, alpha=ALPHA, block_days=block_days)
        better = (one.p < ALPHA) & (one.low > 0) & (one.effect > min_effect)
        found[better] = np.minimum(found[better], day)
    return found


@every_world
@pytest.mark.parametrize("planned", [28, 56])
def test_challengers_as_good_as_the_champion_are_promoted_in_less_than_5_percent(world, planned):
    """Without the least effect that a promotion asks for besides, which makes it rarer."""
    found = np.isfinite(promotions(equal_arms(world, planned), planned=planned))
    assert upper_bound(int(found.sum()), EXPERIMENTS) < ALPHA


def test_looks_by_the_decision_itself_say_the_same():
    difference, champion = equal_arms("normal 0.3")
    config = ExperimentsConfig()
    expected = promotions((difference[:40] - 0.02 * champion[:40], champion[:40]), min_effect=config.min_effect)
    for i in range(40):
        theirs = champion[i] + difference[i] - 0.02 * champion[i]
        series = paired_days(np.arange(DAYS), np.full(DAYS, 100), champion[i], theirs)
        looks = (day for day in range(1, DAYS + 1) if decide(series.first(day), config).decision == "promote")
        assert next(looks, np.inf) == expected[i]
    assert 5 < np.isfinite(expected).sum() < 35


@pytest.mark.parametrize(("world", "times"), [("normal", 1.5), ("normal 0.3", 3)])
def test_control_a_t_test_of_each_day_by_itself_promotes_far_too_often(world, times):
    difference, _ = equal_arms(world)
    found = np.zeros(EXPERIMENTS, dtype=bool)
    for day in range(FIRST_LOOK, DAYS + 1):
        test = stats.ttest_1samp(difference[:, :day], 0, axis=1)
        found |= (test.pvalue < ALPHA) & (test.statistic < 0)
    assert lower_bound(int(found.sum()), EXPERIMENTS) > times * ALPHA


def test_control_days_that_are_taken_as_independent_promote_far_too_often():
    found = np.isfinite(promotions(equal_arms("normal 0.5"), block_days=1))
    assert lower_bound(int(found.sum()), EXPERIMENTS) > 2 * ALPHA


def test_control_blocks_shorter_than_what_labels_span_promote_too_often():
    found = np.isfinite(promotions(equal_arms("labels of 7 days"), block_days=3))
    assert lower_bound(int(found.sum()), EXPERIMENTS) > 2 * ALPHA


def test_control_without_the_care_for_skewness_bad_days_that_have_yet_to_come_promote(monkeypatch):
    monkeypatch.setattr("assay.deployment.experiment_evidence.skewness_of_mean", lambda values: np.zeros(len(values)))
    found = np.isfinite(promotions(equal_arms("very skewed")))
    assert lower_bound(int(found.sum()), EXPERIMENTS) > 1.5 * ALPHA


# --- rows of a day ----------------------------------------------------------------------------------------------------

SHARED, ROWS = 0.2, 50  # of the variance of rows what a day shares; rows a day


def rows_of_equal_arms(size: int) -> np.ndarray:
    """Differences of losses, (size, DAYS, ROWS), mean 0."""
    rng = np.random.default_rng(3)
    day = rng.normal(size=(size, DAYS, 1), scale=np.sqrt(SHARED))
    return (day + rng.normal(size=(size, DAYS, ROWS), scale=np.sqrt(1 - SHARED))).astype(np.float32)


def test_control_rows_that_are_taken_as_independent_promote_far_too_often():
    """One look, at the end, at the right level: no looking again is needed for this to fail. By days it holds."""
    rows = rows_of_equal_arms(2_000)
    pooled = rows.reshape(len(rows), -1)
    z = pooled.mean(axis=1) / (pooled.std(axis=1) / np.sqrt(pooled.shape[1]))
    assert lower_bound(int((z < stats.norm.ppf(ALPHA)).sum()), len(rows)) > 4 * ALPHA
    by_day = rows.sum(axis=2, dtype=np.float64)
    found = np.isfinite(promotions((by_day, np.full_like(by_day, 50.0))))
    assert upper_bound(int(found.sum()), len(rows)) < ALPHA


# --- what is shown is so ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("world", ["normal", "normal 0.5", "skewed 0.3", "labels of 7 days", "rows by weekday"])
@pytest.mark.parametrize("effect", [-0.10, 0.03])
def test_all_bounds_of_an_experiment_hold_together_in_more_than_90_percent(world, effect):
    """95 % with normal days that are independent; autocorrelation and skewness cost the rest, on two sides."""
    difference, champion = equal_arms(world)
    difference = difference - effect * champion
    missed = np.zeros(EXPERIMENTS, dtype=bool)
    for day in range(FIRST_LOOK, DAYS + 1):
        one = evidence(difference[:, :day], champion[:, :day], planned_days=DAYS, alpha=ALPHA, block_days=7)
        missed |= (one.low > effect) | (one.high < effect)
    limit = 0.065 if world in ("normal", "rows by weekday") else 0.10
    assert upper_bound(int(missed.sum()), EXPERIMENTS) < limit


POWER = [(0.02, 0.01, 0.56, 52), (0.05, 0.01, 0.15, np.inf), (0.05, 0.03, 0.83, 44), (0.05, 0.05, 0.99, 35)]


@pytest.mark.parametrize(("noise", "effect", "share", "half_by"), POWER)
def test_how_many_days_until_an_improvement_is_found(noise, effect, share, half_by):
    rng = np.random.default_rng(round(1000 * effect))
    champion = np.exp(0.2 * dependent(rng, 0.5, size=5_000))
    difference = champion * (noise * dependent(rng, 0.2, size=5_000) - effect)
    found = promotions((difference, champion), min_effect=0.01)
    assert np.isfinite(found).mean() == pytest.approx(share, abs=0.03)
    assert np.median(found) == half_by or abs(np.median(found) - half_by) <= 1


# --- arms -------------------------------------------------------------------------------------------------------------


def arm(losses: np.ndarray) -> Arm:
    """Of entities with one row a day: (entities, days)."""
    entities, days = losses.shape
    squares = (losses**2).sum(axis=0)
    of_entity = losses.sum(axis=1)
    moments = EntityMoments(entities, float((of_entity**2).sum()), float(of_entity.sum() * days), entities * days**2)
    counts, sums = np.full(days, entities), losses.sum(axis=0)
    return Arm(counts, sums, squares, sums, counts, moments)


def arm_promotions(size: int, *, remembered: bool) -> int:
    """Of A/B experiments with equal models, looked at weekly: some entities are harder for good, arms are by chance."""
    rng = np.random.default_rng(17)
    config = ExperimentsConfig(min_effect=0.0)
    found = 0
    for _ in range(size):
        level = np.exp(0.3 * rng.normal(size=(80, 1)))
        losses = level * rng.exponential(size=(80, DAYS)) * np.exp(0.3 * rng.normal(size=DAYS))
        for day in range(14, DAYS + 1, 7):
            series = arm_days(np.arange(day), arm(losses[:40, :day]), arm(losses[40:, :day]))
            if not remembered:
                series = dataclasses.replace(series, persistent=None)
            if decide(series, config).decision == "promote":
                found += 1
                break
    return found


def test_arms_of_entities_that_differ_are_not_promoted_for_it():
    assert arm_promotions(1_200, remembered=True) <= stats.binom(1_200, ALPHA).isf(SIGNIFICANCE)


def test_control_arms_whose_entities_are_forgotten_are_promoted_far_too_often():
    assert lower_bound(arm_promotions(800, remembered=False), 800) > 1.5 * ALPHA


# --- harm -------------------------------------------------------------------------------------------------------------


def alarms(worse: np.ndarray, *, inflation: float = 3.0, alpha: float = ALPHA) -> np.ndarray:
    """Day on which each challenger is taken back, looked at daily from the 4th on."""
    found = np.full(len(worse), np.inf)
    for day in range(4, worse.shape[1] + 1):
        late = harm_p(worse[:, :day], inflation=inflation, block_days=7) < alpha
        found[late] = np.minimum(found[late], day)
    return found


@pytest.mark.parametrize(
    ("kind", "rho", "sign"),
    [
        ("normal", 0.0, 1), ("normal", 0.3, 1), ("normal", 0.5, 1), ("heavy tails", 0.3, 1), ("skewed", 0.3, 1),
        ("skewed", 0.3, -1), ("very skewed", 0.3, 1),
    ],
)  # fmt: skip
def test_challengers_at_the_margin_are_taken_back_in_less_than_5_percent(kind, rho, sign):
    """sign -1: rarely much better, else a bit worse, which looks like harm until the good day comes."""
    rng = np.random.default_rng(29)
    found = alarms(sign * dependent(rng, rho, kind, days=90, size=10_000))
    assert upper_bound(int(np.isfinite(found).sum()), 10_000) < ALPHA


def test_labels_that_overlap_are_allowed_for_by_twice_their_days():
    worse = overlapping(np.random.default_rng(31), 7, days=90, size=10_000)
    assert upper_bound(int(np.isfinite(alarms(worse, inflation=14.0)).sum()), 10_000) < ALPHA


def test_control_labels_that_overlap_more_than_is_allowed_for_take_back_too_often():
    worse = overlapping(np.random.default_rng(31), 7, days=60, size=5_000)
    assert lower_bound(int(np.isfinite(alarms(worse)).sum()), 5_000) > 1.5 * ALPHA


def test_control_days_that_are_taken_as_independent_take_back_far_too_often():
    worse = dependent(np.random.default_rng(37), 0.5, days=90, size=10_000)
    assert lower_bound(int(np.isfinite(alarms(worse, inflation=1.0)).sum()), 10_000) > 1.3 * ALPHA


@pytest.mark.parametrize(("deviations", "half_by"), [(1, 37), (2, 12), (4, 6), (8, 4)])
def test_how_many_days_until_harm_is_found(deviations, half_by):
    """Worse than the margin by so many standard deviations of a day."""
    worse = dependent(np.random.default_rng(41), 0.0, days=60, size=5_000) + deviations
    assert abs(np.median(alarms(worse)) - half_by) <= 1
