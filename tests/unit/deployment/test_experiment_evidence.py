"""Effect, bounds and p-value against their definitions and SciPy, and what holds of them whatever the days."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import fft, stats

from assay.deployment.experiment_days import Persistent
from assay.deployment.experiment_evidence import (
    careful,
    careful_critical,
    evidence,
    long_run_variance,
    skewness_of_mean,
    slow_waves,
)

RNG = np.random.default_rng(0)


def found(difference, champion, *, planned=56, alpha=0.05, block=7, **options):
    return evidence(difference, champion, planned_days=planned, alpha=alpha, block_days=block, **options)


# --- dependent days ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("days", "block"), [(56, 7), (30, 5), (16, 4)])
def test_slow_waves_are_those_of_the_cosine_transform(days, block):
    values = RNG.normal(size=days) + 3
    number = days // block
    expected = np.mean(fft.dct(values, type=2, norm="ortho")[1 : number + 1] ** 2)
    np.testing.assert_allclose(long_run_variance(values, block), expected)


def test_blocks_of_one_day_give_the_ordinary_variance():
    values = RNG.normal(size=(4, 23))
    np.testing.assert_allclose(long_run_variance(values, 1), values.var(axis=-1, ddof=1))


def test_the_last_wave_counts_in_part():
    _, weights = slow_waves(31, 7)
    np.testing.assert_allclose(weights, [1, 1, 1, 1, 3 / 7])


def test_variance_grows_with_dependence_and_finds_its_limit():
    """An autoregression of 0.5 varies three times as much; within 3 %, less what waves of 28 days and more miss."""
    shocks = RNG.normal(size=(2_000, 300))
    values = np.empty_like(shocks)
    values[:, 0] = shocks[:, 0]
    for day in range(1, 300):
        values[:, day] = 0.5 * values[:, day - 1] + np.sqrt(0.75) * shocks[:, day]
    assert 2.8 < long_run_variance(values[:, 100:], 14).mean() < 3.05


# --- the statistic ----------------------------------------------------------------------------------------------------


def test_at_the_end_p_is_the_t_tests_paid_for_looks():
    """Symmetric days, blocks of one: with Student's p, p = 4 (1 - Phi(Phi^-1(1 - p / 2)))."""
    half = RNG.normal(size=20)
    difference = np.concatenate([half, -half]) - 0.4
    student = stats.ttest_1samp(difference, 0).pvalue
    p = found(difference, np.full(40, 10.0), planned=40, block=1).p
    np.testing.assert_allclose(p, min(1, 2 * student))


@pytest.mark.parametrize("share", [0.25, 0.5, 1.0])
def test_the_price_of_looks_is_the_chance_that_a_brownian_motion_ever_gets_so_far(share):
    """Against the exact law of its largest absolute value up to time 1 (Feller 1971, ch. X)."""
    half = RNG.normal(size=14)
    difference = np.concatenate([half, -half]) - 0.8
    z = stats.norm.isf(stats.ttest_1samp(difference, 0).pvalue / 2)
    p = float(found(difference, np.full(28, 10.0), planned=round(28 / share), block=1).p)
    k = np.arange(200)
    far = z * np.sqrt(share)
    exact = 1 - 4 / np.pi * np.sum((-1.0) ** k / (2 * k + 1) * np.exp(-((2 * k + 1) ** 2) * np.pi**2 / (8 * far**2)))
    assert exact <= p + 1e-12
    assert p == pytest.approx(exact, rel=0.02)


def test_effect_and_bounds_are_shares_of_the_champions_loss():
    """With a champion that never varies Fieller's bounds are the mean plus and minus t standard errors."""
    half = RNG.normal(size=20)
    difference = np.concatenate([half, -half]) - 0.4
    one = found(difference, np.full(40, 10.0), planned=40, block=1)
    critical = stats.t.isf(0.05 / 4, 39)
    error = critical * stats.sem(difference)
    np.testing.assert_allclose((one.effect, one.low, one.high), np.array([0.4, 0.4 - error, 0.4 + error]) / 10)


