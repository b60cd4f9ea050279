"""Consumes random probabilities, checks figures of classes against scikit-learn and against their definitions."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn import metrics as oracle

from assay.class_metrics import (
    brier_scores,
    calibration_error,
    class_metrics,
    log_losses,
    reliability,
    set_metrics,
    top_lift,
)


def drawn(classes, rows=300, seed=0):
    random = np.random.default_rng(seed)
    each = random.dirichlet(np.ones(classes), rows)
    return np.array([random.choice(classes, p=p) for p in each]), each


def test_two_classes_are_measured_as_scikit_learn_does():
    actual, each = drawn(2)
    found = class_metrics(actual, each)
    assert found["log_loss"] == pytest.approx(oracle.log_loss(actual, each[:, 1]))
    assert found["brier"] == pytest.approx(oracle.brier_score_loss(actual, each[:, 1]))
    assert found["auc"] == pytest.approx(oracle.roc_auc_score(actual, each[:, 1]))
    assert found["average_precision"] == pytest.approx(oracle.average_precision_score(actual, each[:, 1]))
    assert found["f1"] == pytest.approx(oracle.f1_score(actual, each[:, 1] > 0.5))
    assert found["base_rate"] == pytest.approx(actual.mean())


def test_several_classes_are_measured_as_scikit_learn_does():
    actual, each = drawn(4)
    found = class_metrics(actual, each)
    assert found["log_loss"] == pytest.approx(oracle.log_loss(actual, each))
    assert found["macro_f1"] == pytest.approx(oracle.f1_score(actual, each.argmax(axis=1), average="macro"))
    assert found["balanced_accuracy"] == pytest.approx(oracle.balanced_accuracy_score(actual, each.argmax(axis=1)))
    assert brier_scores(actual, each).mean() == pytest.approx(((each - np.eye(4)[actual]) ** 2).sum(axis=1).mean())
    assert "auc" not in found


def test_one_class_alone_leaves_open_what_is_not_defined():
    found = class_metrics(np.zeros(10), np.tile([0.8, 0.2], (10, 1)))
    assert math.isnan(found["auc"])
    assert math.isnan(found["average_precision"])
    assert found["accuracy"] == 1
    assert found["calibration_error"] == pytest.approx(0.2)


@given(st.integers(2, 6), st.integers(0, 50))
def test_what_is_said_and_what_came_differ_by_no_more_than_one(classes, seed):
    actual, each = drawn(classes, 40, seed)
    _, said, held, rows = reliability(actual, each)
    assert rows.sum() == 40
    assert calibration_error(actual, each) == pytest.approx(np.sum(np.abs(said - held) * rows) / 40)
    assert 0 <= calibration_error(actual, each) <= 1


def test_the_best_tenth_is_compared_with_all():
    actual, each = drawn(2)
    best = np.argsort(-each[:, 1])[:30]
    assert class_metrics(actual, each)["top_tenth_lift"] == pytest.approx(actual[best].mean() / actual.mean())
    came = np.array([1, 1, 0, 0, 0, 0, 0, 0, 0, 0])
    assert top_lift(came, np.arange(10)[::-1], 0.2) == 5
    assert top_lift(came, np.ones(10), 0.2) == pytest.approx(1)  # scores that tell nothing
    assert top_lift(came, [3, 2, 2, 1, 1, 1, 1, 1, 1, 1], 0.2) == pytest.approx((1 + 1 / 2) / 2 / 0.2)
    assert math.isnan(top_lift(np.zeros(10), np.arange(10)))


def test_true_probabilities_are_well_calibrated():
    assert calibration_error(*drawn(2, 50_000)) < 0.01
    assert calibration_error(*drawn(3, 50_000)) < 0.01


def test_a_sure_mistake_has_a_finite_loss():
    assert log_losses([0.0], [[0.0, 1.0]]) == pytest.approx(-math.log(1e-15))


def test_sets_are_counted():
    sets = np.array([[True, False], [True, True], [False, False], [False, True]])
    found = set_metrics(np.array([0, 1, 0, 0]), sets)
    assert found == {"coverage": 0.5, "set_size": 1.0, "empty_share": 0.25, "single_share": 0.5, "full_share": 0.25}


@pytest.mark.parametrize(
    ("actual", "each", "why"),
    [
        ([], np.empty((0, 2)), "no rows"),
        ([0.0], [[0.5, 0.5], [1, 0]], "do not fit"),
        ([2.0], [[0.5, 0.5]], "none of the codes"),
        ([0.5], [[0.5, 0.5]], "none of the codes"),
        ([0.0], [[0.5, 0.6]], "sum must be 1"),
        ([0.0], [[np.nan, 1.0]], "sum must be 1"),
    ],
)
def test_what_is_no_probability_is_refused(actual, each, why):
    with pytest.raises(ValueError, match=why):
        class_metrics(actual, each)
