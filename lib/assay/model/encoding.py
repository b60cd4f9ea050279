"""Consumes feature batches, produces the matrix that engines learn from, with the model's own vocabulary.

One vocabulary of categories, built over the whole training period, encodes every batch of every rank and of scoring:
boosters compare codes, so two batches that number categories differently would train without complaint and predict
wrongly.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from assay.model.preparation import Preparation

Matrix = npt.NDArray[np.float32]
CACHED_ROWS = 1024


class Seen(NamedTuple):
    """What training rows had in a column.

    known: share of them that have a value.  low, high: range of the finite numbers; None for a category, or where no
    row had any.
    """

    known: float
    low: float | None = None
    high: float | None = None


@dataclasses.dataclass(frozen=True)
class Encoding:
    """Order and kinds of the model's inputs.

    numeric: numbers, in order: float columns, or what `preparation` makes of some.
    categories: column -> its known values, sorted; codes are positions.
    preparation: what is done to numbers first; None takes them as they come.
    seen: column of a batch -> what the training rows had there; older models have none, and predicting needs none.
    Values never seen in training are treated as missing, and so are infinite numbers: boosters do not train on them.
    """

    numeric: tuple[str, ...]
    categories: dict[str, tuple[str, ...]]
    preparation: Preparation | None = None
    seen: Mapping[str, Seen] = dataclasses.field(default_factory=dict)

    @property
    def columns(self) -> list[str]:
        """Columns of a batch that are needed."""
        return [*(self.preparation.columns if self.preparation is not None else self.numeric), *self.categories]

    @property
    def features(self) -> list[str]:
        """Names of the matrix's columns, in order. They are those of the batch where nothing is prepared."""
        return [*self.numeric, *self.categories]

    @property
    def feature_types(self) -> list[str]:
        """XGBoost's names of the kinds: q for numbers, c for categories."""
        return ["q"] * len(self.numeric) + ["c"] * len(self.categories)

    def matrix(self, batch: pa.RecordBatch, *, order: Literal["C", "F"] = "C") -> Matrix:
        """Inputs of a batch as float32 (n, features), missing, infinite and unseen as NaN; by rows, or by columns."""
        result = np.empty((batch.num_rows, len(self.features)), dtype=np.float32, order=order)
        numbers = result[:, : len(self.numeric)]
        if self.preparation is None:
            read_numbers(batch, self.numeric, numbers)
        else:
            raw = np.empty((batch.num_rows, len(self.preparation.columns)), dtype=np.float32)
            read_numbers(batch, self.preparation.columns, raw)
            numbers[:] = self.preparation.apply(raw)[:, self._prepared]
        for position, (name, known) in enumerate(self.categories.items(), start=len(self.numeric)):
            codes = pc.index_in(batch.column(name), value_set=pa.array(known, pa.string()))
            result[:, position] = codes.to_numpy(zero_copy_only=False)
        return result

    @cached_property
    def _prepared(self) -> list[int]:
        """Positions of `numeric` among what the preparation makes."""
        assert self.preparation is not None
        return [self.preparation.outputs.index(name) for name in self.numeric]

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON. Categories are a list: canonical JSON sorts keys, and boosters know columns by order."""
        tree: dict[str, Any] = {
            "numeric": list(self.numeric),
            "categories": [[k, list(v)] for k, v in self.categories.items()],
        }
        return {**tree, "seen": {k: list(v) for k, v in self.seen.items()}} if self.seen else tree

    @classmethod
    def from_dict(cls, tree: dict[str, Any], preparation: Preparation | None = None) -> Encoding:
        """Read back `to_dict`; the preparation has a file of its own."""
        seen = {name: Seen(*told) for name, told in tree.get("seen", {}).items()}
        return cls(tuple(tree["numeric"]), {k: tuple(v) for k, v in tree["categories"]}, preparation, seen)


def read_numbers(batch: pa.RecordBatch, names: Sequence[str], into: Matrix) -> None:
    """Fill (n, len(names)) with columns of a batch, missing and infinite as NaN."""
    columns = [batch.column(name).to_numpy(zero_copy_only=False) for name in names]
    for start in range(0, len(into), CACHED_ROWS):  # a matrix by rows has to be in cache while columns fill it
        rows = slice(start, start + CACHED_ROWS)
        part = into[rows]
        for position, column in enumerate(columns):
            part[:, position] = column[rows]
        np.copyto(part, np.nan, where=np.isinf(part))
