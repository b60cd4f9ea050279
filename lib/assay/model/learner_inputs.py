"""Consumes the encoded matrix, produces what learners take that know neither missing values nor categories.

Boosters split on missing values and on categories themselves; a line, a distance and scikit-learn's trees do not. This
stage belongs to the learner and is stored with it, whatever the user's `preparation` does before.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from assay.model.encoding import Matrix

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int32]


@dataclasses.dataclass(frozen=True, eq=False)
class LearnerInputs:
    """How k = p + c inputs of a learner are made of a matrix whose first p columns are numbers.

    fill: (p,) stands in for missing numbers.  centre, spread: (p,) scaling, (value - centre) / spread.
    column, code: (c,) an input is 1 where that column of the matrix has that code and 0 elsewhere, so missing and
    unseen categories, and those too rare to have an input, are 0 in all of their column's inputs.
    """

    fill: Floats
    centre: Floats
    spread: Floats
    column: Integers
    code: Integers

    def __len__(self) -> int:
        return len(self.fill) + len(self.column)

    def apply(self, matrix: Matrix) -> Floats:
        """(n, features), missing as NaN -> (n, k), all finite."""
        numbers = len(self.fill)
        result = np.empty((len(matrix), len(self)))
        values = matrix[:, :numbers].astype(np.float64)
        result[:, :numbers] = (np.where(np.isnan(values), self.fill, values) - self.centre) / self.spread
        result[:, numbers:] = matrix[:, self.column] == self.code
        return result

    @property
    def feature(self) -> npt.NDArray[np.int64]:
        """Column of the matrix that each input is made of (k,)."""
        return np.concatenate([np.arange(len(self.fill)), self.column])

    def by_feature(self, worth: Floats) -> dict[int, float]:
        """Worth of each input (k,) -> feature position -> the sum over its inputs; worthless features are absent."""
        sums = np.bincount(self.feature, weights=worth)
        return {int(position): float(sums[position]) for position in np.flatnonzero(sums)}

    def arrays(self) -> dict[str, Any]:
        """For `to_bytes`, beside the learner's own."""
        return {f"inputs.{field.name}": getattr(self, field.name) for field in dataclasses.fields(self)}

    @classmethod
    def of(cls, arrays: Mapping[str, Any]) -> LearnerInputs:
        """Read back `arrays`."""
        return cls(**{field.name: arrays[f"inputs.{field.name}"] for field in dataclasses.fields(cls)})
