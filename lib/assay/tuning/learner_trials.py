"""Consumes the rows of each fold, produces losses of learners without rounds, on rows that are read once."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from assay.model.outcome import VALUE
from assay.model.predictors import load_predictor
from assay.model.scale import Floats
from assay.runtime.barrier import RankContext
from assay.training.learner_params import resolve
from assay.training.learner_rows import RowReader
from assay.training.learners import LEARNERS
from assay.training.linear_engine import LinearTask, solve
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
            learn = LEARNERS[setting.engine]
            learner = learn(train, setting.encoding, told, seed=setting.seed, threads=setting.threads, outcome=VALUE)
            predictor = load_predictor(setting.engine, learner.store(), threads=setting.threads)
            losses.append(_rmse(predictor.predict(validate.matrix), validate.target))
        return Scored(RMSE.pooled(losses, [len(validate) for _, validate in self.rows]), 1)


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


def _rmse(predicted: Floats, actual: Floats) -> float:
    return float(((predicted - actual) ** 2).mean() ** 0.5)
