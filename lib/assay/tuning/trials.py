"""Consumes the rows of each fold, once, produces losses of one trial after the other. Runs on an executor.

A slot reads its rows and builds what an engine learns from before it asks for its first trial; every trial learns from
the same. What depends on a parameter (the number of bins, say) is therefore not in a search space.
"""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from assay.errors import AssayError
from assay.model.encoding import Encoding
from assay.model.outcome import VALUE, Outcome
from assay.model.row_sample import EVERY_ROW, SampleRows
from assay.model.scale import TargetScale
from assay.runtime.barrier import Batches, RankContext
from assay.runtime.openmp import openmp
from assay.runtime.signals import Address, Sender
from assay.training.weights import Weights

REPORT_ROUNDS = 5
# Gets a round and its loss, and says whether to stop.
Report = Callable[[int, float], bool]


@dataclasses.dataclass(frozen=True)
class Scored:
    """What a trial came to. rounds: at which the loss was least."""

    loss: float
    rounds: int


class Bench(Protocol):
    """What a slot has built: it tries out parameters."""

    def score(self, params: Mapping[str, Any], report: Report) -> Scored | None:
        """Learn and be judged; None where `report` said stop.

        Raises:
            Exception: the engine does not take these parameters.
        """
        ...


@dataclasses.dataclass(frozen=True, kw_only=True)
class Setting:
    """What every engine's bench is built with; travels to executors by value.

    params: as they are without tuning, resolved.  weights: per fold, of the rows that teach.  stopping: rounds without
    a better loss that end a trial; 0: none.  sample_rows: most that a learner takes that does not scale.
    outcome: what is learned, and so what trials are judged by: squares, log losses or pinball losses.
    """

    engine: str
    encoding: Encoding
    scale: TargetScale
    params: Mapping[str, Any]
    weights: Sequence[Weights | None]
    rounds: int
    stopping: int
    seed: int
    threads: int
    sample_rows: int = 0
    outcome: Outcome = VALUE


@dataclasses.dataclass(frozen=True)
class Fold:
    """Rows of one fold, as a slot reads them."""

    train: Batches
    validate: Batches

    def part(self, share: float) -> Fold:
        """With so much of the rows that teach, drawn by a hash of `row_id`."""
        if share >= 1:
            return self
        sample, train = SampleRows(int(share * EVERY_ROW)), self.train
        return Fold(lambda: sample(train()), self.validate)


@dataclasses.dataclass(frozen=True)
class SlotTask:
    """What one slot does: asks the driver for trials until there are none. settings: of each study that has slots."""

    settings: tuple[Setting, ...]
    address: Address

    def __call__(self, context: RankContext, shares: list[Batches]) -> int:
        """Returns how many trials it made. shares: study by study, of each fold rows that teach and rows that judge.

        Raises:
            Exception: the first that broke a study; the trials of the others have been made by then.
        """
        threads = max(setting.threads for setting in self.settings)
        with contextlib.closing(Sender(self.address)) as sender, openmp(threads):
            return self._work(context, self._folds(shares), sender)

    def _folds(self, shares: list[Batches]) -> list[list[Fold]]:
        pairs = iter([Fold(*pair) for pair in zip(shares[::2], shares[1::2], strict=True)])
        return [list(itertools.islice(pairs, len(setting.weights))) for setting in self.settings]

    def _work(self, context: RankContext, folds: list[list[Fold]], sender: Sender) -> int:
        benches: dict[float, Bench] = {}  # by the part of the rows that teaches; each is built when it is first needed
        broke: list[Exception] = []
        study, made = 0, 0
        while "trial" in (told := sender.ask("trial", slot=context.rank)):
            if int(told.get("study", 0)) != study:
                benches, study = {}, int(told["study"])
            share = float(told["share"])
            try:
                if share not in benches:
                    benches[share] = build(self.settings[study], [fold.part(share) for fold in folds[study]], context)
                made += 1
                self._try_out(benches[share], told, sender, context.rank)
            except Exception as error:
                broke.append(error)
                benches = {}
                with contextlib.suppress(AssayError):  # other slots would try out everything before anybody hears of it
                    sender.ask("broken", slot=context.rank, study=study)
        if broke:
            raise broke[0]
        return made

    def _try_out(self, bench: Bench, told: Mapping[str, Any], sender: Sender, slot: int) -> None:
        number, held, began = int(told["trial"]), list[tuple[int, float]](), time.monotonic()

        def say(what: str, **more: Any) -> dict[str, Any]:
            seconds = time.monotonic() - began
            study = told.get("study", 0)
            return sender.ask(what, slot=slot, study=study, trial=number, values=held, seconds=seconds, **more)

        def report(rounds: int, loss: float) -> bool:
            held.append((rounds, loss))
            if rounds % REPORT_ROUNDS:
                return False
            answer = say("report")
            held.clear()
            return bool(answer.get("stop", False))

        ended: dict[str, Any] = {"loss": None, "rounds": 0}
        try:
            scored = bench.score(told["params"], report)
        except (AssayError, MemoryError):
            raise  # no parameter is to blame
        except Exception as error:
            ended["reason"] = " ".join(str(error).partition("Stack trace")[0].split())[:300]
        else:
            if scored is None:
                return
            ended |= dataclasses.asdict(scored)
        say("ended", **ended)


def build(setting: Setting, folds: Sequence[Fold], context: RankContext) -> Bench:
    """The bench of the setting's engine."""
    from assay.tuning.catboost_trials import CatBoostBench
    from assay.tuning.learner_trials import LearnerBench, LinearBench, LogisticBench
    from assay.tuning.xgboost_trials import XGBoostBench

    linear = LogisticBench if setting.outcome.decides else LinearBench
    kinds: dict[str, Any] = {"xgboost": XGBoostBench, "catboost": CatBoostBench, "linear": linear}
    bench: Bench = kinds.get(setting.engine, LearnerBench)(setting, folds, context)
    return bench


@dataclasses.dataclass(frozen=True)
class Metric:
    """How losses of folds become one loss. name: as the engine has it, such as `rmse` or `RMSE`."""

    name: str

    @property
    def sign(self) -> int:
        """1 where less is better, -1 where more is: losses are times this."""
        kind = self.name.partition("@")[0].partition(":")[0].lower()
        return -1 if kind in {"auc", "aucpr", "map", "ndcg", "pre", "accuracy", "f1", "r2"} else 1

    def pooled(self, values: Sequence[float], rows: Sequence[int]) -> float:
        """Of all folds' rows together, as far as that can be told from each fold's: squares are, means are."""
        found = np.asarray(values, dtype=np.float64)
        if self.name.lower() in {"rmse", "rmsle"}:
            return float(np.sqrt(np.average(found**2, weights=rows)))
        return self.sign * float(np.average(found, weights=rows))
