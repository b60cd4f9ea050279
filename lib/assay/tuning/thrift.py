"""Consumes several proposals, produces the one that is likely to take the least time: improvement is wanted per second.

(Snoek, Larochelle and Adams 2012, "Practical Bayesian Optimization of Machine Learning Algorithms": expected
improvement per second.) Deep trees in small steps take many times as long as shallow ones in large steps, and are often
no better.
"""

from __future__ import annotations

import dataclasses
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from assay.tuning.journal import COMPLETE, Trial
from assay.tuning.samplers import Sampler
from assay.tuning.space import Params, Space

Floats = npt.NDArray[np.float64]
LEAST_TRIALS = 4
STRIDE = 100_003  # between the seeds of proposals of one trial: the samplers' seeds of two trials are neighbours
RIDGE = 0.3


@dataclasses.dataclass(frozen=True)
class Cost:
    """Logarithm of a trial's seconds as a line over shares of each parameter's range. slopes: (p,), about `centre`."""

    space: Space
    level: float
    centre: Floats
    slopes: Floats

    @classmethod
    def of(cls, space: Space, trials: Sequence[Trial]) -> Cost | None:
        """Fitted by ridge regression to trials that have ended; None where they are too few.

        Of a trial that was ended early a whole one's seconds are taken: as many rounds as complete ones typically have.
        """
        complete = [t for t in trials if t.state == COMPLETE]
        ended = [t for t in trials if t.finished and t.seconds > 0]
        if len(ended) < LEAST_TRIALS or not complete:
            return None
        typical = statistics.median(_rounds(t) for t in complete)
        whole = [1.0 if t.state == COMPLETE else max(1.0, typical / _rounds(t)) for t in ended]
        y = np.log([t.seconds * times / t.share for t, times in zip(ended, whole, strict=True)])
        x = np.array([_places(space, t.point) for t in ended])
        centre = x.mean(axis=0)
        moved = x - centre
        slopes = np.linalg.solve(moved.T @ moved + RIDGE * np.eye(x.shape[1]), moved.T @ (y - y.mean()))
        return cls(space, float(y.mean()), centre, slopes)

    def seconds(self, point: Mapping[str, Any]) -> float:
        """That a trial is likely to take."""
        return float(np.exp(self.level + (_places(self.space, point) - self.centre) @ self.slopes))


@dataclasses.dataclass(frozen=True)
class Thrifty:
    """Takes the cheapest of so many proposals of a sampler."""

    sampler: Sampler
    space: Space
    among: int

    def propose(self, number: int, trials: Sequence[Trial]) -> Params | None:
        """The cheapest; while costs are unknown the first."""
        cost = Cost.of(self.space, trials)
        seeds = [number + STRIDE * place for place in range(self.among if cost is not None else 1)]
        found = [one for seed in seeds if (one := self.sampler.propose(seed, trials)) is not None]
        return min(found, key=cost.seconds, default=None) if cost is not None else next(iter(found), None)


def _rounds(trial: Trial) -> int:
    return max((step for step, _ in trial.values), default=1)


def _places(space: Space, point: Mapping[str, Any]) -> Floats:
    return np.array([parameter.share(point[name]) for name, parameter in space.parameters.items()])
