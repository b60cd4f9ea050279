"""Consumes a sample of clipped training rows, produces what stands in for missing values of each input."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from assay.config.preparation import ImputeConfig, ImputeRule
from assay.model.preparation_impute import Chained, Neighbours
from assay.model.scale import Floats
from assay.training.preparation_outliers import medians

JOINT = ("knn", "iterative")
Positions = npt.NDArray[np.int32]


def fit_imputers(
    config: ImputeConfig, rules: Sequence[ImputeRule], sample: Floats, means: Floats | None
) -> tuple[Floats | None, tuple[Neighbours | Chained, ...]]:
    """Fills (p,), NaN where missing values stay, and the imputers that look at several columns.

    sample: (m, p) in the order of the rows' hash.  means: (p,) of all training rows, where a rule asks for them.
    A column without any value gets 0; one that a joint imputer's rows never know gets its median.
    """
    methods = [rule.method for rule in rules]
    if set(methods) == {"keep"} or not methods:
        return None, ()
    middle = medians(sample)
    fill = np.full(len(rules), np.nan)
    for position, rule in enumerate(rules):
        if rule.method == "constant":
            fill[position] = rule.value or 0.0
        elif rule.method == "mean":
            assert means is not None
            fill[position] = means[position] if np.isfinite(means[position]) else 0.0
        elif rule.method == "most_frequent":
            fill[position] = _most_frequent(sample[:, position])
        elif rule.method != "keep":
            fill[position] = middle[position]
    joint: list[Neighbours | Chained] = []
    for method, rows in (("knn", config.neighbour_rows), ("iterative", config.iterative_rows)):
        chosen = np.array([i for i, name in enumerate(methods) if name == method], dtype=np.int32)
        if len(chosen):
            positions, centre, spread, standardised = _standardised(sample[:rows], chosen)
            if method == "knn":
                joint.append(Neighbours(positions, centre, spread, standardised, config.neighbours))
            else:
                joint.append(_chained(config, positions, centre, spread, standardised))
    return fill, tuple(joint)


def _most_frequent(values: Floats) -> float:
    """The value seen most often, the smallest of several; 0 where none is known."""
    found, counts = np.unique(values[~np.isnan(values)], return_counts=True)
    return float(found[counts.argmax()]) if len(found) else 0.0


def _standardised(sample: Floats, chosen: Positions) -> tuple[Positions, Floats, Floats, Floats]:
    """Of the chosen columns those with a value, with mean and deviation, and their rows (m, c) standardised."""
    block = sample[:, chosen]
    used = ~np.isnan(block).all(axis=0)
    block = block[:, used]
    centre = np.nanmean(block, axis=0) if len(block) else np.zeros(0)
    spread = np.nanstd(block, axis=0) if len(block) else np.zeros(0)
    spread = np.where(np.nanmin(block, axis=0) < np.nanmax(block, axis=0), spread, 1.0) if block.size else spread
    return chosen[used], centre, spread, (block - centre) / spread


def _chained(config: ImputeConfig, positions: Positions, centre: Floats, spread: Floats, rows: Floats) -> Chained:
    """scikit-learn's `IterativeImputer` on standardised rows (m, c), as arrays."""
    from sklearn.experimental import enable_iterative_imputer  # noqa: F401
    from sklearn.impute import IterativeImputer

    columns = len(positions)
    low, high = (np.nanmin(rows, axis=0), np.nanmax(rows, axis=0)) if columns else (np.zeros(0), np.zeros(0))
    low, high = np.where(low < high, low, low - 1.0), np.where(low < high, high, high + 1.0)  # no range may be empty
    targets, weights, intercepts = [], [], []
    start = np.zeros(columns)
    if columns:
        imputer = IterativeImputer(max_iter=config.iterations, random_state=0, min_value=low, max_value=high)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # rounds may end before they agree: their number is a setting
            imputer.fit(rows)
        start = np.asarray(imputer.initial_imputer_.statistics_, dtype=np.float64)
        for step in imputer.imputation_sequence_:
            line = np.zeros(columns)
            line[step.neighbor_feat_idx] = step.estimator.coef_
            targets.append(step.feat_idx)
            weights.append(line)
            intercepts.append(float(step.estimator.intercept_))
    return Chained(
        positions=positions,
        centre=centre,
        spread=spread,
        start=start,
        target=np.array(targets, dtype=np.int32),
        weights=np.array(weights, dtype=np.float64).reshape(len(targets), columns),
        intercept=np.array(intercepts, dtype=np.float64),
        low=low,
        high=high,
    )
