"""Consumes the rows of each fold, produces losses of XGBoost's parameters on binned matrices that are built once.

All folds grow by a round in turn, so that each round has one loss of all of them: early stopping, pruning and the
number of rounds go by it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from assay.runtime.barrier import Batches, RankContext
from assay.training.weights import Weights
from assay.training.xgboost_missing import fills_of
from assay.training.xgboost_stream import EncodedChunks, binned, judging
from assay.tuning.trials import Fold, Metric, Report, Scored, Setting


class XGBoostBench:
    """A binned matrix for the teaching and one for the judging rows of each fold."""

    def __init__(self, setting: Setting, folds: Sequence[Fold], context: RankContext) -> None:
        device = {"device": f"cuda:{context.gpus[0]}"} if context.gpus and "device" not in setting.params else {}
        self.setting, self.params = setting, {**setting.params, "nthread": setting.threads, **device}
        self.matrices = []
        for fold, weights in zip(folds, setting.weights, strict=True):
            with self._chunks(fold.train, weights) as rows:
                train = binned(rows, setting.encoding, self.params)
            with self._chunks(fold.validate, None) as rows:
                self.matrices.append((train, judging(rows, setting.encoding, self.params, train)))
        self.rows = [validate.num_row() for _, validate in self.matrices]

    def _chunks(self, share: Batches, weights: Weights | None) -> contextlib.closing[EncodedChunks]:
        encoding = self.setting.encoding
        fills = fills_of(encoding, self.params)
        return contextlib.closing(EncodedChunks(share, encoding, self.setting.scale, weights, fills=fills))

    def score(self, params: Mapping[str, Any], report: Report) -> Scored | None:
        """Boost until the loss has not fallen for so many rounds."""
        import xgboost as xgb

        told = {**self.params, **params}
        boosters = [xgb.Booster(told, [train, validate]) for train, validate in self.matrices]
        best = Scored(np.inf, 0)
        for number in range(self.setting.rounds):
            losses, metric = [], Metric("rmse")
            for booster, (train, validate) in zip(boosters, self.matrices, strict=True):
                booster.update(train, number)
                # "[0]\tv-rmse:0.5\tv-mae:0.4": early stopping, too, goes by the last one
                name, _, value = booster.eval_set([(validate, "v")], number).split("\t")[-1].rpartition(":")
                metric = Metric(name.removeprefix("v-"))
                losses.append(float(value))
            loss = metric.pooled(losses, self.rows)
            if loss < best.loss:
                best = Scored(loss, number + 1)
            if report(number + 1, loss):
                return None
            if self.setting.stopping and number + 1 - best.rounds >= self.setting.stopping:
                break
        return best
