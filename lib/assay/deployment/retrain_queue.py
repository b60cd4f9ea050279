"""Consumes a queue of retraining jobs and what happens to one, produces the queue after it. Pure: no clock, no table.

A job is queued; a runner takes it for a while (a lease), which it prolongs by giving signs of life; it ends as done,
refused by a gate, failed for good or cancelled, or waits to be tried again. A lease that has run out is anybody's. As
moves go into the table one after the other, each made of the queue as it then is, nobody ever shares a job.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import hashlib
from collections.abc import Callable, Collection, Mapping, Sequence

from assay.config.retraining import RetrainingConfig
from assay.deployment.retrain_triggers import Trigger
from assay.errors import AssayError
from assay.text_enum import StrEnum

LONGEST_WAIT_MINUTES = 60.0 * 24 * 30


class State(StrEnum):
    """Of a job, and of the move that brought it there."""

    QUEUED = "queued"
    LEASED = "leased"
    WAITING = "waiting"
    DONE = "done"
    REFUSED = "refused"
    FAILED = "failed"
    CANCELLED = "cancelled"


OPEN = frozenset({State.QUEUED, State.LEASED, State.WAITING})
_ENDS = frozenset({State.DONE, State.REFUSED, State.FAILED})
LEGAL: Mapping[State | None, frozenset[State]] = {
    None: frozenset({State.QUEUED}),
    State.QUEUED: frozenset({State.LEASED, State.CANCELLED}),
    State.LEASED: frozenset({State.LEASED, State.QUEUED, State.WAITING, *_ENDS}),
    State.WAITING: frozenset({State.LEASED, State.CANCELLED}),
}


class LeaseLost(AssayError):
    """A job is no longer its runner's: the lease ran out, and somebody else took it or gave it up."""


@dataclasses.dataclass(frozen=True)
class Move:
    """One step of a job's life.

    at: clock's time.  attempt: how often the job was taken by then.  runner: who has it, or had it.
    until: end of a lease, which each sign of life puts off; or before when a job that waits is not tried again.
    seen_at: newest sign of life of the runner.  detail: progress, outcome, or what went wrong.  run_id: MLflow's.
    """

    state: State
    at: dt.datetime
    attempt: int = 0
    runner: str = ""
    until: dt.datetime | None = None
    seen_at: dt.datetime | None = None
    detail: str = ""
    run_id: str = ""


@dataclasses.dataclass(frozen=True)
class Job:
    """A retraining of one target.

    champion: model that is to be learned anew (hash of its content).  as_of: newest day of what speaks for it.
    triggers: kind -> reason.  moves: oldest first.
    """

    job_id: str
    target: str
    champion: str
    as_of: dt.date
    triggers: Mapping[str, str]
    moves: tuple[Move, ...] = ()

    @property
    def last(self) -> Move:
        """Where it stands."""
        return self.moves[-1]

    @property
    def state(self) -> State:
        """Where it stands."""
        return self.last.state

    @property
    def is_open(self) -> bool:
        """Whether something is still to happen to it."""
        return self.state in OPEN

    def moved(self, move: Move) -> Job:
        """The job after one more move.

        Raises:
            AssayError: it is not a legal one.
        """
        before = self.state if self.moves else None
        if move.state not in LEGAL.get(before, frozenset()):
            raise AssayError(f"retraining {self.job_id} of {self.target} is {before}; it cannot become {move.state}")
        return dataclasses.replace(self, moves=(*self.moves, move))

    def held(self, now: dt.datetime) -> bool:
        """Whether a runner has it, and its lease has not run out."""
        return self.state is State.LEASED and self.last.until is not None and now < self.last.until


Queue = tuple[Job, ...]


def opened(
    queue: Queue,
    target: str,
    champion: str,
    triggers: Sequence[Trigger],
    as_of: dt.date,
    now: dt.datetime,
    config: RetrainingConfig,
) -> Queue:
    """The queue after these triggers: a new job, or more reasons for the open one of the target.

    No job where the target's last one is of the same day or a later one, or within its cooldown.
    """
    if not triggers:
        return queue
    mine = [job for job in queue if job.target == target]
    told: dict[str, str] = {trigger.kind: trigger.reason for trigger in triggers}
    current = next((job for job in mine if job.is_open), None)
    if current is not None:
        return _with(queue, dataclasses.replace(current, triggers={**told, **current.triggers}))
    last = last_retraining(queue, target)
    if last is not None and (as_of <= last or (as_of - last).days < config.cooldown_days):
        return queue
    job = Job(job_id_of(target, champion, as_of), target, champion, as_of, told)
    if any(job.job_id == one.job_id for one in mine):
        return queue
    return (*queue, job.moved(Move(State.QUEUED, now)))


def last_retraining(queue: Queue, target: str) -> dt.date | None:
    """Day of the target's newest job; those that were cancelled do not count."""
    return max((job.as_of for job in queue if job.target == target and job.state is not State.CANCELLED), default=None)


def job_id_of(target: str, champion: str, as_of: dt.date) -> str:
    """Of the job that these inputs make: two runs that see the same thing open the same one."""
    return hashlib.sha256(f"{target}\n{champion}\n{as_of}".encode()).hexdigest()[:12]


def cancelled(queue: Queue, champions: Mapping[str, str], now: dt.datetime) -> Queue:
    """The queue without jobs that nobody has begun and nobody needs.

    champions: target -> the model that serves. Where another one serves than the job was to learn anew, or the target
    is gone, there is nothing to do.
    """
    for job in queue:
        if job.state in {State.QUEUED, State.WAITING} and champions.get(job.target) != job.champion:
            there = job.target in champions
            detail = "another champion serves by now" if there else "the dataset has no such target any more"
            queue = _with(queue, job.moved(Move(State.CANCELLED, now, job.last.attempt, detail=detail)))
    return queue


