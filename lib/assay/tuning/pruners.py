"""Consumes a trial's losses so far and those of others, produces whether it is worth going on."""

from __future__ import annotations

import dataclasses
import math
import statistics
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from assay.tuning.journal import COMPLETE, Trial

Values = Sequence[tuple[int, float]]
STEP_SIZES = ("eta", "learning_rate")  # what boosters call it
MOST = 0.99  # step that is told from a whole one


class Pruner(Protocol):
    """Asked each time a trial reports."""

    def ends(self, number: int, point: Mapping[str, Any], values: Values, trials: Sequence[Trial]) -> bool:
        """Whether the trial should end here.

        point: its parameters.  values: its (round, loss), the newest last.  trials: all that have ended.
        """
        ...


def step_size(point: Mapping[str, Any]) -> float:
    """How far a boosting round goes, -log(1 - step): what is left of an error shrinks by exp(-far); 1 without a step.

    Rounds times that is how far a trial has come. At the same round, one in small steps is behind by nature, not
    because it is worse: compared by rounds, all of them would be ended, and they are what a low loss needs.
    """
    step = float(next((point[name] for name in STEP_SIZES if name in point), 0.0))
    return -math.log1p(-min(step, MOST)) if step > 0 else 1.0


def best_by(values: Values, step: float) -> float | None:
    """The least loss up to a round; None where nothing was reported by then."""
    return min((loss for at, loss in values if at <= step), default=None)


@dataclasses.dataclass(frozen=True)
class Never:
    """Every trial runs to its end."""

    def ends(self, number: int, point: Mapping[str, Any], values: Values, trials: Sequence[Trial]) -> bool:
        """No."""
        return False


@dataclasses.dataclass(frozen=True)
class Median:
    """Ends a trial whose best loss is worse than the median of what complete trials had come to when as far as it is.

    (Golovin et al. 2017, "Google Vizier", there by rounds; see `step_size`.) A trial that ended early stands at its
    best from then on.  first: complete trials before any is ended.  warm: rounds before that.
    """

    first: int = 5
    warm: int = 10

    def ends(self, number: int, point: Mapping[str, Any], values: Values, trials: Sequence[Trial]) -> bool:
        """See above."""
        step, mine = values[-1][0], min(loss for _, loss in values)
        far = step * step_size(point)
        others = [best_by(t.values, far / step_size(t.point)) for t in trials if t.state == COMPLETE]
        reached = [loss for loss in others if loss is not None]
        return step > self.warm and len(reached) >= self.first and mine > statistics.median(reached)


@dataclasses.dataclass(frozen=True)
class Hyperband:
    """Asynchronous Hyperband: at each rung a trial goes on if it is among the best third that came there.

    (Li et al. 2020, "A System for Massively Parallel Hyperparameter Tuning".) Rungs are at rounds, rounds / 3,
    rounds / 9 and so on, and what is compared is how far the others were when as far as the trial is (`step_size`);
    trials take turns in which rung is the first that may end them.
    """

    rounds: int
    keep: int = 3
    lowest: int = 5

    @property
    def rungs(self) -> list[int]:
        """Rounds at which trials are compared, ascending; the end of training is none."""
        found: list[int] = []
        rung = self.rounds // self.keep
        while rung >= self.lowest:
            found.insert(0, rung)
            rung //= self.keep
        return found

    def ends(self, number: int, point: Mapping[str, Any], values: Values, trials: Sequence[Trial]) -> bool:
        """See above."""
        rungs = self.rungs
        if not rungs:
            return False
        now, before = values[-1][0], values[-2][0] if len(values) > 1 else 0
        brackets = len(rungs)
        for rung in rungs[number % brackets :]:
            if before < rung <= now:
                mine = min(loss for _, loss in values)
                far = now * step_size(point)
                rivals = [t for t in trials if t.number % brackets == number % brackets and _came_to(t, rung)]
                came = [best_by(t.values, far / step_size(t.point)) for t in rivals]
                better = sum(loss is not None and loss < mine for loss in came)
                return better >= max(1, (len(came) + 1) // self.keep)
        return False


def _came_to(trial: Trial, rung: int) -> bool:
    """A complete trial that ended before the rung is there, too: with its best."""
    return trial.state == COMPLETE or (bool(trial.values) and trial.values[-1][0] >= rung)


def pruner_named(name: str, rounds: int) -> Pruner:
    """The pruner of `tuning.pruner`. rounds: most that a trial may have."""
    if name == "median":
        return Median()
    return Hyperband(rounds) if name == "hyperband" else Never()