def test_a_bound_is_the_effect_that_is_just_refused():
    """By definition: what is left of the difference when the bound is taken away has p = alpha."""
    champion = np.exp(0.2 * RNG.normal(size=56))
    half = RNG.normal(size=28)
    difference = champion * 0.05 * np.concatenate([half, -half]) - 0.04 * champion
    one = found(difference, champion, alpha=0.1)
    for bound in (one.low, one.high):
        left = found(difference + bound * champion, champion, alpha=0.1)
        np.testing.assert_allclose(left.p, 0.1, rtol=0.15)  # days that are left are skewed otherwise


def test_rows_and_losses_may_be_in_any_unit():
    champion, difference = RNG.exponential(size=40) + 1, RNG.normal(size=40)
    one, other = found(difference, champion), found(1e6 * difference, 1e6 * champion)
    for name in ("effect", "low", "high", "p"):
        np.testing.assert_allclose(getattr(other, name), getattr(one, name), rtol=1e-9)


def test_many_experiments_at_once_are_as_one_by_one():
    champion, difference = RNG.exponential(size=(3, 30)) + 1, RNG.normal(size=(3, 30)) - 0.5
    together = found(difference, champion)
    for i in range(3):
        alone = found(difference[i], champion[i])
        for name in ("effect", "low", "high", "p"):
            np.testing.assert_allclose(getattr(together, name)[i], getattr(alone, name))


# --- edges ------------------------------------------------------------------------------------------------------------


def test_one_day_has_an_effect_and_no_evidence():
    one = found(np.array([-1.0]), np.array([4.0]))
    assert (one.effect, one.low, one.high, one.p) == (0.25, -np.inf, 1.0, 1.0)


def test_equal_losses_on_all_days_are_an_effect_of_exactly_nothing():
    one = found(np.zeros(40), np.full(40, 5.0))
    assert (one.effect, one.low, one.high, one.p) == (0.0, 0.0, 0.0, 1.0)


def test_a_difference_that_never_varies_leaves_no_doubt():
    one = found(np.full(40, -0.5), np.full(40, 5.0))
    assert one.p < 1e-30
    np.testing.assert_allclose((one.effect, one.low, one.high), 0.1)


def test_bounds_are_open_while_the_champions_own_loss_is_in_doubt():
    champion = np.where(np.arange(28) < 14, 1.0, 100.0)
    one = found(-0.3 * champion * (1 + 0.1 * RNG.normal(size=28)), champion)
    assert one.low == -np.inf
    assert one.high == 1.0


def test_early_looks_are_stricter():
    difference, champion = np.resize([0.0, -2.0, -1.0, -0.5], 28), np.full(28, 10.0)
    difference = difference + np.cos(np.arange(28) / 9) / 4
    p = [float(found(difference, champion, planned=days).p) for days in (28, 42, 56, 112)]
    assert p == sorted(p)
    assert p[0] < 0.05 < p[-1], p


days_of_losses = st.lists(
    st.tuples(st.floats(0.5, 2.0), st.floats(-1.0, 1.0).map(lambda x: round(x, 6))), min_size=2, max_size=60
)


@given(days_of_losses, st.sampled_from([0.01, 0.05, 0.2]), st.integers(1, 10))
@settings(max_examples=300, deadline=None)
def test_bounds_leave_nothing_out_exactly_where_p_is_below_alpha(values, alpha, block):
    champion, difference = np.array(values).T
    one = found(difference * champion, champion, planned=60, alpha=alpha, block=block)
    assert 0 <= one.p <= 1
    assert one.low <= one.high
    if np.isfinite(one.low) and abs(one.p - alpha) > 1e-9 * alpha:
        assert (one.low > 0 or one.high < 0) == (one.p < alpha)
        assert one.low <= one.effect + 1e-9
        assert one.effect <= one.high + 1e-9


# --- skewed days ------------------------------------------------------------------------------------------------------


