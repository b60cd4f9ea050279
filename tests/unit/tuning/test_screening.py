"""Consumes studies that screen parameters on a part of the rows, checks which ones get all rows."""

from __future__ import annotations

import dataclasses

import pytest

from assay.tuning.journal import COMPLETE, PRUNED, opened
from assay.tuning.pruners import Never
from assay.tuning.samplers import sampler_named
from assay.tuning.screening import PROMOTED, Screening
from assay.tuning.study import Budget, Study

TENTH = Screening(0.1)


@pytest.fixture
def screened(made):
    """screened(losses) -> a trial on a tenth of the rows for each."""
    return lambda losses, state=COMPLETE: [
        dataclasses.replace(made(n, {"x": float(n)}, loss, state), share=0.1) for n, loss in enumerate(losses)
    ]


def test_few_rows_are_not_screened():
    assert Screening.of(50_000, 30_000) == Screening(1.0)
    assert Screening.of(300_000, 30_000) == TENTH
    assert not Screening.of(300_000, 0).active


def test_the_best_of_six_gets_all_rows_once(screened, made):
    trials = screened([3.0, 1.0, 2.0, 5.0, 4.0])
    assert TENTH.worth_all_rows(trials, [], last=False) is None
    trials = screened([3.0, 1.0, 2.0, 5.0, 4.0, 6.0])
    assert len(trials) == PROMOTED
    best = TENTH.worth_all_rows(trials, [], last=False)
    assert best.number == 1
    promoted = dataclasses.replace(made(6, best.point, 0.9), of=1)
    assert TENTH.worth_all_rows(trials, [promoted], last=False) is None
    assert TENTH.worth_all_rows([*trials, promoted], [], last=False) is None
    assert TENTH.worth_all_rows([*trials, promoted], [], last=True).number == 2


def test_what_was_ended_early_gets_nothing_but_counts(screened):
    trials = [*screened([1.0] * 5, PRUNED), *screened([9.0])]
    assert TENTH.worth_all_rows(trials, [], last=False).loss == 9.0


def test_a_study_that_screens_costs_what_its_budget_says_and_ends_with_the_best(tmp_path, space, slots):
    seen = []

    def score(params, report):
        seen.append(params)
        return (params.get("x", 2.0) - 1) ** 2, 1

    with opened(tmp_path / "s.jsonl", {}) as journal:
        study = Study(journal, sampler_named("random", space, seed=1, points=9), Never(), Budget(9))
        study.start, study.screening = space.nearest({"x": 2.0}), TENTH
        slots(study, score)
        whole = [t for t in study.trials if t.share == 1]
        parts = [t for t in study.trials if t.share < 1]
        assert 8 <= len(whole) + 0.1 * len(parts) < 10.1
        by_number = {t.number: t for t in study.trials}  # a slot may end its second trial before another its first
        assert by_number[0].params == {}
        assert all(t.point == by_number[t.of].point for t in whole if t.params)
        # here a part of the rows says the same as all: the best that was screened is the best
        assert study.best.loss == min(t.loss for t in study.trials)
        assert len(parts) > 3 * len(whole)
    with opened(tmp_path / "s.jsonl", {}) as journal:
        again = Study(journal, sampler_named("random", space, seed=1, points=9), Never(), Budget(9))
        again.screening = TENTH
        count = len(seen)
        slots(again, score)
        assert len(seen) == count


def test_samplers_learn_from_losses_of_one_kind(screened, made):
    trials = [*screened([1.0, 2.0]), made(2, {"x": 1.0}, 0.5)]
    assert TENTH.learned_from(trials) == trials[:2]
    assert Screening().learned_from(trials) == trials
