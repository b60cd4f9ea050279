"""Consumes what the misses ask for and known scores, produces quantiles that are moved: intervals as wide as it takes.

Quantile tracking (the proportional control of Angelopoulos, Candès and Tibshirani 2023, "Conformal PID control for time
series prediction"), in units that make the step size mean the same everywhere. alpha is that of `adaptive.py`; what it
is off the promise moves the conformal quantile q of the promised level itself,

    quantile[g, t] = q[g, t] + gain * ((1 - level) - alpha[g, t]) * unit[g, t].

Where scores cannot be below 0 the unit is q, so that a width grows and shrinks by a share of itself; else it is a
deviation, half of what lies between the conformal quantiles at Phi(-1) and Phi(1). With z the quantile of a normal
distribution, the gains

    1 / (2 z phi(z)), z at (1 + level) / 2, where the unit is q, and 1 / phi(z), z at level, where it is a deviation,

are such that a step size of 1 sets right at once what normal errors were off. The share of misses that is aimed at
stays as promised: it need not run into the tail of the scores, where quantiles are far apart, nor end at the largest.
"""

from __future__ import annotations

from collections.abc import Sequence
from statistics import NormalDist

import numpy as np

from assay.conformal.known_scores import KnownScores
from assay.conformal.selection import Floats, Integers
from assay.conformal.weighted import BILLION

NORMAL = NormalDist()
DEVIATION = (round(NORMAL.cdf(1) * BILLION), round(NORMAL.cdf(-1) * BILLION))
LEAST_UNITS, MOST_UNITS = 0.95, 9.0  # q is at least a twentieth of itself and at most ten times that


class Widths:
    """How far quantiles move. promised: (L,), billionths.  above_zero: (L,) whether scores cannot be below 0."""

    def __init__(self, promised: Integers, above_zero: Sequence[bool]) -> None:
        self.promised, self.above_zero = promised, np.array(above_zero, dtype=bool)
        self.unit_levels = [np.full_like(promised, level) for level in (*DEVIATION, 1)]  # 1: the smallest score
        promises = (promised / BILLION).tolist()
        self.gains = np.array([gain(p, above_zero=a) for p, a in zip(promises, above_zero, strict=True)])
        self.aims = BILLION - promised
        units = BILLION / self.gains
        down = np.where(self.above_zero, LEAST_UNITS, MOST_UNITS) * units
        self.least, self.most = self.aims - (MOST_UNITS * units).astype(np.int64), self.aims + down.astype(np.int64)

    def kept(self, alpha: Integers) -> Integers:
        """Alpha (G, L), billionths, no farther off than it moves a quantile: more would only have to be undone."""
        return np.clip(alpha, self.least, self.most)

    def quantiles(self, alpha: Integers, known: KnownScores, columns: tuple[int, ...]) -> Floats:
        """Conformal quantiles of the promised levels as alpha (G, L), billionths, moves them; infinite ones stay so."""
        wanted = [self.promised] if self.above_zero.all() else [self.promised, *self.unit_levels]
        found, _ = known.quantiles(np.tile(np.concatenate(wanted), (len(alpha), 1)), columns * len(wanted))
        unit = quantiles = found[:, : len(columns)]
        least: Floats | float = -np.inf
        if not self.above_zero.all():
            _, high, low, smallest = np.split(found, 4, axis=1)
            with np.errstate(invalid="ignore"):
                unit = np.where(self.above_zero, quantiles, (high - low) / 2)
            least = np.where(self.above_zero, -np.inf, smallest)
        units = self.gains * (self.aims - alpha) / BILLION
        return np.asarray(np.maximum(quantiles + units * np.where(np.isfinite(unit), unit, 0.0), least))


def gain(promise: float, *, above_zero: bool) -> float:
    """Units for each unit of alpha, see above. promise: coverage of the quantile."""
    if above_zero:
        z = NORMAL.inv_cdf((1 + promise) / 2)
        return 1 / (2 * z * NORMAL.pdf(z))
    return 1 / NORMAL.pdf(NORMAL.inv_cdf(promise))
