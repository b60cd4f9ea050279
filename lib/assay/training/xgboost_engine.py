"""Consumes feature flows, produces a booster: XGBoost over one barrier stage, each rank streaming its own share.

Rank 0 starts XGBoost's tracker and tells the others through Spark's barrier, so that a stage that Spark tries again
gets a tracker of its own. Batches go into a `QuantileDMatrix` one by one: a rank's memory is that of the binned matrix.
"""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from assay.errors import AssayError, NeighbourLost
from assay.model.encoding import Encoding
from assay.model.outcome import Kind
from assay.runtime.barrier import Batches, RankContext
from assay.runtime.openmp import openmp
from assay.runtime.plane import Plane
from assay.runtime.signals import Sender, Shelf, listen
from assay.training.engine import Boosting, FitRequest, FitResult, OnRound, hearing
from assay.training.weights import Weights
from assay.training.xgboost_judge import Judge
from assay.training.xgboost_missing import as_missing, fills_of
from assay.training.xgboost_params import reason_of, resolve
from assay.training.xgboost_rounds import REFIT, TRAIN, Progress, boost
from assay.training.xgboost_stream import EncodedChunks, binned, judging


class XGBoostEngine:
    """Distributed XGBoost with native categoricals and early stopping on the later tune period."""

    name = "xgboost"
    columns: tuple[str, ...] = ()
    alone = False
    kinds: tuple[Kind, ...] = ("value", "quantiles", "binary", "multiclass")

    def fit(self, plane: Plane, request: FitRequest, on_round: OnRound) -> FitResult:
        """One barrier stage of `request.ranks` ranks; live rounds come back over a socket while it runs."""
        params = resolve(
            request.params,
            request.encoding,
            seed=request.seed,
            rounds=request.rounds,
            rows=request.sized_by,
            monotone=request.monotone,
            outcome=request.outcome,
        )

        with listen(request.driver_host, hearing(on_round), Shelf()) as address:
            task = RankTask.of(request, params=params, address=address, checkpoint_rounds=request.checkpoint_rounds)
            results = plane.train(request.flows, task, request.ranks)
        first = results[0]
        return FitResult(
            stored=first["booster"],
            rounds=first["rounds"],
            history=first["history"],
            devices=tuple(r["device"] for r in results),
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class RankTask(Boosting):
    """What one rank does. Runs on an executor."""

    checkpoint_rounds: int = 0

    def __call__(self, context: RankContext, shares: list[Batches]) -> dict[str, Any]:
        """Train; rank 0 returns the booster, all return where they ran."""
        import xgboost as xgb

        try:
            with openmp(self.threads):
                return self._train(context, shares)
        except xgb.core.XGBoostError as error:
            kind = NeighbourLost if _lost_a_neighbour(error) else AssayError
            raise kind(f"XGBoost stopped on rank {context.rank}: {reason_of(error)}") from error

    def _train(self, context: RankContext, shares: list[Batches]) -> dict[str, Any]:
        device = f"cuda:{context.gpus[0]}" if context.gpus and "device" not in self.params else None
        params = {**self.params, "nthread": self.threads, **({"device": device} if device else {})}
        sender = Sender(self.address) if context.rank == 0 and self.address is not None else None
        with contextlib.closing(sender) if sender is not None else contextlib.nullcontext(), self._collective(context):
            keep, report = _messages(sender)
            common: dict[str, Any] = {"every": self.checkpoint_rounds, "keep": keep if self.checkpoint_rounds else None}
            start, learned = self._start(context, sender), self.encoding
            if start.phase == TRAIN:
                train = self._teaching(shares[:1], params, self.encoding, self.weights)
                # Evaluating on train costs a pass a round and tells nothing that tune does not tell better.
                later = [self._judging(share, params, train, context.ranks) for share in shares[1:]]
                booster, history = boost(
                    params,
                    train,
                    self.rounds,
                    start,
                    later=later,
                    stopping=self.early_stopping_rounds,
                    report=report,
                    **common,
                )
                start = Progress(REFIT, history=history, chosen=booster.num_boosted_rounds())
                del train, later
            if self.refit and len(shares) > 1:
                if common["keep"] and not start.done:
                    common["keep"](start)
                again, learned, weights = self.again(shares)
                both = self._teaching(again, params, learned, weights)
                booster, _ = boost(params, both, start.chosen, start, **common)
        stored = as_missing(booster, fills_of(learned, params)) if context.rank == 0 else b""
        flat = {f"{period}_{metric}": values for period, per in start.history.items() for metric, values in per.items()}
        return {"booster": stored, "rounds": start.chosen, "history": flat, "device": device or "cpu"}

    def _start(self, context: RankContext, sender: Sender | None) -> Progress:
        """Where all ranks begin: at the newest checkpoint, when Spark tries the stage again."""
        if not self.checkpoint_rounds:
            return Progress()
        import xgboost as xgb

        stored = sender.newest() if sender is not None else b""
        return Progress.from_bytes(xgb.collective.broadcast(stored, 0) if context.ranks > 1 else stored)

    def _teaching(
        self, shares: Sequence[Batches], params: Mapping[str, Any], encoding: Encoding, weights: Weights | None
    ) -> Any:
        """The binned matrix of the shares together."""
        told = EncodedChunks(_chained(shares), encoding, self.scale, weights, fills=fills_of(encoding, params))
        with contextlib.closing(told) as chunks:
            return binned(chunks, encoding, params)

    def _judging(self, share: Batches, params: Mapping[str, Any], ref: Any, ranks: int) -> tuple[Any, str, Judge]:
        """The matrix of a later period, its name, and what measures predictions of its rows."""
        told = EncodedChunks(share, self.encoding, self.scale, keep_rows=True, fills=fills_of(self.encoding, params))
        with contextlib.closing(told) as chunks:
            matrix = judging(chunks, self.encoding, params, ref, ranks)
            return matrix, "tune", Judge(self.scale, chunks.rows, ranks, self.outcome)

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
            context.at_the_end.callback(_free, tracker)  # those that finish without it wait for it in vain
            tracker.start()
            message = json.dumps(tracker.worker_args())
        arguments = json.loads(context.gather(message)[0])
        with xgb.collective.CommunicatorContext(**arguments, dmlc_task_id=f"{context.rank:08d}"):
            yield
        if tracker is not None:
            tracker.wait_for()


def _chained(shares: Sequence[Batches]) -> Batches:
    return lambda: itertools.chain.from_iterable(share() for share in shares)


def _free(tracker: Any) -> None:
    import xgboost as xgb

    with contextlib.suppress(xgb.core.XGBoostError):  # says once more what went wrong with the training
        tracker.free()


def _lost_a_neighbour(error: BaseException) -> bool:
    """Whether XGBoost stopped for a broken connection between ranks: its frames then name its collective's sources."""
    return any(source in str(error) for source in ("allreduce.cc", "allgather.cc", "broadcast.cc", "comm.cc"))


def _messages(
    sender: Sender | None,
) -> tuple[Callable[[Progress], None] | None, Callable[[int, Mapping[str, float]], None] | None]:
    """What takes a rank's checkpoints and rounds; None on all ranks but the one that talks to the driver."""
    if sender is None:
        return None, None
    return (
        lambda progress: sender.keep(progress.order, progress.to_bytes()),
        lambda number, metrics: sender.send(round=number, metrics=dict(metrics)),
    )
