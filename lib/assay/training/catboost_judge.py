"""Consumes CatBoost models of several shards, produces what each of them and their mean are worth on tune."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Sequence

import numpy as np
import pyarrow as pa

from assay.model.catboost_predictor import CatBoostPredictor, Member
from assay.model.encoding import Encoding
from assay.model.outcome import VALUE, Outcome
from assay.model.scale import TargetScale, as_floats
from assay.runtime.plane import Flow
from assay.training.losses import loss_name, loss_of, losses_of


def judged(
    tune: Flow, encoding: Encoding, scale: TargetScale, shards: Sequence[Member], outcome: Outcome = VALUE
) -> dict[str, float]:
    """Loss on all of tune, on the model's scale, of the mean of the shards and of each of them alone.

    RMSE, of classes the log loss, of quantiles the pinball loss.
    """
    names = ["merged", *(f"shard_{number}" for number in range(len(shards)))]
    schema = pa.schema([pa.field("rows", pa.int64()), *(pa.field(name, pa.float64()) for name in names)])
    sums = tune.map(Judge(encoding, scale, tuple(shards), outcome), schema).collect()
    rows = sum(sums.column("rows").to_pylist())
    if not rows:
        return {}
    loss = loss_name(outcome)
    means = {name: math.fsum(sums.column(name).to_pylist()) / rows for name in names}
    return {f"tune_{loss}_{name}": loss_of(outcome, mean) for name, mean in means.items()}


@dataclasses.dataclass(frozen=True)
class Judge:
    """Kernel: rows, and sums of losses of the mean and of each shard, over a task's batches."""

    encoding: Encoding
    scale: TargetScale
    shards: tuple[Member, ...]
    outcome: Outcome = VALUE

    def __call__(self, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """One row per task that has rows."""
        weights = np.array([weight for weight, _ in self.shards])
        predictors = [CatBoostPredictor(cbm, threads=1) for _, cbm in self.shards]
        rows, squares = 0, np.zeros(len(self.shards) + 1)
        for batch in batches:
            truth = self.scale.forward(as_floats(batch.column(self.scale.target)), batch)
            matrix = self.encoding.matrix(batch)
            alone = np.array([predictor.predict(matrix) for predictor in predictors])
            each = [np.tensordot(weights, alone, axes=1), *alone]
            losses = [losses_of(self.outcome, truth, found).sum() for found in each]
            rows, squares = rows + batch.num_rows, squares + losses
        if rows:
            names = ["merged", *(f"shard_{number}" for number in range(len(self.shards)))]
            columns = {name: pa.array([value]) for name, value in zip(names, squares.tolist(), strict=True)}
            yield pa.record_batch({"rows": pa.array([rows], pa.int64()), **columns})
