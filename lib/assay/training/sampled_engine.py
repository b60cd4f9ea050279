"""Consumes feature flows, produces a learner of scikit-learn: one rank draws a sample and learns in memory."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from assay import extensions
from assay.errors import AssayError
from assay.model.outcome import Kind
from assay.model.predictors import load_predictor
from assay.model.row_sample import ROW
from assay.runtime.barrier import Batches, RankContext
from assay.runtime.openmp import openmp
from assay.runtime.plane import Plane
from assay.training.engine import FitRequest, FitResult, OnRound, Teaching
from assay.training.learner_params import resolve
from assay.training.learner_rows import RowReader
from assay.training.learners import learner_named
from assay.training.losses import loss_name, loss_of, losses_of

# Most rows that each learns from, unless `engine.sample_rows` says otherwise: what takes a core minutes with 60 inputs.
SAMPLE_ROWS = {"knn": 50_000, "svm": 20_000, "decision_tree": 500_000, "random_forest": 100_000}
ROWS_OF_OTHERS = 100_000  # of an extension that does not say
BLOCK_ROWS = 65_536


def sample_rows(engine: str) -> int:
    """Most rows that it learns from where nothing else is said."""
    if engine in SAMPLE_ROWS:
        return SAMPLE_ROWS[engine]
    return int(getattr(extensions.get("engine", engine).item, "sample_rows", ROWS_OF_OTHERS))


class SampledEngine:
    """A learner that does not scale to any number of rows."""

    columns: tuple[str, ...] = (ROW,)
    alone = True

    def __init__(self, name: str, kinds: tuple[Kind, ...] = ("value", "binary", "multiclass")) -> None:
        self.name, self.kinds = name, kinds

    def fit(self, plane: Plane, request: FitRequest, on_round: OnRound) -> FitResult:
        """One task."""
        task = SampledTask.of(
            request,
            engine=self.name,
            params=resolve(self.name, request.params),
            cap=request.sample_rows or sample_rows(self.name),
            seed=request.seed,
            threads=request.threads,
        )
        (found,) = plane.train(request.flows, task, 1)
        drawn, seen = found["rows"]
        return FitResult(
            stored=found["stored"],
            rounds=int(getattr(task.params, "n_estimators", 1)),
            history=found["history"],
            devices=("cpu",),
            sample=(drawn, seen) if drawn < seen else None,
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class SampledTask(Teaching):
    """What the rank does. Runs on an executor."""

    engine: str
    params: Any
    cap: int
    seed: int
    threads: int

    def __call__(self, context: RankContext, shares: list[Batches]) -> dict[str, Any]:
        """Learn; returns the learner, the rows it saw and there were, and its error on the later period."""
        with openmp(self.threads):
            return self._fit(shares)

    def _fit(self, shares: list[Batches]) -> dict[str, Any]:
        stored, rows = self._learn(shares[:1], RowReader(self.engine, self.encoding, self.scale, self.weights))
        history = {f"tune_{loss_name(self.outcome)}": [self._error(stored, shares[1:])]} if len(shares) > 1 else {}
        if self.refit and len(shares) > 1:
            again, encoding, weights = self.again(shares)
            stored, rows = self._learn(again, RowReader(self.engine, encoding, self.scale, weights))
        return {"stored": stored, "rows": rows, "history": history}

    def _learn(self, shares: Sequence[Batches], reader: RowReader) -> tuple[bytes, tuple[int, int]]:
        rows, seen = reader.sample(shares, self.cap)
        if not len(rows):
            raise AssayError(f"engine {self.engine}: no row teaches, of {seen}")
        learner = learner_named(self.engine)(
            rows, reader.encoding, self.params, seed=self.seed, threads=self.threads, outcome=self.outcome
        )
        return learner.store(), (len(rows), seen)

    def _error(self, stored: bytes, shares: Sequence[Batches]) -> float:
        predictor = load_predictor(self.engine, stored, threads=self.threads)
        total, count = 0.0, 0
        for rows in RowReader(self.engine, self.encoding, self.scale).blocks(shares, BLOCK_ROWS):
            found = predictor.predict(rows.matrix)
            total += float(np.sum(losses_of(self.outcome, rows.target, found)))
            count += len(rows)
        if not count:
            return math.nan
        return loss_of(self.outcome, total / count)
