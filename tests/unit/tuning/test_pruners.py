"""Consumes losses by round, checks which trials are ended early, against Optuna's median pruner."""

from __future__ import annotations

import numpy as np
import optuna
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from assay.tuning.journal import COMPLETE, PRUNED, Trial
from assay.tuning.pruners import Hyperband, Median, Never, best_by


def trial(number, values, state=COMPLETE, **point):
    return Trial(number, point, point, state, min(v for _, v in values), 1, tuple(values), 1.0, 1.0)


def falling(random, rounds=8):
    """Losses that only fall: then the best so far, ours, is the newest, Optuna's."""
    return [(5 * (i + 1), float(v)) for i, v in enumerate(np.sort(random.random(rounds))[::-1])]


@settings(max_examples=25)
@given(seed=st.integers(0, 10_000), others=st.integers(0, 9))
def test_the_median_rule_is_optunas(seed, others):
    random = np.random.default_rng(seed)
    trials = [trial(n, falling(random)) for n in range(others)]
    mine = falling(random)
    study = optuna.create_study(pruner=optuna.pruners.MedianPruner(n_startup_trials=5, n_warmup_steps=11))
    for one in trials:
        study.add_trial(optuna.trial.create_trial(value=one.loss, intermediate_values=dict(one.values)))
    asked = study.ask()
    for count in range(1, len(mine) + 1):
        asked.report(mine[count - 1][1], mine[count - 1][0])
        assert Median(first=5, warm=10).ends(99, {}, mine[:count], trials) == asked.should_prune()


def test_a_trial_that_ended_early_stands_at_its_best():
    early = [trial(n, [(5, 1.0), (10, 0.1)]) for n in range(5)]
    assert Median().ends(9, {}, [(5, 0.9), (10, 0.8), (200, 0.2)], early)
    assert not Median().ends(9, {}, [(5, 0.9), (10, 0.8), (200, 0.05)], early)


def test_nothing_is_ended_before_there_is_something_to_compare_with():
    few = [trial(n, [(20, 0.1)]) for n in range(4)]
    assert not Median().ends(9, {}, [(20, 9.0)], few)
    assert not Median().ends(9, {}, [(20, 9.0)], [trial(n, [(20, 0.1)], PRUNED) for n in range(9)])
    assert not Hyperband(90).ends(9, {}, [(15, 9.0)], [])
    assert not Never().ends(9, {}, [(20, 9.0)], [trial(n, [(20, 0.1)]) for n in range(9)])


def test_hyperband_lets_the_best_third_pass_each_rung():
    pruner = Hyperband(81, keep=3, lowest=9)
    assert pruner.rungs == [9, 27]
    # even numbers begin with the rung at round 9
    came = [trial(n, [(10, float(n))], PRUNED) for n in range(0, 18, 2)]
    passed = [n for n in range(0, 18, 2) if not pruner.ends(100, {}, [(5, 99.0), (10, n - 0.5)], came)]
    assert passed == [0, 2, 4]
    # odd ones have their first at 27
    assert not pruner.ends(101, {}, [(5, 99.0), (10, 99.0)], came)
    odd = [trial(n, [(30, float(n))]) for n in range(1, 19, 2)]
    assert pruner.ends(101, {}, [(25, 99.0), (30, 15.5)], odd)
    assert not pruner.ends(101, {}, [(30, 99.0), (35, 99.0)], odd)  # between rungs nobody asks


@given(st.lists(st.tuples(st.integers(1, 50), st.floats(0, 1)), max_size=20), st.integers(1, 50))
def test_the_best_by_a_round_is_the_least_so_far(values, step):
    seen = [loss for at, loss in values if at <= step]
    assert best_by(values, step) == (min(seen) if seen else None)


def curve(eta, floor, rounds):
    """Losses every five rounds of a learner that takes a part `eta` of what is left to learn each round."""
    return [(r, floor + (1 - eta) ** r) for r in range(5, rounds + 1, 5)]


@pytest.mark.parametrize("pruner", [Median(), Hyperband(300)], ids=["median", "hyperband"])
@pytest.mark.parametrize("name", ["eta", "learning_rate"])
def test_a_learner_in_small_steps_is_not_ended_for_being_slow(pruner, name):
    others = [trial(4 * n, curve(0.2, 0.3 + n / 100, 100), **{name: 0.2}) for n in range(6)]

    def ended(eta, floor):
        mine = curve(eta, floor, 300)
        told = [pruner.ends(100, {name: eta}, mine[:count], others) for count in range(1, len(mine) + 1)]
        return any(told)

    assert not ended(0.02, 0.2)  # ten rounds of it are worth one of theirs, and its end is lower
    assert ended(0.02, 0.6)
    by_rounds = pruner.ends(100, {}, curve(0.02, 0.2, 35), others) or pruner.ends(100, {}, curve(0.02, 0.2, 15), others)
    assert by_rounds  # what comparing the same rounds would do
