"""Consumes tasks of ranks, checks that libraries use as many threads as a task has, whatever Spark told its workers."""

from __future__ import annotations

import subprocess
import sys

import pytest
import xgboost  # noqa: F401  # its OpenMP is loaded from here on
from threadpoolctl import threadpool_info

from assay.config.profile import EngineConfig
from assay.model.encoding import Encoding
from assay.model.scale import TargetScale
from assay.runtime.openmp import openmp
from assay.runtime.signals import Address
from assay.training import learners, sampled_engine, xgboost_engine
from assay.tuning import trials
from assay.tuning.engines import setting
from assay.tuning.space import SPACES, Space

THREADS = 3


class Seen(Exception):
    """Ends a task, with the number of threads at the time."""


def threads():
    """What each OpenMP library would use."""
    return {one["num_threads"] for one in threadpool_info() if one["user_api"] == "openmp"}


def look(*_, **__):
    raise Seen(threads())


@pytest.fixture(autouse=True)
def spark_tells_its_workers(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    with openmp(1):
        yield


def seen(call):
    with pytest.raises(Seen) as found:
        call()
    assert threads() == {1}  # what comes next in this worker has what it had
    return found.value.args[0]


def test_a_rank_of_xgboost(monkeypatch, fit, rows):
    monkeypatch.setattr(xgboost_engine, "binned", look)
    assert seen(lambda: fit([rows(50)], threads=THREADS)) == {THREADS}


def test_learners_of_scikit_learn(monkeypatch, ranks):
    monkeypatch.setitem(learners.LEARNERS, "knn", look)
    told = {"encoding": Encoding(("size",), {}), "scale": TargetScale("y"), "params": None, "cap": 10, "seed": 7}
    task = sampled_engine.SampledTask(engine="knn", threads=THREADS, refit=False, **told)
    monkeypatch.setattr(sampled_engine.RowReader, "sample", lambda *_: ([0], 1))
    assert seen(lambda: task(ranks(1).context(0), [lambda: iter([])])) == {THREADS}


def test_trials(monkeypatch, ranks):
    monkeypatch.setattr(trials, "Sender", lambda _: Trials())
    monkeypatch.setattr(trials, "build", look)
    space, inputs = Space(SPACES["xgboost"]), Encoding(("size",), {})
    one = setting(EngineConfig(), space, (), inputs, TargetScale("y"), [None], threads=THREADS)
    task = trials.SlotTask((one,), Address("127.0.0.1", 1, ""))
    flow = lambda: iter([])  # noqa: E731
    assert seen(lambda: task(ranks(1).context(0), [flow, flow])) == {THREADS}


class Trials:
    """A driver with one trial."""

    left = 1

    def ask(self, what, **_):
        self.left -= what == "trial"
        return {"trial": 0, "share": 1.0, "study": 0, "params": {}} if self.left == 0 else {}

    def close(self):
        pass


def test_libraries_that_are_imported_later_are_told_too():
    code = """
import os
os.environ["OMP_NUM_THREADS"] = "1"
from assay.runtime.openmp import openmp
from threadpoolctl import threadpool_info
def threads():
    return sorted({one["num_threads"] for one in threadpool_info() if one["user_api"] == "openmp"})
with openmp(3):
    import xgboost
    print(threads(), os.environ["OMP_NUM_THREADS"])
print(threads(), os.environ["OMP_NUM_THREADS"])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split("\n")[:2] == ["[3] 3", "[1] 1"]
