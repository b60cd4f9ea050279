"""Consumes CatBoost models of several shards, produces what each of them and their mean are worth on tune."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Sequence

import numpy as np
import pyarrow as pa

from assay.model.catboost_predictor import CatBoostPredictor, Member
from assay.model.encoding import Encoding
from assay.model.scale import TargetScale, as_floats
from assay.runtime.plane import Flow


def judged(tune: Flow, encoding: Encoding, scale: TargetScale, shards: Sequence[Member]) -> dict[str, float]:
    """RMSE on all of tune, on the model's scale, of the mean of the shards and of each of them alone."""
    names = ["merged", *(f"shard_{number}" for number in range(len(shards)))]
    schema = pa.schema([pa.field("rows", pa.int64()), *(pa.field(name, pa.float64()) for name in names)])
    sums = tune.map(Judge(encoding, scale, tuple(shards)), schema).collect()
    rows = sum(sums.column("rows").to_pylist())
    if not rows:
        return {}
    return {f"tune_rmse_{name}": math.sqrt(math.fsum(sums.column(name).to_pylist()) / rows) for name in names}


@dataclasses.dataclass(frozen=True)
class Judge:
    """Kernel: rows, and sums of squared errors of the mean and of each shard, over a task's batches."""

    encoding: Encoding
    scale: TargetScale
    shards: tuple[Member, ...]

    def __call__(self, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """One row per task that has rows."""
        weights = np.array([weight for weight, _ in self.shards])
        predictors = [CatBoostPredictor(cbm, threads=1) for _, cbm in self.shards]
        rows, squares = 0, np.zeros(len(self.shards) + 1)
        for batch in batches:
            truth = self.scale.forward(as_floats(batch.column(self.scale.target)), batch)
            matrix = self.encoding.matrix(batch)
            alone = np.array([predictor.predict(matrix) for predictor in predictors])
            errors = np.vstack([weights @ alone, alone]) - truth
            rows, squares = rows + batch.num_rows, squares + (errors**2).sum(axis=1)
        if rows:
            names = ["merged", *(f"shard_{number}" for number in range(len(self.shards)))]
            columns = {name: pa.array([value]) for name, value in zip(names, squares.tolist(), strict=True)}
            yield pa.record_batch({"rows": pa.array([rows], pa.int64()), **columns})
