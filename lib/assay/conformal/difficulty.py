"""Consumes inputs of rows with outcomes or errors, produces how large an error is usual: the scale of scores.

A small booster learns from the very inputs of the model. Of outcomes it learns quantiles, and the scale is how far
apart these lie: rows that the model learned from can teach that, and all calibration rows are left to calibrate. Of
errors it learns the logarithm of their size; only rows that the model has not seen can teach that.

The booster is data: XGBoost's own ubj format inside the calibration, whose hash covers it. It keeps the encoding of
those inputs: a model that is fitted again on newer rows numbers its categories anew, and the booster would take one for
another.
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
    "max_bin": 256,
    "seed": 7,
}
ENDS = (0.05, 0.1, 0.9, 0.95)  # quantiles of outcomes
NORMAL_WIDTHS = np.array([3.290, 2.563])  # of the outer and the inner two of a normal distribution, in deviations
APART_PARAMS: dict[str, Any] = {
    **PARAMS,
    "objective": "reg:quantileerror",
    "quantile_alpha": list(ENDS),
    "max_depth": 5,
    "eta": 0.15,
    "max_bin": 64,
}
APART_ROUNDS = 60  # of four trees each, which scoring pays for as well; forty more hardly bettered any intervals
LEAST_APART = 0.1  # of the typical distance: quantiles of few rows may touch, or cross
BELIEVED = 0.5  # of the distances, in logarithms: the quantiles of few rows make too much of what rows differ in
FLOOR = 0.05  # of the typical error: the least scale, so that no row gets an interval of no width
LEAST_ROWS = 200  # fewer cannot tell which rows are harder


@dataclasses.dataclass(frozen=True)
class Difficulty:
    """How large an error is usual for a row, on the model's scale.

    stored: the booster.  typical: median error of the rows it learned from, or median distance of their quantiles.
    rows: how many those were.  encoding: of the inputs it learned from; None for those of whatever model it serves.
    power: how much of the distances of quantiles is believed: 1 makes rows as unlike as these are, 0.5 half as much in
    logarithms. None is a booster of errors.
    """

    stored: bytes
    typical: float
    rows: int
    encoding: Encoding | None = None
    power: float | None = None

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
        found = _checked(matrix, errors, "errors")
        typical = float(np.median(found)) or float(found.mean()) or 1.0
        label = np.log(np.maximum(found, FLOOR * typical) / typical)
        stored = _boosted(PARAMS, matrix, label, feature_types, most=ROUNDS, threads=threads)
        return cls(stored, typical, len(found), _kept(encoding))

    @classmethod
    def learned_apart(
        cls,
        matrix: Matrix,
        outcomes: npt.ArrayLike,
        feature_types: list[str],
        *,
        encoding: Encoding | None = None,
        threads: int = 1,
    ) -> Difficulty:
        """Of inputs (n, features) and outcomes (n,) on the model's scale, known before the rows that calibrate.

        Quantiles of the outcomes given the inputs (Koenker and Bassett 1978), of which the distances are believed by
        half.

        Raises ValueError for fewer than `LEAST_ROWS` rows, shapes that differ and outcomes that are missing.
        """
        found = _checked(matrix, outcomes, "outcomes")
        stored = _boosted(APART_PARAMS, matrix, found, feature_types, most=APART_ROUNDS, threads=threads)
        typical = float(np.median(_apart(load_predictor(ENGINE, stored, threads=threads), matrix)))
        typical = typical if typical > 0 else float(found.std()) or 1.0
        return cls(stored, typical, len(found), _kept(encoding), BELIEVED)

    @cached_property
    def predictor(self) -> Predictor:
        """The booster, loaded at first use."""
        return load_predictor(ENGINE, self.stored, threads=1)

    def scale(self, matrix: Matrix) -> Floats:
        """Inputs (n, features) -> (n,) usual errors, above 0: at least some share of the typical one."""
        if self.power is None:
            return self.typical * np.maximum(np.exp(self.predictor.predict(matrix)), FLOOR)
        apart = np.maximum(_apart(self.predictor, matrix) / self.typical, LEAST_APART)
        return np.asarray(self.typical * apart**self.power)

    def of(self, batch: pa.RecordBatch, encoding: Encoding) -> Floats:
        """Feature batch -> (n,) usual errors. encoding: the model's, for a scale that keeps none of its own."""
        return self.scale((self.encoding or encoding).matrix(batch))

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        tree = {"booster": base64.b64encode(self.stored).decode(), "typical": self.typical, "rows": self.rows}
        if self.power is not None:
            tree["power"] = self.power
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
        needed, optional = {"booster", "typical", "rows"}, {"encoding", "preparation", "power"}
        if not isinstance(tree, dict) or not needed <= set(tree) <= needed | optional:
            raise ValueError("difficulty: expected the fields booster, typical and rows")
        stored = base64.b64decode(tree["booster"], validate=True)
        preparation, encoding = None, None
        if "preparation" in tree:
            arrays = base64.b64decode(tree["preparation"]["arrays"], validate=True)
            preparation = Preparation.from_files(tree["preparation"]["description"], arrays)
        if "encoding" in tree:
            encoding = Encoding.from_dict(tree["encoding"], preparation)
        power = float(tree["power"]) if "power" in tree else None
        return cls(stored, float(tree["typical"]), int(tree["rows"]), encoding, power)


def _checked(matrix: Matrix, values: npt.ArrayLike, what: str) -> Floats:
    """What rows teach, (n,)."""
    found = np.asarray(values, dtype=np.float64)
    if found.shape != matrix.shape[:1]:
        raise ValueError(f"{what} have shape {found.shape}, inputs {matrix.shape}")
    if len(found) < LEAST_ROWS:
        raise ValueError(f"a scale needs {LEAST_ROWS} rows or more to learn from, found {len(found)}")
    if not np.isfinite(found).all():
        raise ValueError(f"{int((~np.isfinite(found)).sum())} of {len(found)} {what} are missing or infinite")
    return found


def _boosted(
    params: dict[str, Any], matrix: Matrix, label: Floats, feature_types: list[str], *, most: int, threads: int
) -> bytes:
    """A booster of that many rounds at most, fewer for few rows."""
    import xgboost as xgb

    told = {"feature_types": feature_types, "enable_categorical": True, "nthread": threads}
    data = xgb.QuantileDMatrix(matrix, label, max_bin=params["max_bin"], **told)
    rounds = min(most, max(LEAST_ROUNDS, len(label) // ROWS_A_ROUND))
    return bytes(xgb.train({**params, "nthread": threads}, data, rounds, verbose_eval=False).save_raw("ubj"))


def _kept(encoding: Encoding | None) -> Encoding | None:
    return dataclasses.replace(encoding, seen={}) if encoding is not None else None


def _apart(predictor: Predictor, matrix: Matrix) -> Floats:
    """Inputs (n, features) -> (n,) how far apart quantiles lie, in deviations of a normal distribution."""
    ends = predictor.predict(matrix).reshape(-1, len(ENDS))
    widths = np.column_stack([ends[:, 3] - ends[:, 0], ends[:, 2] - ends[:, 1]])
    return np.asarray((widths / NORMAL_WIDTHS).mean(axis=1))
