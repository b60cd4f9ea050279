"""Consumes rows and parameters, produces learners that scikit-learn has fitted, as arrays. One function per engine."""

from __future__ import annotations

import dataclasses
from typing import Any, Protocol

import numpy as np

from assay.model.encoding import Encoding, Matrix
from assay.model.learner_inputs import LearnerInputs
from assay.model.nearest import Nearest, placed
from assay.model.scale import Floats
from assay.model.support_vectors import SupportVectors
from assay.model.trees import Trees, trees_of
from assay.training.learner_inputs import fit_inputs, usable_spread
from assay.training.learner_params import ForestParams, KnnParams, SvmParams, TreeParams
from assay.training.learner_rows import Rows

CACHE_MB = 500  # of kernel values that the support vector machine's solver keeps
BLOCK_ROWS = 16_384


class Stored(Protocol):
    """A learner that can be kept."""

    def store(self) -> bytes:
        """In its own format."""
        ...


class Learn(Protocol):
    """Fits a learner on rows in memory."""

    def __call__(self, rows: Rows, encoding: Encoding, params: Any, *, seed: int, threads: int) -> Stored:
        """Learn."""
        ...


def learn_nearest(rows: Rows, encoding: Encoding, params: KnnParams, *, seed: int, threads: int) -> Nearest:
    """Keeps the rows."""
    inputs = fit_inputs(rows, encoding, max_categories=params.max_categories, scales=True)
    points = placed(inputs, rows.matrix)
    return Nearest(inputs, points, rows.target, rows.weight, params.n_neighbors, params.weights == "distance")


def learn_support_vectors(
    rows: Rows, encoding: Encoding, params: SvmParams, *, seed: int, threads: int
) -> SupportVectors:
    """`sklearn.svm.SVR` on the standardised target; a row's weight multiplies its C."""
    from sklearn.svm import SVR

    inputs = fit_inputs(rows, encoding, max_categories=params.max_categories, scales=True)
    values = inputs.apply(rows.matrix)
    centre = float(np.average(rows.target, weights=rows.weight))
    spread = float(np.sqrt(np.average((rows.target - centre) ** 2, weights=rows.weight)))
    gamma = params.gamma if params.gamma != "scale" else _gamma(values, rows.weight)
    if usable_spread(spread, centre) != spread or not len(inputs):
        return SupportVectors(inputs, values[:0], np.empty(0), centre, gamma)
    machine = SVR(
        C=params.C, epsilon=params.epsilon, gamma=gamma, tol=params.tol, max_iter=params.max_iter, cache_size=CACHE_MB
    )
    machine.fit(values, (rows.target - centre) / spread, sample_weight=rows.weight)
    return SupportVectors(
        inputs=inputs,
        vectors=np.ascontiguousarray(machine.support_vectors_),
        share=machine.dual_coef_[0] * spread,
        intercept=float(machine.intercept_[0]) * spread + centre,
        gamma=gamma,
    )


def _gamma(values: Floats, weight: Floats) -> float:
    """What scikit-learn calls `scale`: 1 / (inputs * the variance of all their values)."""
    if not values.size:
        return 1.0
    mean = float(np.average(values.mean(axis=1), weights=weight))
    variance = float(np.average(((values - mean) ** 2).mean(axis=1), weights=weight))
    return 1.0 / (int(values.shape[1]) * (variance or 1.0))


def learn_tree(rows: Rows, encoding: Encoding, params: TreeParams, *, seed: int, threads: int) -> Trees:
    """`sklearn.tree.DecisionTreeRegressor`."""
    from sklearn.tree import DecisionTreeRegressor

    inputs, told = fit_inputs(rows, encoding, max_categories=params.max_categories, scales=False), _told(params)
    tree = DecisionTreeRegressor(**told, random_state=seed)
    tree.fit(_singles(inputs, rows), rows.target, sample_weight=rows.weight)
    return trees_of([tree.tree_], inputs, tree.feature_importances_[: len(inputs)])


def learn_forest(rows: Rows, encoding: Encoding, params: ForestParams, *, seed: int, threads: int) -> Trees:
    """`sklearn.ensemble.RandomForestRegressor`."""
    from sklearn.ensemble import RandomForestRegressor

    inputs, told = fit_inputs(rows, encoding, max_categories=params.max_categories, scales=False), _told(params)
    told["max_samples"] = max(1, round(params.max_samples * len(rows)))  # a share would be one of the weights' sum
    forest = RandomForestRegressor(**told, random_state=seed, n_jobs=threads)
    forest.fit(_singles(inputs, rows), rows.target, sample_weight=rows.weight)
    return trees_of([tree.tree_ for tree in forest.estimators_], inputs, forest.feature_importances_[: len(inputs)])


def _told(params: TreeParams | ForestParams) -> dict[str, Any]:
    """What scikit-learn knows of them."""
    told = dataclasses.asdict(params)
    del told["max_categories"]
    return told


def _singles(inputs: LearnerInputs, rows: Rows) -> Matrix:
    """As trees take them (n, k); without any input they get one that says nothing."""
    result = np.zeros((len(rows), max(len(inputs), 1)), np.float32)
    for first in range(0, len(rows) if len(inputs) else 0, BLOCK_ROWS):
        block = slice(first, first + BLOCK_ROWS)
        result[block] = inputs.apply(rows.matrix[block])
    return result


LEARNERS: dict[str, Learn] = {
    "knn": learn_nearest,
    "svm": learn_support_vectors,
    "decision_tree": learn_tree,
    "random_forest": learn_forest,
}
