"""Consumes targets and anchors, produces the scale on which a model learns, and the way back to the target's unit."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

Floats = npt.NDArray[np.float64]


@dataclasses.dataclass(frozen=True)
class TargetScale:
    """How a target is learned.

    target: column of the target.  transform: `none` or `log`.
    anchor: feature column with the last known value that the model learns the change from, or None.
    typical: stands in for a missing anchor; the training period's median of the target.
    """

    target: str
    transform: str = "none"
    anchor: str | None = None
    typical: float = 0.0

    @property
    def columns(self) -> list[str]:
        """Columns needed besides the features to get back to the target's unit."""
        return [self.anchor] if self.anchor else []

    def forward(self, y: Floats, batch: pa.RecordBatch) -> Floats:
        """Targets (n,) in their unit -> (n,) on the model's scale."""
        return self._bend(y) - self._base(batch)

    def inverse(self, z: Floats, batch: pa.RecordBatch) -> Floats:
        """(n,) on the model's scale -> (n,) in the target's unit. Increasing, so interval ends keep their order."""
        level = z + self._base(batch)
        with np.errstate(over="ignore"):
            return np.exp(level) if self.transform == "log" else level

    def _bend(self, y: Floats) -> Floats:
        return np.log(y) if self.transform == "log" else y

    def _base(self, batch: pa.RecordBatch) -> Floats | float:
        if self.anchor is None:
            return 0.0
        anchor = as_floats(batch.column(self.anchor))
        return self._bend(np.where(self._usable(anchor), anchor, self.typical))

    def anchored(self, batch: pa.RecordBatch) -> npt.NDArray[np.bool_]:
        """Whether each row (n,) has a last known value that the model learns the change from."""
        if self.anchor is None:
            return np.zeros(batch.num_rows, dtype=bool)
        return self._usable(as_floats(batch.column(self.anchor)))

    def _usable(self, anchor: Floats) -> npt.NDArray[np.bool_]:
        found = np.isfinite(anchor)
        return found & (anchor > 0) if self.transform == "log" else found

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return dataclasses.asdict(self)


def as_floats(column: pa.Array) -> Floats:
    """A numeric Arrow column as float64 (n,), missing values as NaN."""
    values: Floats = column.to_numpy(zero_copy_only=False).astype(np.float64, copy=False)
    return values
