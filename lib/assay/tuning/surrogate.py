"""Consumes complete trials, produces how much parameters matter, alone and in pairs, by a forest fitted to losses.

The loss over the search space is taken apart into a mean, what each parameter does alone, what each pair does beyond
that, and the rest; shares are of the variance (functional ANOVA: Hutter, Hoos and Leyton-Brown 2014, "An Efficient
Approach for Assessing Hyperparameter Importance"). Averages are over points spread evenly over the space.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from assay.tuning.journal import COMPLETE, Trial
from assay.tuning.space import Choice, Space

Floats = npt.NDArray[np.float64]
LEAST_TRIALS = 6
TREES = 64
BACKGROUND = 64  # points over which the other parameters are averaged
LEVELS = 12  # of a parameter


@dataclasses.dataclass(frozen=True)
class Surrogate:
    """A forest that says the loss at any point of the space, given as shares (n, p) of each parameter's range."""

    space: Space
    forest: Any
    background: Floats

    def effect(self, *names: str) -> Floats:
        """Mean loss at each level of one parameter (LEVELS,), or at each pair of levels of two (LEVELS, LEVELS)."""
        places = [list(self.space.parameters).index(name) for name in names]
        grid = np.array(list(itertools.product(levels(), repeat=len(places))))
        points = np.repeat(self.background[None, :, :], len(grid), axis=0)
        for column, place in enumerate(places):
            points[:, :, place] = grid[:, column, None]
        found = self.forest.predict(points.reshape(-1, points.shape[2])).reshape(len(grid), -1).mean(axis=1)
        result: Floats = found.reshape((LEVELS,) * len(places))
        return result

    def shares(self) -> tuple[dict[str, float], dict[tuple[str, str], float]]:
        """Of the variance of the loss: what each parameter has alone, and each pair beyond its two parameters."""
        names = list(self.space.parameters)
        total = float(np.var(self.forest.predict(self.background)))
        if not total:
            return dict.fromkeys(names, 0.0), dict.fromkeys(itertools.combinations(names, 2), 0.0)
        alone = {name: self.effect(name) for name in names}
        pairs = {}
        for one, other in itertools.combinations(names, 2):
            both = self.effect(one, other)
            beyond = both - alone[one][:, None] - alone[other][None, :] + both.mean()
            pairs[one, other] = float(np.var(beyond)) / total
        return {name: float(np.var(found)) / total for name, found in alone.items()}, pairs


def levels() -> Floats:
    """Shares of a range at which effects are looked at."""
    return (np.arange(LEVELS) + 0.5) / LEVELS


def fitted(space: Space, trials: Sequence[Trial], seed: int = 0) -> Surrogate | None:
    """The surrogate of complete trials; None where there are too few, or all have the same loss."""
    from scipy.stats import qmc
    from sklearn.ensemble import RandomForestRegressor

    complete = [t for t in trials if t.state == COMPLETE and t.loss is not None]
    loss = np.array([t.loss for t in complete])
    if len(complete) < LEAST_TRIALS or loss.min() == loss.max():
        return None
    points = np.array([places(space, t) for t in complete])
    forest = RandomForestRegressor(n_estimators=TREES, min_samples_leaf=2, random_state=seed, n_jobs=1)
    forest.fit(points, np.minimum(loss, np.quantile(loss, 0.9)))  # one hopeless trial would be all there is to see
    background = qmc.Sobol(len(space.parameters), seed=seed).random(BACKGROUND)
    return Surrogate(space, forest, background)


def places(space: Space, trial: Trial) -> list[float]:
    """A trial's point as shares of each parameter's range."""
    return [parameter.share(trial.point[name]) for name, parameter in space.parameters.items()]


def is_choice(space: Space, name: str) -> bool:
    """Whether a parameter's values have no order."""
    return isinstance(space.parameters[name], Choice)
