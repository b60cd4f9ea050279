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

    slopes: (k,).  spread: (k,) standard deviation of each input in training.
    """

    inputs: LearnerInputs
    slopes: Floats
    intercept: float
    spread: Floats

    def predict(self, matrix: Matrix) -> Floats:
        """(n, features) -> (n,)."""
        result = np.empty(len(matrix))
        for first in range(0, len(matrix), BLOCK_ROWS):
            block = slice(first, first + BLOCK_ROWS)
            result[block] = weighted_sums(self.inputs.apply(matrix[block]), self.slopes[:, None])[:, 0]
        return result + self.intercept

    def importance(self) -> dict[int, float]:
        """What a standard deviation of each input moves the prediction by, summed over a feature's inputs."""
        return self.inputs.by_feature(np.abs(self.slopes) * self.spread)

    def store(self) -> bytes:
        """As npz."""
        return to_bytes(
            **self.inputs.arrays(), slopes=self.slopes, intercept=np.float64(self.intercept), spread=self.spread
        )


def load_linear(stored: bytes, _: int = 1) -> Linear:
    """Read back `Linear.store`."""
    arrays = from_bytes(stored)
    return Linear(LearnerInputs.of(arrays), arrays["slopes"], float(arrays["intercept"]), arrays["spread"])
