"""Consumes losses of two models summed by day, produces how sure their difference is; says when two can be compared."""

from __future__ import annotations

import datetime as dt

import numpy as np

from assay.model.bundle import Model
from assay.model.registry import Champion
from assay.model.scale import Floats

LEAST_DAYS = 2


def why_incomparable(champion: Champion, model: Model, first: dt.datetime, columns: set[str]) -> str | None:
    """Why a champion cannot be asked about rows that another model is tested on; None if it can.

    first: time of the first of these rows.  columns: what the features have.
    """
    if champion.judged.outcome.classes != model.outcome.classes:
        return "it predicts another kind of outcome, or other classes"
    if champion.judged.plan_hash != model.plan_hash or not set(champion.judged.input_columns) <= columns:
        return "it learned from other features"
    known = dt.datetime.fromisoformat(champion.judged.learned_until)
    if known >= first:
        return f"it has learned from rows up to {known:%Y-%m-%d}, which the test period holds"
    return None


def difference_band(
    ours: Floats, theirs: Floats, rows: Floats, *, confidence: float, resamples: int, seed: int, root: bool
) -> tuple[float, float]:
    """Confidence interval of the difference (ours minus theirs) of mean losses, by a paired bootstrap of whole days.

    ours, theirs: (D,) losses summed over a day's rows, which err together.  rows: (D,) how many.  root: the roots
    of means are compared.  confidence: of both ends together. NaN with fewer than two days. (Percentile bootstrap:
    Efron and Tibshirani 1993, ch. 13; clusters: Field and Welsh 2007.)
    """
    from scipy.stats import bootstrap

    def difference(ours: Floats, theirs: Floats, rows: Floats, axis: int = -1) -> Floats:
        count = rows.sum(axis=axis)
        return mean_loss(ours.sum(axis=axis), count, root=root) - mean_loss(theirs.sum(axis=axis), count, root=root)

    if len(rows) < LEAST_DAYS:
        return float("nan"), float("nan")
    spread = bootstrap(
        (ours, theirs, rows),
        difference,
        paired=True,
        vectorized=True,
        method="percentile",
        n_resamples=resamples,
        batch=max(1, 4_000_000 // len(rows)),
        confidence_level=confidence,
        random_state=np.random.default_rng(seed),
    ).confidence_interval
    return float(spread.low), float(spread.high)


def mean_loss(losses: Floats, rows: Floats, *, root: bool) -> Floats:
    """Mean of summed losses, or its root."""
    found: Floats = losses / rows
    return np.sqrt(found) if root else found
