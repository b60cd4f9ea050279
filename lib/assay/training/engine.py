"""Consumes labelled feature flows, produces a learner's bytes: the contract that every engine fulfils."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from assay import extensions
from assay.errors import ConfigError
from assay.model.encoding import Encoding
from assay.model.outcome import VALUE, Kind, Outcome
from assay.model.scale import TargetScale
from assay.runtime.barrier import Batches
from assay.runtime.plane import Flow, Kernel, Plane
from assay.runtime.signals import Address
from assay.training.weights import Weights

if TYPE_CHECKING:
    from typing_extensions import Self

OnRound = Callable[[int, Mapping[str, float]], None]


@dataclasses.dataclass(frozen=True)
class FitRequest:
    """What an engine is asked to learn.

    train, tune: flows with the encoding's, the scale's and the engine's own columns and the target; tune is later than
        train.
    params: the learner's own parameters. threads: per rank.
    refit: fit again on train and tune together with the rounds that tune chose.
    refit_encoding: the same inputs as fitted on both periods, for that; None where they are the same.
    refit_rule: which rows of tune teach then; those of train are chosen already. None lets all of them.
    weights: what rows count in training, or None where all count alike. Tune, as the judge of a fit, is not weighted.
    refit_weights: the same as seen from the newest row of both periods; None where they are the same.
    monotone: input -> 1 or -1, the direction in which predictions on the model's scale may move as it rises.
    checkpoint_rounds: rounds between checkpoints, of which an engine repeats no more when an executor is lost; 0: none.
    sample_rows: most rows that an engine learns from that does not scale; 0 leaves it to the engine.
    outcome: what is to be predicted; of classes, the target is their code.
    sized_by: rows by which parameters are settled that depend on how many there are; of a refit, those of the first
        fit, as it learns with the same parameters. None takes what suits many.
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
    checkpoint_rounds: int = 0
    sample_rows: int = 0
    outcome: Outcome = VALUE
    sized_by: int | None = None

    @property
    def flows(self) -> list[Flow]:
        """What ranks get shares of: train, and tune where there is one."""
        return [self.train, *([self.tune] if self.tune is not None else [])]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Teaching:
    """The part of a request that travels to executors: what a rank learns from, and what it is fitted again on."""

    encoding: Encoding
    scale: TargetScale
    refit: bool
    refit_encoding: Encoding | None = None
    refit_rule: Kernel | None = None
    weights: Weights | None = None
    refit_weights: Weights | None = None
    outcome: Outcome = VALUE

    @classmethod
    def of(cls, request: FitRequest, **own: Any) -> Self:
        """A task with what the request says, and fields of its own."""
        told = {field.name: getattr(request, field.name) for field in dataclasses.fields(Teaching)}
        return cls(**told, **own)

    def again(self, shares: Sequence[Batches]) -> tuple[list[Batches], Encoding, Weights | None]:
        """For the refit: shares of both periods, but for rows of tune that do not teach; their inputs and weights."""
        rule = self.refit_rule
        ruled = shares[1:] if rule is None else [_kept(share, rule) for share in shares[1:]]
        return [*shares[:1], *ruled], self.refit_encoding or self.encoding, self.refit_weights or self.weights


def _kept(share: Batches, rule: Kernel) -> Batches:
    return lambda: rule(share())


@dataclasses.dataclass(frozen=True, kw_only=True)
class Boosting(Teaching):
    """A booster's task. early_stopping_rounds: 0 without a tune period.  address: where rounds are told."""

    params: Mapping[str, Any]
    rounds: int
    early_stopping_rounds: int
    threads: int
    address: Address | None

    @classmethod
    def of(cls, request: FitRequest, **own: Any) -> Self:
        """`Teaching.of`, with rounds, patience and threads."""
        patience = request.early_stopping_rounds if request.tune is not None else 0
        told = {"rounds": request.rounds, "early_stopping_rounds": patience, "threads": request.threads}
        return super().of(request, **told, **own)


def hearing(on_round: OnRound) -> Callable[[dict[str, Any]], None]:
    """What is done with a round that a rank tells."""
    return lambda message: on_round(int(message["round"]), message["metrics"])


@dataclasses.dataclass(frozen=True)
class FitResult:
    """What an engine learned.

    stored: the learner, in the engine's own format.  rounds: boosting rounds used.
    history: metric -> value per round, on the model's scale.  devices: where each rank ran.
    sample: rows that it learned from and rows that there were; None where it learned from all.
    figures: what else there is to tell, such as the loss of what was merged and of its parts.
    """

    stored: bytes
    rounds: int
    history: Mapping[str, list[float]]
    devices: tuple[str, ...]
    sample: tuple[int, int] | None = None
    figures: Mapping[str, float] = dataclasses.field(default_factory=dict)

    @property
    def told(self) -> dict[str, float]:
        """All figures, for MLflow."""
        return {**({"learned_rows": self.sample[0]} if self.sample else {}), **self.figures, "rounds": self.rounds}

    @property
    def sample_sentences(self) -> list[str]:
        """What a person should know of the rows that it learned from; nothing where that is all."""
        if self.sample is None:
            return []
        drawn, there_were = self.sample
        return [f"learned from a sample of {drawn:,} of {there_were:,} rows (engine.sample_rows)"]


class Engine(Protocol):
    """A way to learn.

    columns: that it needs of its flows besides inputs and target.  alone: it learns in one rank, whatever is asked for.
    kinds: of outcomes that it can predict.
    """

    name: str
    columns: tuple[str, ...]
    alone: bool
    kinds: tuple[Kind, ...]

    def fit(self, plane: Plane, request: FitRequest, on_round: OnRound) -> FitResult:
        """Learn, distributed over `request.ranks` ranks."""
        ...


def engine_named(name: str) -> Engine:
    """The engine of `engine.name`: one of ours, or of an extension.

    Raises:
        UserError: there is none; says what to do.
    """
    from assay.training.catboost_engine import CatBoostEngine
    from assay.training.linear_engine import LinearEngine
    from assay.training.neural_engine import NeuralEngine
    from assay.training.sampled_engine import SAMPLE_ROWS, SampledEngine
    from assay.training.xgboost_engine import XGBoostEngine

    engines: list[Engine] = [XGBoostEngine(), CatBoostEngine(), LinearEngine(), *map(SampledEngine, SAMPLE_ROWS)]
    engines += [NeuralEngine("lstm"), NeuralEngine("gru")]
    own = {engine.name: engine for engine in engines}
    if name in own:
        return own[name]
    found = extensions.get("engine", name)
    return found.item if hasattr(found.item, "fit") else SampledEngine(name, tuple(found.item.kinds))


SETTINGS: dict[Kind, str] = {
    "value": "dataset.targets.task=regression",
    "quantiles": "engine.quantiles",
    "binary": "dataset.targets.task=binary",
    "multiclass": "dataset.targets.task=multiclass",
}


def check_kind(engine: Engine, outcome: Outcome, target: str) -> None:
    """Refuse what an engine cannot predict.

    Raises:
        ConfigError: names both settings.
    """
    if outcome.kind not in engine.kinds:
        can = ", ".join(SETTINGS[kind] for kind in engine.kinds)
        raise ConfigError(
            f"engine.name={engine.name} cannot learn target {target!r} with {SETTINGS[outcome.kind]}; it can with {can}"
        )
