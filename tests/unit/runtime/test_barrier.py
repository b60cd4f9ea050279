"""Consumes tasks of ranks that run as threads, checks that they end together and which failure is told."""

from __future__ import annotations

import concurrent.futures
import threading

import pytest

from assay.errors import DataError, NeighbourLost
from assay.runtime.barrier import outcome, run_rank

PATIENCE = 10


@pytest.fixture
def run(ranks):
    """One rank per task: what each returns or raises."""
    return lambda *tasks: ranks(len(tasks)).run(lambda context, _: tasks[context.rank](context))


def meets(context):
    return context.gather(f"from {context.rank}"), context.gather("again")


def ends_at_once(context):
    raise DataError("column 'size' of a.csv is empty")


def ends_later(context):
    context.gather("hello")
    raise ValueError("no such thing")


def loses_one(context):
    context.gather("hello")
    raise NeighbourLost("a connection broke")


def test_ranks_hear_one_another_in_order(run):
    texts = ["from 0", "from 1", "from 2"]
    assert outcome(run(meets, meets, meets)) == [(texts, ["again"] * 3)] * 3


def test_a_task_that_never_meets_the_others_is_one_too(run):
    assert outcome(run(lambda _: 1, lambda _: 2)) == [1, 2]
    assert outcome(run(lambda context: context.gather("alone"))) == [["alone"]]


@pytest.mark.parametrize("tasks", [(ends_at_once, meets), (meets, ends_at_once, meets), (ends_at_once,)], ids=len)
def test_the_others_do_not_wait_for_one_that_failed_and_its_error_is_told(run, tasks):
    with pytest.raises(DataError, match=r"^column 'size' of a\.csv is empty$"):
        outcome(run(*tasks))


@pytest.mark.parametrize(
    "tasks", [(ends_later, loses_one), (loses_one, ends_later), (loses_one, ends_later, loses_one)]
)
def test_the_cause_is_told_and_not_what_followed_from_it(run, tasks):
    with pytest.raises(RuntimeError, match=r"rank \d failed: ValueError: no such thing"):
        outcome(run(*tasks))


def test_where_nobody_knows_a_reason_the_ranks_fail_and_spark_may_try_again(run):
    found = run(loses_one, loses_one)
    assert [type(error) for error in found] == [NeighbourLost, NeighbourLost]


def test_one_that_ends_well_does_not_leave_before_the_others(ranks):
    late = threading.Event()

    def slow(_):
        assert late.wait(PATIENCE)
        return "late"

    together = ranks(2)
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        first = pool.submit(run_rank, together.context(0), [], lambda *_: "early")
        second = pool.submit(run_rank, together.context(1), [], lambda context, _: slow(context))
        with pytest.raises(concurrent.futures.TimeoutError):
            first.result(timeout=0.2)
        late.set()
        assert (first.result(PATIENCE), second.result(PATIENCE)) == ("early", "late")
