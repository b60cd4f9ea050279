"""Consumes an engine's name and `tuning.space`, produces the one search space that every sampler draws from."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from assay import extensions
from assay.config.strict import check, nearest
from assay.config.tuning import ParameterConfig
from assay.errors import ConfigError
from assay.model.outcome import VALUE, Outcome

Params = dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Number:
    """A number from low to high, both included. whole: integers alone.  log: even in its logarithm."""

    low: float
    high: float
    log: bool = False
    whole: bool = False

    def at(self, share: float) -> float | int:
        """The value so far up the range: 0 is low, 1 is high."""
        if self.whole:  # every integer has a cell of the same width
            low, high = self.low - 0.5, self.high + 0.5
            value = low * (high / low) ** share if self.log else low + share * (high - low)
            return int(min(max(round(value), self.low), self.high))
        value = self.low * (self.high / self.low) ** share if self.log else self.low + share * (self.high - self.low)
        return float(min(max(value, self.low), self.high))

    def share(self, value: Any) -> float:
        """How far up the range a value is."""
        if self.high == self.low:
            return 0.0
        if self.log:
            return math.log(value / self.low) / math.log(self.high / self.low)
        return float((value - self.low) / (self.high - self.low))

    def nearest(self, value: Any) -> float | int:
        """The value itself, or what is allowed next to it."""
        found = min(max(float(value), self.low), self.high)
        return round(found) if self.whole else found

    @property
    def most(self) -> int:
        """How many different values there are, at most a thousand of them told apart."""
        return min(1_000, int(self.high) - int(self.low) + 1) if self.whole else 1_000


@dataclasses.dataclass(frozen=True)
class Choice:
    """One of some values: texts, numbers, true or false."""

    values: tuple[Any, ...]

    def at(self, share: float) -> Any:
        """The value whose cell of [0, 1] that is; all cells are as wide."""
        return self.values[min(int(share * len(self.values)), len(self.values) - 1)]

    def share(self, value: Any) -> float:
        """The middle of the value's cell."""
        return (self.values.index(value) + 0.5) / len(self.values)

    def nearest(self, value: Any) -> Any:
        """The value itself, or the first."""
        return value if value in self.values else self.values[0]

    @property
    def most(self) -> int:
        """How many there are."""
        return len(self.values)


Parameter = Number | Choice
BAYESIAN = "Bayesian"
EXAMPLE = '{"alpha": {"low": 0.1, "high": 10, "log": True}}'

# The most telling parameters first: a grid that is small has more values of these.
SPACES: dict[str, dict[str, Parameter]] = {
    "xgboost": {
        "eta": Number(0.01, 0.3, log=True),
        "max_depth": Number(3, 10, whole=True),
        "min_child_weight": Number(1, 100, log=True),
        "subsample": Number(0.5, 1.0),
        "colsample_bytree": Number(0.3, 1.0),
        "lambda": Number(1e-3, 100, log=True),
        "alpha": Number(1e-3, 10, log=True),
        "gamma": Number(1e-4, 1.0, log=True),
    },
    "catboost": {
        "learning_rate": Number(0.01, 0.3, log=True),
        "depth": Number(4, 10, whole=True),
        "l2_leaf_reg": Number(0.3, 30, log=True),
        "random_strength": Number(1e-2, 10, log=True),
        "subsample": Number(0.5, 1.0),
    },
    "linear": {
        "alpha": Number(1e-6, 10, log=True),
        "l1_ratio": Number(0, 1.0),
    },
    "knn": {
        "n_neighbors": Number(2, 100, log=True, whole=True),
        "weights": Choice(("uniform", "distance")),
    },
    "svm": {
        "C": Number(0.01, 100, log=True),
        "gamma": Number(1e-4, 1.0, log=True),
        "epsilon": Number(0.01, 0.5, log=True),
    },
    "decision_tree": {
        "min_samples_leaf": Number(2, 200, log=True, whole=True),
        "max_depth": Number(3, 30, whole=True),
        "max_features": Number(0.2, 1.0),
    },
    "random_forest": {
        "max_features": Number(0.1, 1.0),
        "min_samples_leaf": Number(1, 50, log=True, whole=True),
        "max_samples": Number(0.3, 1.0),
        "max_depth": Number(5, 30, whole=True),
    },
}


