"""Consumes feature batches, produces how much each row counts in training: recent rows more than old ones."""

from __future__ import annotations

import dataclasses
import datetime as dt
from typing import Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from assay.runtime.tables import TIME

RowWeights = npt.NDArray[np.float32]


class Weights(Protocol):
    """What rows count. Travels to executors by value."""

    @property
    def columns(self) -> tuple[str, ...]:
        """Columns of a batch that are needed."""
        ...

    def __call__(self, batch: pa.RecordBatch) -> RowWeights:
        """Weights (n,), finite and not negative, of the rows of a batch."""
        ...


@dataclasses.dataclass(frozen=True)
class TimeDecay:
    """A row weighs 0.5 ** (days before `newest` / half-life): 1 for the newest, half of that one half-life earlier.

    newest: time of the newest row that is trained on.
    """

    newest: dt.datetime
    halflife_days: float
    columns: tuple[str, ...] = ("time",)

    def __call__(self, batch: pa.RecordBatch) -> RowWeights:
        """Weights (n,), from the column `time`."""
        times = batch.column("time").cast(TIME).cast(pa.int64()).to_numpy()
        newest = pa.scalar(self.newest, TIME).cast(pa.int64()).as_py()
        days = (newest - times) / 86_400e6
        weights: RowWeights = np.exp2(-days / self.halflife_days).astype(np.float32)
        return weights
