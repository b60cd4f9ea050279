"""Consumes a study's file, whole and torn, checks that every trial that ended is found again."""

from __future__ import annotations

import multiprocessing
import os
import pickletools

import pytest

from assay.errors import UserError
from assay.tuning import journal
from assay.tuning.journal import FAILED, Trial, best_of, opened, read

TOLD = {"target": "price", "engine": "xgboost"}


def test_what_is_added_is_read_again(tmp_path, space, made):
    path = tmp_path / "studies" / "price-1.jsonl"
    trials = [made(n, space.nearest({"x": n / 3}), 1.0 / (n + 1)) for n in range(4)]
    with opened(path, TOLD) as journal:
        assert journal.trials == []
        for trial in trials[:3]:
            journal.add(trial)
    with opened(path, TOLD) as journal:
        assert journal.trials == trials[:3]
        journal.add(trials[3])
    record = read(path)
    assert (list(record.trials), record.told, record.best) == (trials, TOLD, trials[3])


def test_a_line_that_was_being_written_is_dropped_and_the_study_goes_on(tmp_path, made):
    path = tmp_path / "price-1.jsonl"
    trials = [made(n, {"x": 0.5}, 1.0) for n in range(3)]
    with opened(path, TOLD) as journal:
        for trial in trials[:2]:
            journal.add(trial)
    whole = path.read_bytes()
    for torn in range(whole.rfind(b"\n", 0, -1) + 1, len(whole)):
        path.write_bytes(whole[:torn])
        assert list(read(path).trials) == trials[:1]
        with opened(path, TOLD) as journal:
            assert journal.trials == trials[:1]
            journal.add(trials[2])
        assert list(read(path).trials) == [trials[0], trials[2]]


def write_and_die(path, trials):
    with opened(path, TOLD) as journal:
        for trial in trials:
            journal.add(trial)
        os._exit(9)


def test_a_process_that_dies_leaves_its_trials_and_no_lock(tmp_path, made):
    path, trials = tmp_path / "price-1.jsonl", [made(n, {"x": 0.5}, 1.0) for n in range(3)]
    process = multiprocessing.get_context("fork").Process(target=write_and_die, args=(path, trials))
    process.start()
    process.join(30)
    assert process.exitcode == 9
    with opened(path, TOLD) as journal:
        assert journal.trials == trials


def test_two_runs_do_not_work_on_one_study(tmp_path):
    with (
        opened(tmp_path / "a.jsonl", TOLD),
        pytest.raises(UserError, match="another run is at work"),
        opened(tmp_path / "a.jsonl", TOLD),
    ):
        pass


def test_a_file_that_is_no_study_is_none_and_holds_no_pickle(tmp_path, made):
    other = tmp_path / "other.jsonl"
    other.write_text("nothing of ours\n")
    assert read(other) is None
    with opened(tmp_path / "a.jsonl", TOLD) as journal:
        journal.add(made(0, {"x": 1.0}, 2.0))
    with pytest.raises(ValueError, match=r"opcode|at position"):
        list(pickletools.genops((tmp_path / "a.jsonl").read_bytes()))


def test_the_best_is_complete_and_the_first_of_equals(made):
    trials = [made(0, {}, 2.0), made(1, {}, 1.0), made(2, {}, 1.0), made(3, {}, 0.1, "pruned")]
    assert best_of([*trials, Trial(4, {}, {}, FAILED, None, 0, (), 1.0, 1.0)]) == trials[1]
    assert best_of(trials[3:]) is None


def test_on_a_volume_nothing_is_added_to_a_file(tmp_path, made, monkeypatch):
    monkeypatch.setattr(journal, "WHOLE", (str(tmp_path),))
    monkeypatch.setattr(journal.fcntl, "flock", lambda *_: pytest.fail("a volume knows no locks"))
    path, trials = tmp_path / "studies" / "price-1.jsonl", [made(n, {"x": 0.5}, 1.0) for n in range(3)]
    with opened(path, TOLD) as first:
        assert first.trials == []
        first.add(trials[0])
        first.add(trials[1])
    with opened(path, TOLD) as second:
        assert second.trials == trials[:2]
        second.add(trials[2])
    assert (list(read(path).trials), read(path).told) == (trials, TOLD)
    assert [one.name for one in path.parent.iterdir()] == [path.name]