def test_skewness_is_scipys():
    values = RNG.exponential(size=(3, 20))
    np.testing.assert_allclose(skewness_of_mean(values), stats.skew(values, axis=-1) / np.sqrt(20))
    assert skewness_of_mean(np.full(5, 2.0)) == 0


@given(st.floats(0, 500), st.floats(-2, 2))
def test_skewness_never_makes_bolder_and_is_undone_exactly(t, skew):
    t, skew = np.float64(t), np.float64(skew)
    assert careful(t, skew) <= t
    assert careful_critical(t, skew) >= t
    reached = careful_critical(t, skew)
    assert careful(reached, skew) == pytest.approx(t, rel=1e-6, abs=1e-6)
    if skew >= 0:
        assert careful(t, skew) == t


def test_rare_bad_days_of_the_challenger_make_careful_and_rare_good_ones_do_not():
    bad, good = np.full(56, -1.0), np.full(56, -1.0)
    bad[[7, 20, 33]] = 6.0
    good[[7, 20, 33]] = -8.0
    low = [float(found(d + 0.1 * np.sin(np.arange(56)), np.full(56, 10.0), block=1).low) for d in (bad, good)]
    plain = [
        (-d.mean() - stats.t.isf(0.05 / 4, 55) * stats.sem(d)) / 10
        for d in (bad + 0.1 * np.sin(np.arange(56)), good + 0.1 * np.sin(np.arange(56)))
    ]
    assert low[0] < plain[0] - 0.005
    assert low[1] == pytest.approx(plain[1])


@pytest.mark.parametrize("sign", [-1, 1])
@pytest.mark.parametrize("saved", [-0.5, 0.5])
def test_p_is_the_alpha_at_which_a_bound_of_skewed_days_is_nothing(sign, saved):
    difference = sign * (np.random.default_rng(2).exponential(size=40) - 1) - saved
    champion = np.full(40, 10.0)
    p = float(found(difference, champion, planned=40).p)
    assert 1e-8 < p < 0.5
    one = found(difference, champion, planned=40, alpha=p)
    np.testing.assert_allclose(one.low if saved > 0 else one.high, 0, atol=1e-9)


# --- entities ---------------------------------------------------------------------------------------------------------


def test_what_entities_differ_by_is_added_to_the_variance_of_the_mean():
    half = RNG.normal(size=20)
    difference = np.concatenate([half, -half]) - 0.4
    persistent = Persistent(champion=0.02, challenger=0.03, entities=31)
    one = found(difference, np.full(40, 10.0), planned=40, block=1, weight=2.0, persistent=persistent)
    of_days, of_entities = difference.var(ddof=1) / 40, 4 * 0.05
    freedom = (of_days + of_entities) ** 2 / (of_days**2 / 39 + of_entities**2 / 30)
    student = 2 * stats.t.sf(0.4 / np.sqrt(of_days + of_entities), freedom)
    np.testing.assert_allclose(one.p, min(1, 2 * student))


def test_bounds_of_arms_solve_their_equation():
    """The difference that an effect e would leave is theirs - (1 - e) ours, of which both arms have a part."""
    half = RNG.normal(size=20)
    difference = np.concatenate([half, -half]) - 3
    persistent = Persistent(champion=0.2, challenger=0.1, entities=31)
    one = found(difference, np.full(40, 10.0), planned=40, block=1, weight=2.0, persistent=persistent)
    of_days, of_entities = difference.var(ddof=1) / 40, 4 * 0.3
    freedom = (of_days + of_entities) ** 2 / (of_days**2 / 39 + of_entities**2 / 30)
    critical = stats.t.isf(0.05 / 4, freedom)
    for bound in (one.low, one.high):
        variance = of_days + 4 * (0.1 + (1 - bound) ** 2 * 0.2)
        np.testing.assert_allclose(abs(-3 + 10 * bound), critical * np.sqrt(variance))


def test_entities_of_which_nothing_is_known_leave_everything_open():
    one = found(np.full(40, -5.0), np.full(40, 10.0), persistent=Persistent(np.inf, 0.0, 1))
    assert (one.low, one.high, one.p) == (-np.inf, 1.0, 1.0)
