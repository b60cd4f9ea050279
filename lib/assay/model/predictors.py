"""Consumes an engine's stored learner, produces predictions on the model's scale. One loader per engine, no pickle."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from assay import extensions
from assay.model.catboost_predictor import CatBoostPredictor
from assay.model.encoding import Matrix
from assay.model.ensemble import Ensemble, ExplainedEnsemble, unpacked
from assay.model.linear import load_linear
from assay.model.nearest import load_nearest
from assay.model.neural import load_neural
from assay.model.support_classes import load_support
from assay.model.trees import load_trees


class Predictor(Protocol):
    """A learner that is ready to predict."""

    def predict(self, matrix: Matrix) -> npt.NDArray[np.float64]:
        """(n, features) -> (n,) on the model's scale, or P(second class); (n, k) where the outcome is so wide."""
        ...

    def importance(self) -> dict[int, float]:
        """Feature position -> what it is worth by the learner's own measure; features never used are absent."""
        ...


@runtime_checkable
class Explains(Protocol):
    """A learner that can say what each input adds to a prediction."""

    def contributions(self, matrix: Matrix) -> npt.NDArray[np.float32]:
        """(n, features) -> (n, features + 1) on the model's scale, last the base value; rows sum to the prediction.

        Of a binary outcome to the logit of its probability.
        """
        ...


class XGBoostPredictor:
    """A booster in XGBoost's own ubj format. Learned categories are codes of the model's encoding."""

    def __init__(self, stored: bytes, threads: int) -> None:
        import xgboost as xgb

        self.booster = xgb.Booster(params={"nthread": threads})
        self.booster.load_model(bytearray(stored))
        self.booster.set_param({"device": "cpu", "nthread": threads})

    def predict(self, matrix: Matrix) -> npt.NDArray[np.float64]:
        """In place: no DMatrix is built."""
        if not len(matrix):
            return np.zeros(0)
        return np.asarray(self.booster.inplace_predict(matrix, validate_features=False), dtype=np.float64)

    def contributions(self, matrix: Matrix) -> npt.NDArray[np.float32]:
        """Exact SHAP values of the trees: (n, features) -> (n, features + 1), the last column being the base value.

        Rows sum to `predict` (Lundberg and others, 2020, "From local explanations to global understanding").
        """
        import xgboost as xgb

        if not len(matrix):
            return np.zeros((0, matrix.shape[1] + 1), dtype=np.float32)
        data = xgb.DMatrix(matrix, feature_types=self.booster.feature_types, enable_categorical=True)
        values: npt.NDArray[np.float32] = self.booster.predict(data, pred_contribs=True, validate_features=False)
        return values

    def importance(self) -> dict[int, float]:
        """Total gain."""
        scores: dict[str, Any] = self.booster.get_score(importance_type="total_gain")
        return {int(name.removeprefix("f")): float(gain) for name, gain in scores.items()}


def load_ensemble(stored: bytes, threads: int) -> Ensemble:
    """Members and their combination; one that explains where that can be."""
    members, combination = unpacked(stored)
    learners = {m.name: load_predictor(m.engine, m.stored, threads=threads) for m in members}
    explaining = [learner for learner in learners.values() if isinstance(learner, Explains)]
    if combination.linear and len(explaining) == len(learners):
        return ExplainedEnsemble(learners, combination, explaining)
    return Ensemble(learners, combination)


Loader = Callable[[bytes, int], Predictor]
LEARNER = "learner.bin"  # file of what an extension has learned
LOADERS: dict[str, tuple[str, Loader]] = {
    "xgboost": ("booster.ubj", XGBoostPredictor),
    "linear": ("linear.npz", load_linear),
    "knn": ("neighbours.npz", load_nearest),
    "svm": ("support_vectors.npz", load_support),
    "decision_tree": ("tree.npz", load_trees),
    "random_forest": ("trees.npz", load_trees),
    "catboost": ("booster.cbm", CatBoostPredictor),
    "ensemble": ("ensemble.npz", load_ensemble),
    "lstm": ("network.npz", load_neural),
    "gru": ("network.npz", load_neural),
}


def stored_file(engine: str) -> str:
    """File name of an engine's learner."""
    return _entry(engine)[0]


def load_predictor(engine: str, stored: bytes, *, threads: int) -> Predictor:
    """The learner of an engine, ready to predict with so many threads."""
    return _entry(engine)[1](stored, threads)


def check_engine(engine: str, told: str = "") -> None:
    """Refuse a model that nothing here can load. told: the module that had its engine.

    Raises:
        UserError: its engine is of an extension that is not here; says what to do.
    """
    if engine not in LOADERS:
        extensions.get("engine", engine, told=told)


def _entry(engine: str) -> tuple[str, Loader]:
    if engine in LOADERS:
        return LOADERS[engine]
    return LEARNER, extensions.get("engine", engine).item.load
