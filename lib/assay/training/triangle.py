"""Consumes rows of numbers, produces the triangle that least squares needs of them, added up over blocks and ranks.

For Z = [1, inputs, target] with each row times the root of its weight, R of Z = QR has R'R = Z'Z, so whatever least
squares wants to know of all rows is in a matrix as small as the inputs are many. R of two parts one above the other is
found from their R's (Golub, Plemmons and Sameh, 1988; "TSQR"), and no product of inputs is formed, which would square
their condition number.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from assay.model.scale import Floats


@dataclasses.dataclass(frozen=True)
class Triangle:
    """values: (k + 2, k + 2), upper triangular; or rows that are yet to become so."""

    values: Floats

    @classmethod
    def empty(cls, inputs: int) -> Triangle:
        """Of no rows."""
        return cls(np.zeros((inputs + 2, inputs + 2)))

    def with_rows(self, inputs: Floats, target: Floats, weight: Floats) -> Triangle:
        """With rows (n, k), (n,), (n,) added."""
        block = np.column_stack([np.ones(len(target)), inputs, target]) * np.sqrt(weight)[:, None]
        return together([self, Triangle(block)])

    @property
    def weight(self) -> float:
        """Sum of the rows' weights."""
        return float(self.values[0, 0] ** 2)

    @property
    def means(self) -> Floats:
        """Weighted means of inputs and target (k + 1,)."""
        return np.asarray(self.values[0, 1:] / self.values[0, 0])

    @property
    def centred(self) -> Floats:
        """Triangle of inputs and target less their means (k + 1, k + 1): what is left below the row of ones."""
        return self.values[1:, 1:]

    @property
    def spreads(self) -> Floats:
        """Weighted standard deviations of inputs and target (k + 1,)."""
        return np.asarray(np.sqrt((self.centred**2).sum(axis=0) / self.weight))

    def rmse(self, slopes: Floats, intercept: float) -> float:
        """Weighted root mean squared error of intercept + inputs @ slopes."""
        if not self.weight:
            return math.nan
        residual = self.values @ np.concatenate([[intercept], slopes, [-1.0]])
        return float(np.linalg.norm(residual) / math.sqrt(self.weight))


def together(triangles: Sequence[Triangle]) -> Triangle:
    """The triangle of all their rows."""
    found: Any = np.linalg.qr(np.vstack([t.values for t in triangles]), mode="r")
    return Triangle(found)
