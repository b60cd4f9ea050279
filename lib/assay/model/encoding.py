"""Consumes feature batches, produces the matrix that engines learn from, with the model's own vocabulary.

One vocabulary of categories, built over the whole training period, encodes every batch of every rank and of scoring:
boosters compare codes, so two batches that number categories differently would train without complaint and predict
wrongly.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

Matrix = npt.NDArray[np.float32]


@dataclasses.dataclass(frozen=True)
class Encoding:
    """Order and kinds of the model's inputs.

    numeric: float columns, in order.  categories: column -> its known values, sorted; codes are positions.
    Values never seen in training are treated as missing, and so are infinite numbers: boosters do not train on them.
    """

    numeric: tuple[str, ...]
    categories: dict[str, tuple[str, ...]]

    @property
    def columns(self) -> list[str]:
        """Columns of a batch that are needed."""
        return [*self.numeric, *self.categories]

    @property
    def feature_types(self) -> list[str]:
        """XGBoost's names of the kinds: q for numbers, c for categories."""
        return ["q"] * len(self.numeric) + ["c"] * len(self.categories)

    def matrix(self, batch: pa.RecordBatch) -> Matrix:
        """Inputs of a batch as float32 (n, features), missing, infinite and unseen as NaN."""
        result = np.empty((batch.num_rows, len(self.columns)), dtype=np.float32)
        for position, name in enumerate(self.numeric):
            result[:, position] = batch.column(name).to_numpy(zero_copy_only=False)
        numbers = result[:, : len(self.numeric)]
        numbers[np.isinf(numbers)] = np.nan
        for position, (name, known) in enumerate(self.categories.items(), start=len(self.numeric)):
            codes = pc.index_in(batch.column(name), value_set=pa.array(known, pa.string()))
            result[:, position] = codes.to_numpy(zero_copy_only=False)
        return result

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON. Categories are a list: canonical JSON sorts keys, and boosters know columns by order."""
        return {"numeric": list(self.numeric), "categories": [[k, list(v)] for k, v in self.categories.items()]}

    @classmethod
    def from_dict(cls, tree: dict[str, Any]) -> Encoding:
        """Read back `to_dict`."""
        return cls(tuple(tree["numeric"]), {k: tuple(v) for k, v in tree["categories"]})
