"""Consumes an engine's settings and a search space, produces what slots are built with, checked before they start."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from assay import extensions
from assay.config.members import samples
from assay.config.profile import ENGINES, SAMPLED, EngineConfig
from assay.errors import ConfigError
from assay.model.encoding import Encoding
from assay.model.outcome import VALUE, Outcome
from assay.model.scale import TargetScale
from assay.training import catboost_params, learner_params, xgboost_params
from assay.training.linear_engine import check_penalty
from assay.training.monotone import directions
from assay.training.sampled_engine import sample_rows
from assay.training.tuned import own_names
from assay.training.weights import Weights
from assay.tuning.space import Choice, Space
from assay.tuning.trials import Setting

TUNED = ("xgboost", "catboost", "linear", *SAMPLED)
# What the libraries take where nobody says anything, of parameters that are in a space.
LIBRARY: dict[str, dict[str, Any]] = {
    "xgboost": {"lambda": 1.0, "alpha": 0.0, "gamma": 0.0},
    "catboost": {"l2_leaf_reg": 3.0, "random_strength": 1.0, "subsample": 0.8, "bagging_temperature": 1.0},
}
# What a booster's trees may be like differs most from data to data; two levels up and down.
DEPTH, LEVELS_APART = {"xgboost": "max_depth", "catboost": "depth"}, 2
FIXED_BY_DATA = ("max_bin", "border_count")  # what the matrix is built with, once for all trials


def check_names(engine: EngineConfig, space: Mapping[str, Any]) -> None:
    """Refuse what cannot be tuned.

    Raises:
        ConfigError: the engine has no trials, or a parameter is not the search's to choose.
    """
    if not _is_tuned(engine.name):
        own = "" if engine.name in ENGINES else ", or give the extension `learn` in place of `fit`"
        raise ConfigError(f"engine.name={engine.name} cannot be tuned; choose among {', '.join(TUNED)}{own}")
    for name in space:
        if name in FIXED_BY_DATA:
            raise ConfigError(
                f"tuning.space.{name}: the matrix is built once for all trials, so its bins are not tuned; set "
                f"engine.params.{name}"
            )


def _is_tuned(name: str) -> bool:
    """Ours in `TUNED`, and extensions that learn in memory: what `fit` needs beside rows, slots do not have."""
    found = None if name in ENGINES else extensions.find("engine", name)
    return name in TUNED or (found is not None and hasattr(found.item, "learn") and not hasattr(found.item, "fit"))


def setting(
    engine: EngineConfig,
    space: Space,
    given: Sequence[str],
    encoding: Encoding,
    scale: TargetScale,
    weights: Sequence[Weights | None],
    *,
    threads: int,
    rows: int | None = None,
    left_out: Sequence[str] = (),
    outcome: Outcome = VALUE,
) -> Setting:
    """What slots are built with. The engine tries out the ends of the space first.

    given: parameters that `tuning.space` names.  rows: that will teach the model.
    left_out: inputs that were not selected.

    Raises:
        ConfigError: the engine does not know a parameter, or does not take a value of the space.
    """
    monotone = directions(engine.monotone, encoding, left_out)

    def resolved(params: Mapping[str, Any]) -> dict[str, Any]:
        if engine.name == "xgboost":
            return xgboost_params.resolve(
                params, encoding, seed=engine.seed, rounds=engine.rounds, rows=rows, monotone=monotone, outcome=outcome
            )
        if engine.name == "catboost":
            return catboost_params.resolve(params, encoding, seed=engine.seed, monotone=monotone, outcome=outcome)
        found = learner_params.resolve(engine.name, params)
        if engine.name == "linear":
            check_penalty(found, outcome)
        return dataclasses.asdict(found)

    own = own_names(engine.name, engine.params)
    params = resolved(own)
    for end in _ends(space):
        try:
            resolved({**own, **end})
        except ConfigError as error:
            raise ConfigError(_told(str(error), given, space.parameters, engine.name)) from None
    return Setting(
        engine=engine.name,
        encoding=encoding,
        scale=scale,
        outcome=outcome,
        params=params,
        weights=weights,
        rounds=engine.rounds,
        stopping=engine.early_stopping_rounds,
        seed=engine.seed,
        threads=threads,
        sample_rows=engine.sample_rows or (sample_rows(engine.name) if samples(engine.name) else 0),
    )


def start_of(space: Space, found: Setting) -> dict[str, Any]:
    """The point of the space next to the engine's own parameters."""
    known = {**LIBRARY.get(found.engine, {}), **found.params}
    return space.nearest({name: value for name, value in known.items() if isinstance(value, int | float | str)})


def variants_of(space: Space, engine: str, start: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Points that differ from the start in what tells most alone: deeper trees, then shallower ones.

    How deep trees should be differs from data to data, and what the engine has otherwise is seldom far off, so these
    tell more than draws from the whole space. Deeper ones go first because they take longest.
    """
    name = DEPTH.get(engine)
    if name is None or name not in space.parameters:
        return []
    made = [{**start, name: space.parameters[name].nearest(start[name] + far)} for far in (LEVELS_APART, -LEVELS_APART)]
    return [point for point in made if point != start]


def _ends(space: Space) -> list[dict[str, Any]]:
    """The lowest and the highest values together, and every choice once."""
    points = 2 + max(len(one.values) if isinstance(one, Choice) else 0 for one in space.parameters.values())
    return [
        {
            name: one.values[place % len(one.values)] if isinstance(one, Choice) else one.at(float(place % 2))
            for name, one in space.parameters.items()
        }
        for place in range(points)
    ]


def _told(message: str, given: Collection[str], space: Collection[str], engine: str) -> str:
    """A message about `engine.params` of which some are the space's: the configuration's, or an extension's own."""
    found = None if engine in ENGINES else extensions.find("engine", engine)
    own, of = ("tuning.space", "") if found is None else ("space", f" (module {found.module})")

    def place(match: re.Match[str]) -> str:
        name = match[1]
        return f"tuning.space.{name}" if name in given else f"{own}.{name}{of}" if name in space else match[0]

    return re.sub(r"engine\.params\.(\w+)", place, message)
