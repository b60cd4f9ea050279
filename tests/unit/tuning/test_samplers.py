"""Consumes trials so far, checks that samplers propose what is better, and the same after a restart."""

from __future__ import annotations

import importlib.util

import pytest

from assay.errors import ConfigError
from assay.tuning import samplers
from assay.tuning.journal import PRUNED
from assay.tuning.samplers import chosen, sampler_named

SAMPLERS = ("tpe", "random", "grid", "hyperopt")


def loss_of(point):
    return (point["x"] - 1) ** 2 + abs(point["k"] - 4) + (point["c"] == "b")


def run(sampler, made, count):
    trials = []
    for number in range(count):
        point = sampler.propose(number, trials)
        if point is None:
            break
        trials.append(made(number, point, loss_of(point), PRUNED if number % 3 == 2 else "complete"))
    return trials


@pytest.mark.parametrize("name", SAMPLERS)
def test_proposals_are_points_of_the_space_and_the_same_for_the_same_trials(name, space, made):
    trials = run(sampler_named(name, space, seed=3, points=30), made, 30)
    assert all(space.nearest(trial.point) == trial.point for trial in trials)
    assert len({tuple(trial.point.items()) for trial in trials}) == len(trials)
    again = sampler_named(name, space, seed=3, points=30)
    assert again.propose(12, trials[:12]) == trials[12].point


@pytest.mark.parametrize("name", ["tpe", "hyperopt"])
def test_what_learns_from_trials_finds_more_than_draws(name, space, made):
    later = {name: 0.0, "random": 0.0}
    for seed in (5, 6, 7):
        for n in later:
            later[n] += sum(t.loss for t in run(sampler_named(n, space, seed=seed, points=60), made, 60)[30:])
    assert later[name] < 0.75 * later["random"]


def test_a_grid_ends_and_goes_on_where_it_was(space, made):
    sampler = sampler_named("grid", space, seed=1, points=24)
    whole = run(sampler, made, 100)
    assert len(whole) <= 24
    rest = sampler_named("grid", space, seed=1, points=24).propose(9, whole[4:])
    assert rest == whole[0].point


def test_running_trials_keep_tpe_from_proposing_the_same_twice(space, made):
    trials = run(sampler_named("tpe", space, seed=2, points=30), made, 20)
    sampler = sampler_named("tpe", space, seed=2, points=30)
    first = sampler.propose(20, trials)
    running = made(20, first, None, "running", values=())
    assert sampler.propose(21, [*trials, running]) != first


def test_without_optuna_a_grid_is_searched_and_that_is_told(monkeypatch):
    monkeypatch.setattr(samplers, "has_optuna", lambda: False)
    name, notice = chosen("tpe", use_optuna=True)
    assert name == "grid"
    assert "Optuna is not installed" in notice
    assert chosen("random", use_optuna=True) == ("random", None)


def test_use_optuna_false_is_a_grid():
    assert chosen("tpe", use_optuna=False) == ("grid", None)
    assert chosen("tpe", use_optuna=True) == ("tpe", None)


def test_hyperopt_that_is_not_installed_is_told_with_what_to_install(monkeypatch):
    real = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda n, *a: None if n == "hyperopt" else real(n, *a))
    with pytest.raises(ConfigError, match=r"assay\[hyperopt\]"):
        chosen("hyperopt", use_optuna=True)
