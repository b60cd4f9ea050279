"""Consumes feature flows, produces a booster: XGBoost over one barrier stage, each rank streaming its own share.

Rank 0 starts XGBoost's tracker and tells the others through Spark's barrier, so that a stage that Spark tries again
gets a tracker of its own. Batches go into a `QuantileDMatrix` one by one: a rank's memory is that of the binned matrix.
"""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import json
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pyarrow as pa

from assay.errors import AssayError
from assay.model.encoding import Encoding
from assay.model.scale import TargetScale
from assay.runtime.barrier import Batches, RankContext
from assay.runtime.plane import Kernel, Plane
from assay.runtime.signals import Address, Sender, listen
from assay.training.engine import FitRequest, FitResult, OnRound
from assay.training.xgboost_params import reason_of, resolve
from assay.training.xgboost_stream import EncodedChunks, data_iter

# Spark tells the driver what the first task to fail says, and stops the others. Ranks whose neighbour went away learn
# of it in the same moment as Spark does, and know only that a connection broke: they let the one who knows speak first.
AFTER_THE_CAUSE_SECONDS = 10.0


class XGBoostEngine:
    """Distributed XGBoost with native categoricals and early stopping on the later tune period."""

    name = "xgboost"
    columns: tuple[str, ...] = ()
    alone = False

    def fit(self, plane: Plane, request: FitRequest, on_round: OnRound) -> FitResult:
        """One barrier stage of `request.ranks` ranks; live rounds come back over a socket while it runs."""
        flows = [request.train] + ([request.tune] if request.tune is not None else [])
        params = resolve(request.params, request.encoding, seed=request.seed)

        def heard(message: dict[str, Any]) -> None:
            on_round(int(message["round"]), message["metrics"])

        with listen(request.driver_host, heard) as address:
            task = RankTask(
                encoding=request.encoding,
                scale=request.scale,
                params=params,
                rounds=request.rounds,
                early_stopping_rounds=request.early_stopping_rounds if request.tune is not None else 0,
                refit=request.refit,
                threads=request.threads,
                address=address,
                refit_encoding=request.refit_encoding,
                refit_rule=request.refit_rule,
            )
            results = plane.train(flows, task, request.ranks)
        first = results[0]
        return FitResult(
            stored=first["booster"],
            rounds=first["rounds"],
            history=first["history"],
            devices=tuple(r["device"] for r in results),
        )


@dataclasses.dataclass(frozen=True)
class RankTask:
    """What one rank does. Runs on an executor."""

    encoding: Encoding
    scale: TargetScale
    params: Mapping[str, Any]
    rounds: int
    early_stopping_rounds: int
    refit: bool
    threads: int
    address: Address | None
    refit_encoding: Encoding | None = None
    refit_rule: Kernel | None = None

    def __call__(self, context: RankContext, shares: list[Batches]) -> dict[str, Any]:
        """Train; rank 0 returns the booster, all return where they ran."""
        import xgboost as xgb

        try:
            return self._train(context, shares)
        except xgb.core.XGBoostError as error:
            if _lost_a_neighbour(error):
                time.sleep(AFTER_THE_CAUSE_SECONDS)
            raise AssayError(f"XGBoost stopped on rank {context.rank}: {reason_of(error)}") from error

    def _train(self, context: RankContext, shares: list[Batches]) -> dict[str, Any]:
        import xgboost as xgb

        device = f"cuda:{context.gpus[0]}" if context.gpus and "device" not in self.params else None
        params = {**self.params, "nthread": self.threads, **({"device": device} if device else {})}
        history: dict[str, dict[str, list[float]]] = {}
        with self._collective(context):
            train = self._matrix(shares[:1], params, self.encoding)
            # Evaluating on train costs a pass a round and tells nothing that tune does not tell better.
            evals = [(self._matrix(shares[1:], params, self.encoding, ref=train), "tune")] if len(shares) > 1 else []
            callbacks: list[Any] = []
            if context.rank == 0 and self.address is not None:
                callbacks.append(_reporter(Sender(self.address)))
            if self.early_stopping_rounds:
                callbacks.append(xgb.callback.EarlyStopping(rounds=self.early_stopping_rounds, save_best=True))
            booster = xgb.train(
                params,
                train,
                self.rounds,
                evals=evals,
                evals_result=history,
                callbacks=callbacks,
                verbose_eval=False,
            )
            rounds = booster.num_boosted_rounds()
            if self.refit and len(shares) > 1:
                del train, evals
                again = [*shares[:1], *(_ruled(share, self.refit_rule) for share in shares[1:])]
                both = self._matrix(again, params, self.refit_encoding or self.encoding)
                booster = xgb.train(params, both, rounds, verbose_eval=False)
        stored = bytes(booster.save_raw(raw_format="ubj")) if context.rank == 0 else b""
        flat = {f"{period}_{metric}": values for period, per in history.items() for metric, values in per.items()}
        return {"booster": stored, "rounds": rounds, "history": flat, "device": device or "cpu"}

    def _matrix(self, shares: Sequence[Batches], params: Mapping[str, Any], encoding: Encoding, ref: Any = None) -> Any:
        import xgboost as xgb

        def batches() -> Iterator[pa.RecordBatch]:
            return itertools.chain.from_iterable(share() for share in shares)

        with contextlib.closing(EncodedChunks(batches, encoding, self.scale)) as chunks:
            return xgb.QuantileDMatrix(
                data_iter(chunks, encoding.feature_types),
                ref=ref,
                max_bin=int(params["max_bin"]),
                nthread=self.threads,
                enable_categorical=True,
            )

    @contextlib.contextmanager
    def _collective(self, context: RankContext) -> Iterator[None]:
        """XGBoost's collective over all ranks; alone, none is needed."""
        if context.ranks == 1:
            yield
            return
        import xgboost as xgb
        from xgboost.tracker import RabitTracker

        message, tracker = "", None
        if context.rank == 0:
            tracker = RabitTracker(n_workers=context.ranks, host_ip=context.host, sortby="task")
            tracker.start()
            message = json.dumps(tracker.worker_args())
        arguments = json.loads(context.gather(message)[0])
        with xgb.collective.CommunicatorContext(**arguments, dmlc_task_id=f"{context.rank:08d}"):
            yield
        if tracker is not None:
            tracker.wait_for()


def _lost_a_neighbour(error: BaseException) -> bool:
    """Whether XGBoost stopped for a broken connection between ranks: its frames then name its collective's sources."""
    return any(source in str(error) for source in ("allreduce.cc", "allgather.cc", "broadcast.cc", "comm.cc"))


def _ruled(share: Batches, rule: Kernel | None) -> Batches:
    """A share without the rows that a rule leaves out."""
    return share if rule is None else lambda: rule(share())


def _reporter(sender: Sender) -> Any:
    import xgboost as xgb

    class Report(xgb.callback.TrainingCallback):  # type: ignore[misc]
        def after_iteration(self, model: Any, epoch: int, evals_log: Mapping[str, Mapping[str, list[float]]]) -> bool:
            metrics = {f"{p}_{m}": values[-1] for p, per in evals_log.items() for m, values in per.items()}
            sender.send(round=epoch, metrics=metrics)
            return False

    return Report()
