"""Consumes feature batches, produces predictions without a model: the strongest simple alternatives."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa

from assay.model.scale import Floats, as_floats

MIN_GROUP_ROWS = 5


@dataclasses.dataclass(frozen=True)
class Baselines:
    """Predictions without a model.

    global_median: of the training period.  group_columns: what groups the group median.
    group_medians: values of those columns -> median; groups with fewer than 5 rows are left out and get the global one.
    last_value: feature column with the entity's last known value, or None; missing ones get the group median.
    """

    global_median: float
    group_columns: tuple[str, ...]
    group_medians: Mapping[tuple[str | None, ...], float]
    last_value: str | None

    @property
    def columns(self) -> list[str]:
        """Feature columns needed to predict."""
        return [*self.group_columns, *([self.last_value] if self.last_value else [])]

    def predict(self, batch: pa.RecordBatch) -> dict[str, Floats]:
        """Name -> predictions (n,) in the target's unit."""
        rows = batch.num_rows
        found = {"global_median": np.full(rows, self.global_median)}
        if self.group_columns:
            keys = zip(*(batch.column(c).to_pylist() for c in self.group_columns), strict=True)
            found["group_median"] = np.array([self.group_medians.get(k, self.global_median) for k in keys])
        if self.last_value:
            last = as_floats(batch.column(self.last_value))
            found["last_value"] = np.where(np.isfinite(last), last, found.get("group_median", found["global_median"]))
        return found

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return {
            "global_median": self.global_median,
            "group_columns": list(self.group_columns),
            "group_medians": [[list(k), v] for k, v in sorted(self.group_medians.items(), key=str)],
            "last_value": self.last_value,
        }

    @classmethod
    def from_dict(cls, tree: dict[str, Any]) -> Baselines:
        """Read back `to_dict`."""
        medians = {tuple(k): float(v) for k, v in tree["group_medians"]}
        return cls(tree["global_median"], tuple(tree["group_columns"]), medians, tree["last_value"])
