"""Consumes folds and what a first fit chose, produces the model's error on each fold: how far it differs over time."""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from assay.config.profile import ValidationConfig
from assay.model.bundle import Model
from assay.training.drawing import drawn_folds, spread_of
from assay.training.rows import LabelledRows
from assay.training.split import Period
from assay.training.validation import Fold, blocked, rolling_origin

Figures = Mapping[str, float]


def folds_of(
    config: ValidationConfig, rows: LabelledRows, times: Mapping[dt.datetime, int], known: Period, *, delay_days: float
) -> list[Fold]:
    """Folds over the rows that were known before the test period.

    times: labelled rows at each time, of all periods.  delay_days: availability delay of the target.

    Raises:
        DataError: the rows do not make so many folds.
    """
    purge = dt.timedelta(days=max(config.purge_days, delay_days))
    if config.method == "stratified" or known.drawn is not None:
        by = rows.column if config.method == "stratified" else None
        return drawn_folds(spread_of(rows, times, by, known), known, config.folds)
    before = {time: count for time, count in times.items() if time <= known.last}
    moments, counts = list(before), list(before.values())
    if config.method == "kfold":
        embargo = dt.timedelta(days=config.embargo_days)
        return blocked(moments, counts, folds=config.folds, purge=purge, embargo=embargo)
    return rolling_origin(moments, counts, folds=config.folds, share=config.share, gap=purge)


def over_folds(
    folds: Sequence[Fold], fitted: Callable[[Period], Model], figures: Callable[[Model, Period], Figures]
) -> tuple[dict[str, float], list[dict[str, Any]]]:
    """Fit and judge fold by fold.

    fitted: learns from a period.  figures: a model's on a period.
    Returns the mean of each figure over folds, weighted by their rows, as `cv_<name>`, with its standard deviation over
    folds as `cv_<name>_std`; and the folds one by one, as plain data.
    """
    told: list[dict[str, Any]] = []
    for fold in folds:
        found = dict(figures(fitted(fold.train), fold.validate))
        told.append({"train": fold.train.to_dict(), "validate": fold.validate.to_dict(), "figures": found})
    metrics: dict[str, float] = {"cv_folds": float(len(folds))}
    weights = np.array([fold.validate.rows for fold in folds], dtype=np.float64)
    for name in told[0]["figures"] if told else ():
        values = np.array([one["figures"][name] for one in told], dtype=np.float64)
        mean = float(np.average(values, weights=weights))
        metrics[f"cv_{name}"] = mean
        metrics[f"cv_{name}_std"] = math.sqrt(float(np.average((values - mean) ** 2, weights=weights)))
    return metrics, told
