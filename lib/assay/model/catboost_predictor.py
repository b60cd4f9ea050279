"""Consumes CatBoost models as bytes, produces predictions: one model, or the weighted mean of several."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from assay.model.encoding import Matrix

if TYPE_CHECKING:
    import pandas as pd

Member = tuple[float, bytes]
WEIGHTS = "weights.json"
NO_DATE = (1980, 1, 1, 0, 0, 0)  # equal members make equal bytes
MISSING = -1
CONSTANT = "assay.constant"  # key of a model's facts: what it says of every row


class CatBoostPredictor:
    """A model in CatBoost's own cbm format, or a zip of several that predicts their weighted mean (see `packed`)."""

    def __init__(self, stored: bytes, threads: int) -> None:
        self.threads = threads
        self.members = [(weight, loaded(cbm)) for weight, cbm in unpacked(stored)]

    def predict(self, matrix: Matrix) -> npt.NDArray[np.float64]:
        """Categories are the codes of the model's encoding; missing and unseen ones are one more category.

        Of classes the mean of the members' probabilities.
        """
        if not len(matrix):
            return np.zeros(0)
        pool = self._pool(matrix)
        parts = [np.asarray(weight * self._of_member(model, pool)) for weight, model in self.members]
        return np.asarray(sum(parts[1:], start=parts[0]))

    def _of_member(self, model: Any, pool: Any) -> Any:
        """(n,) or (n, k): values, or probabilities where it learned classes. A constant says what it says."""
        told = constant_of(model)
        if told is not None:
            return np.tile(told, (pool.num_row(), 1)) if len(told) > 1 else np.full(pool.num_row(), told[0])
        found = np.asarray(model.predict(pool, thread_count=self.threads), dtype=np.float64)
        loss = loss_of(model)
        if loss == "Logloss":
            return 1 / (1 + np.exp(-found))
        if loss == "MultiClass":
            raised = np.exp(found - found.max(axis=1, keepdims=True))
            return raised / raised.sum(axis=1, keepdims=True)
        return found

    def contributions(self, matrix: Matrix) -> npt.NDArray[np.float32]:
        """SHAP values of the trees: (n, features) -> (n, features + 1), last the base value; rows sum to `predict`."""
        result = np.zeros((len(matrix), matrix.shape[1] + 1))
        if not len(matrix):
            return result.astype(np.float32)
        pool = self._pool(matrix)
        for weight, model in self.members:
            told = constant_of(model)
            if told is None:
                result += weight * model.get_feature_importance(pool, "ShapValues", thread_count=self.threads)
            else:
                result[:, -1] += weight * told[0]
        return result.astype(np.float32)

    def _pool(self, matrix: Matrix) -> Any:
        """The matrix as CatBoost takes it. Constants among the members know nothing of categories: any that does."""
        import catboost

        categorical = max((model.get_cat_feature_indices() for _, model in self.members), key=len)
        numbers = min(categorical, default=matrix.shape[1])
        return catboost.Pool(inputs(matrix, numbers), cat_features=list(range(numbers, matrix.shape[1])) or None)

    def importance(self) -> dict[int, float]:
        """How much predictions change with a feature, in per cent of all changes (PredictionValuesChange)."""
        found: dict[int, float] = {}
        for weight, model in self.members:
            if constant_of(model) is None:
                for position, share in enumerate(model.get_feature_importance()):
                    found[position] = found.get(position, 0.0) + weight * float(share)
        return {position: share for position, share in found.items() if share > 0}


def constant_of(model: Any) -> list[float] | None:
    """What a model says of every row, where it learned nothing else; None of one that did."""
    facts = model.get_metadata()
    if CONSTANT in facts:
        return [float(value) for value in json.loads(facts[CONSTANT])]
    scale, bias = model.get_scale_and_bias()
    return None if scale else [float(bias)]


def loss_of(model: Any) -> str:
    """Which loss it learned by; empty of a sum of models, which CatBoost makes of values alone."""
    facts = model.get_metadata()
    return str(json.loads(facts["params"])["loss_function"]["type"]) if "params" in facts else ""


def inputs(matrix: Matrix, numbers: int) -> pd.DataFrame:
    """What CatBoost reads of an encoded matrix whose first `numbers` columns are numbers and whose others are codes.

    Columns of a matrix in Fortran order are not copied. Codes become categories, and NaN the category -1.
    """
    import pandas as pd

    frame = pd.DataFrame(np.asfortranarray(matrix[:, :numbers]), index=range(len(matrix)), copy=False)
    for position in range(numbers, matrix.shape[1]):
        codes: Any = np.where(np.isnan(matrix[:, position]), MISSING, matrix[:, position]).astype(np.int32)
        known = pd.RangeIndex(MISSING, int(codes.max(initial=MISSING)) + 1)
        frame[position] = pd.Categorical.from_codes(codes - MISSING, categories=known)
    return frame


def loaded(cbm: bytes) -> Any:
    """A CatBoost model from its bytes."""
    import catboost

    model = catboost.CatBoost()
    model.load_model(blob=cbm)
    return model


def packed(members: Sequence[Member]) -> bytes:
    """Models and their weights as one zip: `0.cbm`, `1.cbm`, ... and `weights.json`, a list in the same order.

    A single model of weight 1 stays the cbm that it is.
    """
    if len(members) == 1 and members[0][0] == 1:
        return members[0][1]
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr(zipfile.ZipInfo(WEIGHTS, NO_DATE), json.dumps([weight for weight, _ in members]))
        for number, (_, cbm) in enumerate(members):
            archive.writestr(zipfile.ZipInfo(f"{number}.cbm", NO_DATE), cbm)
    return buffer.getvalue()


def unpacked(stored: bytes) -> list[Member]:
    """Read back `packed`."""
    if not stored.startswith(b"PK"):
        return [(1.0, stored)]
    with zipfile.ZipFile(io.BytesIO(stored)) as archive:
        weights = json.loads(archive.read(WEIGHTS))
        return [(float(weight), archive.read(f"{number}.cbm")) for number, weight in enumerate(weights)]
