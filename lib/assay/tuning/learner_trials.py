"""Consumes the rows of each fold, produces losses of learners without rounds, on rows that are read once."""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from assay.model.predictors import load_predictor
from assay.runtime.barrier import Batches, RankContext
from assay.training.learner_params import resolve
from assay.training.learner_rows import KeptRows, RowReader
from assay.training.learners import learner_named
from assay.training.linear_engine import LinearTask, solve
from assay.training.logistic import LogisticTask
from assay.training.losses import loss_name, loss_of, losses_of
from assay.training.weights import Weights
from assay.training.xgboost_stream import EncodedChunks
from assay.tuning.trials import Fold, Metric, Report, Scored, Setting

EVERY = 1 << 40  # rows
RMSE = Metric("rmse")


class LearnerBench:
    """The sampled rows that teach and all that judge, in memory."""

    def __init__(self, setting: Setting, folds: Sequence[Fold], context: RankContext) -> None:
        self.setting = setting
        self.rows = []
        for fold, weights in zip(folds, setting.weights, strict=True):
            reader = RowReader(setting.engine, setting.encoding, setting.scale, weights)
            train, _ = reader.sample([fold.train], setting.sample_rows)
            validate, _ = dataclasses.replace(reader, weights=None).sample([fold.validate], EVERY)
            self.rows.append((train, validate))

    def score(self, params: Mapping[str, Any], report: Report) -> Scored | None:
        """Fit and predict."""
        setting, losses = self.setting, []
        told = resolve(setting.engine, {**setting.params, **params})
        for train, validate in self.rows:
            learn = learner_named(setting.engine)
            learner = learn(
                train, setting.encoding, told, seed=setting.seed, threads=setting.threads, outcome=setting.outcome
            )
            predictor = load_predictor(setting.engine, learner.store(), threads=setting.threads)
            found = losses_of(setting.outcome, validate.target, predictor.predict(validate.matrix))
            losses.append(loss_of(setting.outcome, float(found.mean())))
        metric = Metric(loss_name(setting.outcome))
        return Scored(metric.pooled(losses, [len(validate) for _, validate in self.rows]), 1)


class LinearBench:
    """Squares and products of all rows, from which any penalty is solved without another look at them."""

    def __init__(self, setting: Setting, folds: Sequence[Fold], context: RankContext) -> None:
        self.setting, self.folds = setting, folds
        self.context = dataclasses.replace(context, rank=0, ranks=1, gather=lambda text: [text])
        self._known: dict[int, list[dict[str, Any]]] = {}

    def score(self, params: Mapping[str, Any], report: Report) -> Scored | None:
        """Solve each fold."""
        told = resolve("linear", {**self.setting.params, **params})
        losses, rows = [], []
        for part in self._parts(told.max_categories):
            fitted = solve(part["inputs"], part["train"], told)
            losses.append(part["tune"].rmse(fitted.slopes, fitted.intercept))
            rows.append(part["tune"].weight)
        return Scored(RMSE.pooled(losses, rows), 1)

    def _parts(self, max_categories: int) -> list[dict[str, Any]]:
        """Of each fold; made again only where other categories have inputs of their own."""
        if max_categories not in self._known:
            setting = self.setting
            tasks = [
                LinearTask(
                    encoding=setting.encoding,
                    scale=setting.scale,
                    weights=w,
                    refit=False,
                    max_categories=max_categories,
                )
                for w in setting.weights
            ]
            self._known[max_categories] = [
                task(self.context, [fold.train, fold.validate]) for task, fold in zip(tasks, self.folds, strict=True)
            ]
        return self._known[max_categories]


class LogisticBench:
    """Encoded rows, which logistic regression goes over once a step; what is too much for memory waits on disk."""

    def __init__(self, setting: Setting, folds: Sequence[Fold], context: RankContext) -> None:
        self.setting = setting
        self.context = dataclasses.replace(context, rank=0, ranks=1, gather=lambda text: [text])
        self.rows = [
            (self._kept(fold.train, weights), self._kept(fold.validate, None))
            for fold, weights in zip(folds, setting.weights, strict=True)
        ]

    def _kept(self, share: Batches, weights: Weights | None) -> KeptRows:
        encoding, scale = self.setting.encoding, self.setting.scale
        chunks = EncodedChunks(share, encoding, scale, weights)
        collections.deque(chunks, maxlen=0)
        return KeptRows("linear", encoding, scale, weights, chunks=chunks)

    def score(self, params: Mapping[str, Any], report: Report) -> Scored | None:
        """Fit and judge each fold."""
        setting = self.setting
        told = resolve("linear", {**setting.params, **params})
        losses, rows = 0.0, 0.0
        for train, validate in self.rows:
            task = LogisticTask(
                encoding=setting.encoding,
                scale=setting.scale,
                weights=train.weights,
                refit=False,
                outcome=setting.outcome,
                max_categories=told.max_categories,
                alpha=told.alpha,
            )
            fitted = task.fitted(self.context, [], train)
            loss, count = task.judged(self.context, [], validate, fitted)
            losses, rows = losses + loss, rows + count
        return Scored(losses / rows, 1)
