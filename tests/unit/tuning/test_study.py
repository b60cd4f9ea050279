"""Consumes slots that ask over a real connection, checks budgets, pruning, restarts and failures of a study."""

from __future__ import annotations

import multiprocessing
import signal
import threading
import time

import pytest

from assay.errors import AssayError
from assay.runtime.signals import Address, Sender, listen
from assay.tuning.journal import COMPLETE, FAILED, PRUNED, opened, read
from assay.tuning.pruners import Median, Never
from assay.tuning.samplers import sampler_named
from assay.tuning.study import Budget, Study


@pytest.fixture
def study(tmp_path, space):
    """study(trials, ...) -> a study whose journal is `study.jsonl`."""
    held = []

    def make(trials, *, seconds=0.0, sampler="random", pruner=None):
        for old in held:
            old.__exit__(None, None, None)
        held[:] = [opened(tmp_path / "study.jsonl", {})]
        journal = held[0].__enter__()
        sampler = sampler_named(sampler, space, seed=1, points=trials)
        return Study(journal, sampler, pruner or Never(), Budget(trials, seconds))

    yield make
    for old in held:
        old.__exit__(None, None, None)


def loss_of(params):
    return (params.get("x", 2.0) - 1) ** 2


def test_two_slots_make_as_many_trials_as_there_may_be(study, slots):
    made = study(30, sampler="tpe")
    together, most = [0], []
    lock = threading.Lock()

    def score(params, report):
        with lock:
            together[0] += 1
            most.append(together[0])
        time.sleep(0.005)
        with lock:
            together[0] -= 1
        return loss_of(params), 7

    slots(made, score)
    assert [t.state for t in made.trials] == [COMPLETE] * 30
    assert sorted(t.number for t in made.trials) == list(range(30))
    assert {t.slot for t in made.trials} == {0, 1}
    assert max(most) == 2
    assert made.best.loss == min(loss_of(t.params) for t in made.trials)
    assert made.best.rounds == 7


def test_a_study_goes_on_where_it_was(study, slots):
    first = study(8)
    slots(first, lambda params, _: (loss_of(params), 1))
    seen = list(first.trials)
    second = study(12)
    slots(second, lambda params, _: (loss_of(params), 1))
    assert second.trials[:8] == seen
    assert len(second.trials) == 12
    assert min(t.at_s for t in second.trials[8:]) >= max(t.at_s for t in seen)
    again = study(12)
    slots(again, lambda *_: pytest.fail("no trial is left"))


def endless(path, space):
    """A study that another process makes, a trial every 20 ms."""
    with opened(path, {}) as journal:
        study = Study(journal, sampler_named("tpe", space, seed=1, points=1000), Never(), Budget(1000))
        with listen("127.0.0.1", lambda _: None, answer=study.answer) as address:
            sender = Sender(address)
            while "trial" in (told := sender.ask("trial", slot=0)):
                time.sleep(0.02)
                sender.ask("ended", slot=0, trial=told["trial"], loss=loss_of(told["params"]), rounds=1)


def test_a_study_whose_process_was_killed_goes_on_with_every_trial(tmp_path, space, study, slots):
    path = tmp_path / "study.jsonl"
    process = multiprocessing.get_context("fork").Process(target=endless, args=(path, space))
    process.start()
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and not (path.exists() and path.read_bytes().count(b"\n") > 6):
        time.sleep(0.01)
    process.kill()
    process.join(30)
    assert process.exitcode == -signal.SIGKILL
    kept = list(read(path).trials)
    assert 6 <= len(kept) < 1000
    made = study(len(kept) + 4, sampler="tpe")
    slots(made, lambda params, _: (loss_of(params), 1))
    assert made.trials[: len(kept)] == kept
    assert [t.number for t in made.trials[: len(kept)]] == list(range(len(kept)))
    assert len({t.number for t in made.trials}) == len(kept) + 4


