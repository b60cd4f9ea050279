"""Consumes `engine.params` as users write them, checks that bad ones are refused before any stage starts."""

from __future__ import annotations

import pytest

from assay.config.dataset import stored_name
from assay.errors import ConfigError
from assay.model.encoding import Encoding
from assay.training.monotone import directions
from assay.training.xgboost_params import DEFAULTS, reason_of, resolve

TWO = Encoding(("size",), {"city": ("Austin", "Waco")})


def test_users_parameters_go_over_the_defaults():
    assert resolve({}, TWO, seed=3) == {**DEFAULTS, "seed": 3}
    found = resolve({"max_depth": 3, "monotone_constraints": "(1,0)", "device": "cuda:1"}, TWO, seed=3)
    assert (found["max_depth"], found["monotone_constraints"], found["device"]) == (3, "(1,0)", "cuda:1")


def test_of_many_inputs_each_tree_uses_half():
    def share(inputs, **given):
        names = tuple(f"input {n}" for n in range(inputs))
        return resolve(given, Encoding(names, {}), seed=3)["colsample_bytree"]

    assert [share(n) for n in (1, 20, 25, 32, 300)] == [0.8, 0.8, 0.64, 0.5, 0.5]
    assert share(300, colsample_bytree=0.9) == 0.9
    assert share(300, num_parallel_tree=50) == 0.5  # more than one round of them is no forest


def test_inputs_have_fewer_bins_where_all_bins_would_be_many_more_than_the_rows():
    wide = Encoding(tuple(f"input {n}" for n in range(9)), {"city": ("Austin", "Waco")})

    def bins(rows, **given):
        return resolve(given, wide, seed=3, rows=rows)["max_bin"]

    assert [bins(rows) for rows in (1, 1_706, 1_707, 10**7, None)] == [64, 64, 256, 256, 256]
    assert bins(100, max_bin=128) == 128


def test_the_other_name_of_a_default_takes_its_place():
    assert "eta" not in resolve({"learning_rate": 0.2}, TWO, seed=3)


def test_one_round_of_many_trees_is_a_forest_that_takes_whole_steps():
    params = {"num_parallel_tree": 50, "subsample": 0.5}
    forest = resolve(params, TWO, seed=3, rounds=1)
    assert (forest["eta"], forest["colsample_bynode"], forest["lambda"]) == (1.0, 0.8, 1e-5)
    assert forest["subsample"] == 0.5
    assert resolve(params, TWO, seed=3, rounds=2)["eta"] == DEFAULTS["eta"]
    renamed = resolve({**params, "learning_rate": 0.5, "reg_lambda": 2}, TWO, seed=3, rounds=1)
    assert not {"eta", "lambda"} & set(renamed)


def test_monotone_inputs_are_put_in_the_order_of_the_inputs():
    three = Encoding(("size", "age"), {"city": ("Austin", "Waco")})
    assert resolve({}, three, seed=3, monotone={"age": -1})["monotone_constraints"] == "(0,-1,0)"
    with pytest.raises(ConfigError, match=r"monotone_constraints and engine\.monotone say the same"):
        resolve({"monotone_constraints": "(0,1,0)"}, three, seed=3, monotone={"age": -1})


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("sizes", ["engine.monotone.sizes", "did you mean size?"]),
        ("city", ["engine.monotone.city", "category"]),
        ("nothing like it", ["engine.monotone.nothing like it", "no such numeric input"]),
    ],
)
def test_monotone_names_that_are_no_numeric_input_are_refused(name, words):
    with pytest.raises(ConfigError) as caught:
        directions({"size": 1, name: 1}, TWO)
    assert all(word in str(caught.value) for word in words)


def test_a_column_may_be_named_as_in_the_data():
    stored = stored_name("Living Area (m²)")
    assert stored != "Living Area (m²)"
    assert directions({"Living Area (m²)": 1}, Encoding((stored,), {})) == {stored: 1}


def test_an_input_that_was_not_selected_constrains_nothing():
    stored = stored_name("Living Area (m²)")
    asked = {"size": 1, "Living Area (m²)": -1}
    assert directions(asked, TWO, left_out=[stored]) == {"size": 1}
    with pytest.raises(ConfigError, match=r"engine\.monotone\.Living Area"):
        directions(asked, TWO)


@pytest.mark.parametrize(
    ("params", "words"),
    [
        ({"max_deep": 3}, ["engine.params.max_deep", "did you mean engine.params.max_depth?"]),
        ({"quantile_alpha": 0.5}, ["engine.params.quantile_alpha", "no use for it here"]),
        ({"objective": "reg:nonsense"}, ["Unknown objective function: `reg:nonsense`"]),
        ({"eval_metric": "nonsense"}, ["Unknown metric function nonsense"]),
        ({"eta": "fast"}, ["engine.params.eta"]),
        ({"max_bin": "many"}, ["'many'"]),
        ({"max_depth": -3}, ["value -3 for Parameter max_depth"]),
        ({"tree_method": "approx"}, ["Only the `hist` tree method"]),
        ({"booster": "gblinear"}, ["QuantileDMatrix"]),
        ({"monotone_constraints": "(1,0,1)"}, ["monotone_constraints"]),
        ({"objective": "reg:quantileerror", "quantile_alpha": [0.1, 0.9]}, ["predicts 2 values per row"]),
        ({"seed": 1}, ["engine.params.seed", "engine.seed"]),
        ({"nthread": 8}, ["engine.params.nthread", "spark.task.cpus"]),
        ({"n_estimators": 50}, ["engine.params.n_estimators", "engine.rounds"]),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_bad_parameters_are_refused_in_one_line(params, words):
    with pytest.raises(ConfigError, match=r"^engine\.params") as caught:
        resolve(params, TWO, seed=3)
    message = str(caught.value)
    assert "\n" not in message
    assert "Stack trace" not in message
    assert "/src/" not in message
    for word in words:
        assert word in message


def test_reason_drops_the_place_in_xgboosts_source():
    raw = (
        "[08:46:42] /__w/xgboost/src/data/data.cc:568: Check failed: valid: Label\ncontains NaN.\nStack trace:\n  [bt]"
    )
    assert reason_of(RuntimeError(raw)) == "Check failed: valid: Label contains NaN."
