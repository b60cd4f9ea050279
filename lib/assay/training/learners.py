"""Consumes rows and parameters, produces learners that scikit-learn has fitted, as arrays. One function per engine."""

from __future__ import annotations

import dataclasses
from typing import Any, Protocol

import numpy as np

from assay import extensions
from assay.model.encoding import Encoding, Matrix
from assay.model.learner_inputs import LearnerInputs
from assay.model.nearest import Nearest, placed
from assay.model.outcome import Outcome
from assay.model.scale import Floats
from assay.model.support_classes import SupportClasses
from assay.model.support_vectors import SupportVectors
from assay.model.trees import Trees, trees_of
from assay.training.learner_inputs import fit_inputs, usable_spread
from assay.training.learner_params import ForestParams, KnnParams, SvmParams, TreeParams
from assay.training.learner_rows import Rows

CACHE_MB = 500  # of kernel values that the support vector machine's solver keeps
BLOCK_ROWS = 16_384
FOLDS = 3  # that a machine of classes is scaled by
LEAST_SHARE = 1e-4


class Stored(Protocol):
    """A learner that can be kept."""

    def store(self) -> bytes:
        """In its own format."""
        ...


class Learn(Protocol):
    """Fits a learner on rows in memory."""

    def __call__(
        self, rows: Rows, encoding: Encoding, params: Any, *, seed: int, threads: int, outcome: Outcome
    ) -> Stored:
        """Learn."""
        ...


def learn_nearest(
    rows: Rows, encoding: Encoding, params: KnnParams, *, seed: int, threads: int, outcome: Outcome
) -> Nearest:
    """Keeps the rows."""
    inputs = fit_inputs(rows, encoding, max_categories=params.max_categories, scales=True)
    points, closer = placed(inputs, rows.matrix), params.weights == "distance"
    if outcome.decides:
        shares, came = shares_of_classes(rows, outcome), np.eye(len(outcome.classes))[rows.target.astype(np.intp)]
        told = (rows.target, shares[1:]) if outcome.kind == "binary" else (came, shares)
        return Nearest(inputs, points, told[0], rows.weight, params.n_neighbors, closer, told[1])
    return Nearest(inputs, points, rows.target, rows.weight, params.n_neighbors, closer)


def shares_of_classes(rows: Rows, outcome: Outcome) -> Floats:
    """How often each class came, by weight, (K,)."""
    counts = np.bincount(rows.target.astype(np.intp), rows.weight, len(outcome.classes))
    return np.asarray(counts / counts.sum())


def learn_support_vectors(
    rows: Rows, encoding: Encoding, params: SvmParams, *, seed: int, threads: int, outcome: Outcome
) -> SupportVectors | SupportClasses:
    """`sklearn.svm.SVR` on the standardised target; a row's weight multiplies its C."""
    from sklearn.svm import SVR

    inputs = fit_inputs(rows, encoding, max_categories=params.max_categories, scales=True)
    values = inputs.apply(rows.matrix)
    if outcome.decides:
        return learn_support_classes(rows, inputs, params, outcome)
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


