"""Consumes slots that ask over a real connection, checks how studies share them, and that none costs another."""

from __future__ import annotations

import threading
import time

import numpy as np
import pyarrow as pa
import pytest

from assay.config.profile import EngineConfig
from assay.errors import AssayError
from assay.model.encoding import Encoding
from assay.model.outcome import Outcome
from assay.model.row_sample import ROW
from assay.model.scale import TargetScale
from assay.runtime.barrier import Failure
from assay.runtime.signals import Sender, listen
from assay.tuning.dealer import Dealer
from assay.tuning.engines import setting
from assay.tuning.journal import COMPLETE, opened, read
from assay.tuning.pruners import Never
from assay.tuning.samplers import sampler_named
from assay.tuning.space import Number, Space
from assay.tuning.study import Budget, Study
from assay.tuning.trials import SlotTask

SPACE = Space({"x": Number(-3.0, 3.0)})


@pytest.fixture
def studies(tmp_path):
    """studies(budgets, ...) -> studies with journals `0.jsonl`, `1.jsonl` and so on, gone on with where they exist."""
    held = []

    def make(*budgets, seconds=0.0, space=SPACE):
        while held:
            held.pop().__exit__(None, None, None)
        found = []
        for number, trials in enumerate(budgets):
            held.append(opened(tmp_path / f"{number}.jsonl", {"study": number}))
            sampler = sampler_named("random", space, seed=number, points=trials)
            found.append(Study(held[-1].__enter__(), sampler, Never(), Budget(trials, seconds)))
        return found

    yield make
    while held:
        held.pop().__exit__(None, None, None)


def work(dealer, slots, score, *, pause=0.0):
    """Slots in threads; score(study, params) -> loss, or raises. Returns which studies each slot was at, in turn."""
    seen = {slot: [] for slot in range(slots)}

    def one(slot, address):
        sender = Sender(address)
        while "trial" in (told := sender.ask("trial", slot=slot)):
            study = told["study"]
            seen[slot].append(study)
            loss = score(study, told["params"])
            time.sleep(pause)
            sender.ask("ended", slot=slot, study=study, trial=told["trial"], loss=loss, rounds=1)
        sender.close()

    with listen("127.0.0.1", lambda _: None, answer=dealer.answer) as address:
        threads = [threading.Thread(target=one, args=(slot, address)) for slot in range(slots)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
    return seen


def test_studies_are_at_work_at_the_same_time_and_each_gets_its_own_results(studies):
    made = studies(8, 8)
    meeting = threading.Barrier(2)

    def score(study, params):
        if len(made[study].trials) == 3:
            meeting.wait(20)  # passes only where both studies are at their fourth trial at once
        return params["x"] + 10 * study

    seen = work(Dealer(made), 2, score)
    assert {been[0] for been in seen.values()} == {0, 1}
    for number, study in enumerate(made):
        assert [t.state for t in study.trials] == [COMPLETE] * 8
        assert all(t.loss == t.params["x"] + 10 * number for t in study.trials)


@pytest.mark.parametrize("slots", [1, 2, 3, 5])
def test_all_trials_are_made_and_a_slot_changes_studies_as_rarely_as_can_be(studies, slots):
    budgets = (6, 9, 4)
    made = studies(*budgets)
    seen = work(Dealer(made), slots, lambda study, params: params["x"], pause=0.002)
    assert [len(study.trials) for study in made] == list(budgets)
    for been in seen.values():
        turns = [study for place, study in enumerate(been) if not place or been[place - 1] != study]
        assert len(turns) == len(set(turns))  # what it had built is not needed again
    if slots == 1:
        assert seen[0] == [1] * 9 + [0] * 6 + [2] * 4
    if slots == 5:
        assert {been[0] for been in seen.values()} == {0, 1, 2}


def test_a_slot_that_was_started_anew_gets_its_trial_again(studies):
    made = studies(2, 2)
    dealer = Dealer(made)
    first = [dealer.answer({"ask": "trial", "slot": slot}) for slot in (0, 1)]
    again = [dealer.answer({"ask": "trial", "slot": slot}) for slot in (0, 1)]
    assert again == first
    assert {told["study"] for told in first} == {0, 1}


def test_seconds_of_a_study_count_from_when_a_slot_is_free_for_it(studies):
    made = studies(4, 4, seconds=0.3)
    work(Dealer(made), 1, lambda study, params: params["x"], pause=0.2)
    assert [len(study.trials) for study in made] == [2, 2]
    assert all(t.at_s < 1 for study in made for t in study.trials)


def test_a_study_that_fails_leaves_the_others_alone_and_is_gone_on_with(studies, tmp_path):
    made = studies(5, 5, 5)
    good = []

    def score(study, params):
        if study == 1 and len(made[1].trials) >= 2:
            return None  # fails
        good.append(study)
        return params["x"]

    work(Dealer(made), 2, score)
    assert [study.error is None for study in made] == [True, False, True]
    assert [sum(t.finished for t in study.trials) for study in made] == [5, 2, 5]
    later = studies(5, 5, 5)
    assert [study.left for study in later] == [0, 3, 0]
    work(Dealer(later), 2, lambda study, params: params["x"])
    assert [sum(t.finished for t in read(tmp_path / f"{n}.jsonl").trials) for n in range(3)] == [5, 5, 5]


def rows(count, seed, *, decides):
    random = np.random.default_rng(seed)
    x = random.normal(size=count).astype(np.float32)
    y = x + random.normal(size=count)
    columns = {ROW: np.arange(count), "x": x, "y": (y > 0).astype(float) if decides else y}
    return pa.record_batch({name: pa.array(values) for name, values in columns.items()})


def test_slots_learn_numbers_and_classes_and_a_share_that_cannot_be_read_ends_its_own_study_alone(studies, ranks):
    space = Space({"eta": Number(0.01, 0.5, log=True)})
    made = studies(6, 6, 6, space=space)
    outcomes = [Outcome(), Outcome("binary", ("no", "yes")), Outcome()]
    engine = EngineConfig(rounds=8, early_stopping_rounds=3)
    encoding, scale = Encoding(("x",), {}), TargetScale("y")
    settings = tuple(
        setting(engine, space, (), encoding, scale, [None] * folds, threads=1, outcome=outcome)
        for outcome, folds in zip(outcomes, (1, 2, 1), strict=True)
    )

    def share(seed, decides=False):
        return lambda: iter([rows(80, seed, decides=decides)])

    def broken():
        raise AssayError("this disk is full")

    shares = [share(1), share(2), *(share(seed, decides=True) for seed in (3, 4, 5, 6)), broken, share(7)]
    with listen("127.0.0.1", lambda _: None, answer=Dealer(made).answer) as address:
        found = ranks(2).run(SlotTask(settings, address), [shares, shares])
    failures = [one for one in found if isinstance(one, Failure)]
    assert "this disk is full" in failures[0].words
    assert [study.broken for study in made] == [False, False, True]
    assert [len(study.trials) for study in made] == [6, 6, 0]
    assert all(t.state == COMPLETE for study in made for t in study.trials)
    assert all(0.3 < t.loss < 0.75 for t in made[1].trials)  # log losses
    assert min(t.loss for t in made[0].trials) > 0.8  # squares of errors of about 1


def test_one_study_needs_no_number(studies):
    (made,) = studies(2)
    told = Dealer([made]).answer({"ask": "trial", "slot": 0})
    assert Dealer([made]).answer({"ask": "ended", "slot": 0, "trial": told["trial"], "loss": 1.0, "rounds": 1}) == {}
    assert made.trials[0].loss == 1.0
