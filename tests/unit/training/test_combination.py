"""Consumes invented predictions of members, checks weights against oracles and what never may be."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import Ridge

from assay.model.ensemble import Combination
from assay.training.combination import LEAST_WEIGHT, PENALTY, optimised_weights, stacked, trimmed, weighted

SEEDS = st.integers(0, 10_000)


def rows(seed, count=200, members=3):
    """An outcome, and members that are off by errors of their own and by one that they share."""
    random = np.random.default_rng(seed)
    truth = random.normal(5, 2, count)
    shared = random.normal(0, random.uniform(0, 1), count)[:, None]
    own = random.normal(0, random.uniform(0.1, 2, members), (count, members))
    return truth, truth[:, None] + shared + own + random.normal(0, 0.2, members)


def best_by_trying_all_faces(truth, members):
    """Least mean squared error over the simplex: on each face the solution of its linear equations, where it is one."""
    error = members - truth[:, None]
    moments = error.T @ error / len(truth)
    found = []
    for size in range(1, len(moments) + 1):
        for face in itertools.combinations(range(len(moments)), size):
            part = moments[np.ix_(face, face)]
            weights = np.linalg.solve(part, np.ones(size))
            weights /= weights.sum()
            if (weights >= -1e-12).all():
                found.append(float(weights @ part @ weights))
    return min(found)


@settings(deadline=None)
@given(SEEDS, st.integers(2, 5))
def test_optimised_weights_are_the_best_of_the_simplex(seed, members):
    truth, found = rows(seed, members=members)
    weights = optimised_weights(truth, found)
    assert (weights >= 0).all()
    assert weights.sum() == pytest.approx(1, abs=1e-12)
    reached = float(np.mean((found @ weights - truth) ** 2))
    assert reached == pytest.approx(best_by_trying_all_faces(truth, found), rel=1e-6)
    assert reached <= np.mean((found - truth[:, None]) ** 2, axis=0).min() + 1e-12


def test_members_without_any_error_share_the_weights():
    truth = np.arange(30.0)
    np.testing.assert_allclose(optimised_weights(truth, np.stack([truth, truth], axis=1)), [0.5, 0.5])


@settings(deadline=None)
@given(SEEDS)
def test_stacking_is_scikit_learns_ridge_on_the_predictions(seed):
    truth, members = rows(seed)
    found = stacked(truth, members)
    assert (found.weights >= 0).all()
    assert np.mean(found.apply(members) - truth) == pytest.approx(0, abs=1e-9)
    oracle = Ridge(alpha=PENALTY * len(truth) * members.std(axis=0).max() ** 2).fit(members, truth)
    if oracle.coef_.min() > LEAST_WEIGHT * oracle.coef_.sum():
        np.testing.assert_allclose(found.apply(members), oracle.predict(members), rtol=1e-9)


@pytest.mark.parametrize("seed", range(5))
def test_no_weight_of_stacking_is_below_0_as_in_scikit_learns(seed):
    truth, members = rows(seed)
    members[:, 2] = 5 - members[:, 2]  # its own regression would take it with a negative weight
    alpha = PENALTY * len(truth) * members.std(axis=0).max() ** 2
    oracle = Ridge(alpha=alpha, positive=True, tol=1e-8).fit(members, truth)
    assert oracle.coef_[2] == 0
    found = stacked(truth, members)
    assert found.weights[2] == 0
    np.testing.assert_allclose(found.apply(members), oracle.predict(members), atol=1e-4)


def test_stacking_of_constants_or_of_contraries_is_none():
    truth = np.arange(50.0)
    assert stacked(truth, np.ones((50, 2))) is None
    assert stacked(truth, -truth[:, None] @ np.ones((1, 2))) is None


def test_a_member_that_hardly_counts_is_left_out():
    np.testing.assert_allclose(trimmed(np.array([1.2, 0.005, 0.795])), [1.2 * 2 / 1.995, 0, 0.795 * 2 / 1.995])
    truth, members = rows(3)
    members[:, 2] += 50
    assert weighted(truth, members).weights[2] == 0


@settings(deadline=None)
@given(SEEDS, st.sampled_from(["average", "voting", "weighted"]), st.booleans())
def test_combinations_are_numpys_means_and_medians(seed, method, classes):
    random = np.random.default_rng(seed)
    members = random.normal(size=(20, 4, 3) if classes else (20, 4))
    weights = random.dirichlet(np.ones(4)) if method == "weighted" else np.full(4, 0.25)
    found = Combination(method, weights, 0.0).apply(members)
    oracle = np.median(members, axis=1) if method == "voting" else np.average(members, axis=1, weights=weights)
    np.testing.assert_allclose(found, oracle, rtol=1e-12)
    alone = [Combination(method, weights, 0.0).apply(members[i : i + 1])[0] for i in range(20)]
    np.testing.assert_array_equal(found, alone)  # to the last bit: a row is the same in any batch


@settings(deadline=None)
@given(SEEDS)
def test_disagreement_is_the_weighted_standard_deviation(seed):
    random = np.random.default_rng(seed)
    members, weights = random.normal(size=(30, 3)), random.uniform(0.1, 2, 3)
    mean = np.average(members, axis=1, weights=weights)
    oracle = np.sqrt(np.average((members - mean[:, None]) ** 2, axis=1, weights=weights))
    np.testing.assert_allclose(Combination("stacking", weights, 3.0).spread(members), oracle, rtol=1e-10)
    same = np.repeat(members[:, :1], 3, axis=1)
    np.testing.assert_allclose(Combination("stacking", weights).spread(same), 0, atol=1e-12)
