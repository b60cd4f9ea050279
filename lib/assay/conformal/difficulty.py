"""Consumes inputs and errors of rows, produces a model of how large an error is usual: the scale of normalised scores.

A small booster learns the logarithm of the absolute error from the very inputs of the model. It is data: XGBoost's own
ubj format inside the calibration, whose hash covers it.
"""

from __future__ import annotations

import base64
import dataclasses
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from assay.model.encoding import Matrix
from assay.model.predictors import Predictor, load_predictor

Floats = npt.NDArray[np.float64]
ENGINE = "xgboost"
ROUNDS = 100
# Shallow trees in small steps on a robust loss: what matters is which rows are harder, not by exactly how much.
PARAMS: dict[str, Any] = {
    "objective": "reg:absoluteerror",
    "tree_method": "hist",
    "max_depth": 4,
    "eta": 0.1,
    "min_child_weight": 20,
    "subsample": 0.8,
    "colsample_bytree": 0.5,
    "seed": 7,
}
FLOOR = 0.05  # of the typical error: the least scale, so that no row gets an interval of no width
LEAST_ROWS = 200  # fewer cannot tell which rows are harder


@dataclasses.dataclass(frozen=True)
class Difficulty:
    """How large an error is usual for a row, on the model's scale.

    stored: the booster.  typical: median error of the rows it learned from.  rows: how many those were.
    """

    stored: bytes
    typical: float
    rows: int

    @classmethod
    def learned(
        cls, matrix: Matrix, errors: npt.ArrayLike, feature_types: list[str], *, threads: int = 1
    ) -> Difficulty:
        """Of inputs (n, features) and absolute errors (n,), which the model must not have learned from.

        Raises ValueError for fewer than `LEAST_ROWS` rows, shapes that differ and errors that are missing.
        """
        import xgboost as xgb

        found = np.asarray(errors, dtype=np.float64)
        if found.shape != matrix.shape[:1]:
            raise ValueError(f"errors have shape {found.shape}, inputs {matrix.shape}")
        if len(found) < LEAST_ROWS:
            raise ValueError(f"a scale needs {LEAST_ROWS} rows or more to learn from, found {len(found)}")
        if not np.isfinite(found).all():
            raise ValueError(f"{int((~np.isfinite(found)).sum())} of {len(found)} errors are missing or infinite")
        typical = float(np.median(found)) or float(found.mean()) or 1.0
        label = np.log(np.maximum(found, FLOOR * typical) / typical)
        data = xgb.QuantileDMatrix(matrix, label, feature_types=feature_types, enable_categorical=True, nthread=threads)
        booster = xgb.train({**PARAMS, "nthread": threads}, data, ROUNDS, verbose_eval=False)
        return cls(bytes(booster.save_raw("ubj")), typical, len(found))

    @cached_property
    def predictor(self) -> Predictor:
        """The booster, loaded at first use."""
        return load_predictor(ENGINE, self.stored, threads=1)

    def scale(self, matrix: Matrix) -> Floats:
        """Inputs (n, features) -> (n,) usual errors, at least `FLOOR` times the typical one."""
        return self.typical * np.maximum(np.exp(self.predictor.predict(matrix)), FLOOR)

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return {"booster": base64.b64encode(self.stored).decode(), "typical": self.typical, "rows": self.rows}

    @classmethod
    def from_dict(cls, tree: Any) -> Difficulty:
        """Read back `to_dict`. Raises ValueError for anything else."""
        if not isinstance(tree, dict) or set(tree) != {"booster", "typical", "rows"}:
            raise ValueError("difficulty: expected the fields booster, typical and rows")
        return cls(base64.b64decode(tree["booster"], validate=True), float(tree["typical"]), int(tree["rows"]))
