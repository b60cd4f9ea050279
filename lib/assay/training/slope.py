"""Consumes rows that a model has not learned from, produces how far outcomes follow the changes it predicts.

The slope of outcomes on predictions (Mincer and Zarnowitz, 1969), through the origin: where nothing is predicted to
change, the last known value stays. Of a model that has learned noise the slope is near 0; of one with skill it is near
1. Rows of a day move together, so days are what its standard error counts.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator

import numpy as np
import pyarrow as pa

from assay.model.bundle import Model
from assay.model.carried import Carried
from assay.runtime.tables import TIME
from assay.training.rows import LabelledRows
from assay.training.split import Period

SURE = 2.0  # standard errors that a slope must be away from 1 to be used, and from 0 not to be 0
LEAST_DAYS = 20
DAY = 86_400_000_000
SUMS = pa.schema([("day", pa.int64()), ("both", pa.float64()), ("square", pa.float64())])


@dataclasses.dataclass(frozen=True)
class Slope:
    """error: standard error, by day.  days, rows: that it was found on.  used: what predictions are multiplied by."""

    slope: float
    error: float
    days: int
    rows: int

    @property
    def used(self) -> float:
        """1 unless outcomes are shown to follow less; then the slope itself, or 0 where it may as well be none."""
        if self.days < LEAST_DAYS or not self.error or self.slope + SURE * self.error >= 1:
            return 1.0
        return round(self.slope, 6) if self.slope > SURE * self.error else 0.0

    @property
    def figures(self) -> dict[str, float]:
        """For MLflow; none where no change is predicted."""
        return {"slope": self.slope, "slope_error": self.error, "slope_used": self.used} if self.days else {}

    @property
    def sentences(self) -> list[str]:
        """What a person should know of it; nothing where predictions are taken as they are."""
        if self.used == 1.0:
            return []
        by = f"by {self.slope:.2f} (± {self.error:.2f}, by day)"
        return [
            f"predicted changes count times {self.used:.2g}: outcomes of {self.rows:,} later rows followed them {by}"
        ]


NONE = Slope(1.0, 0.0, 0, 0)


@dataclasses.dataclass(frozen=True)
class Followed:
    """Kernel: per day (UTC) of a task, sums of predicted times true changes and of squared predicted ones."""

    carried: Carried

    def __call__(self, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """Rows of `SUMS`."""
        model = self.carried.model()
        for batch in batches:
            known = model.scale.anchored(batch)
            truth, predicted = (values[known] for values in model.residual_inputs(batch))
            days = batch.column("time").cast(TIME).cast(pa.int64()).to_numpy()[known] // DAY
            found, place = np.unique(days, return_inverse=True)
            sums = [np.bincount(place, weights=w, minlength=len(found)) for w in (truth * predicted, predicted**2)]
            yield pa.RecordBatch.from_arrays([pa.array(found), *map(pa.array, sums)], schema=SUMS)


def slope_of(sums: pa.Table, rows: int) -> Slope:
    """Slope of rows of `SUMS`. Its error is that of a ratio of sums over days (a sandwich, by cluster)."""
    # In one order whichever task was first, and by one thread: equal runs end with equal bits.
    ordered = sums.sort_by([(name, "ascending") for name in ("day", "both", "square")])
    table = ordered.group_by("day", use_threads=False).aggregate([("both", "sum"), ("square", "sum")])
    both, square = (table.column(f"{name}_sum").to_numpy() for name in ("both", "square"))
    whole = float(square.sum())
    if not whole:  # nothing is predicted to change
        return Slope(1.0, 0.0, table.num_rows, rows)
    slope = float(both.sum()) / whole
    error = math.sqrt(float(((both - slope * square) ** 2).sum())) / whole
    return Slope(slope, error, table.num_rows, rows)


def follows(rows: LabelledRows, model: Model, period: Period) -> Slope:
    """Slope of a model on a period that it has not learned from; `NONE` where it does not predict a change in time."""
    if model.scale.anchor is None or model.outcome.kind != "value" or period.drawn is not None:
        return NONE
    columns = list(dict.fromkeys(["time", *model.input_columns, rows.column]))
    sums = rows.read(columns, period).map(Followed(Carried.of(model)), SUMS).collect()
    return slope_of(sums, period.rows)
