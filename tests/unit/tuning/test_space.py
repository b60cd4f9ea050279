"""Consumes search spaces, checks that draws, grids and what users say stay inside, and that mistakes are told."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from assay.config.tuning import ParameterConfig
from assay.errors import ConfigError
from assay.tuning.space import SPACES, Choice, Number, Space, space_of


def inside(parameter, value):
    if isinstance(parameter, Choice):
        return value in parameter.values
    return parameter.low <= value <= parameter.high and (not parameter.whole or isinstance(value, int))


@given(engine=st.sampled_from(sorted(SPACES)), seed=st.integers(0, 2**31), points=st.integers(1, 300))
def test_draws_and_grids_stay_inside_and_go_to_optuna_and_back(engine, seed, points):
    space = Space(SPACES[engine])
    random = np.random.default_rng(seed)
    grid = space.grid(points, random)
    assert 1 <= len(grid) <= points
    assert len({tuple(point.items()) for point in grid}) == len(grid)
    distributions = space.optuna()
    for point in [space.draw(random), *grid]:
        assert all(inside(space.parameters[name], value) for name, value in point.items())
        assert all(distributions[name]._contains(distributions[name].to_internal_repr(v)) for name, v in point.items())
        assert space.nearest(point) == point


@given(low=st.integers(1, 50), size=st.integers(0, 50), log=st.booleans(), whole=st.booleans(), share=st.floats(0, 1))
def test_a_share_of_the_range_and_the_value_there_belong_together(low, size, log, whole, share):
    parameter = Number(low, low + size, log=log, whole=whole)
    value = parameter.at(share)
    assert inside(parameter, value)
    assert parameter.nearest(value) == value
    if not whole and size:
        assert parameter.share(value) == pytest.approx(share, abs=1e-9)


def test_draws_are_even_over_the_range_or_over_its_logarithm():
    random = np.random.default_rng(3)
    space = Space({"a": Number(0.01, 1, log=True), "b": Number(0, 10), "c": Number(1, 4, whole=True)})
    drawn = [space.draw(random) for _ in range(4000)]
    assert np.mean([math.log10(d["a"]) for d in drawn]) == pytest.approx(-1, abs=0.05)
    assert np.mean([d["b"] for d in drawn]) == pytest.approx(5, abs=0.2)
    assert np.bincount([d["c"] for d in drawn], minlength=5)[1:] == pytest.approx([1000] * 4, rel=0.12)


def test_a_small_grid_has_more_values_of_the_first_parameters():
    space = Space({"first": Number(0, 1), "second": Number(0, 1), "third": Number(0, 1)})
    grid = space.grid(20, np.random.default_rng(0))
    levels = [len({point[name] for point in grid}) for name in space.parameters]
    assert levels == [3, 3, 2]
    assert len(grid) == 18


def test_the_configuration_changes_the_engines_space():
    given = {
        "eta": ParameterConfig(low=0.1, high=0.2),
        "gamma": None,
        "grow_policy": ParameterConfig(kind="choice", choices=("depthwise", "lossguide")),
    }
    space = space_of("xgboost", given, fixed={"max_depth": 4, "eta": 0.3})
    assert space.parameters["eta"] == Number(0.1, 0.2)
    assert space.parameters["grow_policy"] == Choice(("depthwise", "lossguide"))
    assert {"gamma", "max_depth"}.isdisjoint(space.parameters)
    assert space.parameters["subsample"] == SPACES["xgboost"]["subsample"]


@pytest.mark.parametrize(
    ("name", "told", "words"),
    [
        ("eta", ParameterConfig(low=0.3, high=0.1), r"tuning\.space\.eta: low 0\.3 is above high 0\.1"),
        ("eta", ParameterConfig(low=0.0, high=0.1, log=True), r"tuning\.space\.eta\.low: 0 has no logarithm"),
        ("eta", ParameterConfig(low=0.1), r"tuning\.space\.eta\.high: this key is required"),
        ("max_depth", ParameterConfig(kind="int", low=1.5, high=3), r"tuning\.space\.max_depth: .* whole numbers"),
        ("booster", ParameterConfig(kind="choice"), r"tuning\.space\.booster\.choices"),
        ("booster", ParameterConfig(kind="choice", choices=("a", "a")), r"tuning\.space\.booster\.choices"),
        ("booster", ParameterConfig(kind="choice", choices=("a",), low=1), r"tuning\.space\.booster: low, high"),
        ("eta", ParameterConfig(low=0.1, high=0.2, choices=(1,)), r"tuning\.space\.eta\.choices has no use"),
        ("etta", None, r"tuning\.space\.etta: null .* did you mean eta\?"),
    ],
)
def test_a_mistake_in_the_space_names_its_key(name, told, words):
    with pytest.raises(ConfigError, match=words):
        space_of("xgboost", {name: told}, fixed={})


def test_a_space_without_parameters_is_a_mistake():
    with pytest.raises(ConfigError, match="nothing to tune"):
        space_of("knn", dict.fromkeys(SPACES["knn"]), fixed={})