def learn_support_classes(rows: Rows, inputs: LearnerInputs, params: SvmParams, outcome: Outcome) -> SupportClasses:
    """`sklearn.svm.SVC` of each class against all others; a sigmoid of values that a machine gave to rows unseen.

    A class with fewer than twice `FOLDS` rows on either side has its share for all rows.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import cross_val_predict
    from sklearn.svm import SVC

    values, shares = inputs.apply(rows.matrix), shares_of_classes(rows, outcome)
    gamma = params.gamma if params.gamma != "scale" else _gamma(values, rows.weight)
    machines, scaled = [], []
    for code in range(1 if outcome.kind == "binary" else 0, len(outcome.classes)):
        came = (rows.target == code).astype(np.float64)
        if min(came.sum(), (1 - came).sum()) < 2 * FOLDS or not len(inputs):
            share = float(np.clip(shares[code], LEAST_SHARE, 1 - LEAST_SHARE))
            machines.append(SupportVectors(inputs, values[:0], np.empty(0), 0.0, gamma))
            scaled.append((0.0, float(np.log(share / (1 - share)))))
            continue
        machine = SVC(C=params.C, gamma=gamma, tol=params.tol, max_iter=params.max_iter, cache_size=CACHE_MB)
        unseen = cross_val_predict(
            machine, values, came, cv=FOLDS, method="decision_function", params={"sample_weight": rows.weight}
        )
        sigmoid = LogisticRegression(C=1e3).fit(unseen[:, None], came, sample_weight=rows.weight)
        machine.fit(values, came, sample_weight=rows.weight)
        machines.append(
            SupportVectors(
                inputs,
                np.ascontiguousarray(machine.support_vectors_),
                machine.dual_coef_[0],
                float(machine.intercept_[0]),
                gamma,
            )
        )
        scaled.append((float(sigmoid.coef_[0, 0]), float(sigmoid.intercept_[0])))
    slope, offset = np.array(scaled).T
    return SupportClasses(inputs, tuple(machines), slope.copy(), offset.copy())


def _gamma(values: Floats, weight: Floats) -> float:
    """What scikit-learn calls `scale`: 1 / (inputs * the variance of all their values)."""
    if not values.size:
        return 1.0
    mean = float(np.average(values.mean(axis=1), weights=weight))
    variance = float(np.average(((values - mean) ** 2).mean(axis=1), weights=weight))
    return 1.0 / (int(values.shape[1]) * (variance or 1.0))


def learn_tree(
    rows: Rows, encoding: Encoding, params: TreeParams, *, seed: int, threads: int, outcome: Outcome
) -> Trees:
    """`sklearn.tree.DecisionTreeRegressor`, or of classes its classifier."""
    from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor

    inputs, told = fit_inputs(rows, encoding, max_categories=params.max_categories, scales=False), _told(params)
    tree = (DecisionTreeClassifier if outcome.decides else DecisionTreeRegressor)(**told, random_state=seed)
    tree.fit(tree_inputs(inputs, rows), rows.target, sample_weight=rows.weight)
    gain = tree.feature_importances_[: len(inputs)]
    return _kept([tree.tree_], inputs, gain, rows, outcome)


def learn_forest(
    rows: Rows, encoding: Encoding, params: ForestParams, *, seed: int, threads: int, outcome: Outcome
) -> Trees:
    """`sklearn.ensemble.RandomForestRegressor`, or of classes its classifier."""
    from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor

    inputs, told = fit_inputs(rows, encoding, max_categories=params.max_categories, scales=False), _told(params)
    told["max_samples"] = max(1, round(params.max_samples * len(rows)))  # a share would be one of the weights' sum
    kind = RandomForestClassifier if outcome.decides else RandomForestRegressor
    forest = kind(**told, random_state=seed, n_jobs=threads)
    forest.fit(tree_inputs(inputs, rows), rows.target, sample_weight=rows.weight)
    gain = forest.feature_importances_[: len(inputs)]
    return _kept([tree.tree_ for tree in forest.estimators_], inputs, gain, rows, outcome)


def _kept(trees: list[Any], inputs: LearnerInputs, gain: Floats, rows: Rows, outcome: Outcome) -> Trees:
    """The trees as arrays; of classes a column for each, whether it came or not."""
    if not outcome.decides:
        return trees_of(trees, inputs, gain)
    shares = shares_of_classes(rows, outcome)
    seen = np.flatnonzero(np.bincount(rows.target.astype(np.intp), minlength=len(shares)))
    found = trees_of(trees, inputs, gain, shares[seen])
    value = np.zeros((len(found.value), len(shares)))
    value[:, seen] = found.value
    return dataclasses.replace(found, value=value[:, 1] if outcome.kind == "binary" else value)


def _told(params: TreeParams | ForestParams) -> dict[str, Any]:
    """What scikit-learn knows of them."""
    told = dataclasses.asdict(params)
    del told["max_categories"]
    return told


def tree_inputs(inputs: LearnerInputs, rows: Rows) -> Matrix:
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


def learner_named(engine: str) -> Learn:
    """How an engine learns from rows in memory: one of ours, or of an extension.

    Raises:
        UserError: there is none; says what to do.
    """
    if engine in LEARNERS:
        return LEARNERS[engine]
    learn: Learn = extensions.get("engine", engine).item.learn
    return learn
