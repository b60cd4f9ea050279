"""Consumes predictions with intervals or probabilities, produces confidence and risk: 0 to 1, without a unit.

Both judge a row by its widest level. Of a number, with w the interval's width on the model's scale (for a logarithm
log(upper / lower)) and w0 the calibration's typical one:

    confidence = w0 / (w0 + w)                                   1/2 at the typical width, 1 at no width, 0 at infinity
    risk       = min(1, (prediction - lower) / |prediction|)     the share of the predicted value that may be lost

Of K classes, with p the probability of the likeliest one and s the classes in its set (an empty set says as little as
one of all classes):

    confidence = (p - 1/K) / (1 - 1/K) / s                       0 where the likeliest is no likelier than chance
    risk       = 1 - p                                           how likely the likeliest class is to be wrong
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from assay.config.conformal import tail_levels
from assay.conformal.calibration import ALL_ROWS, Calibration
from assay.conformal.scores import SCORES, Forecast, score_named
from assay.model.scale import TargetScale

Floats = npt.NDArray[np.float64]


def widest_level(levels: tuple[float, ...]) -> int:
    """Position of the greatest level."""
    return int(np.argmax(levels))


def typical_width(calibration: Calibration) -> float:
    """Width of the widest level's interval on the model's scale, as all calibration rows together have it.

    Of a row of typical difficulty, where widths differ from row to row. Infinite where rows were too few. A score of an
    extension may say `typical`, a prediction at which the width is taken; else it is unknown.
    """
    scale = np.ones(1) if calibration.difficulty is None else np.array([calibration.difficulty.typical])
    ends = np.array([-0.5, 0.5]) * calibration.own_width
    widest = widest_level(calibration.levels)
    tails = tail_levels(calibration.levels[widest])
    quantiles = calibration.quantiles[ALL_ROWS].quantiles
    own = [q for q, part in zip(quantiles, calibration.parts, strict=True) if part.level == widest]
    score = score_named(calibration.score)
    centre = 0.0 if calibration.score in SCORES else float(getattr(score, "typical", np.nan))
    typical = Forecast(np.array([centre]), scale, ends[None, :], tails)
    lower, upper = score.interval(typical, np.array(own), calibration.levels[widest : widest + 1])
    return float(upper[0, 0] - lower[0, 0])


def scaled_width(lower: Floats, upper: Floats, scale: TargetScale) -> Floats:
    """Bounds (n,) in the target's unit -> their distance (n,) on the model's scale; an anchor is the same for both."""
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        width = np.log(upper / lower) if scale.transform == "log" else upper - lower
    return np.asarray(np.where(np.isinf(upper), np.inf, width))


def confidence_of_width(width: Floats, typical: float) -> Floats:
    """Widths (n,) on the model's scale -> confidence (n,). NaN where the typical width is 0, infinite or unknown."""
    if not np.isfinite(typical) or typical <= 0:
        return np.full(width.shape, np.nan)
    return np.asarray(typical / (typical + width))


def risk_of_bound(prediction: Floats, lower: Floats) -> Floats:
    """Predictions and lower bounds (n,) in the target's unit -> risk (n,).

    A prediction of 0 with anything below it has risk 1. NaN where either is.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        risk = (prediction - lower) / np.abs(prediction)
    return np.clip(np.where((prediction == 0) & (lower == 0), 0.0, risk), 0.0, 1.0)


def confidence_of_classes(probabilities: Floats, set_sizes: npt.NDArray[np.int64]) -> Floats:
    """Probabilities (n, K) and sizes (n,) of the widest level's sets -> confidence (n,)."""
    classes = probabilities.shape[1]
    above = (probabilities.max(axis=1, initial=0.0) - 1 / classes) / (1 - 1 / classes)
    return np.asarray(np.clip(above / np.where(set_sizes > 0, set_sizes, classes), 0.0, 1.0))


def risk_of_classes(probabilities: Floats) -> Floats:
    """Probabilities (n, K) -> risk (n,)."""
    return np.asarray(np.clip(1.0 - probabilities.max(axis=1, initial=0.0), 0.0, 1.0))
