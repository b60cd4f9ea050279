"""Consumes changes of the queue, produces the table `retrain_queue`: each change is made of the queue as it then is."""

from __future__ import annotations

import datetime as dt
import hashlib
from collections.abc import Callable, Sequence
from itertools import groupby
from typing import Any

import pyarrow as pa

from assay.config import canonical_json
from assay.deployment.retrain_queue import Job, Move, Queue, State
from assay.errors import AssayError, Overtaken
from assay.runtime.deployment_tables import RETRAIN_QUEUE
from assay.runtime.plane import NEVER, Commit, Output, Plane, Written

JOB, SLOT = "retrain", "all"
TRIES = 100  # of a change, while others change the queue
Clock = Callable[[], dt.datetime]


def wall_clock() -> dt.datetime:
    """Now, UTC."""
    return dt.datetime.now(dt.timezone.utc)


class QueueTable:
    """The queue of a workspace, as the table has it.

    The table is one slot, so that changes come one after the other, whoever makes them: only so can two runners neither
    take the same job nor more jobs than may be under way.
    """

    def __init__(self, plane: Plane, clock: Clock = wall_clock) -> None:
        self.plane, self.clock = plane, clock
        self.written: Written | None = None

    def read(self) -> tuple[Queue, int]:
        """The queue, and the table's version; `NEVER` where there is no table."""
        version = self.plane.version(RETRAIN_QUEUE.name)
        if version is None:
            return (), NEVER
        return queue_of(self.plane.read(RETRAIN_QUEUE.name, version=version).collect().to_pylist()), version

    def change(self, change: Callable[[Queue, dt.datetime], Queue]) -> Queue:
        """The queue after a change, which gets the queue and the clock's time; again where others were faster.

        Raises:
            AssayError: what the change raises; or others were faster all the time.
        """
        for _ in range(TRIES):
            queue, version = self.read()
            after = change(queue, self.clock())
            if after == queue:
                return queue
            try:
                self._write(after, version)
                return after
            except Overtaken:
                continue
        raise AssayError(f"table {RETRAIN_QUEUE.name}: others wrote it {TRIES} times while this run did; run it again")

    def _write(self, queue: Queue, version: int) -> None:
        schema, rows = RETRAIN_QUEUE.schema(), rows_of(queue)
        identity = hashlib.sha256(canonical_json(rows).encode()).hexdigest()[:16]
        output = Output(RETRAIN_QUEUE, schema, Commit(-1, JOB, SLOT, identity), expects=version)
        flow = self.plane.rows_of(RETRAIN_QUEUE, schema, pa.Table.from_pylist(rows, schema))
        (self.written,) = flow.write([output])


def rows_of(queue: Queue) -> list[dict[str, Any]]:
    """Rows of the table."""
    return [
        {
            "job_id": job.job_id,
            "target": job.target,
            "champion": job.champion,
            "as_of": job.as_of,
            "triggers": list(job.triggers),
            "reasons": list(job.triggers.values()),
            "move": number,
            "is_last": move is job.last,
            "state": move.state.value,
            "at": move.at,
            "attempt": move.attempt,
            "runner": move.runner or None,
            "until": move.until,
            "seen_at": move.seen_at,
            "detail": move.detail or None,
            "run_id": move.run_id or None,
        }
        for job in queue
        for number, move in enumerate(job.moves)
    ]


def queue_of(rows: Sequence[dict[str, Any]]) -> Queue:
    """Back from the rows, in any order; jobs in the order in which they were opened."""
    ordered = sorted(rows, key=lambda row: (row["job_id"], row["move"]))
    jobs = [_job(list(moves)) for _, moves in groupby(ordered, key=lambda row: row["job_id"])]
    return tuple(sorted(jobs, key=lambda job: (job.moves[0].at, job.job_id)))


def _job(rows: Sequence[dict[str, Any]]) -> Job:
    first = rows[0]
    triggers = dict(zip(first["triggers"], first["reasons"], strict=True))
    return Job(first["job_id"], first["target"], first["champion"], first["as_of"], triggers, tuple(map(_move, rows)))


def _move(row: dict[str, Any]) -> Move:
    return Move(
        State(row["state"]),
        row["at"],
        row["attempt"],
        row["runner"] or "",
        row["until"],
        row["seen_at"],
        row["detail"] or "",
        row["run_id"] or "",
    )
