"""Consumes feature batches, produces how much each row counts in training: recent rows more than old ones."""

from __future__ import annotations

from typing import Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa

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
