"""Consumes a rank's feature batches, produces the one array that CatBoost learns from, in an order of its own.

CatBoost draws its permutations by position, so rows are put in the order of a hash of what is in them: neither how rows
are cut into batches nor the order of batches shows. Columns wait on local disk until the order is known, so that the
data are in memory once, and CatBoost reads them where they are.
"""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import tempfile
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from assay.errors import AssayError
from assay.model.catboost_predictor import inputs
from assay.model.encoding import Encoding, Matrix
from assay.model.scale import TargetScale, as_floats
from assay.runtime.barrier import Batches
from assay.training.weights import RowWeights, Weights
from assay.training.xgboost_stream import MEMORY_BYTES, Labels, coalesce, local_folder

Hashes = npt.NDArray[np.uint64]
ODD = np.uint64(0x9E3779B97F4A7C15)
SHIFT = np.uint64(29)
CHUNK_ROWS = 32_768  # small enough for the allocator to use their memory again: new pages cost as much as the work
HASHED_ROWS = 8192  # at once: they stay in cache


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
    hashes: list[Hashes] = []
    labels: list[Labels] = [np.empty(0, np.float32)]
    counts: list[RowWeights] = [np.empty(0, np.float32)]
    with contextlib.closing(Columns(len(encoding.features))) as columns:
        for batch in coalesce(itertools.chain.from_iterable(share() for share in shares), CHUNK_ROWS):
            matrix = encoding.matrix(batch, order="F")
            labels.append(scale.forward(as_floats(batch.column(scale.target)), batch).astype(np.float32))
            hashes.append(_hash(matrix, labels[-1]))
            if weights is not None:
                counts.append(weights(batch))
            columns.add(matrix)
        label = np.concatenate(labels)
        weight = np.concatenate(counts) if weights is not None else None
        _refuse_strange(label, scale)
        order = np.argsort(_mixed(np.concatenate([np.empty(0, np.uint64), *hashes]), weight), kind="stable")
        matrix = columns.ordered(order)
    return Rows(matrix, label[order], weight[order] if weight is not None else None, len(encoding.numeric))


class Columns:
    """Matrices of some rows each, kept by columns: in memory while they are few, else in a file on local disk."""

    def __init__(self, width: int) -> None:
        self.width = width
        self._parts: list[tuple[int, int]] = []  # where each begins, and its rows
        self._file = tempfile.SpooledTemporaryFile(MEMORY_BYTES, prefix="assay-columns-", dir=local_folder())  # noqa: SIM115

    def add(self, matrix: Matrix) -> None:
        """Keep (n, width), in Fortran order."""
        self._parts.append((self._file.tell(), len(matrix)))
        self._file.write(matrix.T.data)

    def ordered(self, order: npt.NDArray[np.intp]) -> Matrix:
        """All rows (n, width), in Fortran order, put in that order (n,) of theirs; one column at a time."""
        result = np.empty((len(order), self.width), np.float32, order="F")
        column = np.empty(len(order), np.float32)
        for position in range(self.width):
            start = 0
            for begins, rows in self._parts:
                self._file.seek(begins + 4 * position * rows)
                column[start : start + rows] = np.frombuffer(self._file.read(4 * rows), np.float32)
                start += rows
            np.take(column, order, out=result[:, position], mode="clip")  # of the modes, the one without a copy
        return result

    def close(self) -> None:
        """Give memory or disk back."""
        self._file.close()


def _hash(matrix: Matrix, label: Labels) -> Hashes:
    """A hash (n,) of what is in each row; matrix: in Fortran order."""
    found = label.view(np.uint32).astype(np.uint64)
    for start in range(0, len(found), HASHED_ROWS):
        part = found[start : start + HASHED_ROWS]
        for column in matrix.T[:, start : start + HASHED_ROWS]:
            part[:] = _mixed(part, column)
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
