"""Consumes `engine.params`, produces parameters of learners whose names are ours, checked before a stage starts."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass, is_pydantic_dataclass

from assay import extensions
from assay.config.strict import STRICT, check
from assay.errors import ConfigError

Positive = Annotated[float, Field(gt=0)]
Count = Annotated[int, Field(ge=1)]
Categories = Annotated[int, Field(ge=0, le=10_000)]
Upto1 = Annotated[float, Field(gt=0, le=1)]


@dataclass(frozen=True, config=STRICT)
class LinearParams:
    """Least squares with a penalty: mean squared error / 2 + alpha * (l1_ratio * |b| + (1 - l1_ratio) / 2 * b²).

    b are the slopes of standardised numbers and target, so alpha means the same for any data. l1_ratio: 0 is ridge
    regression, 1 the lasso. max_iter: of the elastic net. max_categories: most categories of a column with an input of
    their own, the most frequent ones.
    """

    alpha: Annotated[float, Field(ge=0)] = 1e-3
    l1_ratio: Annotated[float, Field(ge=0, le=1)] = 0.0
    max_iter: Count = 10_000
    max_categories: Categories = 50


@dataclass(frozen=True, config=STRICT)
class KnnParams:
    """Nearest neighbours. weights: `distance` lets nearer ones count more."""

    n_neighbors: Annotated[int, Field(ge=1, le=1000)] = 10
    weights: Literal["uniform", "distance"] = "distance"
    max_categories: Categories = 20


@dataclass(frozen=True, config=STRICT)
class SvmParams:
    """Support vector regression with a radial kernel; C, epsilon and tol are of the standardised target.

    gamma: of the kernel; `scale` is 1 / (inputs * their variance).
    """

    C: Positive = 1.0
    epsilon: Annotated[float, Field(ge=0)] = 0.1
    gamma: Positive | Literal["scale"] = "scale"
    tol: Positive = 1e-3
    max_iter: Annotated[int, Field(ge=-1)] = -1
    max_categories: Categories = 20


@dataclass(frozen=True, config=STRICT)
class TreeParams:
    """One decision tree. ccp_alpha: cost of a leaf when it is pruned back."""

    max_depth: Count | None = None
    min_samples_leaf: Count = 20
    min_samples_split: Annotated[int, Field(ge=2)] = 2
    max_leaf_nodes: Annotated[int, Field(ge=2)] | None = 4096
    max_features: Upto1 = 1.0
    ccp_alpha: Annotated[float, Field(ge=0)] = 0.0
    max_categories: Categories = 50


@dataclass(frozen=True, config=STRICT)
class ForestParams:
    """A random forest. max_features: share of inputs that a split may look at. max_samples: share of rows a tree sees.

    max_leaf_nodes bounds the stored model: 24 bytes a node, about two nodes a leaf.
    """

    n_estimators: Annotated[int, Field(ge=1, le=10_000)] = 100
    max_depth: Count | None = None
    min_samples_leaf: Count = 3
    min_samples_split: Annotated[int, Field(ge=2)] = 2
    max_leaf_nodes: Annotated[int, Field(ge=2)] | None = 4096
    max_features: Upto1 = 0.33
    max_samples: Upto1 = 1.0
    max_categories: Categories = 50


@dataclass(frozen=True, config=STRICT)
class NeuralParams:
    """An LSTM or a GRU over the last `lookback` known values of each target and outcome.

    horizon: observations from the newest value of the window to the target: lags horizon, horizon + 1, ... are read.
    history: whether other features of the past (means, trends, markets) are inputs beside the window, which they may
        not be beyond a horizon of 1. Without them inputs are the window, the row's own attributes and calendar, and the
        last value where a change from it is learned.
    hidden: units of each recurrent layer and of the dense one.
    dropout: share of units left out in training, of what recurrent layers give and of the dense one.
    batch_size: rows of a step, of all ranks together. epochs: most passes over all rows; fewer if `engine.rounds` is.
    patience: epochs without a better error on tune that end training; fewer if `engine.early_stopping_rounds` is.
    clip: greatest length of a step's gradient. embedding: most numbers that stand for a category.
    device: `auto` takes the GPU that Spark gave to the task, else one that PyTorch finds, else the CPU.
    """

    lookback: Annotated[int, Field(ge=1, le=1000)] = 20
    horizon: Annotated[int, Field(ge=1, le=1000)] = 1
    history: bool = False
    hidden: Annotated[int, Field(ge=1, le=4096)] = 32
    layers: Annotated[int, Field(ge=1, le=8)] = 1
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.1
    batch_size: Annotated[int, Field(ge=1, le=1_000_000)] = 512
    epochs: Annotated[int, Field(ge=1, le=10_000)] = 30
    patience: Count = 4
    learning_rate: Positive = 1e-3
    weight_decay: Annotated[float, Field(ge=0)] = 1e-4
    clip: Positive = 1.0
    embedding: Annotated[int, Field(ge=1, le=256)] = 8
    device: Literal["auto", "cpu", "cuda"] = "auto"


@dataclass(frozen=True, config=STRICT)
class NoParams:
    """Of an extension that takes none."""


KINDS: dict[str, Any] = {
    "linear": LinearParams,
    "knn": KnnParams,
    "svm": SvmParams,
    "decision_tree": TreeParams,
    "random_forest": ForestParams,
    "lstm": NeuralParams,
    "gru": NeuralParams,
}
ELSEWHERE = {"seed": "engine.seed", "random_state": "engine.seed", "n_jobs": "spark.task.cpus"}


def resolve(engine: str, given: Mapping[str, Any]) -> Any:
    """The engine's parameters: its defaults, then what the user gave.

    Raises:
        ConfigError: one line names what the engine does not know, with the nearest name, or a value it does not take.
    """
    for name, setting in ELSEWHERE.items():
        if name in given:
            raise ConfigError(f"engine.params.{name}: this is set by {setting}")
    if engine in KINDS:
        return check(KINDS[engine], given, origin=f"engine.name={engine}", prefix="engine.params")
    kind: Any = getattr(extensions.get("engine", engine).item, "params", NoParams)
    strict = kind
    if not is_pydantic_dataclass(kind):  # a plain one gets the rules of ours, and is given back as it is
        strict = dataclass(kind, config=STRICT, frozen=kind.__dataclass_params__.frozen)
    found = check(strict, given, origin=f"engine.name={engine}", prefix="engine.params")
    return kind(**{field.name: getattr(found, field.name) for field in dataclasses.fields(kind)})
