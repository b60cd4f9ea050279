"""Consumes inputs and errors of rows, produces a model of how large an error is usual: the scale of normalised scores.

A small booster learns the logarithm of the absolute error from the very inputs of the model. It is data: XGBoost's own
ubj format inside the calibration, whose hash covers it. It keeps the encoding of those inputs: a model that is fitted
again on newer rows numbers its categories anew, and the booster would take one for another.
"""

from __future__ import annotations

import base64
import dataclasses
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from assay.model.encoding import Encoding, Matrix
from assay.model.predictors import Predictor, load_predictor
from assay.model.preparation import Preparation

Floats = npt.NDArray[np.float64]
ENGINE = "xgboost"
ROUNDS = 100
ROWS_A_ROUND, LEAST_ROUNDS = 100, 5  # few rows say little of how large errors are: learned for longer, it is chance
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
    encoding: of the inputs it learned from; None for those of whatever model it serves.
    """

    stored: bytes
    typical: float
    rows: int
    encoding: Encoding | None = None

    @classmethod
    def learned(
        cls,
        matrix: Matrix,
        errors: npt.ArrayLike,
        feature_types: list[str],
        *,
        encoding: Encoding | None = None,
        threads: int = 1,
    ) -> Difficulty:
        """Of inputs (n, features) and absolute errors (n,), which the model must not have learned from.

        encoding: what made the inputs of rows.

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
        rounds = min(ROUNDS, max(LEAST_ROUNDS, len(found) // ROWS_A_ROUND))
        booster = xgb.train({**PARAMS, "nthread": threads}, data, rounds, verbose_eval=False)
        kept = dataclasses.replace(encoding, seen={}) if encoding is not None else None
        return cls(bytes(booster.save_raw("ubj")), typical, len(found), kept)

    @cached_property
    def predictor(self) -> Predictor:
        """The booster, loaded at first use."""
        return load_predictor(ENGINE, self.stored, threads=1)

    def scale(self, matrix: Matrix) -> Floats:
        """Inputs (n, features) -> (n,) usual errors, at least `FLOOR` times the typical one."""
        return self.typical * np.maximum(np.exp(self.predictor.predict(matrix)), FLOOR)

    def of(self, batch: pa.RecordBatch, encoding: Encoding) -> Floats:
        """Feature batch -> (n,) usual errors. encoding: the model's, for a scale that keeps none of its own."""
        return self.scale((self.encoding or encoding).matrix(batch))

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        tree = {"booster": base64.b64encode(self.stored).decode(), "typical": self.typical, "rows": self.rows}
        if self.encoding is None:
            return tree
        tree["encoding"] = self.encoding.to_dict()
        if self.encoding.preparation is not None:
            description, arrays = self.encoding.preparation.to_files()
            tree["preparation"] = {"description": description, "arrays": base64.b64encode(arrays).decode()}
        return tree

    @classmethod
    def from_dict(cls, tree: Any) -> Difficulty:
        """Read back `to_dict`. Raises ValueError for anything else."""
        needed, optional = {"booster", "typical", "rows"}, {"encoding", "preparation"}
        if not isinstance(tree, dict) or not needed <= set(tree) <= needed | optional:
            raise ValueError("difficulty: expected the fields booster, typical and rows")
        stored = base64.b64decode(tree["booster"], validate=True)
        preparation, encoding = None, None
        if "preparation" in tree:
            arrays = base64.b64decode(tree["preparation"]["arrays"], validate=True)
            preparation = Preparation.from_files(tree["preparation"]["description"], arrays)
        if "encoding" in tree:
            encoding = Encoding.from_dict(tree["encoding"], preparation)
        return cls(stored, float(tree["typical"]), int(tree["rows"]), encoding)
