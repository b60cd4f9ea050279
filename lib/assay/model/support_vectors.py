"""Consumes stored support vectors, produces predictions of a support vector machine with a radial kernel."""

from __future__ import annotations

import dataclasses
from functools import cached_property

import numpy as np
import numpy.typing as npt

from assay.model.arrays import from_bytes, to_bytes
from assay.model.encoding import Matrix
from assay.model.learner_inputs import LearnerInputs

Floats = npt.NDArray[np.float64]
CELLS = 1 << 22  # of a block's kernel values: 32 MB
MOST_ROWS = 64


@dataclasses.dataclass(frozen=True, eq=False)
class SupportVectors:
    """intercept + the sum over vectors of share * exp(-gamma * squared distance).

    vectors: (m, inputs).  share: (m,), in the unit of the target.
    """

    inputs: LearnerInputs
    vectors: Floats
    share: Floats
    intercept: float
    gamma: float

    def predict(self, matrix: Matrix) -> Floats:
        """(n, features) -> (n,)."""
        result = np.full(len(matrix), self.intercept)
        rows = int(np.clip(CELLS // max(len(self.vectors), 1), 1, MOST_ROWS))
        for first in range(0, len(matrix) if len(self.vectors) else 0, rows):
            block = matrix[first : first + rows]
            result[first : first + rows] += self._sums(_filled_up(block, rows))[: len(block)]
        return result

    def _sums(self, block: Matrix) -> Floats:
        values = self.inputs.apply(block)
        distance = (values**2).sum(axis=1)[:, None] + self._squares - 2 * (values @ self.vectors.T)
        return np.asarray((np.exp(-self.gamma * np.maximum(distance, 0.0)) * self.share).sum(axis=1))

    @cached_property
    def _squares(self) -> Floats:
        return np.asarray((self.vectors**2).sum(axis=1))

    def importance(self) -> dict[int, float]:
        """None: distances use all inputs alike."""
        return {}

    def store(self) -> bytes:
        """As npz."""
        return to_bytes(
            **self.inputs.arrays(),
            vectors=self.vectors,
            share=self.share,
            intercept=np.float64(self.intercept),
            gamma=np.float64(self.gamma),
        )


def _filled_up(block: Matrix, rows: int) -> Matrix:
    """With rows of missing values below, so that all blocks have one shape.

    BLAS picks its order of adding by the shape, and what is predicted of a row must not depend on how many others came
    with it.
    """
    missing = np.full((rows - len(block), block.shape[1]), np.nan, np.float32)
    return np.concatenate([block, missing])


def load_support_vectors(stored: bytes, _: int = 1) -> SupportVectors:
    """Read back `SupportVectors.store`."""
    arrays = from_bytes(stored)
    return SupportVectors(
        LearnerInputs.of(arrays),
        arrays["vectors"],
        arrays["share"],
        float(arrays["intercept"]),
        float(arrays["gamma"]),
    )
