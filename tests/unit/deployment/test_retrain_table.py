"""Consumes runners of one queue at the same time, on a real table, checks that none shares a job or loses a move."""

from __future__ import annotations

import datetime as dt
import multiprocessing
import threading
import time
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor

import pytest

from assay.config.retraining import RetrainingConfig
from assay.deployment import retrain_queue as q
from assay.deployment.retrain_lease import Lease, StepReporter
from assay.deployment.retrain_queue import LeaseLost, State
from assay.deployment.retrain_table import QueueTable
from assay.deployment.retrain_triggers import Trigger
from assay.runtime.deployment_tables import RETRAIN_QUEUE
from assay.runtime.local_plane import LocalPlane
from assay.runtime.plane import NEVER
from assay.runtime.progress import Reporter

CONFIG = RetrainingConfig(concurrency=3)
START = dt.datetime(2024, 3, 1, 12, 30, 1, 5, tzinfo=dt.timezone.utc)


def filled(table, *targets, config=CONFIG):
    def change(queue, now):
        for target in targets:
            queue = q.opened(queue, target, "m1", [Trigger("drift", "drifted")], START.date(), now, config)
        return queue

    return table.change(change)


def take(table, runner, config=CONFIG):
    found = []

    def change(queue, now):
        queue, job = q.taken(queue, runner, now, config)
        found.append(job)
        return queue

    table.change(change)
    return found[-1]


def work(root, runner):
    """Take jobs until none is left, letting each take a moment; those that this runner did."""
    table, done = QueueTable(LocalPlane(root)), []
    for _ in range(200):
        job = take(table, runner)
        if job is not None:
            held = sum(one.held(table.clock()) for one in table.read()[0])
            assert held <= CONFIG.concurrency
            table.change(lambda queue, now, job=job: q.renewed(queue, job.job_id, runner, now, CONFIG, "half"))
            table.change(lambda queue, now, job=job: q.finished(queue, job.job_id, runner, now, State.DONE, runner))
            done.append(job.target)
        elif not any(one.is_open for one in table.read()[0]):
            return done
        else:
            time.sleep(0.02)
    raise AssertionError("the queue was never empty")


def test_the_table_is_as_declared_and_tells_the_whole_queue(tmp_path):
    table = QueueTable(LocalPlane(tmp_path), lambda: START)
    assert table.read() == ((), NEVER)
    queue = filled(table, "price", "größe")
    take(table, "a")
    queue, version = table.read()
    assert {job.state for job in queue} == {State.QUEUED, State.LEASED}
    rows = table.plane.read("retrain_queue", version=version).collect()
    assert rows.schema.names == RETRAIN_QUEUE.schema().names
    assert len({(row["job_id"], row["move"]) for row in rows.to_pylist()}) == rows.num_rows == 3
    assert sum(row["is_last"] for row in rows.to_pylist()) == 2
    assert all(meaning for _, meaning in RETRAIN_QUEUE.columns.values())


def test_a_change_that_changes_nothing_writes_nothing(tmp_path):
    table = QueueTable(LocalPlane(tmp_path), lambda: START)
    table.change(lambda queue, _: queue)
    assert table.read() == ((), NEVER)
    filled(table, "price")
    _, version = table.read()
    filled(table, "price")
    assert table.read()[1] == version


def test_a_change_is_made_again_of_what_others_left(tmp_path):
    table, other = QueueTable(LocalPlane(tmp_path)), QueueTable(LocalPlane(tmp_path))
    filled(table, "price")
    seen = []

    def change(queue, now):
        seen.append(len(queue))
        if len(seen) == 1:
            filled(other, "rent")
        return q.opened(queue, "size", "m1", [Trigger("drift", "d")], START.date(), now, CONFIG)

    assert {job.target for job in table.change(change)} == {"price", "rent", "size"}
    assert seen == [1, 2]


def test_runners_in_many_threads_take_each_job_once(tmp_path):
    targets = [f"target {number}" for number in range(6)]
    filled(QueueTable(LocalPlane(tmp_path)), *targets)
    with ThreadPoolExecutor(4) as pool:
        done = list(pool.map(work, [tmp_path] * 4, "wxyz"))
    assert sorted(target for mine in done for target in mine) == targets
    queue, _ = QueueTable(LocalPlane(tmp_path)).read()
    assert {job.last.attempt for job in queue} == {1}
    assert all([move.state.value for move in job.moves] == ["queued", "leased", "done"] for job in queue)


def test_runners_in_several_processes_take_each_job_once(tmp_path):
    targets = [f"target {number}" for number in range(4)]
    filled(QueueTable(LocalPlane(tmp_path)), *targets)
    with ProcessPoolExecutor(3, mp_context=multiprocessing.get_context("spawn")) as pool:
        done = list(pool.map(work, [tmp_path] * 3, "xyz"))
    assert sorted(target for mine in done for target in mine) == targets


def test_a_lease_is_renewed_while_the_block_lasts_and_tells_the_step(tmp_path):
    table = QueueTable(LocalPlane(tmp_path))
    config = RetrainingConfig(lease_minutes=1.0 / 60)  # a second
    filled(table, "price")
    job = take(table, "a", config)
    with Lease(QueueTable(LocalPlane(tmp_path)), job, config, every=0.1) as lease:
        lease.step("fitting")
        deadline = time.monotonic() + 1.5
        while time.monotonic() < deadline:
            assert take(table, "b", config) is None
            time.sleep(0.1)
    (after,) = table.read()[0]
    assert (after.last.runner, after.last.detail, len(after.moves)) == ("a", "fitting", 2)
    assert after.last.seen_at > after.last.at
    assert threading.active_count() < 50
    time.sleep(1.1)
    assert take(table, "b", config).last.attempt == 2


def test_a_runner_whose_job_was_taken_stops_at_its_next_step(tmp_path):
    table = QueueTable(LocalPlane(tmp_path))
    filled(table, "price")
    job = take(table, "a")
    late = QueueTable(LocalPlane(tmp_path), lambda: dt.datetime.now(dt.timezone.utc) + dt.timedelta(hours=1))
    assert take(late, "b").last.attempt == 2
    heard = []
    with Lease(QueueTable(LocalPlane(tmp_path)), job, CONFIG, every=0.01) as lease:
        reporter = StepReporter(Reporter(quiet=True), lambda text: (heard.append(text), lease.step(text)))
        deadline = time.monotonic() + 10
        while lease.lost is None and time.monotonic() < deadline:
            time.sleep(0.01)
        with pytest.raises(LeaseLost, match="no longer a's: b has it"), reporter.step("registering"):
            raise AssertionError("it went on")
    assert heard == ["registering"]
    assert table.read()[0][0].last.runner == "b"


def test_signs_of_life_go_on_after_one_did_not_get_through(tmp_path, caplog):
    table = QueueTable(LocalPlane(tmp_path))
    filled(table, "price")
    job, mine = take(table, "a"), QueueTable(LocalPlane(tmp_path))
    read, calls = mine.read, []

    def fails_once():
        calls.append(1)
        if len(calls) == 1:
            raise OSError("the disk is away")
        return read()

    mine.read = fails_once
    with Lease(mine, job, CONFIG, every=0.02) as lease:
        lease.step("x")
        deadline = time.monotonic() + 10
        while table.read()[0][0].last.detail != "x" and time.monotonic() < deadline:
            time.sleep(0.02)
    assert table.read()[0][0].last.detail == "x"
    assert "no sign of life" in caplog.text
