"""Consumes trials with their seconds, checks that costs are learned and that the cheapest proposal is tried."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from assay.tuning.journal import COMPLETE, PRUNED
from assay.tuning.samplers import sampler_named
from assay.tuning.thrift import LEAST_TRIALS, Cost, Thrifty


@pytest.fixture
def timed(space, made):
    """timed(count) -> random trials that take 2 ** k seconds; every third one is ended after half of its rounds."""

    def make(count):
        random = np.random.default_rng(6)
        trials = []
        for number in range(count):
            point = space.draw(random)
            pruned = number % 3 == 2
            rounds, state = (50, PRUNED) if pruned else (100, COMPLETE)
            seconds = 2.0 ** point["k"] * rounds / 100
            trial = made(number, point, 1.0, state, values=((rounds, 1.0),))
            trials.append(dataclasses.replace(trial, seconds=seconds))
        return trials

    return make


def test_what_costs_time_is_learned_from_whole_and_ended_trials(space, timed):
    cost = Cost.of(space, timed(150))
    cheap, dear = ({"x": 0.0, "k": k, "s": 1.0, "c": "a"} for k in (2, 8))
    assert cost.seconds(dear) / cost.seconds(cheap) == pytest.approx(2.0**6, rel=0.15)
    other = {"x": 3.0, "k": 2, "s": 100.0, "c": "b"}
    assert cost.seconds(other) == pytest.approx(cost.seconds(cheap), rel=0.15)


def test_a_trial_on_a_part_of_the_rows_tells_what_all_would_take(space, timed):
    tenth = [dataclasses.replace(t, seconds=t.seconds / 10, share=0.1) for t in timed(40)]
    point = {"x": 0.0, "k": 4, "s": 1.0, "c": "a"}
    assert Cost.of(space, tenth).seconds(point) == pytest.approx(Cost.of(space, timed(40)).seconds(point))


@pytest.mark.parametrize("name", ["tpe", "random", "hyperopt"])
def test_the_cheapest_of_several_proposals_is_tried(name, space, timed):
    trials = timed(30)
    sampler = sampler_named(name, space, seed=2, points=99)
    thrifty = Thrifty(sampler, space, 5)
    plain = [sampler.propose(n, trials)["k"] for n in range(30, 50)]
    chosen = [thrifty.propose(n, trials) for n in range(30, 50)]
    assert np.mean([2.0 ** point["k"] for point in chosen]) < 0.6 * np.mean(np.exp2(plain))
    assert all(space.nearest(point) == point for point in chosen)


def test_while_costs_are_unknown_the_first_proposal_is_tried(space, timed):
    few = timed(LEAST_TRIALS - 1)
    sampler = sampler_named("random", space, seed=2, points=99)
    assert Cost.of(space, few) is None
    assert Thrifty(sampler, space, 5).propose(7, few) == sampler.propose(7, few)
