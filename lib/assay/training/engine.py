"""Consumes labelled feature flows, produces a learner's bytes: the contract that every engine fulfils."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from assay.model.encoding import Encoding
from assay.model.scale import TargetScale
from assay.runtime.plane import Flow, Kernel, Plane
from assay.training.weights import Weights

OnRound = Callable[[int, Mapping[str, float]], None]


@dataclasses.dataclass(frozen=True)
class FitRequest:
    """What an engine is asked to learn.

    train, tune: flows with the encoding's and the scale's columns and the target; tune is later than train.
    params: the learner's own parameters. threads: per rank.
    refit: fit again on train and tune together with the rounds that tune chose.
    refit_encoding: the same inputs as fitted on both periods, for that; None where they are the same.
    refit_rule: which rows of tune teach then; those of train are chosen already. None lets all of them.
    weights: what rows count in training, or None where all count alike. Tune, as the judge of a fit, is not weighted.
    refit_weights: the same as seen from the newest row of both periods; None where they are the same.
    monotone: input -> 1 or -1, the direction in which predictions on the model's scale may move as it rises.
    """

    train: Flow
    tune: Flow | None
    encoding: Encoding
    scale: TargetScale
    params: Mapping[str, Any]
    rounds: int
    early_stopping_rounds: int
    refit: bool
    seed: int
    ranks: int
    threads: int
    driver_host: str
    refit_encoding: Encoding | None = None
    refit_rule: Kernel | None = None
    weights: Weights | None = None
    refit_weights: Weights | None = None
    monotone: Mapping[str, int] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class FitResult:
    """What an engine learned.

    stored: the learner, in the engine's own format.  rounds: boosting rounds used.
    history: metric -> value per round, on the model's scale.  devices: where each rank ran.
    figures: what else there is to tell, such as the loss of what was merged and of its parts.
    """

    stored: bytes
    rounds: int
    history: Mapping[str, list[float]]
    devices: tuple[str, ...]
    figures: Mapping[str, float] = dataclasses.field(default_factory=dict)


class Engine(Protocol):
    """A way to learn."""

    name: str

    def fit(self, plane: Plane, request: FitRequest, on_round: OnRound) -> FitResult:
        """Learn, distributed over `request.ranks` ranks."""
        ...


def engine_named(name: str) -> Engine:
    """The engine of `engine.name`."""
    from assay.training.catboost_engine import CatBoostEngine
    from assay.training.xgboost_engine import XGBoostEngine

    engines: list[Engine] = [XGBoostEngine(), CatBoostEngine()]
    return {engine.name: engine for engine in engines}[name]