@dataclasses.dataclass(frozen=True)
class Space:
    """Parameters by name, the most telling ones first."""

    parameters: Mapping[str, Parameter]

    def draw(self, random: np.random.Generator) -> Params:
        """Independent draws, even over each range."""
        return {name: parameter.at(float(random.random())) for name, parameter in self.parameters.items()}

    def grid(self, points: int, random: np.random.Generator) -> list[Params]:
        """At most so many points of a regular grid, in an order of chance, so that any part of it covers the space.

        Each parameter gets one value (its middle) first, then in turn one more while the grid stays small enough.
        """
        levels = dict.fromkeys(self.parameters, 1)
        grew = True
        while grew:
            grew = False
            for name, parameter in self.parameters.items():
                more = math.prod(levels.values()) // levels[name] * (levels[name] + 1)
                if levels[name] < parameter.most and more <= points:
                    levels[name], grew = levels[name] + 1, True
        values = {name: _levels(parameter, levels[name]) for name, parameter in self.parameters.items()}
        found: list[Params] = [{}]
        for name, options in values.items():
            found = [{**point, name: option} for point in found for option in options]
        return [found[place] for place in random.permutation(len(found))]

    def nearest(self, params: Mapping[str, Any]) -> Params:
        """The point next to these parameters, which may lack some: those are taken from the middle."""
        return {
            name: parameter.nearest(params[name]) if _known(parameter, params.get(name)) else parameter.at(0.5)
            for name, parameter in self.parameters.items()
        }

    def optuna(self) -> dict[str, Any]:
        """As Optuna has it."""
        from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

        found: dict[str, Any] = {}
        for name, one in self.parameters.items():
            if isinstance(one, Choice):
                found[name] = CategoricalDistribution(one.values)
            elif one.whole:
                found[name] = IntDistribution(int(one.low), int(one.high), log=one.log)
            else:
                found[name] = FloatDistribution(one.low, one.high, log=one.log)
        return found

    def hyperopt(self) -> dict[str, Any]:
        """As hyperopt has it; whole numbers on a logarithmic scale are rounded when they come back."""
        from hyperopt import hp

        found: dict[str, Any] = {}
        for name, one in self.parameters.items():
            if isinstance(one, Choice):
                found[name] = hp.choice(name, list(one.values))
            elif one.log:
                found[name] = hp.loguniform(name, math.log(one.low), math.log(one.high))
            elif one.whole:
                found[name] = hp.uniformint(name, int(one.low), int(one.high))
            else:
                found[name] = hp.uniform(name, one.low, one.high)
        return found

    def to_dict(self) -> dict[str, Any]:
        """Plain data."""
        return {name: dataclasses.asdict(one) for name, one in self.parameters.items()}


def _known(parameter: Parameter, value: Any) -> bool:
    """Whether a value can be compared with the parameter's: a range has none next to a word."""
    return value is not None and (isinstance(parameter, Choice) or not isinstance(value, str))


def _levels(parameter: Parameter, count: int) -> list[Any]:
    """So many values, evenly over the range: the middles of as many parts of it, so that one value is the middle."""
    values = [parameter.at((place + 0.5) / count) for place in range(count)]
    return list(dict.fromkeys(values))


def own_space(engine: str, fixed: Mapping[str, Any], outcome: Outcome = VALUE) -> dict[str, Parameter]:
    """What the engine's own space is for a kind of outcome. fixed: what `engine.params` says."""
    found = dict(SPACES[engine]) if engine in SPACES else _of_extension(engine)
    if engine == "catboost" and _drawn_by(fixed, outcome) == BAYESIAN:
        found["bagging_temperature"] = Number(0.0, 2.0)
    idle = without_use(engine, fixed, outcome)
    return {name: one for name, one in found.items() if name not in idle}


def without_use(engine: str, fixed: Mapping[str, Any], outcome: Outcome = VALUE) -> tuple[str, ...]:
    """Parameters that mean nothing to the engine with this outcome, or that it then refuses.

    Logistic regression has the ridge's penalty alone, and a support vector machine of classes no tube about the target.
    CatBoost draws rows by weights from a distribution, not a share of them, where it learns several classes.
    """
    if engine == "catboost":
        return ("subsample",) if _drawn_by(fixed, outcome) in {BAYESIAN, "No"} else ()
    return {"linear": ("l1_ratio",), "svm": ("epsilon",)}.get(engine, ()) if outcome.decides else ()


