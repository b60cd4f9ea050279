"""Consumes feature flows, produces a learner of scikit-learn: one rank draws a sample and learns in memory."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from assay.errors import AssayError
from assay.model.encoding import Encoding
from assay.model.predictors import load_predictor
from assay.model.row_sample import ROW
from assay.model.scale import TargetScale
from assay.runtime.barrier import Batches, RankContext
from assay.runtime.plane import Kernel, Plane
from assay.training.engine import FitRequest, FitResult, OnRound
from assay.training.learner_params import resolve
from assay.training.learner_rows import RowReader
from assay.training.learners import LEARNERS
from assay.training.weights import Weights

# Most rows that each learns from, unless `engine.sample_rows` says otherwise: what takes a core minutes with 60 inputs.
SAMPLE_ROWS = {"knn": 50_000, "svm": 20_000, "decision_tree": 500_000, "random_forest": 100_000}
BLOCK_ROWS = 65_536


class SampledEngine:
    """A learner that does not scale to any number of rows."""

    columns: tuple[str, ...] = (ROW,)
    alone = True

    def __init__(self, name: str) -> None:
        self.name = name

    def fit(self, plane: Plane, request: FitRequest, on_round: OnRound) -> FitResult:
        """One task."""
        flows = [request.train] + ([request.tune] if request.tune is not None else [])
        task = SampledTask(
            engine=self.name,
            encoding=request.encoding,
            scale=request.scale,
            params=resolve(self.name, request.params),
            cap=request.sample_rows or SAMPLE_ROWS[self.name],
            refit=request.refit,
            seed=request.seed,
            threads=request.threads,
            refit_encoding=request.refit_encoding,
            refit_rule=request.refit_rule,
            weights=request.weights,
            refit_weights=request.refit_weights,
        )
        (found,) = plane.train(flows, task, 1)
        drawn, seen = found["rows"]
        return FitResult(
            stored=found["stored"],
            rounds=int(getattr(task.params, "n_estimators", 1)),
            history=found["history"],
            devices=("cpu",),
            sample=(drawn, seen) if drawn < seen else None,
        )


@dataclasses.dataclass(frozen=True)
class SampledTask:
    """What the rank does. Runs on an executor."""

    engine: str
    encoding: Encoding
    scale: TargetScale
    params: Any
    cap: int
    refit: bool
    seed: int
    threads: int
    refit_encoding: Encoding | None = None
    refit_rule: Kernel | None = None
    weights: Weights | None = None
    refit_weights: Weights | None = None

    def __call__(self, context: RankContext, shares: list[Batches]) -> dict[str, Any]:
        """Learn; returns the learner, the rows it saw and there were, and its error on the later period."""
        stored, rows = self._learn(shares[:1], RowReader(self.engine, self.encoding, self.scale, self.weights))
        history = {"tune_rmse": [self._error(stored, shares[1:])]} if len(shares) > 1 else {}
        if self.refit and len(shares) > 1:
            again = [*shares[:1], *(ruled(share, self.refit_rule) for share in shares[1:])]
            encoding, weights = self.refit_encoding or self.encoding, self.refit_weights or self.weights
            stored, rows = self._learn(again, RowReader(self.engine, encoding, self.scale, weights))
        return {"stored": stored, "rows": rows, "history": history}

    def _learn(self, shares: Sequence[Batches], reader: RowReader) -> tuple[bytes, tuple[int, int]]:
        rows, seen = reader.sample(shares, self.cap)
        if not len(rows):
            raise AssayError(f"engine {self.engine}: no row teaches, of {seen}")
        learner = LEARNERS[self.engine](rows, reader.encoding, self.params, seed=self.seed, threads=self.threads)
        return learner.store(), (len(rows), seen)

    def _error(self, stored: bytes, shares: Sequence[Batches]) -> float:
        predictor = load_predictor(self.engine, stored, threads=self.threads)
        total, count = 0.0, 0
        for rows in RowReader(self.engine, self.encoding, self.scale).blocks(shares, BLOCK_ROWS):
            total += float(np.sum((rows.target - predictor.predict(rows.matrix)) ** 2))
            count += len(rows)
        return math.sqrt(total / count) if count else math.nan


def ruled(share: Batches, rule: Kernel | None) -> Batches:
    """A share without the rows that a rule leaves out."""
    return share if rule is None else lambda: rule(share())
