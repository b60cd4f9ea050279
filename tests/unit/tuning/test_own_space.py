"""Consumes engines of extensions, checks the spaces that they say, and that a mistake names module and parameter."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

import numpy as np
import pytest

from assay import extensions
from assay.config.profile import EngineConfig
from assay.config.tuning import ParameterConfig
from assay.errors import ConfigError
from assay.model.encoding import Encoding
from assay.model.scale import TargetScale
from assay.tuning.engines import check_names, setting, start_of
from assay.tuning.space import Choice, Number, space_of

LEAVES = {"kind": "int", "low": 1, "high": 50, "log": True}


@dataclasses.dataclass(frozen=True)
class Params:
    leaves: int = 3
    rule: str = "a"
    other: float = 1.0


@pytest.fixture
def engine(monkeypatch):
    """engine(space, parts...) -> the name of an engine that is known by now, as a module would have told it."""

    def make(space, *parts):
        class Own:
            name, params, sample_rows, kinds = "own", Params, 77, ("value",)
            space: ClassVar = None

            def load(self, stored, threads): ...

        for part in parts or ("learn",):
            setattr(Own, part, lambda *_, **__: None)
        Own.space = space
        found = {("engine", "own"): extensions.Extension("engine", "own", Own(), "my_module", "0")}
        monkeypatch.setattr(extensions, "_found", found)
        return "own"

    return make


def built(name, space, params=None):
    config = EngineConfig(name=name, params=params or {})
    return setting(config, space, (), Encoding(("x",), {}), TargetScale("y"), [None], threads=1)


def test_an_engine_says_its_space_in_the_words_of_the_configuration(engine):
    name = engine({"leaves": LEAVES, "rule": {"kind": "choice", "choices": ("a", "b")}})
    space = space_of(name, {}, {})
    assert dict(space.parameters) == {"leaves": Number(1, 50, log=True, whole=True), "rule": Choice(("a", "b"))}
    found = built(name, space, {"leaves": 9})
    assert found.sample_rows == 77
    assert start_of(space, found) == {"leaves": 9, "rule": "a"}
    assert {space.draw(np.random.default_rng(seed))["rule"] for seed in range(9)} == {"a", "b"}


def test_the_configuration_adds_to_it_changes_it_and_takes_out_of_it(engine):
    name = engine({"leaves": LEAVES, "rule": {"kind": "choice", "choices": ["a", "b"]}})
    told = {"leaves": ParameterConfig(kind="int", low=2, high=4), "rule": None, "other": ParameterConfig(low=0, high=1)}
    assert dict(space_of(name, told, {}).parameters) == {"leaves": Number(2, 4, whole=True), "other": Number(0, 1)}
    assert set(space_of(name, {}, {"leaves": 9}).parameters) == {"rule"}  # what `engine.params` names stays


@pytest.mark.parametrize(
    ("space", "message"),
    [
        (None, r"engine own has nothing to tune: .*or in module my_module as `space = \{\"alpha\": "),
        ([1], r"module my_module: `space` of engine own is a list; expected \{\"alpha\": "),
        ({"leaves": (1, 50)}, r"module my_module: space\.leaves: expected keys and values"),
        ({"leaves": {"lo": 1}}, r"module my_module: unknown key space\.leaves\.lo; did you mean low\?"),
        ({"leaves": {"low": 9, "high": 1}}, r"module my_module: space\.leaves: low 9 is above high 1"),
        ({"leafs": LEAVES}, r"unknown key space\.leafs \(module my_module\); did you mean leaves\?"),
        ({"leaves": {"low": 0.5, "high": 3}}, r"space\.leaves \(module my_module\): expected a whole number"),
    ],
)
def test_a_mistake_in_it_names_the_module(engine, space, message):
    name = engine(space)
    with pytest.raises(ConfigError, match=message):
        built(name, space_of(name, {}, {}))


def test_one_that_learns_in_many_ranks_cannot_be_tuned(engine):
    check_names(EngineConfig(name=engine({"leaves": LEAVES})), {})
    with pytest.raises(ConfigError, match=r"engine\.name=own cannot be tuned; .* `learn` in place of `fit`"):
        check_names(EngineConfig(name=engine({"leaves": LEAVES}, "fit")), {})
