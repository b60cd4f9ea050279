"""Consumes a binned matrix and how far a training got, produces a booster: rounds that can be taken up again.

XGBoost draws rows and columns from streams of random numbers that go on from round to round and are kept nowhere, so a
training that is taken up again would draw others. So streams start anew every `every` rounds, in each training alike:
one that was taken up there ends with the same booster, to the last bit, as one that was never disturbed.
"""

from __future__ import annotations

import copy
import dataclasses
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

TRAIN, REFIT = 0, 1
SEED_STRIDE = 1_000_003  # between the streams of one training: neighbouring seeds of a user share none
History = dict[str, dict[str, list[float]]]


@dataclasses.dataclass(frozen=True)
class Progress:
    """How far a training got.

    phase: TRAIN, or REFIT on train and tune together.  done: rounds of this phase.  booster: after them, in XGBoost's
    ubj; empty before the first.  history: period -> metric -> value per round of TRAIN.  chosen: rounds that TRAIN
    chose, once it has ended.
    """

    phase: int = TRAIN
    done: int = 0
    booster: bytes = b""
    history: History = dataclasses.field(default_factory=dict)
    chosen: int = 0

    @property
    def order(self) -> tuple[int, int]:
        """Higher is farther."""
        return self.phase, self.done

    def to_bytes(self) -> bytes:
        """A line of JSON, then the booster."""
        told = {"phase": self.phase, "done": self.done, "history": self.history, "chosen": self.chosen}
        return json.dumps(told).encode() + b"\n" + self.booster

    @classmethod
    def from_bytes(cls, stored: bytes) -> Progress:
        """Read back `to_bytes`; of nothing, the beginning."""
        line, _, booster = stored.partition(b"\n")
        return cls(booster=booster, **json.loads(line)) if line else cls()


def boost(
    params: Mapping[str, Any],
    train: Any,
    rounds: int,
    start: Progress,
    *,
    later: Sequence[tuple[Any, str, Callable[[Any], Mapping[str, float]]]] = (),
    stopping: int = 0,
    every: int = 0,
    keep: Callable[[Progress], None] | None = None,
    report: Callable[[int, Mapping[str, float]], None] | None = None,
) -> tuple[Any, History]:
    """Boost from `start` to `rounds` in all, or to where early stopping ends it. Every rank of a collective calls this.

    later: matrices to evaluate on, their names, and what measures predictions of their rows on top of XGBoost's own
        metrics; its figures are the history's `<name>_unit`. Early stopping listens to XGBoost's alone.
    every: rounds between checkpoints, 0 for none; `start` was made with the same.
    keep: takes a checkpoint.  report: takes the number of a round and its figures.
    Returns (booster, history).
    """
    import xgboost as xgb

    history = copy.deepcopy(start.history)

    class Round(xgb.callback.TrainingCallback):  # type: ignore[misc]
        """Once per round, before early stopping looks at it."""

        def before_iteration(self, model: Any, epoch: int, evals_log: History) -> bool:
            done = start.done + epoch
            if every and epoch and done % every == 0:
                _start_streams_anew(model, params, done // every)
            return False

        def after_iteration(self, model: Any, epoch: int, evals_log: History) -> bool:
            figures = {period: {m: values[-1] for m, values in per.items()} for period, per in evals_log.items()}
            figures |= {f"{name}_unit": dict(measure(model.predict(matrix))) for matrix, name, measure in later}
            for period, metrics in figures.items():
                for metric, value in metrics.items():
                    history.setdefault(period, {}).setdefault(metric, []).append(value)
            if report is not None:
                report(start.done + epoch, {f"{p}_{m}": v for p, per in figures.items() for m, v in per.items()})
            return False

    class Checkpoint(xgb.callback.TrainingCallback):  # type: ignore[misc]
        """After early stopping, which has marked the best round in the model."""

        def after_iteration(self, model: Any, epoch: int, evals_log: History) -> bool:
            done = start.done + epoch + 1
            if keep is not None and done % every == 0 and done < rounds:
                booster = bytes(model.save_raw(raw_format="ubj"))
                keep(dataclasses.replace(start, done=done, booster=booster, history=history))
            return False

    callbacks: list[Any] = [Round()]
    if stopping:
        callbacks.append(_stopper(stopping, start, later[-1][1]))
    if every:
        callbacks.append(Checkpoint())
    segment = start.done // every if every else 0
    booster = xgb.train(
        {**params, "seed": _seed(params, segment)},
        train,
        rounds - start.done,
        evals=[(matrix, name) for matrix, name, _ in later],
        xgb_model=bytearray(start.booster) if start.booster else None,
        callbacks=callbacks,
        verbose_eval=False,
    )
    return booster, history


def _seed(params: Mapping[str, Any], segment: int) -> int:
    return int(params["seed"]) + SEED_STRIDE * segment


def _start_streams_anew(model: Any, params: Mapping[str, Any], segment: int) -> None:
    """Rows are drawn anew from another seed; columns by what grows trees, which XGBoost makes anew for another method.

    What it knows of the matrices (binned values, predictions so far) stays.
    """
    model.set_param({"tree_method": "approx"})
    model.save_config()  # or the two changes would be seen as none
    model.set_param({"tree_method": params["tree_method"], "seed": _seed(params, segment)})


def _stopper(rounds: int, start: Progress, period: str) -> Any:
    """Early stopping that has seen the rounds that are done."""
    import xgboost as xgb

    stopper = xgb.callback.EarlyStopping(rounds=rounds, data_name=period, save_best=True)
    if start.done:
        model = xgb.Booster(model_file=bytearray(start.booster))
        for epoch in range(start.done):
            seen = {period: {m: values[epoch : epoch + 1] for m, values in start.history[period].items()}}
            stopper.after_iteration(model, epoch, seen)
    return stopper
