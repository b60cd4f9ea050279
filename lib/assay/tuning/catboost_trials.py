"""Consumes the rows of each fold, produces losses of CatBoost's parameters on pools that are binned once.

CatBoost trains to the end what it has begun, so folds come one after the other: the first one's rounds are reported,
and the loss is the least that all folds together have at one round.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from assay.class_metrics import log_losses
from assay.model.outcome import Outcome, every_class
from assay.runtime.barrier import RankContext
from assay.training.catboost_engine import device_params
from assay.training.catboost_models import plain
from assay.training.catboost_params import OTHER_NAMES, QUIET, metric_of
from assay.training.catboost_rows import Rows, read_rows
from assay.tuning.trials import Fold, Metric, Report, Scored, Setting

BINNING = ("border_count", "max_bin", "feature_border_type", "per_float_feature_quantization", "nan_mode")


class CatBoostBench:
    """A pool for the teaching and one for the judging rows of each fold."""

    def __init__(self, setting: Setting, folds: Sequence[Fold], context: RankContext) -> None:
        self.setting, self.device = setting, device_params(context)
        self.pools = []
        self.untaught: list[float | None] = []  # the loss of a fold whose rows teach nothing: they have one class alone
        for fold, weights in zip(folds, setting.weights, strict=True):
            rows = read_rows([fold.train], setting.encoding, setting.scale, weights)
            later = read_rows([fold.validate], setting.encoding, setting.scale, None)
            alike = setting.outcome.decides and rows.total > 0 and rows.label.min() == rows.label.max()
            self.untaught.append(_plain_loss(rows, later, setting.outcome) if alike else None)
            train = rows.pool()
            if not self.device and not alike:
                train.quantize(**{name: setting.params[name] for name in BINNING if name in setting.params})
            # Not binned: categories of a second binned pool would be told apart otherwise than those of the first.
            self.pools.append((train, later.pool()))
        self.rows = [validate.num_row() for _, validate in self.pools]

    def score(self, params: Mapping[str, Any], report: Report) -> Scored | None:
        """Fit every fold; the loss of fewer folds is no loss."""
        told = {**self.setting.params, **params}
        for other, name in OTHER_NAMES.items():
            if other in told and name in params:
                del told[other]
        metric = Metric(metric_of(told))
        curves: list[list[float]] = []
        learning = [number for number, loss in enumerate(self.untaught) if loss is None]
        for number, loss in enumerate(self.untaught):
            if loss is not None:
                curves.append([loss] * self.setting.rounds)
                continue
            curve = self._fit(number, told, metric, report if number == learning[0] else None)
            if curve is None:
                return None
            curves.append(curve)
        reached = min(len(curve) for curve in curves)
        losses = [metric.pooled([curve[at] for curve in curves], self.rows) for at in range(reached)]
        return Scored(float(np.min(losses)), int(np.argmin(losses)) + 1)

    def _fit(self, number: int, params: Mapping[str, Any], metric: Metric, report: Report | None) -> list[float] | None:
        """Values of the metric per round; None where `report` said stop."""
        import catboost

        train, validate = self.pools[number]
        told: dict[str, Any] = {**params, "iterations": self.setting.rounds, "thread_count": self.setting.threads}
        told |= {**QUIET, **self.device, "use_best_model": False}
        if self.setting.stopping:
            told |= {"od_type": "Iter", "od_wait": self.setting.stopping}
        asking = _Asking(metric, report) if report is not None and not self.device else None
        model = catboost.CatBoost(told)
        model.fit(train, eval_set=validate, **({"callbacks": [asking]} if asking is not None else {}))
        if asking is not None and asking.stopped:
            return None
        return [float(value) for value in _figures(model.evals_result_, metric)]


def _plain_loss(rows: Rows, later: Rows, outcome: Outcome) -> float:
    """Log loss where every row gets the shares of classes of those that teach."""
    said = np.atleast_1d(np.asarray(plain(rows, outcome), dtype=np.float64))
    each = every_class(np.tile(said[0], len(later)) if len(said) == 1 else np.tile(said, (len(later), 1)))
    return float(log_losses(later.label, each).mean())


def _figures(found: Mapping[str, Mapping[str, Any]], metric: Metric) -> Any:
    """Of each round, on the rows that judge. CatBoost writes numbers in a metric's name in its own way."""
    said = found["validation"]
    kind = metric.name.partition(":")[0]
    return said[metric.name] if metric.name in said else next(v for k, v in said.items() if k.partition(":")[0] == kind)


class _Asking:
    """CatBoost's callback: reports each round. CatBoost calls nobody back from a GPU."""

    def __init__(self, metric: Metric, report: Report) -> None:
        self.metric, self.report, self.stopped = metric, report, False

    def after_iteration(self, info: Any) -> bool:
        """Whether to go on."""
        value = _figures(info.metrics, self.metric)[-1]
        self.stopped = self.report(info.iteration, self.metric.sign * float(value))
        return not self.stopped
