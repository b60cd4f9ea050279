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
    """intercept + inputs @ slopes.

    slopes: (k,).  mean, spread: (k,) mean and standard deviation of each input in training.
    """

    inputs: LearnerInputs
    slopes: Floats
    intercept: float
    mean: Floats
    spread: Floats

    def predict(self, matrix: Matrix) -> Floats:
        """(n, features) -> (n,)."""
        result = np.empty(len(matrix))
        for first in range(0, len(matrix), BLOCK_ROWS):
            block = slice(first, first + BLOCK_ROWS)
            result[block] = weighted_sums(self.inputs.apply(matrix[block]), self.slopes[:, None])[:, 0]
        return result + self.intercept

    def contributions(self, matrix: Matrix) -> npt.NDArray[np.float32]:
        """What each feature adds: (n, features) -> (n, features + 1), the last column being the base value.

        slope * (input - its mean in training), the SHAP values of a linear model for independent inputs (Lundberg and
        Lee, 2017); the base value is the mean prediction in training.
        """
        result = np.zeros((len(matrix), matrix.shape[1] + 1), dtype=np.float32)
        each = (self.inputs.apply(matrix) - self.mean) * self.slopes
        for position in range(matrix.shape[1]):
            result[:, position] = each[:, self.inputs.feature == position].sum(axis=1)
        result[:, -1] = self.intercept + self.mean @ self.slopes
        return result

    def importance(self) -> dict[int, float]:
        """What a standard deviation of each input moves the prediction by, summed over a feature's inputs."""
        return self.inputs.by_feature(np.abs(self.slopes) * self.spread)

    def store(self) -> bytes:
        """As npz."""
        return to_bytes(
            **self.inputs.arrays(),
            slopes=self.slopes,
            intercept=np.float64(self.intercept),
            mean=self.mean,
            spread=self.spread,
        )


def load_linear(stored: bytes, _: int = 1) -> Linear:
    """Read back `Linear.store`."""
    arrays = from_bytes(stored)
    return Linear(
        LearnerInputs.of(arrays), arrays["slopes"], float(arrays["intercept"]), arrays["mean"], arrays["spread"]
    )
