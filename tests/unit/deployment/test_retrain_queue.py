"""Consumes moves of retraining jobs, checks which are legal, who has a job when, and when it is tried again."""

from __future__ import annotations

import dataclasses
import datetime as dt

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from assay.config.retraining import RetrainingConfig
from assay.deployment import retrain_queue as q
from assay.deployment.retrain_queue import Job, LeaseLost, Move, State
from assay.deployment.retrain_table import queue_of, rows_of
from assay.deployment.retrain_triggers import Trigger
from assay.errors import AssayError

CONFIG = RetrainingConfig(lease_minutes=30, retries=2, backoff_minutes=10, backoff_factor=3)
DAY = dt.date(2024, 3, 1)
DRIFT, ERROR = Trigger("drift", "inputs drifted"), Trigger("performance", "the error rose")


def at(minutes):
    return dt.datetime(2024, 3, 1, tzinfo=dt.timezone.utc) + dt.timedelta(minutes=minutes)


def queue_with(*targets, minute=0):
    queue = ()
    for place, target in enumerate(targets):
        queue = q.opened(queue, target, "m1", [DRIFT], DAY, at(minute + place), CONFIG)
    return queue


def take(queue, runner, minute, config=CONFIG, without=()):
    queue, job = q.taken(queue, runner, at(minute), config, without)
    return queue, job.job_id if job is not None else None


def states(queue):
    return [job.state.value for job in queue]


LEGAL = {
    "": {"queued"},
    "queued": {"leased", "cancelled"},
    "leased": {"leased", "queued", "waiting", "done", "refused", "failed"},
    "waiting": {"leased", "cancelled"},
    "done": set(),
    "refused": set(),
    "failed": set(),
    "cancelled": set(),
}


@pytest.mark.parametrize("before", LEGAL)
@pytest.mark.parametrize("after", list(State))
def test_moves_are_legal_or_refused(before, after):
    moves = (Move(State(before), at(0)),) if before else ()
    job = Job("j", "price", "m1", DAY, {}, moves)
    if after.value in LEGAL[before]:
        assert job.moved(Move(after, at(1))).state is after
    else:
        with pytest.raises(AssayError, match="cannot become"):
            job.moved(Move(after, at(1)))


def test_a_second_trigger_of_an_open_job_adds_its_reason_and_no_job():
    queue = queue_with("price")
    again = q.opened(queue, "price", "m1", [Trigger("drift", "other words"), ERROR], DAY, at(5), CONFIG)
    assert len(again) == 1
    assert dict(again[0].triggers) == {"drift": "inputs drifted", "performance": "the error rose"}
    assert again[0].moves == queue[0].moves
    leased, _ = take(again, "a", 6)
    assert q.opened(leased, "price", "m1", [ERROR], DAY, at(7), CONFIG) == leased
    assert q.opened(queue, "price", "m1", [], DAY, at(5), CONFIG) == queue


def test_a_day_is_acted_on_once_and_a_target_rests_for_its_cooldown():
    queue, job = take(queue_with("price"), "a", 1)
    queue = q.finished(queue, job, "a", at(2), State.REFUSED, "worse")
    for config, days, new in ((CONFIG, 6, 0), (CONFIG, 7, 1), (RetrainingConfig(cooldown_days=0), 0, 0)):
        later = q.opened(queue, "price", "m2", [ERROR], DAY + dt.timedelta(days=days), at(3), config)
        assert len(later) == 1 + new
    other = q.opened(queue, "rent", "m2", [ERROR], DAY, at(3), CONFIG)
    assert [job.target for job in other] == ["price", "rent"]


