"""The guard of a canary: its evidence against the integral that defines it, its edges, and when it speaks."""

import numpy as np
import polars as pl
import pytest
from experiment_rows import arm_series, series, steady
from scipy import integrate, stats

from assay.config.experiments import ExperimentsConfig
from assay.deployment.experiment_days import Persistent, Series, paired_days
from assay.deployment.experiment_harm import harm, harm_p, log_evidence

CONFIG = ExperimentsConfig()
ALTERNATING = np.resize([1.0, -1.0], 12)


@pytest.mark.parametrize("days", [4, 10, 40])
@pytest.mark.parametrize("t", [0.5, 2.0, 4.0])
def test_evidence_is_the_mean_likelihood_ratio_of_students_t(days, t):
    """Effects of delta standard deviations, normal with variance 4: t is then noncentral with delta sqrt(n)."""

    def weighed(delta: float) -> float:
        return float(stats.nct.pdf(t, days - 1, delta * np.sqrt(days)) * stats.norm.pdf(delta, scale=2))

    top = t / np.sqrt(days)
    mean = integrate.quad(weighed, -12, 12, points=[top - 1, top, top + 1], limit=400)[0]
    expected = np.log(mean / stats.t.pdf(t, days - 1))
    assert log_evidence(np.float64(t), days) == pytest.approx(expected, rel=1e-4, abs=1e-4)


def test_without_allowance_p_is_one_over_that_evidence():
    days = ALTERNATING + 0.9
    t = stats.ttest_1samp(days, 0).statistic
    expected = np.exp(-log_evidence(t, 12))
    np.testing.assert_allclose(harm_p(days, inflation=1.0, block_days=1), min(1, expected))


def test_the_allowance_divides_t_by_its_root():
    days = ALTERNATING + 3
    t = stats.ttest_1samp(days, 0).statistic / np.sqrt(3)
    np.testing.assert_allclose(harm_p(days, inflation=3.0, block_days=1), np.exp(-log_evidence(t, 12)))


def test_days_that_go_together_more_than_the_allowance_count_with_their_own_variance():
    together = np.repeat([1.0, -1.0, 1.0, -1.0], 10) + 0.9
    loose = harm_p(together, inflation=3.0, block_days=1)
    assert harm_p(together, inflation=3.0, block_days=7) > 1.2 * loose


def test_better_is_no_harm():
    assert harm_p(ALTERNATING - 5, inflation=1.0, block_days=1) == 1
    assert harm_p(np.zeros(12), inflation=1.0, block_days=1) == 1


def test_a_difference_that_never_varies_is_as_sure_as_days_can_be():
    """(1 + n g)^((n - 1) / 2) is the largest evidence there is."""
    np.testing.assert_allclose(harm_p(np.full(5, 2.0), inflation=3.0, block_days=7), (1 + 5 * 4.0) ** -2)


def test_a_disaster_is_found_on_the_first_day_that_counts():
    found = [harm(steady(-1.0, days=days, noise=0.05), CONFIG) for days in (3, 4)]
    assert [one.harmful for one in found] == [False, True]
    assert found[1].effect == pytest.approx(-1)
    assert found[1].reason.startswith("the challenger does harm: p is")
    assert "at most 5 % worse (experiments.harm_margin), after 4 days" in found[1].reason


def test_worse_within_the_margin_is_no_harm_and_beyond_it_is():
    assert not harm(steady(-0.049, days=56, noise=0.001), CONFIG).harmful
    assert harm(steady(-0.051, days=56, noise=0.001), CONFIG).harmful


def test_rare_good_days_that_are_yet_to_come_are_thought_of_and_rare_bad_ones_are_not():
    bent = np.random.default_rng(2).exponential(size=30) - 1
    bad, good = (harm_p(sign * (bent - bent.mean()) + 1.2, inflation=1.0, block_days=1) for sign in (1, -1))
    t = 1.2 / stats.sem(bent)
    np.testing.assert_allclose(bad, np.exp(-log_evidence(t, 30)))
    assert good > 2 * bad


def test_nothing_is_said_before_the_least_days():
    disaster = steady(-1.0, days=4, noise=0.05)
    later = harm(disaster, ExperimentsConfig(harm_min_days=5))
    assert later.p == harm(disaster, CONFIG).p < 0.05
    assert not later.harmful


def test_it_never_stops_looking():
    """There is no planned end."""
    assert harm(steady(-0.2, days=400, noise=0.2), CONFIG).days == 400


@pytest.mark.parametrize("days", [0, 1])
def test_too_few_days_say_nothing(days):
    found = harm(series(np.full(days, 1.0), np.full(days, 9.0)), CONFIG)
    assert not found.harmful
    assert found.p == 1
    assert np.isnan(found.effect) == (days == 0)


def test_a_champion_without_error_can_be_harmed():
    found = harm(series(np.zeros(10), 1 + 0.1 * np.resize([1.0, -1.0], 10)), CONFIG)
    assert found.harmful
    assert found.effect == -np.inf
    nothing = harm(paired_days([0, 1, 2, 3], [1] * 4, [0] * 4, [0] * 4), CONFIG)
    assert (nothing.effect, nothing.p) == (0.0, 1.0)


def test_entities_that_differ_are_no_harm():
    """Two entities an arm, with the same loss each day: the challenger's have 1 and 9, or 5 and 5."""
    entity, day = (part.ravel() for part in np.meshgrid(np.arange(4), np.arange(10), indexing="ij"))
    arm = np.where(entity < 2, "champion", "challenger")
    rows = pl.DataFrame({"arm": arm, "entity": entity, "day": day})
    differing, alike = (
        harm(arm_series(rows.with_columns(loss=np.array([2.0, 2.0, low, 10 - low])[entity] + 0.1 * (day % 2))), CONFIG)
        for low in (1.0, 5.0)
    )
    assert differing.effect == pytest.approx(alike.effect)
    assert alike.harmful
    assert not differing.harmful


def test_what_entities_differ_by_counts_with_the_margin():
    """Both arms' entities have a part in what the challenger loses beyond 1.5 times the champion's loss."""
    apart = np.resize([1.0, -1.0], 10)
    days, margin = np.arange(10).astype("datetime64[D]"), 0.5
    many = np.full(10, 4.0)
    arms = Series("arms", days, 4 * many, many, 4 * many, 6 * many + apart, Persistent(0.02, 0.05, 30))
    variance = 3 * apart.var(ddof=1) / 10 + 16 * (0.05 + 1.5**2 * 0.02)
    expected = np.exp(-log_evidence((6 - margin * 4) * 4 / np.sqrt(variance), 10))
    found = harm(arms, ExperimentsConfig(harm_margin=margin, block_days=1))
    assert found.p == pytest.approx(expected)
