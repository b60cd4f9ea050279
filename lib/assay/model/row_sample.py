"""Consumes row ids, produces a sample of rows that no order of rows and no cutting into tasks changes."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import pyarrow as pa

ROW = "row_id"
EVERY_ROW = (1 << 64) - 1


def sample_threshold(rows: int, cap: int) -> int:
    """Greatest hash that may be in a sample of `cap` of so many rows: six standard deviations more are let through."""
    if rows <= cap:
        return EVERY_ROW
    return min(EVERY_ROW, int((cap + 6 * math.sqrt(cap)) / rows * EVERY_ROW))


def row_hash(row_ids: npt.NDArray[np.int64]) -> npt.NDArray[np.uint64]:
    """Evenly spread 64-bit hash of row ids (n,) (the finaliser of SplitMix64; Steele, Lea and Flood, 2014)."""
    mixed = row_ids.astype(np.int64).view(np.uint64) + np.uint64(0x9E3779B97F4A7C15)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return mixed ^ (mixed >> np.uint64(31))


def hashes_of(batch: pa.RecordBatch) -> npt.NDArray[np.uint64]:
    """`row_hash` of a batch's `row_id`, (n,)."""
    return row_hash(batch.column(ROW).to_numpy(zero_copy_only=False))


def sampled(
    batches: Iterator[pa.RecordBatch], threshold: int
) -> Iterator[tuple[pa.RecordBatch, npt.NDArray[np.uint64]]]:
    """Rows whose hash is at most `threshold`, and their hashes (n,); of a batch without any nothing."""
    for batch in batches:
        hashes = hashes_of(batch)
        take = np.flatnonzero(hashes <= np.uint64(threshold))
        if len(take):
            yield batch.take(pa.array(take)), hashes[take]


@dataclasses.dataclass(frozen=True)
class SampleRows:
    """Kernel: rows whose hash of `row_id` is at most `threshold`."""

    threshold: int

    def __call__(self, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """The rows as they are."""
        for batch in batches:
            yield batch.filter(pa.array(hashes_of(batch) <= np.uint64(self.threshold)))
