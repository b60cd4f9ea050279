"""Consumes what slots ask and report, produces trials for them, until the budget is spent. Lives on the driver.

Slots are tasks that ask for one trial after the other. One that asks again while it has a trial has been started anew:
it gets the same trial again.
"""

from __future__ import annotations

import dataclasses
import math
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from assay.errors import AssayError
from assay.tuning.journal import COMPLETE, FAILED, PRUNED, RUNNING, Journal, Trial, best_of
from assay.tuning.pruners import Pruner
from assay.tuning.samplers import Sampler
from assay.tuning.screening import Screening
from assay.tuning.space import Params

FAILURES = 3  # in a row, that end a study
SLACK = 1e-6  # of sums of shares


@dataclasses.dataclass
class Running:
    """A trial that a slot is at."""

    number: int
    params: Params
    point: Params
    began: float
    seconds: float = 0.0
    share: float = 1.0
    of: int | None = None
    values: list[tuple[int, float]] = dataclasses.field(default_factory=list)


@dataclasses.dataclass(frozen=True)
class Budget:
    """Trials that may finish, those of earlier runs among them, and seconds that this run may take; 0: any number.

    A trial on a part of the rows counts as that part of one.
    """

    trials: int
    seconds: float = 0.0


class Study:
    """Deals trials and keeps what comes of them. Slots call it from threads of their own.

    start: point of the engine's own parameters, with which to begin; None begins with a proposal.
    variants: points near it that are tried next.
    screening: what new parameters are learned from first.
    error: what ended it before its time.  broken: a slot failed, and raises why.
    """

    def __init__(
        self,
        journal: Journal,
        sampler: Sampler,
        pruner: Pruner,
        budget: Budget,
        *,
        on_trial: Callable[[Trial], None] = lambda _: None,
        on_report: Callable[[int, int, float], None] = lambda *_: None,
    ) -> None:
        """on_trial: told of each trial that ends.  on_report: trial, round, loss."""
        self.journal, self.sampler, self.pruner, self.budget = journal, sampler, pruner, budget
        self.error: Exception | None = None
        self.broken = False
        self.start: Params | None = None
        self.variants: Sequence[Params] = ()
        self.screening = Screening()
        self._on_trial, self._on_report = on_trial, on_report
        self._lock = threading.Lock()
        self._running: dict[int, Running] = {}
        self._next = 1 + max((t.number for t in journal.trials), default=-1)
        self._began = time.monotonic()
        self._before = max((t.at_s for t in journal.trials), default=0.0)
        self._failures = 0

    def begin(self) -> None:
        """Let seconds count from now on, not from when it was made."""
        with self._lock:
            self._began = time.monotonic()

    @property
    def trials(self) -> list[Trial]:
        """All that have ended."""
        return self.journal.trials

    @property
    def finished(self) -> float:
        """Trials that count for the budget, as many as they are worth."""
        return sum(trial.share for trial in self.trials if trial.finished)

    @property
    def left(self) -> float:
        """What nobody has begun of the budget."""
        return self.budget.trials - self.finished - sum(one.share for one in tuple(self._running.values()))

    @property
    def best(self) -> Trial | None:
        """The best so far."""
        return best_of(self.trials)

    def answer(self, message: Mapping[str, Any]) -> dict[str, Any]:
        """What a slot is told. It ends when there is no trial for it; what goes wrong here ends all of them."""
        with self._lock:
            try:
                slot = int(message["slot"])
                if message["ask"] == "broken":
                    self.broken = True
                    raise AssayError(f"slot {slot} broke down")
                if message["ask"] == "trial":
                    return self._deal(slot)
                return self._take(slot, message)
            except Exception as error:
                self.error = self.error or error
                return {"stop": True}

    def _deal(self, slot: int) -> dict[str, Any]:
        if self.error is not None:
            return {}
        found = self._running.get(slot)
        if found is not None:
            found.values, found.began = [], time.monotonic()
        else:
            found = self._new()
            if found is None:
                return {}
            self._running[slot] = found
        return {"trial": found.number, "params": found.params, "share": found.share}

    def _new(self) -> Running | None:
        share, now = self.screening.share, time.monotonic()
        running = [_as_trial(one) for one in self._running.values()]
        late = self._too_late()
        if self.left < min(share, 1 - SLACK) - SLACK or (late and (self.best is not None or running)):
            return None
        if self.start is not None and not self.trials and not running:
            found = Running(self._next, {}, self.start, now)
        else:
            last = late or self.left < 1 + share
            worth = self.screening.worth_all_rows(self.trials, running, last=last)
            if worth is not None:
                found = Running(self._next, dict(worth.params), dict(worth.point), now, of=worth.number)
            else:
                known = self.screening.learned_from([*self.trials, *running])
                had = [trial.point for trial in known]
                proposed = next((point for point in self.variants if point not in had), None)
                if proposed is None and (not late or not self.trials):
                    proposed = self.sampler.propose(self._next, known)
                if proposed is None:
                    return None
                found = Running(self._next, proposed, proposed, now, share=share)
        self._next += 1
        return found

    def _too_late(self) -> bool:
        return 0 < self.budget.seconds <= time.monotonic() - self._began

    def _take(self, slot: int, message: Mapping[str, Any]) -> dict[str, Any]:
        """A report of rounds, or how a trial ended."""
        found = self._running.get(slot)
        if found is None or found.number != message["trial"] or self.error is not None:
            return {"stop": True}
        for step, loss in message.get("values", ()):
            if loss is not None and math.isfinite(loss):
                found.values.append((int(step), float(loss)))
        found.seconds = float(message.get("seconds", time.monotonic() - found.began))
        if message["ask"] == "ended":
            loss = message["loss"]
            if loss is None or not math.isfinite(loss):
                self._end(slot, FAILED, None, 0, str(message.get("reason") or "its loss is no number"))
            else:
                self._end(slot, COMPLETE, float(loss), int(message["rounds"]))
            return {}
        if found.values:
            self._on_report(found.number, *found.values[-1])
            others = [t for t in self.trials if t.share == found.share]
            if self.pruner.ends(found.number, found.point, found.values, others):
                rounds, loss = min(found.values, key=lambda pair: pair[1])
                self._end(slot, PRUNED, loss, rounds)
                return {"stop": True}
        if self._too_late() and self.best is not None:
            del self._running[slot]
            return {"stop": True}
        return {}

    def _end(self, slot: int, state: str, loss: float | None, rounds: int, reason: str = "") -> None:
        found, now = self._running.pop(slot), time.monotonic()
        trial = Trial(
            number=found.number,
            params=found.params,
            point=found.point,
            state=state,
            loss=loss,
            rounds=rounds,
            values=tuple(found.values),
            seconds=found.seconds,
            at_s=self._before + now - self._began,
            slot=slot,
            reason=reason,
            share=found.share,
            of=found.of,
        )
        self.journal.add(trial)
        self._failures = self._failures + 1 if state == FAILED else 0
        if self._failures >= FAILURES:
            raise AssayError(
                f"{FAILURES} trials failed one after the other, the last one with {found.params}: {reason}"
            )
        self._on_trial(trial)


def _as_trial(running: Running) -> Trial:
    return Trial(
        running.number,
        running.params,
        running.point,
        RUNNING,
        None,
        0,
        tuple(running.values),
        0,
        0,
        share=running.share,
        of=running.of,
    )
