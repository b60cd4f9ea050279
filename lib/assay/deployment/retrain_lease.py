"""Consumes a job that a runner has, produces signs of life while it is run, and stops it once it is somebody else's."""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Callable, Iterator

from assay.config.retraining import RetrainingConfig
from assay.deployment.retrain_queue import Job, LeaseLost, renewed
from assay.deployment.retrain_table import QueueTable
from assay.runtime.progress import Reporter

EVERY_SECONDS = 60.0
LOGGER = logging.getLogger("assay.retrain")


class Lease:
    """A job that is this runner's, for as long as the block lasts: `with Lease(...) as lease`.

    A thread gives signs of life. `step` tells where the job is at, and raises where the job was lost: nothing that a
    runner does after that is on record as the job's.
    """

    def __init__(self, table: QueueTable, job: Job, config: RetrainingConfig, *, every: float = EVERY_SECONDS) -> None:
        """table: of this object alone, as the thread uses it.  every: seconds between signs of life, at most."""
        self.table, self.job, self.config = table, job, config
        self.every = min(every, config.lease_minutes * 60 / 3)
        self.lost: LeaseLost | None = None
        self._progress = ""
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._renew, name=f"assay-lease-{job.job_id}", daemon=True)

    def __enter__(self) -> Lease:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def step(self, progress: str) -> None:
        """Say what is done now.

        Raises:
            LeaseLost: the job is somebody else's by now.
        """
        if self.lost is not None:
            raise self.lost
        self._progress = progress

    def _renew(self) -> None:
        while not self._stop.wait(self.every):
            try:
                self.table.change(
                    lambda queue, now: renewed(
                        queue, self.job.job_id, self.job.last.runner, now, self.config, self._progress
                    )
                )
            except LeaseLost as lost:
                self.lost = lost
                return
            except Exception:  # the next one may get through; until then the lease runs on
                LOGGER.warning("no sign of life of retraining %s", self.job.job_id, exc_info=True)


class StepReporter(Reporter):
    """Tells what another reporter tells, and lets somebody hear of each step before it begins."""

    def __init__(self, whole: Reporter, heard: Callable[[str], None]) -> None:
        self.console = whole.console
        self._whole, self._heard = whole, heard

    def watch(self, context: Callable[[], object] | None) -> None:
        """Tell the other one."""
        self._whole.watch(context)

    def note(self, text: str) -> None:
        """Tell the other one."""
        self._whole.note(text)

    @contextlib.contextmanager
    def step(self, text: str) -> Iterator[None]:
        """A step that takes time."""
        self._heard(text)
        with self._whole.step(text):
            yield
