"""Consumes invented probabilities of members, checks combinations against scikit-learn, SciPy and what never may be."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from member_harness import CLASSES, of_classes
from scipy.optimize import minimize
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss

from assay.model.ensemble import Combination, Member, logarithms, packed, unpacked
from assay.training.class_combination import pool_weights, pooled, stacked_classes
from assay.training.combination import LEAST_WEIGHT, PENALTY

SEEDS = st.integers(0, 10_000)
WIDTHS = st.sampled_from([2, 3, 4])


def loss_of(found, truth, members):
    return log_loss(truth, found.apply(members), labels=range(members.shape[2]))


@settings(deadline=None)
@given(SEEDS, st.integers(2, 5), WIDTHS)
def test_pooled_weights_are_the_best_of_the_simplex(seed, count, classes):
    truth, members = of_classes(seed, members=count, classes=classes)
    weights = pool_weights(truth, members)
    assert (weights >= 0).all()
    assert weights.sum() == pytest.approx(1, abs=1e-12)
    came = members[np.arange(len(truth)), :, truth.astype(int)]
    worth = (came / (came @ weights)[:, None]).mean(axis=0)  # Kuhn and Tucker: no member is worth more than the mean
    assert worth.max() <= 1 + 1e-5
    np.testing.assert_allclose(worth[weights > 1e-4], 1, atol=1e-4)
    alone = [log_loss(truth, members[:, m], labels=range(classes)) for m in range(count)]
    assert -np.log(came @ weights).mean() <= min(alone) + 1e-12


@settings(deadline=None)
@given(SEEDS, st.integers(2, 4))
def test_two_stacked_classes_are_scikit_learns_logistic_regression_on_log_odds(seed, count):
    truth, members = of_classes(seed, members=count, classes=2)
    found = stacked_classes(truth, members, "binary")
    assert (found.weights >= 0).all()
    logs = logarithms(members)
    # Two intercepts are punished, each half of the logit's: the same as of a constant input of this size.
    inputs = np.column_stack([logs[:, :, 1] - logs[:, :, 0], np.full(len(truth), np.sqrt(2))])
    oracle = LogisticRegression(C=1 / (PENALTY * len(truth)), fit_intercept=False, tol=1e-8, solver="newton-cholesky")
    slopes = oracle.fit(inputs, truth).coef_[0, :-1]
    if slopes.min() > LEAST_WEIGHT * slopes.sum():
        np.testing.assert_allclose(found.weights, slopes, rtol=1e-4)
        np.testing.assert_allclose(found.apply(members), oracle.predict_proba(inputs), atol=1e-5)


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("classes", [2, 3, 4])
def test_stacked_classes_have_the_least_loss_with_no_weight_below_0(seed, classes):
    truth, members = of_classes(seed, count=200, classes=classes)
    members[:, 2] = members[:, 2, ::-1] if classes == 2 else np.roll(members[:, 2], 1, axis=1)  # tells the contrary
    found = stacked_classes(truth, members, CLASSES[classes].kind)

    def punished(weights, intercepts):
        stacked = Combination("stacking", weights, kind="multiclass", intercepts=intercepts)
        squares = (weights**2).sum() + (intercepts**2).sum()
        return loss_of(stacked, truth, members) + PENALTY / 2 * squares

    start, bounds = np.append(np.full(3, 1 / 3), np.zeros(classes)), [(0, None)] * 3 + [(None, None)] * classes
    least = minimize(lambda x: punished(x[:3], x[3:]), start, bounds=bounds, method="L-BFGS-B")
    assert punished(found.weights, found.intercepts) <= least.fun + 1e-4  # a member below 1 % was left out
    np.testing.assert_allclose(found.apply(members), Combination(
        "stacking", least.x[:3], kind="multiclass", intercepts=least.x[3:]).apply(members), atol=0.02)  # fmt: skip


def test_stacking_finds_the_certainty_that_a_member_lacks():
    random = np.random.default_rng(1)
    logits = 2 * random.normal(size=20_000)
    truth = (random.random(20_000) < 1 / (1 + np.exp(-logits))).astype(float)
    shy = 1 / (1 + np.exp(-(0.5 * logits - 1)))  # half as sure, and biased
    members = np.stack([np.column_stack([1 - shy, shy])] * 2, axis=1)
    found = stacked_classes(truth, members, "binary")
    assert found.weights.sum() == pytest.approx(2, abs=0.1)
    assert np.diff(found.intercepts) == pytest.approx(2, abs=0.1)
    np.testing.assert_allclose(found.apply(members)[:, 1], 1 / (1 + np.exp(-logits)), atol=0.03)


def test_members_that_tell_nothing_are_not_stacked():
    truth = np.arange(60) % 2.0
    assert stacked_classes(truth, np.full((60, 2, 2), 0.5), "binary") is None


def test_a_class_that_never_came_keeps_a_probability():
    truth, members = of_classes(4, classes=3)
    found = stacked_classes(np.where(truth == 1, 0.0, truth), members, "multiclass").apply(members)
    assert found[:, 1].mean() < 0.1
    assert found[:, 1].min() > 0


def combination(seed, method, count, classes):
    random, kind = np.random.default_rng(seed), CLASSES[classes].kind
    if method == "stacking":
        return Combination(method, random.uniform(0, 1, count), kind=kind, intercepts=random.normal(size=classes))
    weights = random.dirichlet(np.ones(count)) if method == "weighted" else np.full(count, 1 / count)
    return Combination(method, weights, kind=kind)


METHODS = st.sampled_from(["average", "voting", "weighted", "stacking"])


@settings(deadline=None)
@given(SEEDS, METHODS, st.integers(2, 5), WIDTHS)
def test_combined_probabilities_are_probabilities_and_each_row_is_its_own(seed, method, count, classes):
    _, members = of_classes(seed, 40, count, classes)
    one = combination(seed, method, count, classes)
    found = one.apply(members)
    assert found.shape == (40, classes)
    assert (found >= 0).all()
    np.testing.assert_allclose(found.sum(axis=1), 1, rtol=1e-12)
    np.testing.assert_array_equal(found, [one.apply(members[i : i + 1])[0] for i in range(40)])
    order = np.random.default_rng(seed).permutation(count)
    other = one.of(order).apply(members[:, order])
    np.testing.assert_allclose(other, found, rtol=1e-10)
    np.testing.assert_allclose(one.of(order).spread(members[:, order]), one.spread(members), atol=1e-12)
    if method in ("average", "weighted"):
        np.testing.assert_allclose(found, np.average(members, axis=1, weights=one.weights), rtol=1e-12)
    if method == "voting":
        middle = np.median(members, axis=1)
        np.testing.assert_allclose(found, middle / middle.sum(axis=1, keepdims=True), rtol=1e-12)


def test_where_each_member_is_sure_of_another_class_votes_are_their_mean():
    found = Combination("voting", np.full(3, 1 / 3), kind="multiclass").apply(np.eye(3)[None])
    np.testing.assert_allclose(found, np.full((1, 3), 1 / 3))


@settings(deadline=None)
@given(SEEDS, METHODS, st.integers(2, 5), WIDTHS)
def test_disagreement_is_the_mean_distance_in_total_variation(seed, method, count, classes):
    _, members = of_classes(seed, 40, count, classes)
    one = combination(seed, method, count, classes)
    found, mean = one.spread(members), np.average(members, axis=1, weights=one.weights)
    # The total variation distance is the most that two distributions can differ in the probability of any event.
    off = members - mean[:, None]
    most = np.where(off > 0, off, 0).sum(axis=2)
    np.testing.assert_allclose(found, np.average(most, axis=1, weights=one.weights), atol=1e-12)
    assert (found >= 0).all()
    assert (found < 1).all()
    np.testing.assert_allclose(one.spread(np.repeat(members[:, :1], count, axis=1)), 0, atol=1e-12)


@settings(deadline=None)
@given(SEEDS, METHODS, st.integers(2, 5), WIDTHS)
def test_the_record_gives_back_the_same_to_the_last_bit(seed, method, count, classes):
    _, members = of_classes(seed, 20, count, classes)
    one = combination(seed, method, count, classes)
    parts = [Member(f"m{i}", "linear", bytes([i])) for i in range(count)]
    stored = packed(parts, one)
    again, other = unpacked(stored)
    assert again == parts
    assert (other.method, other.kind) == (one.method, one.kind)
    np.testing.assert_array_equal(other.apply(members), one.apply(members))
    np.testing.assert_array_equal(other.spread(members), one.spread(members))
    assert packed(again, other) == stored


def test_a_member_that_hardly_counts_is_left_out_of_the_pool():
    truth, members = of_classes(7)
    members[:, 2] = np.roll(members[:, 2], 1, axis=1)  # tells the contrary
    assert pooled(truth, members, "multiclass").weights[2] == 0
