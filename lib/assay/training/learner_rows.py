"""Consumes a rank's feature batches, produces rows as learners take them: in blocks, or as a sample of a stated size.

Neither the cut into batches nor, for a sample, their order shows: a block has so many rows whatever came together, and
a sample is drawn and ordered by a hash of `row_id`.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from assay.errors import AssayError
from assay.model.encoding import Encoding, Matrix
from assay.model.row_sample import EVERY_ROW, ROW, row_hash
from assay.model.scale import Floats, TargetScale, as_floats
from assay.runtime.barrier import Batches
from assay.training.weights import Weights
from assay.training.xgboost_stream import CHUNK_ROWS, EncodedChunks, coalesce

Hashes = npt.NDArray[np.uint64]


@dataclasses.dataclass(frozen=True)
class Rows:
    """Rows that teach. matrix: (n, features), missing as NaN.  target: (n,) on the model's scale.  weight: (n,) > 0."""

    matrix: Matrix
    target: Floats
    weight: Floats

    def __len__(self) -> int:
        return len(self.target)

    def take(self, which: slice | npt.NDArray[np.intp]) -> Rows:
        """Some of them."""
        return Rows(self.matrix[which], self.target[which], self.weight[which])


@dataclasses.dataclass(frozen=True)
class RowReader:
    """Turns batches into rows. Rows of no weight are left out, as if they were not there."""

    engine: str
    encoding: Encoding
    scale: TargetScale
    weights: Weights | None = None

    def blocks(self, shares: Sequence[Batches], rows: int) -> Iterator[Rows]:
        """All rows, so many at a time; the last block has what is left."""
        held = self._empty()
        for batch in _batches(shares):
            held = _joined([held, self._rows(*self._teaching(batch))])
            whole = len(held) // rows * rows
            for first in range(0, whole, rows):
                yield held.take(slice(first, first + rows))
            held = held.take(slice(whole, None))
        if len(held):
            yield held

    def sample(self, shares: Sequence[Batches], cap: int) -> tuple[Rows, int]:
        """The `cap` rows whose `row_id` has the smallest hash, in that order; and how many rows there were.

        Memory is that of twice the sample and one chunk.
        """
        kept: list[tuple[Hashes, Rows]] = [(np.empty(0, np.uint64), self._empty())]
        seen, held, highest = 0, 0, np.uint64(EVERY_ROW)
        for given in _batches(shares):
            batch, weight = self._teaching(given)
            seen += batch.num_rows
            drawn = row_hash(batch.column(ROW).to_numpy(zero_copy_only=False))
            take = np.flatnonzero(drawn <= highest)
            kept.append((drawn[take], self._rows(batch.take(pa.array(take)), weight[take])))
            held += len(take)
            if held > cap + CHUNK_ROWS:
                highest = np.partition(np.concatenate([hashes for hashes, _ in kept]), cap - 1)[cap - 1]
                kept = [
                    (hashes[hashes <= highest], rows.take(np.flatnonzero(hashes <= highest))) for hashes, rows in kept
                ]
                held = sum(len(rows) for _, rows in kept)
        hashes, rows = np.concatenate([hashes for hashes, _ in kept]), _joined([rows for _, rows in kept])
        del kept
        return rows.take(np.argsort(hashes, kind="stable")[:cap]), seen

    def hashed(self, shares: Sequence[Batches]) -> tuple[Hashes, Rows]:
        """All rows in the order of the hash of their `row_id`, and the hashes (n,), ascending."""
        kept: list[tuple[Hashes, Rows]] = [(np.empty(0, np.uint64), self._empty())]
        for given in _batches(shares):
            batch, weight = self._teaching(given)
            kept.append((row_hash(batch.column(ROW).to_numpy(zero_copy_only=False)), self._rows(batch, weight)))
        hashes, rows = np.concatenate([hashes for hashes, _ in kept]), _joined([rows for _, rows in kept])
        del kept
        order = np.argsort(hashes, kind="stable")
        return hashes[order], rows.take(order)

    def _teaching(self, batch: pa.RecordBatch) -> tuple[pa.RecordBatch, Floats]:
        """The rows that have weight, and their weights."""
        if self.weights is None:
            return batch, np.ones(batch.num_rows)
        weight = np.asarray(self.weights(batch), dtype=np.float64)
        return batch.filter(pa.array(weight > 0)), weight[weight > 0]

    def _rows(self, batch: pa.RecordBatch, weight: Floats) -> Rows:
        target = self.scale.forward(as_floats(batch.column(self.scale.target)), batch)
        strange = int((~np.isfinite(target)).sum())
        if strange:
            raise AssayError(
                f"engine {self.engine}: {strange} of {len(target)} rows have a target {self.scale.target!r} that is no "
                f"finite number{' after its logarithm' if self.scale.transform == 'log' else ''}"
            )
        return Rows(self.encoding.matrix(batch), target, weight)

    def _empty(self) -> Rows:
        return Rows(np.empty((0, len(self.encoding.features)), np.float32), np.empty(0), np.empty(0))


@dataclasses.dataclass(frozen=True, kw_only=True)
class KeptRows(RowReader):
    """Rows of one share that were encoded once, for who goes over them again and again."""

    chunks: EncodedChunks

    def blocks(self, shares: Sequence[Batches], rows: int) -> Iterator[Rows]:
        """All of them, at most so many at a time, whatever the shares."""
        for matrix, label, weight in self.chunks:
            counts = np.ones(len(label)) if weight is None else weight.astype(np.float64)
            kept = Rows(matrix, label.astype(np.float64), counts)
            kept = kept if counts.all() else kept.take(np.flatnonzero(counts > 0))
            for first in range(0, len(kept), rows):
                yield kept.take(slice(first, first + rows))


def _batches(shares: Sequence[Batches]) -> Iterator[pa.RecordBatch]:
    return coalesce((b for b in itertools.chain.from_iterable(share() for share in shares) if b.num_rows), CHUNK_ROWS)


def _joined(parts: Sequence[Rows]) -> Rows:
    names = [field.name for field in dataclasses.fields(Rows)]
    return Rows(**{name: np.concatenate([getattr(part, name) for part in parts]) for name in names})