def test_what_nobody_needs_any_more_is_cancelled_unless_somebody_is_at_it():
    queue, job = take(queue_with("begun", "same", "changed", "gone"), "a", 10)
    queue = q.cancelled(queue, {"begun": "m2", "same": "m1", "changed": "m2"}, at(11))
    assert states(queue) == ["leased", "queued", "cancelled", "cancelled"]
    assert "another champion" in queue[2].last.detail
    assert "no such target" in queue[3].last.detail
    queue = q.failed(queue, job, "a", at(12), CONFIG, "out of memory")
    assert states(q.cancelled(queue, {"begun": "m2", "same": "m1"}, at(13)))[0] == "cancelled"
    # A cancelled one is no retraining to rest from; nor is the very same job opened twice.
    assert len(q.opened(queue, "changed", "m2", [DRIFT], DAY, at(14), CONFIG)) == 5
    assert q.opened(queue, "gone", "m1", [DRIFT], DAY, at(14), CONFIG) == queue


def test_a_lease_keeps_others_away_until_it_runs_out_and_signs_of_life_put_that_off():
    queue, job = take(queue_with("price"), "a", 0)
    assert take(queue, "b", 29)[1] is None
    renewed = q.renewed(queue, job, "a", at(20), CONFIG, "fitting")
    assert len(renewed[0].moves) == 2
    assert (renewed[0].last.detail, renewed[0].last.seen_at, renewed[0].last.at) == ("fitting", at(20), at(0))
    assert take(renewed, "b", 49)[1] is None
    mine, again = take(renewed, "b", 50)
    assert again == job
    assert (mine[0].last.runner, mine[0].last.attempt, len(mine[0].moves)) == ("b", 2, 3)
    for late in (
        lambda: q.renewed(mine, job, "a", at(51), CONFIG, "x"),
        lambda: q.finished(mine, job, "a", at(51), State.DONE, "x"),
        lambda: q.failed(mine, job, "a", at(51), CONFIG, "x"),
        lambda: q.released(mine, job, "a", at(51), "x"),
        lambda: q.renewed(mine, "unknown", "a", at(51), CONFIG, "x"),
    ):
        with pytest.raises(LeaseLost, match=r"no longer a's"):
            late()


def test_a_lease_that_ran_out_and_that_nobody_took_is_still_the_runners():
    queue, job = take(queue_with("price"), "a", 0)
    assert q.finished(queue, job, "a", at(500), State.DONE, "version 2", "run")[0].last.run_id == "run"
    assert q.renewed(queue, job, "a", at(500), CONFIG, "x")[0].held(at(529))


def test_failures_wait_longer_each_time_and_then_are_for_good():
    queue, minute, waits = queue_with("price"), 0, []
    for _ in range(3):
        queue, job = take(queue, "a", minute)
        assert job is not None
        queue = q.failed(queue, job, "a", at(minute + 1), CONFIG, "out of memory")
        if queue[0].last.until is not None:
            waits.append((queue[0].last.until - at(minute + 1)).total_seconds() / 60)
            early = queue[0].last.until - dt.timedelta(seconds=1)
            assert q.due(queue, early, 5) == []
            assert q.due(queue, queue[0].last.until, 5) == list(queue)
            minute += 1 + int(waits[-1])
    assert waits == [10, 30]
    assert states(queue) == ["failed"]
    assert take(queue, "a", 10**6)[1] is None


def test_a_wait_has_an_end():
    config = RetrainingConfig(retries=100, backoff_minutes=10_000, backoff_factor=100)
    job = queue_with("price")[0].moved(Move(State.LEASED, at(0), 90, "a", at(30), at(0)))
    (after,) = q.failed((job,), job.job_id, "a", at(1), config, "x")
    assert after.last.until == at(1) + dt.timedelta(days=30)


def test_a_job_that_kills_its_runners_fails_for_good():
    queue = queue_with("price")
    for attempt in range(3):
        queue, job = take(queue, f"runner {attempt}", 31 * attempt)
        assert job is not None
    queue, job = take(queue, "the last one", 31 * 3)
    assert job is None
    assert states(queue) == ["failed"]
    assert queue[0].last.detail == "runner 2 gave no sign of life since 2024-03-01 01:02"


def test_a_runner_that_has_to_stop_gives_its_job_back_and_that_costs_no_attempt():
    queue, job = take(queue_with("price"), "a", 0)
    queue = q.released(queue, job, "a", at(1), "stopped")
    assert (states(queue), queue[0].last.attempt) == (["queued"], 0)
    queue, _ = take(queue, "b", 2)
    assert queue[0].last.attempt == 1


