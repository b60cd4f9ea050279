"""Consumes a rank's later rows and what a round predicts for them, produces errors in the target's unit, of all ranks.

XGBoost measures on the model's scale, and averages what ranks measure themselves, however many rows each one has. Here
ranks add up counts and squares, so that figures are those of all rows together.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from assay.model.scale import Floats, TargetScale, as_floats

WITHIN = 0.20  # share of the outcome


@dataclasses.dataclass(frozen=True)
class Judge:
    """Measures predictions of one rank's rows together with the other ranks'.

    rows: batches with the target and the scale's columns, in the order of the matrix.
    """

    scale: TargetScale
    rows: Sequence[pa.RecordBatch]
    ranks: int

    def __call__(self, predictions: Floats) -> dict[str, float]:
        """Predictions (n,) on the model's scale -> `rmse` and `within_20pct`, as `metrics.point_metrics` has them.

        Every rank calls it in the same round. Nothing where no rank has a row.
        """
        sums, at = np.zeros(4), 0
        for batch in self.rows:
            actual = as_floats(batch.column(self.scale.target))
            found = self.scale.inverse(predictions[at : at + len(actual)].astype(np.float64), batch)
            error, relative = np.abs(found - actual), actual != 0
            close = error[relative] / np.abs(actual[relative]) <= WITHIN
            sums += [len(actual), float(np.sum(error**2)), float(np.sum(close)), float(np.sum(relative))]
            at += len(actual)
        count, squares, within, relative_rows = _added(sums) if self.ranks > 1 else sums
        if not count:
            return {}
        share = 100 * within / relative_rows if relative_rows else math.nan
        return {"rmse": math.sqrt(squares / count), "within_20pct": float(share)}


def _added(sums: Floats) -> Any:
    import xgboost as xgb

    return xgb.collective.allreduce(sums, xgb.collective.Op.SUM)
