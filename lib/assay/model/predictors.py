"""Consumes an engine's stored learner, produces predictions on the model's scale. One loader per engine, no pickle."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from assay.errors import AssayError
from assay.model.encoding import Matrix


class Predictor(Protocol):
    """A learner that is ready to predict."""

    def predict(self, matrix: Matrix) -> npt.NDArray[np.float64]:
        """(n, features) -> (n,) on the model's scale."""
        ...

    def importance(self) -> dict[int, float]:
        """Feature position -> total gain; features never used are absent."""
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

    def importance(self) -> dict[int, float]:
        """Total gain."""
        scores: dict[str, Any] = self.booster.get_score(importance_type="total_gain")
        return {int(name.removeprefix("f")): float(gain) for name, gain in scores.items()}


Loader = Callable[[bytes, int], Predictor]
LOADERS: dict[str, tuple[str, Loader]] = {"xgboost": ("booster.ubj", XGBoostPredictor)}


def stored_file(engine: str) -> str:
    """File name of an engine's learner."""
    return _entry(engine)[0]


def load_predictor(engine: str, stored: bytes, *, threads: int) -> Predictor:
    """The learner of an engine, ready to predict with so many threads."""
    return _entry(engine)[1](stored, threads)


def _entry(engine: str) -> tuple[str, Loader]:
    if engine not in LOADERS:
        raise AssayError(f"a model of engine {engine!r} cannot be loaded by this version; known: {', '.join(LOADERS)}")
    return LOADERS[engine]
