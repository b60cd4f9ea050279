"""Consumes stored support vectors, produces predictions of a support vector machine with a radial kernel."""

from __future__ import annotations

import dataclasses

import numpy as np
import numpy.typing as npt

from assay.model.arrays import from_bytes, to_bytes
from assay.model.encoding import Matrix
from assay.model.learner_inputs import LearnerInputs, in_blocks

Floats = npt.NDArray[np.float64]
CELLS = 1 << 22  # of a block's kernel values: 32 MB
MOST_ROWS = 256


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
        if not len(self.vectors):
            return np.full(len(matrix), self.intercept)
        squares = (self.vectors**2).sum(axis=1)
        rows = int(np.clip(CELLS // len(self.vectors), 1, MOST_ROWS))

        def predict(block: Matrix) -> Floats:
            values = self.inputs.apply(block)
            distance = (values**2).sum(axis=1)[:, None] + squares - 2 * (values @ self.vectors.T)
            return np.asarray((np.exp(-self.gamma * np.maximum(distance, 0.0)) * self.share).sum(axis=1))

        return in_blocks(matrix, rows, predict) + self.intercept

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
