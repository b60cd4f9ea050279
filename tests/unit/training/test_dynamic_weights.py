"""Consumes errors and signals at known times, checks that weights know the past alone, and what they make of it."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from assay.training.dynamic_weights import DAY, FEW_MOMENTS, surprise, track

SEEDS = st.integers(0, 10_000)
MEASURES = pytest.mark.parametrize("measure", ["rmse", "sharpe"])


def rows(seed, count=120, members=3, days=25):
    random = np.random.default_rng(seed)
    times = np.sort(random.integers(0, days, count)) * DAY
    truth = random.normal(0.1, 1, count)
    return times, truth, truth[:, None] + random.normal(0, random.uniform(0.5, 3, members), (count, members))


def by_hand(times, truth, members, at, *, delay, halflife, measure):
    """The definition, one moment at a time."""
    known = times + delay * DAY < at
    equal = np.full(members.shape[1], 1 / members.shape[1])
    if not known.any():
        return equal
    newest = times[known].max()
    if measure == "rmse":
        decay = 0.5 ** ((newest - times[known]) / DAY / halflife)
        square = np.average((members[known] - truth[known, None]) ** 2, axis=0, weights=decay)
        return (1 / square) / (1 / square).sum()
    moments = np.unique(times[known])
    decay = 0.5 ** ((newest - moments) / DAY / halflife)
    gain = np.array([np.mean(np.sign(members[times == t]) * truth[times == t, None], axis=0) for t in moments])
    mean = np.average(gain, axis=0, weights=decay)
    spread = np.sqrt(np.average((gain - mean) ** 2, axis=0, weights=decay))
    ratio = np.maximum(mean / np.where(spread > 0, spread, np.inf), 0) if len(moments) >= FEW_MOMENTS else 0 * equal
    return ratio / ratio.sum() if ratio.sum() > 0 else equal


@MEASURES
@settings(deadline=None)
@given(SEEDS, st.sampled_from([0.0, 3.0]), st.floats(1, 50))
def test_weights_of_each_moment_are_those_of_the_definition(measure, seed, delay, halflife):
    times, truth, members = rows(seed)
    at = np.arange(30) * DAY
    found = track(times, truth, members, delay_days=delay, halflife_days=halflife).weights(measure, at)
    told = {"delay": delay, "halflife": halflife, "measure": measure}
    np.testing.assert_allclose(found, [by_hand(times, truth, members, t, **told) for t in at], rtol=1e-6, atol=1e-9)
    np.testing.assert_allclose(found.sum(axis=1), 1)
    assert (found >= 0).all()


@MEASURES
@settings(deadline=None)
@given(SEEDS, st.integers(1, 24), st.integers(0, 5))
def test_what_is_not_known_yet_changes_nothing(measure, seed, day, delay):
    times, truth, members = rows(seed)
    random = np.random.default_rng(seed + 1)
    unknown = times + delay * DAY >= day * DAY
    told = {"delay_days": delay, "halflife_days": 10.0}
    at = np.arange(day + 1) * DAY
    before = track(times, truth, members, **told).weights(measure, at)
    truth, members = truth.copy(), members.copy()
    truth[unknown] = random.normal(9, 5, unknown.sum())
    members[unknown] = random.normal(-9, 5, (unknown.sum(), members.shape[1]))
    np.testing.assert_array_equal(track(times, truth, members, **told).weights(measure, at), before)


@MEASURES
def test_the_member_that_turned_good_lately_gains_weight(measure):
    days = np.repeat(np.arange(200), 5)
    random = np.random.default_rng(4)
    truth = random.normal(size=1000)
    wrong, right = random.normal(size=1000), truth + random.normal(0, 0.3, 1000)
    turned = days >= 100
    members = np.stack([np.where(turned, right, wrong), np.where(turned, wrong, right)], axis=1)
    past = track(days * DAY, truth, members, delay_days=0, halflife_days=10)
    early, late = past.weights(measure, np.array([99, 199]) * DAY)
    assert early[0] < 0.2
    assert late[0] > 0.8
    np.testing.assert_allclose(past.weights(measure)[0], late, atol=0.05)


def test_a_member_without_error_has_all_weight():
    truth = np.arange(10.0)
    past = track(np.arange(10) * DAY, truth, np.stack([truth, truth + 1], 1), delay_days=0, halflife_days=5)
    np.testing.assert_array_equal(past.weights("rmse"), [[1, 0]])


@settings(deadline=None)
@given(SEEDS, st.sampled_from([0.0, 3.0]), st.floats(1, 50))
def test_weights_by_log_loss_are_decayed_likelihoods_of_what_was_known(seed, delay, halflife):
    random = np.random.default_rng(seed)
    times, losses = np.sort(random.integers(0, 25, 120)) * DAY, random.exponential(size=(120, 3))
    past = surprise(times, losses, delay_days=delay, halflife_days=halflife)
    at = np.arange(30) * DAY
    for moment, found in zip(at, past.weights(at), strict=True):
        known = np.unique(times[times + delay * DAY < moment])
        decay = 0.5 ** ((known.max(initial=0) - known) / DAY / halflife)
        means = np.array([losses[times == t].mean(axis=0) for t in known]).reshape(-1, 3)
        likelihood = np.exp(-(decay[:, None] * means).sum(axis=0))
        np.testing.assert_allclose(found, likelihood / likelihood.sum(), rtol=1e-6)
    np.testing.assert_allclose(past.weights(), past.weights(np.array([10**18])), rtol=1e-12)
