"""Consumes a rank's later rows and what a round predicts for them, produces errors in the target's unit, of all ranks.

XGBoost measures on the model's scale, and averages what ranks measure themselves, however many rows each one has. Here
ranks add up counts and losses, so that figures are those of all rows together.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from assay.class_metrics import brier_scores, log_losses
from assay.metrics import pinball_losses
from assay.model.outcome import VALUE, Outcome, every_class
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
    outcome: Outcome = VALUE

    def __call__(self, predictions: Floats) -> dict[str, float]:
        """Predictions on the model's scale -> figures, as `metrics` has them.

        Of numbers `rmse` and `within_20pct`, of quantiles `pinball` too, of classes `log_loss`, `brier`, `accuracy`.
        Every rank calls it in the same round. Nothing where no rank has a row.
        """
        measure = self._classes if self.outcome.decides else self._numbers
        parts, at = [np.zeros(5)], 0
        for batch in self.rows:
            found = predictions[at : at + batch.num_rows].astype(np.float64)
            parts.append(measure(as_floats(batch.column(self.scale.target)), found, batch))
            at += batch.num_rows
        sums = np.sum(parts, axis=0)
        count, *losses = (_added(sums) if self.ranks > 1 else sums).tolist()
        if not count:
            return {}
        if self.outcome.decides:
            return dict(zip(("log_loss", "brier", "accuracy"), (loss / count for loss in losses), strict=False))
        squares, within, relative_rows, pinball = losses
        share = 100 * within / relative_rows if relative_rows else math.nan
        figures = {"rmse": math.sqrt(squares / count), "within_20pct": float(share)}
        return {**figures, "pinball": pinball / count} if self.outcome.levels else figures

    def _numbers(self, actual: Floats, found: Floats, batch: pa.RecordBatch) -> Floats:
        """Rows, sum of squares, rows close to their outcome, rows whose outcome is not 0, sum of pinball losses."""
        pinball = 0.0
        if self.outcome.levels:
            levels = np.sort(found, axis=1)
            units = np.column_stack([self.scale.inverse(level, batch) for level in levels.T])
            pinball = float(np.sum(pinball_losses(actual, units, self.outcome.levels)))
            found = levels[:, self.outcome.middle]
        error, relative = np.abs(self.scale.inverse(found, batch) - actual), actual != 0
        close = error[relative] / np.abs(actual[relative]) <= WITHIN
        return np.array([len(actual), np.sum(error**2), np.sum(close), np.sum(relative), pinball])

    def _classes(self, actual: Floats, found: Floats, _: pa.RecordBatch) -> Floats:
        """Rows, sums of log losses and of Brier scores, rows whose likeliest class came true."""
        each = every_class(found)
        right = each.argmax(axis=1) == actual
        return np.array([len(actual), log_losses(actual, each).sum(), brier_scores(actual, each).sum(), right.sum(), 0])


def _added(sums: Floats) -> Any:
    import xgboost as xgb

    return xgb.collective.allreduce(sums, xgb.collective.Op.SUM)