def test_no_more_are_under_way_than_may_be_and_the_oldest_go_first():
    config = dataclasses.replace(CONFIG, concurrency=2)
    queue = queue_with("a", "b", "c")
    taken = []
    for runner in ("x", "y", "z"):
        queue, job = take(queue, runner, 5, config)
        taken.append(next((one.target for one in queue if one.job_id == job), None))
    assert taken == ["a", "b", None]
    queue = q.finished(queue, queue[0].job_id, "x", at(6), State.DONE, "")
    queue, job = take(queue, "z", 7, config)
    assert queue[2].job_id == job
    with pytest.raises(AssayError, match="not due"):
        q.lease(queue, queue[1].job_id, "z", at(8), config)
    assert take(queue_with("a", "b"), "x", 5, without=[queue_with("a")[0].job_id])[1] == queue_with("b")[0].job_id


ACTS = ["renew", "end", "fail", "give"]


class Runners(RuleBasedStateMachine):
    """Runners that take, renew, end, sleep and die in any order on one clock, each move made of the queue as it is."""

    CONFIG = RetrainingConfig(lease_minutes=10, retries=3, backoff_minutes=5, concurrency=2)

    def __init__(self):
        super().__init__()
        self.minute, self.queue = 0, queue_with("a", "b", "c")
        self.believed = {}  # (runner, job) -> minute until which the runner may believe that the job is its own

    @rule(minutes=st.integers(1, 12))
    def time_goes_on(self, minutes):
        self.minute += minutes

    @rule(runner=st.sampled_from("xyz"))
    def takes(self, runner):
        self.queue, job = take(self.queue, runner, self.minute, self.CONFIG)
        if job is not None:
            self.believed[runner, job] = self.minute + 10

    @rule(
        runner=st.sampled_from("xyz"), place=st.integers(0, 2), what=st.sampled_from(["renew", "end", "fail", "give"])
    )
    def moves(self, runner, place, what):
        job, now = self.queue[place].job_id, at(self.minute)
        acts = {
            "renew": lambda: q.renewed(self.queue, job, runner, now, self.CONFIG, "x"),
            "end": lambda: q.finished(self.queue, job, runner, now, State.DONE, "x"),
            "fail": lambda: q.failed(self.queue, job, runner, now, self.CONFIG, "x"),
            "give": lambda: q.released(self.queue, job, runner, now, "x"),
        }
        try:
            self.queue = acts[what]()
        except LeaseLost:
            return
        if what == "renew":
            self.believed[runner, job] = self.minute + 10
        else:
            self.believed.pop((runner, job))

    @rule(of=st.sampled_from("abc"), days=st.integers(0, 20))
    def triggers(self, of, days):
        self.queue = q.opened(
            self.queue, of, "m1", [ERROR], DAY + dt.timedelta(days=days), at(self.minute), self.CONFIG
        )

    @invariant()
    def nobody_shares_a_job_and_no_more_are_under_way_than_may_be(self):
        holders = [job for (_, job), until in self.believed.items() if until > self.minute]
        assert len(holders) == len(set(holders)) <= 2
        assert q.under_way(self.queue, at(self.minute)) == len(holders)

    @invariant()
    def a_target_has_one_open_job_and_the_table_tells_the_whole_queue(self):
        open_ = [job.target for job in self.queue if job.is_open]
        assert len(open_) == len(set(open_))
        told = {job.job_id: job for job in queue_of(rows_of(self.queue))}
        assert told == {job.job_id: job for job in self.queue}


TestRunners = Runners.TestCase


@given(st.permutations(range(6)))
def test_rows_in_any_order_are_the_same_queue(order):
    queue = queue_with("a", "b")
    queue, job = take(queue, "x", 5)
    queue = q.failed(queue, job, "x", at(6), CONFIG, "é 'x'")
    queue, job = take(queue, "y", 700)
    queue, _ = take(queue, "y", 700)
    rows = rows_of(queue)
    assert len(rows) == 6
    assert queue_of([rows[place] for place in order]) == queue
