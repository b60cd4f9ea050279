"""Consumes stored training rows, produces predictions as the mean of the nearest ones' targets."""

from __future__ import annotations

import dataclasses
from functools import cached_property

import numpy as np
import numpy.typing as npt

from assay.model.arrays import from_bytes, to_bytes
from assay.model.encoding import Matrix
from assay.model.learner_inputs import LearnerInputs
from assay.model.preparation import FLOAT32_MAX

Floats = npt.NDArray[np.float64]
CELLS = 1 << 22  # of a block's distances to all rows: 32 MB
MOST_ROWS = 256
ERROR = 1e-12  # of a distance found by products, relative to the squares that it is made of; far above rounding


@dataclasses.dataclass(frozen=True, eq=False)
class Nearest:
    """The mean of the k nearest rows by Euclidean distance; of equally near ones the first count.

    points: (m, inputs), single precision.  target, weight: (m,) of these rows; of several classes the target is (m, K),
    1 for the class that came.  prior: of classes, their shares, which count as one neighbour more: no few are sure.
    closer: nearer rows count more, by the reciprocal of their distance, and those without distance alone.
    """

    inputs: LearnerInputs
    points: npt.NDArray[np.float32]
    target: Floats
    weight: Floats
    neighbours: int
    closer: bool
    prior: Floats | None = None

    def predict(self, matrix: Matrix) -> Floats:
        """(n, features) -> (n,), of several classes (n, classes)."""
        result = np.empty((len(matrix), *self.target.shape[1:]))
        rows = int(np.clip(CELLS // len(self.points), 1, MOST_ROWS))
        for first in range(0, len(matrix), rows):
            block = slice(first, first + rows)
            result[block] = self._mean(*self._nearest(placed(self.inputs, matrix[block]).astype(np.float64)))
        return result

    @cached_property
    def _doubles(self) -> tuple[Floats, Floats]:
        """Points (m, inputs), and their squared distance from 0 (m,)."""
        points = self.points.astype(np.float64)
        return points, (points**2).sum(axis=1)

    def _nearest(self, rows: Floats) -> tuple[npt.NDArray[np.intp], Floats]:
        """Nearest points of rows (r, inputs), nearest first, and their squared distances, both (r, k).

        Products of BLAS say about how near a point is. Whoever may be among the nearest by that is measured again, so
        that equally near ones are told from nearly so.
        """
        points, squares = self._doubles
        count = min(self.neighbours, len(points))
        own = (rows**2).sum(axis=1)
        about = squares - 2 * (rows @ points.T)  # the row's own square changes no order
        error = 2 * ERROR * rows.shape[1] * (own + squares.max())
        limit = np.partition(about, count - 1, axis=1)[:, count - 1] + error
        most = int((about <= limit[:, None]).sum(axis=1).max())
        chosen = np.sort(np.argpartition(about, most - 1, axis=1)[:, :most], axis=1)
        distance = np.zeros(chosen.shape)
        for position in range(rows.shape[1]):
            distance += (rows[:, position, None] - points[chosen, position]) ** 2
        order = np.argsort(distance, axis=1, kind="stable")[:, :count]
        return np.take_along_axis(chosen, order, axis=1), np.take_along_axis(distance, order, axis=1)

    def _mean(self, near: npt.NDArray[np.intp], distance: Floats) -> Floats:
        weight = self.weight[near]
        if self.closer:
            same = distance == 0
            reciprocal = 1 / np.sqrt(np.where(same, 1.0, distance))
            weight = weight * np.where(same.any(axis=1, keepdims=True), same, reciprocal)
        if self.target.ndim == 1 and self.prior is None:
            return np.asarray((weight * self.target[near]).sum(axis=1) / weight.sum(axis=1))
        several = self.target.ndim == 2
        weight = weight[:, :, None] if several else weight
        one = weight.mean(axis=1)
        prior = 0.0 if self.prior is None else self.prior
        return np.asarray(((weight * self.target[near]).sum(axis=1) + one * prior) / (weight.sum(axis=1) + one))

    def importance(self) -> dict[int, float]:
        """None: distances use all inputs alike."""
        return {}

    def store(self) -> bytes:
        """As npz."""
        return to_bytes(
            **self.inputs.arrays(),
            points=self.points,
            target=self.target,
            weight=self.weight,
            neighbours=np.int64(self.neighbours),
            closer=np.bool_(self.closer),
            **({} if self.prior is None else {"prior": self.prior}),
        )


def placed(inputs: LearnerInputs, matrix: Matrix) -> npt.NDArray[np.float32]:
    """Where rows lie (n, inputs), as precisely as it is kept."""
    return np.clip(inputs.apply(matrix), -FLOAT32_MAX, FLOAT32_MAX).astype(np.float32)


def load_nearest(stored: bytes, _: int = 1) -> Nearest:
    """Read back `Nearest.store`."""
    arrays = from_bytes(stored)
    return Nearest(
        LearnerInputs.of(arrays),
        arrays["points"],
        arrays["target"],
        arrays["weight"],
        int(arrays["neighbours"]),
        bool(arrays["closer"]),
        arrays.get("prior"),
    )
