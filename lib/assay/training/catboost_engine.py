"""Consumes feature flows, produces a CatBoost model: learned by one rank, or by several on their own shares, merged.

CatBoost learns in one process, so by default one rank has all rows while they fit its memory (`ranks_worth`). Beyond
that every rank learns from its own share of the rows, and the model is the mean of theirs, weighted by what their rows
count: `merged` says in which form.

All shards have the same number of rounds: the one at which their loss, each on its own share of tune and pooled over
these, is least among the rounds that every shard came to before its patience ended. So the whole tune period decides,
and what is refitted on train and tune has one number to go by.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from assay.errors import AssayError
from assay.model.outcome import Kind
from assay.runtime.barrier import Batches, RankContext
from assay.runtime.plane import Plane
from assay.runtime.signals import Sender, listen
from assay.training.catboost_judge import judged
from assay.training.catboost_models import bytes_of, constant, merged, plain
from assay.training.catboost_params import QUIET, metric_of, reason_of, resolve
from assay.training.catboost_progress import LogLines, reporter, told_as
from assay.training.catboost_rows import Rows, read_rows
from assay.training.engine import Boosting, FitRequest, FitResult, OnRound, hearing

History = dict[str, list[float]]
NOTHING_TO_SPLIT = "All features are either constant or ignored"


class CatBoostEngine:
    """CatBoost with native categoricals and early stopping on the later tune period."""

    name = "catboost"
    columns: tuple[str, ...] = ()
    alone = False
    kinds: tuple[Kind, ...] = ("value", "quantiles", "binary", "multiclass")

    def fit(self, plane: Plane, request: FitRequest, on_round: OnRound) -> FitResult:
        """One barrier stage of `request.ranks` ranks, each on its own share; rank 0 tells its rounds while it runs.

        With several ranks a second, short stage judges the merged model and each shard alone on the whole tune period.
        """
        params = resolve(
            request.params, request.encoding, seed=request.seed, monotone=request.monotone, outcome=request.outcome
        )

        with listen(request.driver_host, hearing(on_round)) as address:
            task = RankTask.of(request, params=params, address=address)
            results = plane.train(request.flows, task, request.ranks)
        shards = [result for result in results if result["total"] > 0]
        if not shards:
            raise AssayError("CatBoost: there is no row to learn from")
        total = sum(shard["total"] for shard in shards)
        parts = [shard["total"] / total for shard in shards]
        figures = {}
        if request.tune is not None and len(shards) > 1:
            before = list(zip(parts, (shard["judged"] for shard in shards), strict=True))
            figures = judged(request.tune, request.encoding, request.scale, before, request.outcome)
        after = list(zip(parts, (shard["booster"] for shard in shards), strict=True))
        return FitResult(
            stored=merged(after, numeric=not request.encoding.categories and request.outcome.kind == "value"),
            rounds=results[0]["rounds"],
            history=results[0]["history"],
            devices=tuple(result["device"] for result in results),
            figures=figures,
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class RankTask(Boosting):
    """What one rank does. Runs on an executor."""

    def __call__(self, context: RankContext, shares: list[Batches]) -> dict[str, Any]:
        """Learn from this rank's share.

        booster, judged: cbm bytes of the final learner, and of the one before it was fitted again where that is to be
        judged.  total: what the rows that booster learned from count, 0 for a share without rows.
        rounds, history: the same for all ranks.  device: where it ran.
        """
        import catboost

        try:
            return self._train(context, shares)
        except catboost.CatBoostError as error:
            raise AssayError(f"CatBoost stopped on rank {context.rank}: {reason_of(error)}") from error

    def _train(self, context: RankContext, shares: list[Batches]) -> dict[str, Any]:
        device = device_params(context)
        train = read_rows(shares[:1], self.encoding, self.scale, self.weights)
        tune = read_rows(shares[1:], self.encoding, self.scale, None) if len(shares) > 1 else None
        learner, history = self._learn(train, tune, self.rounds, device, tell=context.rank == 0)
        total, judged_rows = train.total, len(tune) if tune is not None else 0
        del train, tune
        if context.ranks > 1 and len(shares) > 1:
            told = context.gather(json.dumps({"rows": judged_rows, "history": history}))
            history = pooled([json.loads(text) for text in told])
        rounds = self._rounds(history, learner)
        if learner.tree_count_ > rounds:
            learner.shrink(ntree_end=rounds)
        before = bytes_of(learner) if total > 0 else b""
        booster = before
        if self.refit and len(shares) > 1:
            again, encoding, weights = self.again(shares)
            both = read_rows(again, encoding, self.scale, weights)
            booster = bytes_of(self._learn(both, None, rounds, device)[0]) if total > 0 else b""
        return {
            "booster": booster,
            "judged": before if context.ranks > 1 else b"",
            "total": total,
            "rounds": rounds,
            "history": history,
            "device": f"cuda:{device['devices']}" if device else "cpu",
        }

    def _learn(
        self, rows: Rows, tune: Rows | None, rounds: int, device: Mapping[str, str], *, tell: bool = False
    ) -> tuple[Any, History]:
        """A learner, and its figures on tune per round. A constant where there is nothing to be learned."""
        import catboost

        if rows.total <= 0 or rows.label.min() == rows.label.max():
            return constant(plain(rows, self.outcome)), {}
        params = {**self.params, "iterations": rounds, "thread_count": self.threads, **QUIET, **device}
        more: dict[str, Any] = {}
        if tune is not None and len(tune):
            more["eval_set"] = tune.pool()
            if self.early_stopping_rounds:
                params |= {"od_type": "Iter", "od_wait": self.early_stopping_rounds}
        if tell and self.address is not None:
            sender = Sender(self.address)
            if device:  # CatBoost calls nobody back from a GPU
                params["logging_level"] = "Verbose"
                more["log_cout"] = LogLines(sender, told_as(metric_of(params)))
            else:
                more["callbacks"] = [reporter(sender)]
        model = catboost.CatBoost(params)
        try:
            model.fit(rows.pool(), **more)
        except catboost.CatBoostError as error:
            if NOTHING_TO_SPLIT not in str(error):
                raise
            return constant(plain(rows, self.outcome)), {}
        found = model.evals_result_.get("validation", {})
        return model, {told_as(name): list(values) for name, values in found.items()}

    def _rounds(self, history: History, learner: Any) -> int:
        """Rounds up to the least loss; all of them where none was measured or nobody asked to stop early."""
        losses = history.get(told_as(metric_of(self.params)), [])
        if self.early_stopping_rounds and losses:
            return int(np.argmin(losses)) + 1
        return self.rounds


def device_params(context: RankContext) -> dict[str, str]:
    """CatBoost's parameters for the GPUs that Spark gave to this task; none without GPUs."""
    return {"task_type": "GPU", "devices": ":".join(context.gpus)} if context.gpus else {}


def pooled(told: Sequence[Mapping[str, Any]]) -> History:
    """Histories of shards on their shares of tune -> one on all of tune, for the rounds that all of them reached.

    told: rows of a share of tune and the history on it, empty where a shard learned nothing or judged nothing.
    """
    judges = [one for one in told if one["rows"] and one["history"]]
    if not judges:
        return {}
    rows = np.array([one["rows"] for one in judges], dtype=np.float64)
    result: History = {}
    for name in judges[0]["history"]:
        reached = min(len(one["history"][name]) for one in judges)
        values = np.array([one["history"][name][:reached] for one in judges])
        square = name == "tune_rmse"
        mean = np.average(values**2 if square else values, axis=0, weights=rows)
        result[name] = [float(value) for value in (np.sqrt(mean) if square else mean)]
    return result
