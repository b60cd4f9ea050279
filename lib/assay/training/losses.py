"""Consumes outcomes and predictions of rows, produces the losses by which learners are judged on the tune period."""

from __future__ import annotations

import math

import numpy as np

from assay.class_metrics import log_losses
from assay.metrics import pinball_losses
from assay.model.outcome import Outcome, every_class
from assay.model.scale import Floats


def loss_name(outcome: Outcome) -> str:
    """Of numbers `rmse`, of quantiles `pinball`, of classes `log_loss`."""
    return {"value": "rmse", "quantiles": "pinball"}.get(outcome.kind, "log_loss")


def losses_of(outcome: Outcome, truth: Floats, predicted: Floats) -> Floats:
    """What each row's loss is, (n,): squares on the model's scale, pinball losses, log losses.

    truth: (n,), of classes their codes.  predicted: (n,), of quantiles (n, L), of classes as a predictor tells them.
    """
    if outcome.decides:
        return log_losses(truth, every_class(predicted))
    if outcome.kind == "quantiles":
        return pinball_losses(truth, np.sort(predicted, axis=1), outcome.levels)
    return (truth - predicted) ** 2


def loss_of(outcome: Outcome, mean: float) -> float:
    """The loss that is told of rows whose losses have this mean: of squares the root."""
    return math.sqrt(mean) if outcome.kind == "value" else mean
