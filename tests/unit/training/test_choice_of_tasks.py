"""Consumes what members said of classes and quantiles, checks that what is chosen is never worse than the best one."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from member_harness import CLASSES, QUANTILES, of_classes, of_quantiles, out_of_time
from sklearn.metrics import log_loss

from assay.config.ensemble import METHODS
from assay.metrics import pinball_losses
from assay.training.dynamic_weights import DAY
from assay.training.ensemble_choice import choose

TOLD = {"share": 0.5, "gap_days": 0.0, "delay_days": 0.0, "halflife_days": 20.0}
TASKS = st.sampled_from([2, 3, "quantiles"])


def rows(seed, task, count=300, members=3):
    if task == "quantiles":
        return out_of_time(*of_quantiles(seed, count, members), QUANTILES)
    return out_of_time(*of_classes(seed, count, members, task), CLASSES[task])


def loss(part, prediction):
    """By a library, or by the definition."""
    if part.outcome.decides:
        return log_loss(part.truth, prediction, labels=range(prediction.shape[1]))
    return pinball_losses(part.truth, prediction, part.outcome.levels).mean()


@settings(deadline=None)
@given(
    st.integers(0, 10_000), TASKS, st.integers(2, 300), st.integers(2, 4),
    st.sets(st.sampled_from(METHODS), min_size=1), st.booleans(),
)  # fmt: skip
def test_the_chosen_one_is_never_worse_there_than_the_best_member(seed, task, count, members, methods, drawn):
    given = rows(seed, task, count, members)
    found = choose(given, sorted(methods), **TOLD, drawn=drawn)
    each = [loss(found.judge, found.judge.members[:, m]) for m in range(members)]
    assert found.best_member.loss == pytest.approx(min(each), rel=1e-9)
    assert found.chosen.loss <= found.best_member.loss
    assert found.loss == ("pinball" if task == "quantiles" else "log_loss")
    if not found.single:
        assert found.chosen.loss < found.best_member.loss
        if not found.chosen.name.startswith("dynamic"):  # what was judged is what serves
            serving = found.chosen.combination.apply(found.judge.members)
            assert loss(found.judge, serving) == pytest.approx(found.chosen.loss, rel=1e-9)
    json.dumps(found.to_dict(), allow_nan=False)


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 10_000), TASKS)
def test_in_which_order_members_come_changes_nothing(seed, task):
    given, order = rows(seed, task), [2, 0, 1]
    names = tuple(given.names[i] for i in order)
    other = dataclasses.replace(given, names=names, members=given.members[:, order])
    one, two = (choose(g, METHODS, **TOLD) for g in (given, other))
    assert one.chosen.name == two.chosen.name
    losses = {c.name: c.loss for c in one.candidates}
    for c in two.candidates:
        assert c.loss == pytest.approx(losses[c.name], rel=1e-5)
    weights = one.chosen.combination.weights[order]
    np.testing.assert_allclose(two.chosen.combination.weights, weights, atol=2e-3)


@pytest.mark.parametrize(
    ("task", "methods"),
    [
        (2, {"average", "voting", "weighted", "stacking", "dynamic_log_loss"}),
        (3, {"average", "voting", "weighted", "stacking", "dynamic_log_loss"}),
        ("quantiles", {"average", "voting", "weighted"}),
    ],
)
def test_only_methods_of_such_an_outcome_are_tried(task, methods):
    given = rows(1, task)
    assert {c.name for c in choose(given, METHODS, **TOLD).candidates} == methods | set(given.names)
    assert {c.name for c in choose(given, METHODS, **TOLD, drawn=True).candidates} == (
        (methods | set(given.names)) - {"dynamic_log_loss"}
    )
    few = {c.name for c in choose(rows(1, task, 20), METHODS, **TOLD).candidates}
    assert not {"weighted", "stacking"} & few


@pytest.mark.parametrize("task", [2, 3, "quantiles"])
def test_errors_of_their_own_make_a_combination_better(task):
    found = choose(rows(5, task, 3000), METHODS, **TOLD)
    assert not found.single
    assert found.chosen.loss < 0.97 * found.best_member.loss


def test_equal_members_are_a_tie_which_a_single_one_wins():
    given = rows(1, 3)
    same = dataclasses.replace(given, members=np.repeat(given.members[:, :1], 3, axis=1))
    assert choose(same, ["average", "voting"], **TOLD).chosen.name == "m0"


def test_drawn_rows_are_fitted_and_judged_though_they_have_one_time():
    given = rows(2, 2)
    timeless = dataclasses.replace(given, times=np.zeros_like(given.times))
    found = choose(timeless, METHODS, **TOLD, drawn=True)
    np.testing.assert_array_equal(found.fit.truth, given.truth[:150])
    np.testing.assert_array_equal(found.judge.truth, given.truth[150:])


def test_dynamic_weights_of_classes_follow_the_member_that_turned_good():
    truth, members = of_classes(3, 2000, members=2, classes=2)
    good, bad = members[:, 0], np.full_like(members[:, 1], 0.5)
    turned = np.arange(2000) >= 1000
    members = np.where(turned[:, None, None], np.stack([good, bad], axis=1), np.stack([bad, good], axis=1))
    given = dataclasses.replace(rows(0, 2, 2000, 2), truth=truth, members=members, times=np.arange(2000) // 10 * DAY)
    found = {c.name: c for c in choose(given, METHODS, **TOLD).candidates}
    dynamic = found["dynamic_log_loss"]
    assert dynamic.combination.weights[0] > 0.9
    assert dynamic.combination.as_of
    assert dynamic.chosen["log_loss"] < found["average"].chosen["log_loss"]
