"""Consumes rows with missing inputs, checks that XGBoost learns from full rows and predicts from rows as they are."""

from __future__ import annotations

import json

import numpy as np
import pytest
import xgboost as xgb

from assay.model.encoding import Encoding
from assay.training.xgboost_missing import LOWEST, as_missing, fill, fills_of

INPUTS = Encoding(("size", "age"), {"city": ("a", "b", "c", "d", "e", "f"), "kind": ("x", "y")})
TYPES = INPUTS.feature_types


def rows(count, seed=0):
    """Sizes, ages, cities and kinds, a quarter of each missing; labels depend on all and on what is missing."""
    draw = np.random.default_rng(seed)
    codes = [draw.integers(0, len(known), count) for known in INPUTS.categories.values()]
    matrix = np.column_stack([draw.normal(size=count), draw.normal(size=count), *codes]).astype(np.float32)
    labels = matrix[:, 0] - matrix[:, 1] ** 2 + 2 * (matrix[:, 2] % 3) + matrix[:, 3] + draw.normal(size=count) / 9
    gone = draw.random(matrix.shape) < 0.25
    labels += gone @ np.array([3.0, -2.0, 5.0, 1.0])
    matrix[gone] = np.nan
    return matrix, labels


def learned(params=None, encoding=INPUTS, rounds=25):
    """What XGBoost grew on filled rows, the filled rows, the rows as they were, and the fills."""
    matrix, labels = rows(3000)
    matrix = matrix[:, : len(encoding.features)]
    fills = fills_of(encoding, params or {})
    full = matrix.copy()
    fill(full, fills)
    told = {"tree_method": "hist", "max_depth": 5, "max_bin": 256, **(params or {})}
    data = xgb.QuantileDMatrix(
        full, labels, feature_types=encoding.feature_types, enable_categorical=True, max_bin=told["max_bin"]
    )
    booster = xgb.train(told, data, rounds)
    return booster, full, matrix, fills


def loaded(stored):
    booster = xgb.Booster()
    booster.load_model(bytearray(stored))
    return booster


@pytest.mark.parametrize(
    "params",
    [
        {},
        {"max_cat_to_onehot": 100},
        {"num_parallel_tree": 3, "subsample": 0.5},
        {"grow_policy": "lossguide", "max_leaves": 12},
        {"objective": "reg:quantileerror", "quantile_alpha": [0.1, 0.9]},
        {"max_bin": 700},
    ],
    ids=["partitions", "one_hot", "forest", "lossguide", "quantiles", "wide_bins"],
)
def test_missing_values_are_predicted_as_they_were_learned(params):
    booster, full, matrix, fills = learned(params)
    told = loaded(as_missing(booster, fills))
    assert np.isnan(matrix).any(axis=0).all()
    assert not np.isnan(full).any()
    np.testing.assert_array_equal(told.inplace_predict(matrix), booster.inplace_predict(full))
    np.testing.assert_array_equal(told.inplace_predict(full), booster.inplace_predict(full))


def test_shares_of_inputs_are_those_of_what_was_learned():
    booster, full, matrix, fills = learned()
    told = loaded(as_missing(booster, fills))
    shares = [
        model.predict(xgb.DMatrix(values, feature_types=TYPES, enable_categorical=True), pred_contribs=True)
        for model, values in ((told, matrix), (booster, full))
    ]
    np.testing.assert_array_equal(*shares)


def test_a_missing_value_differs_from_any_other():
    """A booster that sent it the usual way would lose most of what missing inputs tell here."""
    booster, _, matrix, fills = learned()
    _, labels = rows(3000)
    usual = loaded(booster.save_raw("ubj")).inplace_predict(matrix)
    told = loaded(as_missing(booster, fills)).inplace_predict(matrix)
    assert np.mean((told - labels) ** 2) < 0.5 * np.mean((usual - labels) ** 2)


def test_nothing_but_the_way_of_missing_values_changes():
    booster, _, _, fills = learned()
    told = [json.loads(model.save_raw("json")) for model in (booster, loaded(as_missing(booster, fills)))]
    trees = [tree["learner"]["gradient_booster"]["model"].pop("trees") for tree in told]
    assert told[0] == told[1]
    lefts = [[tree.pop("default_left") for tree in grown] for grown in trees]
    assert trees[0] == trees[1]
    assert lefts[0] != lefts[1]


def test_monotone_inputs_keep_missing_values():
    """As the lowest ones they would have to predict the least, whatever their labels are."""
    numbers = Encoding(("size", "age"), {})
    params = {"monotone_constraints": "(1,0)"}
    fills = fills_of(numbers, params)
    np.testing.assert_array_equal(fills, [np.nan, LOWEST])
    booster, full, matrix, fills = learned(params, numbers)
    assert np.isnan(full).any(axis=0).tolist() == [True, False]
    told = loaded(as_missing(booster, fills))
    np.testing.assert_array_equal(told.inplace_predict(matrix), booster.inplace_predict(full))


@pytest.mark.parametrize(
    "params", [{"booster": "gblinear"}, {"booster": "dart"}, {"monotone_constraints": "(1)"}], ids=str
)
def test_where_it_cannot_be_said_all_stays_missing(params):
    assert np.isnan(fills_of(INPUTS, params)).all()


@pytest.mark.parametrize("signs", [(1, 0, 0, 0), [1, 0, 0, 0], "(1,0,0,0)", "[1, 0, 0, 0]", "(+1, 0, +0, -0)"], ids=str)
def test_signs_are_read_as_xgboost_takes_them(signs):
    assert np.isnan(fills_of(INPUTS, {"monotone_constraints": signs})).tolist() == [True, False, False, False]
    nothing = np.isnan(fills_of(INPUTS, {"monotone_constraints": {"size": 1}}))
    assert nothing.all()


def test_the_lowest_value_has_bins_of_its_own():
    """Cuts around it are finite, and no cut is below a real number's bin."""
    matrix, labels = rows(500)
    fill(matrix, fills_of(INPUTS, {}))
    data = xgb.QuantileDMatrix(matrix, labels, feature_types=TYPES, enable_categorical=True, max_bin=16)
    _, cuts = data.get_quantile_cut()
    assert np.isfinite(cuts).all()
