"""Consumes invented quantiles of members, checks their weights against the linear program, and that none cross."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from member_harness import QUANTILES, of_quantiles
from scipy.optimize import linprog

from assay.metrics import pinball_losses
from assay.model.ensemble import Combination, Member, packed, unpacked
from assay.training.quantile_combination import averaged_quantiles, pinball_weights

SEEDS = st.integers(0, 10_000)
LEVELS = QUANTILES.levels


def least_loss(truth, members, levels):
    """The whole linear program of quantile regression on the simplex, one slack either way per row and level."""
    count, cells = members.shape[1], len(truth) * len(levels)
    each = members.transpose(0, 2, 1).reshape(cells, count)
    shares = np.tile(levels, len(truth))
    sums = np.append(np.ones(count), np.zeros(2 * cells))
    equal = np.vstack([np.column_stack([each, np.eye(cells), -np.eye(cells)]), sums])
    found = linprog(
        np.concatenate([np.zeros(count), shares, 1 - shares]),
        A_eq=equal,
        b_eq=np.append(np.repeat(truth, len(levels)), 1.0),
    )
    return found.fun / cells


@settings(deadline=None, max_examples=30)
@given(SEEDS, st.integers(2, 4), st.sampled_from([(0.5,), LEVELS, (0.05, 0.3)]))
def test_weights_have_the_least_pinball_loss_of_the_simplex(seed, count, levels):
    truth, members = of_quantiles(seed, 60, count, levels)
    weights = pinball_weights(truth, members, levels)
    assert (weights >= 0).all()
    assert weights.sum() == pytest.approx(1, abs=1e-12)
    found = pinball_losses(truth, np.tensordot(members, weights, axes=(1, 0)), levels).mean()
    assert found == pytest.approx(least_loss(truth, members, levels), rel=1e-5)


def test_a_member_that_knows_the_outcome_has_all_weight():
    truth, members = of_quantiles(3, 100)
    members[:, 1] = truth[:, None]
    np.testing.assert_array_equal(averaged_quantiles(truth, members, LEVELS).weights, [0, 1, 0])


@settings(deadline=None)
@given(SEEDS, st.sampled_from(["average", "voting", "weighted"]), st.integers(2, 5))
def test_combined_quantiles_rise_are_numpys_and_come_back_to_the_last_bit(seed, method, count):
    _, members = of_quantiles(seed, 40, count)
    weights = (
        np.random.default_rng(seed).dirichlet(np.ones(count)) if method == "weighted" else np.full(count, 1 / count)
    )
    one = Combination(method, weights, kind="quantiles")
    found = one.apply(members)
    oracle = np.median(members, axis=1) if method == "voting" else np.average(members, axis=1, weights=weights)
    np.testing.assert_allclose(found, oracle, rtol=1e-10, atol=1e-12)
    assert (np.diff(found, axis=1) >= -1e-12).all()
    order = np.random.default_rng(seed).permutation(count)
    np.testing.assert_allclose(one.of(order).apply(members[:, order]), found, rtol=1e-9, atol=1e-12)
    other = unpacked(packed([Member(f"m{i}", "xgboost", b"") for i in range(count)], one))[1]
    np.testing.assert_array_equal(other.apply(members), found)
    np.testing.assert_array_equal(other.spread(members), one.spread(members))


@settings(deadline=None)
@given(SEEDS, st.integers(2, 5))
def test_disagreement_is_the_mean_square_over_levels_of_the_standard_deviation(seed, count):
    _, members = of_quantiles(seed, 40, count)
    one = Combination("average", np.full(count, 1 / count), kind="quantiles")
    np.testing.assert_allclose(one.spread(members), np.sqrt((members.std(axis=1) ** 2).mean(axis=1)), rtol=1e-9)
    single = Combination("average", np.full(count, 1 / count))
    np.testing.assert_allclose(one.spread(members[:, :, :1]), single.spread(members[:, :, 0]), rtol=1e-12)
