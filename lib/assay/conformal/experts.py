"""Consumes how unusual outcomes were among the scores known before them, produces alpha without a step size to choose.

DtACI (Gibbs and Candès 2024, "Conformal inference for online prediction with arbitrary distribution shifts"): experts
i = 1, ..., k each follow the misses with a step size g[i] of their own, and alpha is their mean with weights p. With
beta the largest alpha whose interval still holds an outcome, and the pinball loss

    l(beta, a) = aim * (beta - a) - min(0, beta - a),

    p[i] <- (1 - sigma) * p[i] * exp(-eta * l(beta, a[i])) / sum + sigma / k,
    a[i] <- a[i] + g[i] * (aim - [a[i] >= beta]),

where eta and sigma are those of the paper for a stretch of `horizon` steps, on each of which the regret against the
best fixed alpha is small. Of the n rows of a group that are heard at one step the mean loss and the share of misses
count, times n / (n + damping_rows), as in `adaptive.py`: with a row per step and no damping it is the published rule.
An expert is judged by the interval that its own alpha would have given, which is infinite where alpha asks for more
than the scores can say. All of a row is an integer (alphas, betas in billionths), so that no order of rows shows.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from assay.conformal.known_scores import KnownScores, Places, stable_order
from assay.conformal.selection import Floats, Integers
from assay.conformal.weighted import BILLION

if TYPE_CHECKING:
    from assay.conformal.adaptive import Adaptation

STEP_SIZES = (0.001, 0.002, 0.004, 0.008, 0.016, 0.032, 0.064, 0.128)  # of the paper's experiments
HORIZON = 500.0  # steps, as in the paper's experiments


def learning_rate(aim: float, experts: int, horizon: float) -> float:
    """Eta of the paper for a miscoverage `aim`, so many experts and stretches of `horizon` steps."""
    spread = (1 - aim) ** 2 * aim**3 + aim**2 * (1 - aim) ** 3
    return float(np.sqrt(3 / horizon) * np.sqrt((np.log(experts * horizon) + 2) / spread))


class Experts:
    """Alphas (G, L, E) and weights of every group, level and expert, moved forward step by step.

    groups: (n, H) of each judged row its own group and those above it, -1 where there are fewer.  scores: (n, S).
    at, known: (n,) steps of its prediction and of its outcome, the latter rising.
    """

    def __init__(
        self, settings: Adaptation, size: int, groups: Places, scores: Floats, *, at: Integers, known: Integers
    ) -> None:
        self.settings, self.size = settings, size
        self.groups, self.at, self.known = groups, at, known
        self.aims = BILLION - settings.promised
        self.steps = np.array(settings.step_sizes)
        experts, horizon = len(self.steps), settings.horizon
        self.rates = np.array([learning_rate(aim / BILLION, experts, horizon) for aim in self.aims.tolist()])
        self.mixing = 1 / (2 * horizon)
        self.alpha = np.repeat(np.tile(self.aims, (size, 1))[:, :, None], experts, axis=2)
        self.weights = np.full(self.alpha.shape, 1 / experts)
        self.scores = scores
        self._by_step = stable_order(at)
        self._at_sorted = at[self._by_step]
        self._betas = np.zeros((*groups.shape, scores.shape[1]), dtype=np.int32)
        self._kept: dict[int, Integers] = {}  # alphas of the steps whose rows are still awaited
        self._oldest = np.minimum.accumulate(at[::-1])[::-1] if len(at) else at
        self._places: list[Places] = []

    def find(self, known: KnownScores) -> None:
        """Where each judged row's scores lie among all scores of its groups: once, for all steps."""
        self._places = known.places_of(self.groups, self.scores)

    def mean(self) -> Integers:
        """Alphas that the experts come to, (G, L), billionths."""
        return np.asarray(np.rint((self.weights * self.alpha).sum(axis=2)), dtype=np.int64)

    def keep(self, step: int, source: Integers, known: KnownScores) -> None:
        """What experts say of the rows that are predicted at `step`, each group by what serves it (G,)."""
        self.alpha, self.weights = self.alpha[source], self.weights[source]
        rows = self._by_step[slice(*np.searchsorted(self._at_sorted, [step, step + 1]))]
        if len(rows):
            self._kept[step] = self.alpha
            for column, places in enumerate(self._places):
                self._betas[rows, :, column] = self._beta(known, column, rows, places[rows])

    def hear(self, step: int, source: Integers, start: int) -> None:
        """Move by the outcomes that become known at `step`. source: (T, G) of the steps from `start` on."""
        now = slice(*np.searchsorted(self.known, [step, step + 1]))
        for gone in [kept for kept in self._kept if now.start < len(self._oldest) and kept < self._oldest[now.start]]:
            del self._kept[gone]
        row, depth = np.nonzero(self.groups[now] >= 0)
        if not len(row):
            return
        row = row + now.start
        group, at = self.groups[row, depth], self.at[row]
        own = source[at - start, group] == group  # an interval of the group above says nothing of this group's alpha
        row, depth, group, at = row[own], depth[own], group[own], at[own]
        count = np.bincount(group, minlength=self.size)
        heard, self.alpha = count > 0, self.alpha.copy()  # those that are kept stay as they were
        rows = count[heard, None].astype(np.float64)
        gain = 1 / (rows + self.settings.damping_rows)
        for level, column in enumerate(self.settings.columns):
            said = self._said(at, group, level)
            misses, losses = self._sums(self._betas[row, depth, column].astype(np.int64), said, group, level)
            aim = float(self.aims[level])
            moved = np.rint((aim * rows - BILLION * misses[heard]) * gain * self.steps).astype(np.int64)
            self.alpha[heard, level] += moved
            weights = self.weights[heard, level] * np.exp(-self.rates[level] * losses[heard] * gain / BILLION)
            weights /= weights.sum(axis=1, keepdims=True)
            self.weights[heard, level] = (1 - self.mixing) * weights + self.mixing / len(self.steps)
        if self.settings.bounded:
            self.alpha = np.clip(self.alpha, 0, BILLION)

    def _said(self, at: Integers, group: Integers, level: int) -> Integers:
        """Alphas (m, E) that experts had at the steps of predictions."""
        if len(at) and at.min() == at.max():
            return np.asarray(self._kept[int(at[0])][group, level])
        found = np.empty((len(at), len(self.steps)), dtype=np.int64)
        for step in np.unique(at).tolist():
            which = at == step
            found[which] = self._kept[step][group[which], level]
        return found

    def _sums(self, beta: Integers, said: Integers, group: Integers, level: int) -> tuple[Floats, Floats]:
        """Misses and summed losses of each group and expert, (G, E); sums of integers, exact below 2^53."""
        misses, losses = (np.zeros((self.size, said.shape[1])) for _ in "ml")
        aim = float(self.aims[level])
        for expert in range(said.shape[1]):
            apart = beta - said[:, expert]
            misses[:, expert] = np.bincount(group, apart <= 0, minlength=self.size)
            below = np.bincount(group, np.minimum(apart, 0), minlength=self.size)
            losses[:, expert] = aim / BILLION * np.bincount(group, apart, minlength=self.size) - below
        return misses, losses

    def _beta(self, known: KnownScores, column: int, rows: Integers, places: Places) -> npt.NDArray[np.int32]:
        """Least alphas whose intervals miss rows (n, H), billionths, rounded up."""
        below, total, one = known.below(column, self.groups[rows], places)
        if one == 1:  # rows are counted: exact
            beta = (BILLION * (total + 1 - below) + total) // (total + 1)
        else:
            beta = np.rint(BILLION * ((total + one - below) / (total + one))).astype(np.int64)
        return beta.astype(np.int32)
