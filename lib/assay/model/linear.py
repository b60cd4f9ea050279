"""Consumes a stored linear model, produces its predictions."""

from __future__ import annotations

import dataclasses

import numpy as np
import numpy.typing as npt

from assay.model.arrays import from_bytes, to_bytes
from assay.model.encoding import Matrix
from assay.model.learner_inputs import LearnerInputs
from assay.model.preparation_rows import weighted_sums

Floats = npt.NDArray[np.float64]
BLOCK_ROWS = 4096


@dataclasses.dataclass(frozen=True, eq=False)
class Linear:
    """intercept + inputs @ slopes; where it decides, as probabilities by `shares_of`.

    slopes: (k,), of several classes (k, classes), and one intercept for each.
    mean, spread: (k,) mean and standard deviation of each input in training.
    """

    inputs: LearnerInputs
    slopes: Floats
    intercept: float | Floats
    mean: Floats
    spread: Floats
    decides: bool = False

    def predict(self, matrix: Matrix) -> Floats:
        """(n, features) -> (n,), of several classes (n, classes)."""
        levels = self.levels(matrix)
        if not self.decides:
            return levels
        found = shares_of(levels)
        return found[:, 1] if levels.ndim == 1 else found

    def levels(self, matrix: Matrix) -> Floats:
        """(n, features) -> intercept + inputs @ slopes, (n,) or (n, classes)."""
        slopes = self.slopes if self.slopes.ndim == 2 else self.slopes[:, None]
        result = np.empty((len(matrix), slopes.shape[1]))
        for first in range(0, len(matrix), BLOCK_ROWS):
            block = slice(first, first + BLOCK_ROWS)
            result[block] = weighted_sums(self.inputs.apply(matrix[block]), slopes)
        return (result if self.slopes.ndim == 2 else result[:, 0]) + self.intercept

    def contributions(self, matrix: Matrix) -> npt.NDArray[np.float32]:
        """What each feature adds: (n, features) -> (n, features + 1), the last column being the base value.

        slope * (input - its mean in training), the SHAP values of a linear model for independent inputs (Lundberg and
        Lee, 2017); the base value is the mean prediction in training. Of two classes the prediction is the logit.
        """
        result = np.zeros((len(matrix), matrix.shape[1] + 1), dtype=np.float32)
        each = (self.inputs.apply(matrix) - self.mean) * self.slopes
        for position in range(matrix.shape[1]):
            result[:, position] = each[:, self.inputs.feature == position].sum(axis=1)
        result[:, -1] = self.intercept + self.mean @ self.slopes
        return result

    def importance(self) -> dict[int, float]:
        """What a standard deviation of each input moves the prediction by, summed over a feature's inputs."""
        slopes = np.abs(self.slopes)
        return self.inputs.by_feature((slopes if slopes.ndim == 1 else slopes.mean(axis=1)) * self.spread)

    def store(self) -> bytes:
        """As npz."""
        return to_bytes(
            **self.inputs.arrays(),
            slopes=self.slopes,
            intercept=np.asarray(self.intercept, dtype=np.float64),
            mean=self.mean,
            spread=self.spread,
            **({"decides": np.bool_(True)} if self.decides else {}),
        )


def shares_of(levels: Floats) -> Floats:
    """Logits of the second class (n,) or levels of all classes (n, K) -> probabilities (n, K)."""
    if levels.ndim == 1:
        with np.errstate(over="ignore"):
            second = 1 / (1 + np.exp(-levels))
        return np.column_stack([1 - second, second])
    raised = np.exp(levels - levels.max(axis=1, keepdims=True, initial=-np.inf))
    return np.asarray(raised / raised.sum(axis=1, keepdims=True))


def load_linear(stored: bytes, _: int = 1) -> Linear:
    """Read back `Linear.store`."""
    arrays = from_bytes(stored)
    intercept = arrays["intercept"]
    return Linear(
        LearnerInputs.of(arrays),
        arrays["slopes"],
        float(intercept) if intercept.ndim == 0 else intercept,
        arrays["mean"],
        arrays["spread"],
        decides="decides" in arrays,
    )
