"""Consumes training rows, produces their number, each input's range, and a sample that no cutting into tasks changes.

A row is in the sample by a hash of its `row_id`, so the same rows are drawn in any order, from any number of files.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from assay.errors import DataError
from assay.model.arrays import from_bytes
from assay.model.encoding import Encoding, Matrix
from assay.model.row_sample import ROW, row_hash, sample_threshold
from assay.model.scale import Floats, TargetScale, as_floats
from assay.runtime.plane import Flow, Kernel
from assay.training.preparation_parts import PARTS, pack


class RowRule(Protocol):
    """A kernel that leaves rows out, by what it finds in some columns."""

    @property
    def columns(self) -> tuple[str, ...]:
        """Columns that it looks at."""
        ...

    def __call__(self, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """The rows that stay."""
        ...


@dataclasses.dataclass(frozen=True)
class TrainingRows:
    """The rows that teach. read: columns -> one flow per period.  rows: how many there are."""

    read: Callable[[Sequence[str]], Sequence[Flow]]
    rows: int

    def parts(self, kernel: Kernel, columns: Sequence[str], *, first: RowRule | None = None) -> list[dict[str, Any]]:
        """The arrays that a kernel makes of each task's share, after the rule `first`."""
        found: list[dict[str, Any]] = []
        for flow in self.read(list(dict.fromkeys([*columns, *(first.columns if first is not None else ())]))):
            rows = flow if first is None else flow.map(first, flow.schema)
            found += [from_bytes(cell) for cell in rows.map(kernel, PARTS).collect().column("arrays").to_pylist()]
        return found


@dataclasses.dataclass(frozen=True)
class Sample:
    """Rows in the order of their hash.

    matrix: (m, inputs) as the model would get them unprepared, numbers first.  target: (m,) on the model's scale.
    rows: training rows.  known: (p,) how many of them know each number.  low, high: (p,) its range in them.
    """

    matrix: Matrix
    target: Floats
    rows: int
    known: npt.NDArray[np.int64]
    low: Floats
    high: Floats

    @property
    def numbers(self) -> Matrix:
        """Numeric inputs (m, p), NaN for missing."""
        return self.matrix[:, : len(self.known)]

    def where(self, keep: npt.NDArray[np.bool_]) -> Sample:
        """Only these rows."""
        return dataclasses.replace(self, matrix=self.matrix[keep], target=self.target[keep])


@dataclasses.dataclass(frozen=True)
class Survey:
    """Kernel: ranges of a share's numbers and its part of the sample."""

    encoding: Encoding
    scale: TargetScale
    threshold: int

    def __call__(self, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """One row of `PARTS`."""
        numbers = len(self.encoding.numeric)
        seen = 0
        known, low, high = np.zeros(numbers, np.int64), np.full(numbers, np.inf), np.full(numbers, -np.inf)
        kept: list[tuple[npt.NDArray[Any], ...]] = []
        for batch in batches:
            matrix = self.encoding.matrix(batch)
            values = matrix[:, :numbers]
            seen += batch.num_rows
            known += (~np.isnan(values)).sum(axis=0)
            low = np.fmin(low, np.fmin.reduce(values, axis=0, initial=np.inf))
            high = np.fmax(high, np.fmax.reduce(values, axis=0, initial=-np.inf))
            hashes = row_hash(batch.column(ROW).to_numpy(zero_copy_only=False))
            take = np.flatnonzero(hashes <= np.uint64(self.threshold))
            if len(take):
                rows = batch.take(pa.array(take))
                target = self.scale.forward(as_floats(rows.column(self.scale.target)), rows)
                kept.append((hashes[take], matrix[take], target))
        empty = (np.empty(0, np.uint64), np.empty((0, len(self.encoding.features)), np.float32), np.empty(0))
        hashes, matrix, target = (np.concatenate(part) for part in zip(*(kept or [empty]), strict=True))
        yield pack(rows=seen, known=known, low=low, high=high, hashes=hashes, matrix=matrix, target=target)


def survey(
    rows: TrainingRows, encoding: Encoding, scale: TargetScale, *, cap: int, first: RowRule | None = None
) -> Sample:
    """One pass over the training rows that the rule `first` lets through; at most `cap` of them come to the driver.

    Raises:
        DataError: there is no row.
    """
    kernel = Survey(encoding, scale, sample_threshold(rows.rows, cap))
    parts = rows.parts(kernel, [ROW, *encoding.columns, *scale.columns, scale.target], first=first)
    if not parts:
        raise DataError("there is no training row to fit preparation on")
    hashes, matrix, target = (np.concatenate([p[name] for p in parts]) for name in ("hashes", "matrix", "target"))
    order = np.argsort(hashes, kind="stable")[:cap]
    return Sample(
        matrix=matrix[order],
        target=target[order],
        rows=int(sum(int(p["rows"]) for p in parts)),
        known=np.sum([p["known"] for p in parts], axis=0),
        low=np.min([p["low"] for p in parts], axis=0),
        high=np.max([p["high"] for p in parts], axis=0),
    )