def _drawn_by(fixed: Mapping[str, Any], outcome: Outcome) -> str:
    """CatBoost's way to draw rows on a CPU."""
    return str(fixed.get("bootstrap_type", BAYESIAN if outcome.kind == "multiclass" else "MVS"))


def space_of(
    engine: str,
    given: Mapping[str, ParameterConfig | None],
    fixed: Mapping[str, Any],
    outcome: Outcome = VALUE,
) -> Space:
    """The engine's own space, with what `tuning.space` changes of it. What has no use with the outcome is left out.

    fixed: what `engine.params` says. It stays as it is, unless `tuning.space` names it, too.

    Raises:
        ConfigError: nothing is left to be tuned, or `tuning.space` takes out what is not in it.
    """
    own, idle = own_space(engine, fixed, outcome), without_use(engine, fixed, outcome)
    found = {name: one for name, one in own.items() if name not in fixed or name in given}
    for name, told in given.items():
        if name in idle:
            continue
        if told is not None:
            found[name] = _parameter(f"tuning.space.{name}", told)
        elif name in own:
            found.pop(name, None)
        else:
            raise ConfigError(
                f"tuning.space.{name}: null takes a parameter out of the space of engine {engine}, which does not have "
                f"this one{nearest(name, own)}"
            )
    if not found:
        raise ConfigError(
            f"engine {engine} has nothing to tune: name parameters in tuning.space, such as "
            f"tuning.space.NAME={{kind: float, low: 0.1, high: 10}}{_or_in_module(engine)}"
        )
    return Space(found)


def _of_extension(engine: str) -> dict[str, Parameter]:
    """What an extension's attribute `space` says, in the words of `tuning.space`; nothing where it has none.

    Raises:
        ConfigError: names the module and the parameter.
    """
    found = extensions.find("engine", engine)
    told = getattr(found.item, "space", {}) if found is not None else {}
    if found is None or not told:
        return {}
    origin = f"module {found.module}"
    if not isinstance(told, Mapping):
        raise ConfigError(f"{origin}: `space` of engine {engine} is a {type(told).__name__}; expected {EXAMPLE}")
    known = check(dict[str, ParameterConfig], told, origin=origin, prefix="space")
    return {name: _parameter(f"{origin}: space.{name}", one) for name, one in known.items()}


def _parameter(key: str, told: ParameterConfig) -> Parameter:
    """One parameter as the configuration has it. key: where.

    Raises:
        ConfigError: bounds that are missing, in the wrong order, no whole numbers or without a logarithm.
    """
    if told.kind == "choice":
        if told.low is not None or told.high is not None or told.log:
            raise ConfigError(f"{key}: low, high and log have no use with kind choice")
        if not told.choices or len({repr(value) for value in told.choices}) < len(told.choices):
            raise ConfigError(f"{key}.choices: expected one value or more, each once")
        return Choice(tuple(told.choices))
    if told.choices:
        raise ConfigError(f"{key}.choices has no use with kind {told.kind}: give low and high, or set kind to choice")
    if told.low is None or told.high is None:
        raise ConfigError(f"{key}.{'low' if told.low is None else 'high'}: this key is required with kind {told.kind}")
    if told.low > told.high:
        raise ConfigError(f"{key}: low {told.low:g} is above high {told.high:g}")
    if told.log and told.low <= 0:
        raise ConfigError(f"{key}.low: {told.low:g} has no logarithm; give more than 0, or leave out log")
    if told.kind == "int" and not (told.low.is_integer() and told.high.is_integer()):
        raise ConfigError(f"{key}: low and high must be whole numbers with kind int")
    return Number(told.low, told.high, told.log, whole=told.kind == "int")


def _or_in_module(engine: str) -> str:
    """Where an extension can say what its parameters may be."""
    found = None if engine in SPACES else extensions.find("engine", engine)
    return f", or in module {found.module} as `space = {EXAMPLE}`" if found is not None else ""
