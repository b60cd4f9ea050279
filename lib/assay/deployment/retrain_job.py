"""Consumes what speaks for learning champions anew, produces jobs in `retrain_queue`, and runs those that are due.

Training itself belongs to another stage; the pipeline hands it in.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import os
import socket
import uuid
from collections.abc import Callable, Sequence

from assay.config import canonical_json
from assay.deployment.registry_context import versions_for
from assay.deployment.retrain_lease import Lease, StepReporter
from assay.deployment.retrain_looking import Looked, Looking
from assay.deployment.retrain_queue import (
    Job,
    LeaseLost,
    Queue,
    State,
    cancelled,
    failed,
    finished,
    opened,
    released,
    taken,
    under_way,
)
from assay.deployment.retrain_table import JOB, QueueTable
from assay.errors import AssayError, from_worker
from assay.runtime.deployment_tables import RETRAIN_QUEUE, UNDERPERFORMERS
from assay.runtime.failures import unexpected
from assay.runtime.job import DONE, REFUSED, UNCHANGED, JobContext, Result, TableState, choose_plane
from assay.runtime.logs import redact
from assay.runtime.plane import Written

Train = Callable[[JobContext, str], Result]  # learns one target anew, calibrates and registers
LONGEST_DETAIL = 500


def run(context: JobContext, train: Train) -> Result:
    """Look at all targets, put on record what speaks for retraining, work off what is due.

    Raises:
        UserError: the run is of a slice; or monitoring has not run.
        AssayError: a retraining failed for good.
    """
    context.refuse_slice("retrain")
    return _Run(context, train).run()


class _Run:
    """One run. runner: what its leases say; no other run has it."""

    def __init__(self, context: JobContext, train: Train) -> None:
        self.context, self.train = context, train
        self.config = context.config.profile.retraining
        self.plane = choose_plane(context, here=True)
        self.table = QueueTable(self.plane)
        self.runner = f"{socket.gethostname()}:{os.getpid()}:{uuid.uuid4().hex[:8]}"
        self.written: list[Written] = []
        self.summary: list[str] = []
        self.run_id = ""
        self.ended: list[Job] = []

    def run(self) -> Result:
        looking, (before, _) = Looking(self.context, self.plane), self.table.read()
        looked = [looking.at(target.name, before) for target in self.context.config.dataset.targets]
        for one in looked:
            self.written += looking.put_on_record(one)
            self.summary += one.summary
        self.tell_new(before, self.table.change(lambda queue, now: self.after(queue, looked, now)))
        tried: set[str] = set()
        while (job := self.take(tried)) is not None:
            tried.add(job.job_id)
            self.work_on(job)
        return self.result()

    def after(self, queue: Queue, looked: Sequence[Looked], now: dt.datetime) -> Queue:
        """The queue after what this run saw."""
        queue = cancelled(queue, {one.target: one.champion for one in looked}, now)
        for one in looked:
            if one.as_of is not None:
                queue = opened(queue, one.target, one.champion, one.triggers, one.as_of, now, self.config)
        return queue

    def tell_new(self, before: Queue, after: Queue) -> None:
        """Say which jobs are new, with their reasons, and which were cancelled."""
        known = {job.job_id: job for job in before}
        for job in after:
            if job.job_id not in known:
                self.summary.append(f"{job.target}: to be learned anew: {'; '.join(job.triggers.values())}")
            elif job.state is State.CANCELLED and known[job.job_id].is_open:
                self.summary.append(f"{job.target}: retraining of {job.as_of} cancelled: {job.last.detail}")

    def take(self, without: set[str]) -> Job | None:
        """The next job that is due, which is this runner's from now on."""
        found: list[Job | None] = [None]

        def change(queue: Queue, now: dt.datetime) -> Queue:
            queue, found[0] = taken(queue, self.runner, now, self.config, without)
            return queue

        self.table.change(change)
        return found[0]

    def work_on(self, job: Job) -> None:
        """Learn a job's target anew, and put on record what came of it."""
        self.context.reporter.say(f"retraining of {job.target}, attempt {job.last.attempt}", style="bold")
        try:
            result = self.trained(job)
        except LeaseLost as lost:
            self.summary.append(f"{job.target}: {lost}")
        except Exception as error:
            known = error if isinstance(error, AssayError) else from_worker(error)
            known = known or unexpected(error, self.context.config.workspace)
            told = redact(" ".join(str(known).split()))[:LONGEST_DETAIL]
            self.end(job, lambda queue, now: failed(queue, job.job_id, self.runner, now, self.config, told))
        except BaseException:
            self.end(job, lambda queue, now: released(queue, job.job_id, self.runner, now, "its runner had to stop"))
            raise
        else:
            state = State.REFUSED if result.status == REFUSED else State.DONE
            self.summary += result.summary
            told = "; ".join(result.summary) if state is State.REFUSED else self.registered(job, result)
            self.end(job, lambda queue, now: finished(queue, job.job_id, self.runner, now, state, told, result.run_id))

    def trained(self, job: Job) -> Result:
        """What training did, while a thread gave signs of life."""
        context = self.context
        identity = hashlib.sha256(f"{job.job_id} {job.last.attempt}".encode()).hexdigest()[:16]
        with Lease(QueueTable(choose_plane(context, here=True)), job, self.config) as lease:
            inside = context.about(context.config.dataset)
            inside.reporter = StepReporter(context.reporter, lease.step)
            with context.tracking.run(JOB, identity) as self.run_id:
                context.tracking.tags({"assay.retraining": job.job_id, "assay.target": job.target})
                context.tracking.json(dict(job.triggers), "triggers.json")
                result = self.train(inside, job.target)
                lease.step("trained")
                context.tracking.metrics(result.metrics)
                context.tracking.finish(REFUSED if result.status == REFUSED else DONE)
        return result

    def registered(self, job: Job, result: Result) -> str:
        """What a training left, in words."""
        of_run = [one for one in versions_for(self.context, job.target) if one.trained_run_id == result.run_id]
        if not of_run:
            return "nothing was registered"
        told = f"{of_run[-1].told}, {of_run[-1].state}"
        same = of_run[-1].tag("model_version") == job.champion
        return f"nothing new to learn from: {told}" if same else told

    def end(self, job: Job, change: Callable[[Queue, dt.datetime], Queue]) -> None:
        """Put the outcome on record, unless the job was lost."""
        try:
            queue = self.table.change(change)
        except LeaseLost as lost:
            self.summary.append(f"{job.target}: {lost}")
            return
        ended = next(one for one in queue if one.job_id == job.job_id)
        self.ended.append(ended)
        again = f", tried again from {ended.last.until:%Y-%m-%d %H:%M} UTC on" if ended.last.until is not None else ""
        self.summary.append(f"{job.target}: retraining is {ended.state}{again}: {ended.last.detail}")

    def result(self) -> Result:
        """What this run did.

        Raises:
            AssayError: a retraining failed for good.
        """
        given_up = [job for job in self.ended if job.state is State.FAILED]
        if given_up:
            told = "; ".join(f"{job.target} after {job.last.attempt} attempts: {job.last.detail}" for job in given_up)
            raise AssayError(f"retraining failed for good: {told}")
        queue, _ = self.table.read()
        open_states, ends = (State.QUEUED, State.WAITING), (State.DONE, State.REFUSED)
        metrics = {
            **{f"retrain_{state}": float(sum(job.state is state for job in queue)) for state in open_states},
            **{f"retrain_{state}": float(sum(job.state is state for job in self.ended)) for state in ends},
            "retrain_under_way": float(under_way(queue, self.table.clock())),
        }
        refused = any(job.state is State.REFUSED for job in self.ended)
        changed = bool(self.written) or self.table.written is not None
        status = REFUSED if refused else DONE if changed else UNCHANGED
        states = [f"{job.job_id} {job.state}" for job in queue]
        identity = hashlib.sha256(canonical_json(states).encode()).hexdigest()[:16]
        return Result(JOB, status, self.run_id, identity, metrics, self.tables(), self.summary or ["nothing to do"])

    def tables(self) -> dict[str, TableState]:
        """The tables as they are."""
        found = {table.name: self.plane.version(table.name) for table in (RETRAIN_QUEUE, UNDERPERFORMERS)}
        return {n: TableState(self.plane.location(n), version) for n, version in found.items() if version is not None}