def swept(queue: Queue, now: dt.datetime, config: RetrainingConfig) -> Queue:
    """The queue after those have failed whose runner died and that were tried often enough."""
    for job in queue:
        if job.state is State.LEASED and not job.held(now) and job.last.attempt > config.retries:
            detail = f"{job.last.runner} gave no sign of life since {job.last.seen_at:%Y-%m-%d %H:%M}"
            failed = dataclasses.replace(job.last, state=State.FAILED, at=now, until=None, detail=detail)
            queue = _with(queue, job.moved(failed))
    return queue


def due(queue: Queue, now: dt.datetime, concurrency: int) -> list[Job]:
    """Jobs that may be taken now, the oldest first, no more than may be under way besides those that are."""
    free = [job for job in queue if _is_free(job, now)]
    return sorted(free, key=lambda job: (job.moves[0].at, job.job_id))[: max(0, concurrency - under_way(queue, now))]


def under_way(queue: Queue, now: dt.datetime) -> int:
    """Jobs that runners have."""
    return sum(job.held(now) for job in queue)


def _is_free(job: Job, now: dt.datetime) -> bool:
    if job.state is State.WAITING:
        return job.last.until is None or job.last.until <= now
    return job.state is State.QUEUED or (job.state is State.LEASED and not job.held(now))


def lease(queue: Queue, job_id: str, runner: str, now: dt.datetime, config: RetrainingConfig) -> Queue:
    """The queue after the runner took the job.

    Raises:
        AssayError: it is not due.
    """
    job = next((job for job in due(queue, now, config.concurrency) if job.job_id == job_id), None)
    if job is None:
        raise AssayError(f"retraining {job_id} is not due")
    until = now + dt.timedelta(minutes=config.lease_minutes)
    return _with(queue, job.moved(Move(State.LEASED, now, job.last.attempt + 1, runner, until, now)))


def taken(
    queue: Queue, runner: str, now: dt.datetime, config: RetrainingConfig, without: Collection[str] = ()
) -> tuple[Queue, Job | None]:
    """The queue after the runner took the oldest job that is due, and that job; None where none is.

    without: jobs that it shall not take.
    """
    queue = swept(queue, now, config)
    job = next((job for job in due(queue, now, config.concurrency) if job.job_id not in without), None)
    if job is None:
        return queue, None
    queue = lease(queue, job.job_id, runner, now, config)
    return queue, next(one for one in queue if one.job_id == job.job_id)


def renewed(queue: Queue, job_id: str, runner: str, now: dt.datetime, config: RetrainingConfig, progress: str) -> Queue:
    """The queue after a sign of life, which takes the place of the one before.

    A lease that has run out is still the runner's while nobody else took the job.

    Raises:
        LeaseLost: somebody did.
    """
    until = now + dt.timedelta(minutes=config.lease_minutes)
    return _moved(
        queue, job_id, runner, lambda held: dataclasses.replace(held, until=until, seen_at=now, detail=progress)
    )


def finished(
    queue: Queue, job_id: str, runner: str, now: dt.datetime, state: State, detail: str, run_id: str = ""
) -> Queue:
    """The queue after the job came to an end: done, or refused.

    Raises:
        LeaseLost: it is somebody else's.
    """
    return _moved(queue, job_id, runner, lambda held: _after(held, state, now, detail, run_id=run_id))


def failed(queue: Queue, job_id: str, runner: str, now: dt.datetime, config: RetrainingConfig, detail: str) -> Queue:
    """The queue after an attempt failed: it waits for the next one, or has failed for good.

    Raises:
        LeaseLost: it is somebody else's.
    """

    def after(held: Move) -> Move:
        if held.attempt > config.retries:
            return _after(held, State.FAILED, now, detail)
        minutes = min(config.backoff_minutes * config.backoff_factor ** (held.attempt - 1), LONGEST_WAIT_MINUTES)
        return _after(held, State.WAITING, now, detail, until=now + dt.timedelta(minutes=minutes))

    return _moved(queue, job_id, runner, after)


def released(queue: Queue, job_id: str, runner: str, now: dt.datetime, detail: str) -> Queue:
    """The queue after a runner that has to stop gave the job back: that attempt does not count.

    Raises:
        LeaseLost: it is somebody else's.
    """

    def after(held: Move) -> Move:
        back = _after(held, State.QUEUED, now, detail)
        return dataclasses.replace(back, attempt=held.attempt - 1)

    return _moved(queue, job_id, runner, after)


def _after(
    held: Move, state: State, now: dt.datetime, detail: str, *, until: dt.datetime | None = None, run_id: str = ""
) -> Move:
    return dataclasses.replace(held, state=state, at=now, until=until, detail=detail, run_id=run_id)


def _moved(queue: Queue, job_id: str, runner: str, after: Callable[[Move], Move]) -> Queue:
    """The queue after a move of the job's own runner. A further sign of life replaces the one before."""
    job = next((job for job in queue if job.job_id == job_id), None)
    if job is None or job.state is not State.LEASED or job.last.runner != runner:
        whose = job.last.runner if job is not None and job.state is State.LEASED else "nobody"
        raise LeaseLost(f"retraining {job_id} is no longer {runner}'s: {whose} has it")
    move = after(job.last)
    if move.state is State.LEASED:
        return _with(queue, dataclasses.replace(job, moves=(*job.moves[:-1], move)))
    return _with(queue, job.moved(move))


def _with(queue: Queue, job: Job) -> Queue:
    """The queue with this job in place of the one that it was."""
    return tuple(job if one.job_id == job.job_id else one for one in queue)
