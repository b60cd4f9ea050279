"""Consumes a rank's feature batches, produces the one array that CatBoost learns from, in an order of its own.

CatBoost draws its permutations by position, so rows are put in the order of a hash of what is in them: neither how rows
are cut into batches nor the order of batches shows. Chunks wait on local disk until their places are known, so that the
data are in memory once, and CatBoost reads them where they are.
"""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from assay.errors import AssayError
from assay.model.catboost_predictor import inputs
from assay.model.encoding import Encoding, Matrix
from assay.model.scale import TargetScale
from assay.runtime.barrier import Batches
from assay.training.weights import RowWeights, Weights
from assay.training.xgboost_stream import EncodedChunks, Labels

Hashes = npt.NDArray[np.uint64]
ODD = np.uint64(0x9E3779B97F4A7C15)
SHIFT = np.uint64(29)


@dataclasses.dataclass(frozen=True)
class Rows:
    """Rows that teach or judge.

    matrix: (n, features) in Fortran order.  label: (n,) on the model's scale.  weight: (n,), or None: all alike.
    numbers: how many of the features are numbers; the others, after them, are codes of categories.
    """

    matrix: Matrix
    label: Labels
    weight: RowWeights | None
    numbers: int

    def __len__(self) -> int:
        return len(self.label)

    @property
    def total(self) -> float:
        """Sum of the weights."""
        return float(len(self)) if self.weight is None else float(self.weight.sum(dtype=np.float64))

    @property
    def mean(self) -> float:
        """Weighted mean of the labels."""
        return float(np.average(self.label.astype(np.float64), weights=self.weight))

    def pool(self) -> Any:
        """As CatBoost takes them; numbers are not copied."""
        import catboost

        categorical = list(range(self.numbers, self.matrix.shape[1]))
        return catboost.Pool(
            inputs(self.matrix, self.numbers), self.label, weight=self.weight, cat_features=categorical or None
        )


def read_rows(shares: Sequence[Batches], encoding: Encoding, scale: TargetScale, weights: Weights | None) -> Rows:
    """All rows of the shares. Memory is that of the result and 24 bytes a row.

    Raises:
        AssayError: a target is no finite number on the model's scale.
    """
    counts: list[RowWeights] = []

    def batches() -> Iterator[pa.RecordBatch]:
        for batch in itertools.chain.from_iterable(share() for share in shares):
            if weights is not None:
                counts.append(weights(batch))
            yield batch

    hashes: list[Hashes] = []
    labels: list[Labels] = []
    with contextlib.closing(EncodedChunks(batches, encoding, scale)) as chunks:
        for found in chunks:
            hashes.append(_hash(found[0], found[1]))
            labels.append(found[1])
        weight = np.concatenate([np.empty(0, np.float32), *counts]) if weights is not None else None
        label = np.concatenate(labels)
        _refuse_strange(label, scale)
        order = np.argsort(_mixed(np.concatenate(hashes), weight), kind="stable")
        place = np.empty(len(order), np.intp)
        place[order] = np.arange(len(order))
        matrix = np.empty((len(order), len(encoding.features)), np.float32, order="F")
        start = 0
        for found in chunks:
            where = place[start : start + len(found[0])]
            for position in range(matrix.shape[1]):
                matrix[where, position] = found[0][:, position]
            start += len(where)
    return Rows(matrix, label[order], weight[order] if weight is not None else None, len(encoding.numeric))


def _hash(matrix: Matrix, label: Labels) -> Hashes:
    """A hash (n,) of what is in each row."""
    found = label.view(np.uint32).astype(np.uint64)
    for position in range(matrix.shape[1]):
        found = _mixed(found, matrix[:, position])
    return found


def _mixed(hashes: Hashes, column: npt.NDArray[np.float32] | None) -> Hashes:
    if column is None:
        return hashes
    mixed = (hashes ^ np.ascontiguousarray(column, np.float32).view(np.uint32)) * ODD
    result: Hashes = mixed ^ (mixed >> SHIFT)
    return result


def _refuse_strange(label: Labels, scale: TargetScale) -> None:
    strange = int((~np.isfinite(label)).sum())
    if strange:
        raise AssayError(
            f"CatBoost: {strange} of {len(label)} rows have a target {scale.target!r} that is no finite number"
            f"{' after its logarithm' if scale.transform == 'log' else ''}"
        )
