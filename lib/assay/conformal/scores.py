"""Consumes outcomes, predictions and quantiles, produces conformity scores (forward) and intervals (inverse).

A conformity score says how far an outcome lies from its prediction. Each kind is one frozen class that holds both
directions side by side: {y : score(y, prediction) <= quantile} must be the interval. Everything is on the model's own
scale (a log target stays a log); turning bounds into the target's unit is the caller's work.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import ClassVar, Protocol

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]


class ConformalScore(Protocol):
    """A kind of conformity score: stateless, larger where the outcome conforms less to the prediction."""

    @property
    def name(self) -> str:
        """Key in `SCORES`, and what a calibration records."""
        ...

    def score(self, y: npt.ArrayLike, prediction: npt.ArrayLike) -> Floats:
        """Forward. y, prediction: (n,) on the model's scale -> (n,) scores."""
        ...

    def interval(self, prediction: npt.ArrayLike, quantile: npt.ArrayLike) -> tuple[Floats, Floats]:
        """Inverse. prediction (n,), quantile () or (n,) or (n, L) -> lower, upper: (n,), or (n, L)."""
        ...


@dataclass(frozen=True)
class AbsoluteResidual:
    """s = |y - prediction|; interval = prediction -/+ quantile (Lei et al. 2018, algorithm 2).

    Scores are in the unit of the model's scale. Bounds are exact up to rounding in the last bit. Missing predictions
    give NaN: nothing is known around them, not even a bound at infinity.
    """

    name: ClassVar[str] = "absolute"

    def score(self, y: npt.ArrayLike, prediction: npt.ArrayLike) -> Floats:
        """Return |y - prediction|, (n,); NaN where either is missing.

        Raises ValueError when the shapes differ: broadcasting (n,) against (n, 1) would give n * n scores.
        """
        outcome, centre = _floats(y), _floats(prediction)
        if outcome.shape != centre.shape:
            raise ValueError(f"outcomes have shape {outcome.shape}, predictions {centre.shape}")
        return np.abs(outcome - centre)

    def interval(self, prediction: npt.ArrayLike, quantile: npt.ArrayLike) -> tuple[Floats, Floats]:
        """Return prediction - quantile and prediction + quantile; an infinite quantile gives (-inf, inf).

        prediction: (n,). quantile: one for all rows, (n,) one per row, or (n, L) one per row and level.
        Bounds are NaN where the prediction is not finite. Raises ValueError when the rows differ.
        """
        half_width = _floats(quantile)
        centre = _aligned(_floats(prediction), half_width)
        return centre - half_width, centre + half_width


SCORES: Mapping[str, ConformalScore] = MappingProxyType({AbsoluteResidual.name: AbsoluteResidual()})


def score_named(name: str) -> ConformalScore:
    """Return the registered score. Raises ValueError that lists the known names."""
    if name not in SCORES:
        raise ValueError(f"unknown conformity score {name!r}; known: {', '.join(sorted(SCORES))}")
    return SCORES[name]


def _floats(values: npt.ArrayLike) -> Floats:
    return np.asarray(values, dtype=np.float64)


def _aligned(prediction: Floats, quantile: Floats) -> Floats:
    """Predictions shaped (n,) or (n, 1) to meet `quantile`, NaN where they are not finite."""
    if prediction.ndim != 1 or quantile.ndim > 2 or (quantile.ndim and len(quantile) != len(prediction)):
        raise ValueError(f"quantiles of shape {quantile.shape} do not fit predictions of shape {prediction.shape}")
    centre = np.where(np.isfinite(prediction), prediction, np.nan)
    return centre[:, None] if quantile.ndim == 2 else centre
