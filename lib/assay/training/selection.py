"""Consumes a sample of prepared training rows, produces which inputs the model gets, each with its score and rank."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from assay.config.preparation import SelectionConfig
from assay.model.encoding import Matrix
from assay.model.scale import Floats

ROUNDS = 60  # of the quick fit
OVERLAP = 0.9  # share of an input's known rows that its near-duplicate must know too
FEW = 3  # rows below which a correlation says nothing


@dataclasses.dataclass(frozen=True)
class Scored:
    """What selection found about one input. score, rank: None where the method has none; rank 1 is the best."""

    name: str
    kind: str
    score: float | None
    rank: int | None
    kept: bool
    why: str


def select(
    config: SelectionConfig, names: Sequence[str], categories: int, matrix: Matrix, target: Floats, *, seed: int
) -> list[Scored]:
    """Judge inputs, the best first; the last `categories` of them are categories.

    matrix: (m, inputs), missing as NaN.  target: (m,) on the model's scale. Constants and near-duplicates go first,
    then those at or below `min_score`, then those beyond `max_features`. The best input stays in any case.
    """
    numbers = len(names) - categories
    rows = np.flatnonzero(np.isfinite(target))[: config.sample_rows]
    matrix, target = matrix[rows], target[rows]
    scores = score(config.method, matrix, target, categories, seed=seed)
    best = [np.inf if one is None else one for one in scores]  # what has no score stands before the others
    order = sorted(range(len(names)), key=lambda i: (-best[i], i))
    ranked = [i for i in order if scores[i] is not None]
    why = dict.fromkeys(range(len(names)), "")
    if config.min_variance is not None:
        for position in range(numbers):
            values = matrix[:, position].astype(np.float64)
            variance = float(np.nanvar(values)) if not np.isnan(values).all() else 0.0
            if variance <= config.min_variance:
                why[position] = f"variance {variance:.4g} is not above {config.min_variance:g}"
    if config.max_correlation is not None:
        pairs, known = _correlations(matrix[:, :numbers].astype(np.float64))
        kept: list[int] = []
        for position in [i for i in order if i < numbers and not why[i]]:
            twin = next((k for k in kept if _twins(position, k, pairs, known, config.max_correlation)), None)
            if twin is None:
                kept.append(position)
            else:
                why[position] = f"correlation {pairs[position, twin]:.6f} with {names[twin]}"
    for position in ranked:
        if not why[position] and (scores[position] or 0.0) <= config.min_score:
            why[position] = f"score is not above {config.min_score:g}"
    if config.max_features is not None:
        for position in [i for i in ranked if not why[i]][config.max_features :]:
            why[position] = f"beyond the best {config.max_features}"
    if all(why.values()):
        why[order[0]] = ""
    places = {position: place + 1 for place, position in enumerate(ranked)}
    return [
        Scored(
            name=names[i],
            kind="number" if i < numbers else "category",
            score=scores[i],
            rank=places.get(i),
            kept=not why[i],
            why=why[i],
        )
        for i in order
    ]


def score(method: str, matrix: Matrix, target: Floats, categories: int, *, seed: int) -> list[float | None]:
    """One score per input, higher is better; None where the method has none for its kind."""
    numbers = matrix.shape[1] - categories
    if method == "importance":
        return [*_gains(matrix, target, categories, seed)]
    if method == "mutual_information":
        return [*_information(matrix, target, categories, seed)]
    if method in ("correlation", "spearman"):
        found = [
            correlation(matrix[:, i].astype(np.float64), target, ranks=method == "spearman") for i in range(numbers)
        ]
        return [*found, *([None] * categories)]
    return [None] * matrix.shape[1]


def correlation(values: Floats, target: Floats, *, ranks: bool) -> float:
    """Absolute correlation (Pearson's; Spearman's with `ranks`) over the rows that know the value; 0 without spread."""
    known = ~np.isnan(values)
    one, other = values[known], target[known]
    if len(one) < FEW or one.min() == one.max() or other.min() == other.max():
        return 0.0
    if ranks:
        from scipy.stats import rankdata

        one, other = rankdata(one), rankdata(other)
    return abs(float(np.corrcoef(one, other)[0, 1]))


def _gains(matrix: Matrix, target: Floats, categories: int, seed: int) -> list[float]:
    """Total gain in a quick fit; one thread, so that a run can be repeated to the last bit."""
    import xgboost as xgb

    kinds = ["q"] * (matrix.shape[1] - categories) + ["c"] * categories
    data = xgb.QuantileDMatrix(matrix, target, feature_types=kinds, enable_categorical=True, nthread=1)
    params: dict[str, Any] = {"max_depth": 6, "eta": 0.1, "min_child_weight": 5, "nthread": 1, "seed": seed}
    found = xgb.train(params, data, ROUNDS).get_score(importance_type="total_gain")
    return [float(found.get(f"f{i}", 0.0)) for i in range(matrix.shape[1])]


def _information(matrix: Matrix, target: Floats, categories: int, seed: int) -> list[float]:
    """scikit-learn's mutual information in nats (Kraskov, Stögbauer and Grassberger, 2004; Ross, 2014)."""
    from sklearn.feature_selection import mutual_info_regression

    from assay.training.preparation_outliers import medians

    numbers = matrix.shape[1] - categories
    filled = matrix.astype(np.float64)
    filled[:, :numbers] = np.where(np.isnan(filled[:, :numbers]), medians(filled[:, :numbers]), filled[:, :numbers])
    filled[:, numbers:] = np.nan_to_num(filled[:, numbers:], nan=-1.0)  # missing is a category of its own here
    discrete = np.arange(matrix.shape[1]) >= numbers
    return [float(v) for v in mutual_info_regression(filled, target, discrete_features=discrete, random_state=seed)]


def _correlations(values: Floats) -> tuple[Floats, Floats]:
    """Absolute correlations (k, k) of inputs (m, k) over the rows that know both, and how many these are."""
    known = (~np.isnan(values)).astype(np.float64)
    shared = known.T @ known
    count = np.maximum(shared, 1.0)
    whole = np.where(known.sum(axis=0) > 0, known.sum(axis=0), 1.0)
    filled = np.nan_to_num(values, nan=0.0)
    centred = np.where(known > 0, filled - filled.sum(axis=0) / whole, 0.0)
    spread = np.sqrt((centred**2).sum(axis=0) / whole)
    unit = centred / np.where(spread > 0, spread, 1.0)
    first, second = unit.T @ known, (unit**2).T @ known  # sums of an input over the rows that know the other
    variance = second / count - (first / count) ** 2
    together = unit.T @ unit / count - first * first.T / count**2
    scale = np.sqrt(np.maximum(variance, 0.0) * np.maximum(variance.T, 0.0))
    usable = (shared >= FEW) & (scale > 1e-12)
    return np.where(usable, np.abs(together) / np.where(usable, scale, 1.0), 0.0), shared


def _twins(position: int, kept: int, pairs: Floats, known: Floats, limit: float) -> bool:
    return bool(pairs[position, kept] > limit and known[position, kept] >= OVERLAP * known[position, position])