def test_the_first_trial_is_the_engine_as_it_is(study, slots, space):
    made = study(3)
    made.start = space.nearest({"x": 2.0})
    slots(made, lambda params, _: (loss_of(params), 1), count=1)
    first = made.trials[0]
    assert (first.params, first.point["x"], first.loss) == ({}, 2.0, 1.0)
    assert all(t.params for t in made.trials[1:])


def test_variants_of_the_start_are_tried_before_anything_is_proposed(study, slots, space):
    made = study(5)
    made.start = space.nearest({"x": 2.0})
    made.variants = [{**made.start, "x": 2.5}, {**made.start, "x": 1.5}]
    slots(made, lambda params, _: (loss_of(params), 1), count=1)
    assert [t.point["x"] for t in made.trials[:3]] == [2.0, 2.5, 1.5]
    assert made.trials[1].params == made.variants[0]
    assert all(t.point not in made.variants for t in made.trials[3:])


def test_trials_that_do_worse_are_ended_and_count_for_the_budget(study, slots):
    made = study(20, pruner=Median(first=3, warm=5))

    def score(params, report):
        loss = loss_of(params)
        for rounds in range(5, 55, 5):
            if report(rounds, loss + 1 / rounds):
                return None
        return loss, 50

    slots(made, score, count=1)  # of several, who is compared with whom is a matter of time
    states = [t.state for t in made.trials]
    assert len(states) == 20
    assert states.count(PRUNED) >= 5
    pruned = [t for t in made.trials if t.state == PRUNED]
    assert all(t.values[-1][0] < 50 for t in pruned)
    assert all(t.loss == pytest.approx(min(v for _, v in t.values)) for t in pruned)
    # what was ended was no better than the best
    assert min(loss_of(t.params) for t in pruned) > made.best.loss


def test_a_slot_that_is_started_anew_gets_its_trial_again(study):
    made = study(5)
    with listen("127.0.0.1", lambda _: None, answer=made.answer) as address:
        lost = Sender(address)
        told = lost.ask("trial", slot=0)
        lost.ask("report", slot=0, trial=told["trial"], values=[[5, 1.0]])
        lost.close()
        new = Sender(address)
        assert new.ask("trial", slot=0) == told
        new.ask("ended", slot=0, trial=told["trial"], loss=0.5, rounds=3, values=[[5, 0.5]])
        new.close()
    (trial,) = made.trials
    assert (trial.number, trial.values) == (told["trial"], ((5, 0.5),))


def test_time_that_is_up_ends_running_trials_but_not_the_first(study, slots):
    made = study(1000, seconds=0.3)

    def score(params, report):
        for rounds in range(5, 50, 5):
            time.sleep(0.01)
            if report(rounds, loss_of(params)):
                return None
        return loss_of(params), 50

    began = time.monotonic()
    slots(made, score)
    assert time.monotonic() - began < 5
    assert 1 <= len(made.trials) < 100
    late = study(1000, seconds=1e-9)
    count = len(late.trials)
    slots(late, score)
    assert len(late.trials) == count


def test_a_failed_trial_is_told_and_does_not_count(study, slots):
    made, calls = study(4), []

    def score(params, report):
        calls.append(params)
        return (float("nan"), 1) if len(calls) == 2 else (loss_of(params), 1)

    slots(made, score, count=1)
    assert [t.state for t in made.trials] == [COMPLETE, FAILED, COMPLETE, COMPLETE, COMPLETE]


def test_trials_that_all_fail_end_the_study(study, slots):
    made = study(50)
    with pytest.raises(AssayError, match="3 trials failed one after the other"):
        slots(made, lambda *_: (None, 0))
    assert len(made.trials) == 3


def test_a_driver_that_nobody_reaches_is_told():
    with pytest.raises(AssayError, match=r"spark\.driver\.host"):
        Sender(Address("127.0.0.1", 1, "token")).ask("trial", slot=0)
