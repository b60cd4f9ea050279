"""Consumes labelled feature batches and a model of classes, produces its probabilities beside what came true.

On the driver it is 8 K + 32 bytes a row besides the segment's label, as in evaluation.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from assay.conformal.calibration import labels_in
from assay.conformal.class_sets import Floats, uniform
from assay.conformal.intervals import labels_of
from assay.conformal.unpriced import UNPRICED, told_apart
from assay.errors import DataError
from assay.model.bundle import Model
from assay.model.carried import Carried
from assay.model.row_sample import ROW, row_hash

CLASS_ROWS = pa.schema(
    [
        pa.field("label", pa.string()),
        pa.field(ROW, pa.int64()),
        pa.field("time", pa.int64()),
        pa.field("code", pa.float64()),
        pa.field("probabilities", pa.list_(pa.float64())),
    ]
)
CLASS_ROWS_APART = CLASS_ROWS.append(UNPRICED)


@dataclasses.dataclass(frozen=True)
class PredictLabelled:
    """Kernel: segment label, time (microseconds since 1970, UTC), class that came true and probabilities of all."""

    carried: Carried
    segments: tuple[str, ...]

    def __call__(self, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """Rows of `CLASS_ROWS_APART`."""
        model = self.carried.model()
        return told_apart(lambda batch: self.price(model, batch), batches, CLASS_ROWS_APART, "probabilities")

    def price(self, model: Model, batch: pa.RecordBatch) -> pa.RecordBatch:
        """Rows of `CLASS_ROWS`."""
        each = model.probabilities(batch)
        columns = [
            labels_of(batch, self.segments),
            batch.column(ROW),
            batch.column("time").cast(pa.int64()),
            pa.array(model.truth(batch), pa.float64()),
            pa.FixedSizeListArray.from_arrays(each.ravel(), each.shape[1]).cast(pa.list_(pa.float64())),
        ]
        return pa.record_batch(columns, schema=CLASS_ROWS)


@dataclasses.dataclass(frozen=True)
class ClassRows:
    """Rows of `CLASS_ROWS` as arrays: codes (n,), probabilities (n, K), labels (n,), row_ids (n,), times (n,)."""

    codes: npt.NDArray[np.intp]
    probabilities: Floats
    labels: npt.NDArray[np.object_]
    row_ids: npt.NDArray[np.int64]
    times: npt.NDArray[np.int64]

    @classmethod
    def of(cls, table: pa.Table, classes: int) -> ClassRows:
        """Of a table."""
        each = table.column("probabilities").combine_chunks().flatten().to_numpy(zero_copy_only=False)
        return cls(
            codes=table.column("code").to_numpy().astype(np.intp),
            probabilities=each.reshape(-1, classes),
            labels=labels_in(table.column("label")),
            row_ids=table.column(ROW).to_numpy(),
            times=table.column("time").to_numpy(),
        )

    @property
    def draws(self) -> Floats:
        """The draw of each row; see `class_sets`."""
        return uniform(self.row_ids)

    def where(self, which: npt.NDArray[np.bool_]) -> ClassRows:
        """Some of the rows."""
        return ClassRows(**{name: values[which] for name, values in vars(self).items()})

    def parted(self, share: float, *, drawn: bool) -> tuple[ClassRows, ClassRows]:
        """The rows that teach a map of probabilities, about this share, and those whose scores make the sets.

        The former are the earlier ones. Rows that were drawn into their period, and those that all have one time, are
        drawn again, by a hash of `row_id` that has nothing to do with other draws.

        Raises:
            DataError: one of the two has no rows.
        """
        times, rows = np.unique(self.times, return_counts=True)
        if drawn or len(times) < 2:
            first = uniform(row_hash(self.row_ids).view(np.int64)) < share
        else:
            before = np.cumsum(rows)[:-1]
            first = self.times < times[1 + int(np.argmin(np.abs(before - share * len(self.times))))]
        if not first.any() or first.all():
            raise DataError(
                f"{len(first)} labelled row(s) to calibrate on are too few to calibrate probabilities on some of them "
                "and sets on the others: set conformal.probabilities to none, or split.calibrate larger"
            )
        return self.where(first), self.where(~first)
