"""Consumes streams of feature batches, checks what one rank of the XGBoost engine learns from them."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
import xgboost as xgb

from assay.errors import AssayError
from assay.metrics import point_metrics
from assay.model.encoding import Encoding
from assay.model.predictors import load_predictor
from assay.model.scale import TargetScale
from assay.training import xgboost_engine, xgboost_stream

BOTH = Encoding(("size",), {"city": ("Austin", "Dallas", "Waco")})


def predictions(fitted, batch, encoding=BOTH):
    return load_predictor("xgboost", fitted["booster"], threads=1).predict(encoding.matrix(batch))


def rmse(fitted, batch, encoding=BOTH):
    return float(np.sqrt(np.mean((predictions(fitted, batch, encoding) - batch.column("y").to_numpy()) ** 2)))


def test_equal_seeds_give_equal_bytes_and_another_seed_another_booster(fit, rows):
    train = [rows(400), rows(300, seed=1)]
    first, again = fit(train), fit(train)
    assert first["booster"] == again["booster"]
    assert fit(train, seed=8)["booster"] != first["booster"]


def test_how_rows_are_cut_into_batches_changes_nothing(fit, rows):
    whole = rows(3000)
    slices = [whole.slice(start, 7) for start in range(0, 3000, 7)]
    assert fit(slices)["booster"] == fit([whole])["booster"]


def test_rows_that_judge_say_the_same_from_values_and_from_bins(fit, rows, monkeypatch):
    """Some of them lie outside of the bins, are missing or of a category that is not known."""
    later = rows(500, seed=2, noise=2.0, cities=("Austin", "Waco", "Tyler"))
    size = later.column("size").to_numpy() * 5
    later = later.set_column(0, "size", pa.array(np.where(np.arange(500) % 7 == 0, np.nan, size).astype(np.float32)))
    settings = {"tune": [later.slice(0, 200), later.slice(200)], "rounds": 60, "stopping": 10, "encoding": BOTH}
    kinds, judging = [], xgboost_engine.judging

    def noted(*args):
        matrix = judging(*args)
        kinds.append(type(matrix).__name__)
        return matrix

    monkeypatch.setattr(xgboost_engine, "judging", noted)
    told = []
    for most in (500 * 2, 500 * 2 - 1):
        monkeypatch.setattr(xgboost_stream, "PLAIN_VALUES", most)
        told.append(fit([rows(600, noise=2.0)], **settings))
    assert kinds == ["DMatrix", "QuantileDMatrix"]
    assert told[0] == told[1]
    assert len(told[0]["history"]["tune_rmse"]) > 20


def test_it_learns_numbers_and_categories(fit, rows):
    fitted = fit([rows(3000)], rounds=200)
    assert rmse(fitted, rows(1000, seed=9)) < 0.5  # the outcome's own spread is about 4
    assert set(load_predictor("xgboost", fitted["booster"], threads=1).importance()) == {0, 1}


def test_batches_that_number_their_categories_differently_are_understood_alike(fit, rows):
    whole = rows(2000)
    turned = []
    for order in (["Waco", "Dallas", "Austin"], ["Dallas", "Austin", "Waco"]):
        part = whole.slice(1000 * len(turned), 1000)
        codes = [order.index(city) for city in part.column("city").to_pylist()]
        column = pa.DictionaryArray.from_arrays(pa.array(codes, pa.int8()), pa.array(order))
        turned.append(part.set_column(1, "city", column))
    assert fit(turned)["booster"] == fit([whole])["booster"]


def test_early_stopping_listens_to_the_later_period(fit, rows):
    noisy = [rows(200, noise=3.0)]
    fitted = fit(noisy, tune=[rows(200, seed=1, noise=3.0)], rounds=500, stopping=5, params={"eta": 0.3})
    assert fitted["rounds"] < 100
    history = fitted["history"]["tune_rmse"]
    assert fitted["rounds"] == int(np.argmin(history)) + 1
    assert len(history) == fitted["rounds"] + 5


def test_refit_learns_from_both_periods_with_the_rounds_that_were_chosen(fit, rows):
    train = [rows(500, cities=("Austin", "Dallas"))]
    tune = [rows(500, seed=1, cities=("Waco",)), rows(500, seed=2, cities=("Austin",))]
    without, refitted = (fit(train, tune=tune, rounds=60, stopping=10, refit=refit) for refit in (False, True))
    assert refitted["rounds"] == without["rounds"]
    assert refitted["history"] == without["history"]
    both = fit([*train, *tune], rounds=without["rounds"])
    assert refitted["booster"] == both["booster"] != without["booster"]


def curves(fitted):
    """Predictions (cities, sizes) as size rises."""
    sizes = np.linspace(-3, 3, 400).astype(np.float32)
    return np.array([predictions(fitted, pa.record_batch({"size": sizes, "city": [city] * 400})) for city in
                     ("Austin", "Dallas", "Waco")])  # fmt: skip


@pytest.mark.parametrize("direction", [1, -1])
def test_predictions_move_one_way_with_a_monotone_input(fit, rows, direction):
    noisy = rows(600, noise=3.0)
    y = direction * noisy.column("y").to_numpy()
    train = [noisy.set_column(2, "y", pa.array(y))]
    params = {"eta": 0.3, "min_child_weight": 1}
    assert (direction * np.diff(curves(fit(train, params=params, rounds=60)))).min() < -0.1
    constrained = curves(fit(train, params=params, rounds=60, monotone={"size": direction}))
    assert (direction * np.diff(constrained)).min() >= 0
    assert np.ptp(constrained) > 10


def test_one_round_of_many_trees_is_xgboosts_random_forest(fit, rows):
    train, later = rows(1500, noise=1.0), rows(300, seed=4)
    params = {"num_parallel_tree": 30, "max_depth": 8}
    fitted = fit([train], tune=[later], rounds=1, stopping=5, params=params)
    oracle = xgb.XGBRFRegressor(n_estimators=30, max_depth=8, min_child_weight=5, random_state=7, n_jobs=1,
                                feature_types=["q", "c"], enable_categorical=True, tree_method="hist")  # fmt: skip
    oracle.fit(BOTH.matrix(train), train.column("y").to_numpy())
    np.testing.assert_allclose(predictions(fitted, later), oracle.predict(BOTH.matrix(later)), rtol=1e-4, atol=1e-4)
    booster = xgb.Booster(model_file=bytearray(fitted["booster"]))
    assert (fitted["rounds"], booster.num_boosted_rounds(), len(booster.get_dump())) == (1, 1, 30)
    assert len(fitted["history"]["tune_rmse"]) == 1
    refitted = fit([train], tune=[later], rounds=1, stopping=5, params=params, refit=True)
    assert refitted["booster"] == fit([train, later], rounds=1, params=params)["booster"]


def test_boosted_forests_stop_early_and_count_rounds_not_trees(fit, rows):
    train, tune = [rows(200, noise=3.0)], [rows(200, seed=1, noise=3.0)]
    params = {"num_parallel_tree": 4, "eta": 0.3}
    fitted = fit(train, tune=tune, rounds=200, stopping=5, params=params, refit=True)
    assert fitted["rounds"] == int(np.argmin(fitted["history"]["tune_rmse"])) + 1 < 100
    booster = xgb.Booster(model_file=bytearray(fitted["booster"]))
    assert booster.num_boosted_rounds() == fitted["rounds"]
    assert len(booster.get_dump()) == 4 * fitted["rounds"]


def test_a_share_without_rows_does_not_stop_a_rank(fit, rows):
    assert np.isfinite(predictions(fit([]), rows(5))).all()
    fitted = fit([rows(100)], tune=[], rounds=5)
    assert fitted["rounds"] == 5


def test_one_row(fit, rows):
    assert np.isfinite(predictions(fit([rows(1)]), rows(5))).all()


def test_a_constant_target_is_predicted_exactly(fit, rows):
    constant = rows(200).set_column(2, "y", pa.array([12.5] * 200))
    np.testing.assert_array_equal(predictions(fit([constant]), rows(50, seed=3)), 12.5)


@pytest.mark.parametrize(
    ("encoding", "share_of_spread"),
    [
        (Encoding(("size",), {}), 0.8),
        (Encoding((), {"city": ("Austin", "Dallas", "Waco")}), 0.9),
        (Encoding((), {"city": ()}), 1.1),
    ],
    ids=["one number", "categories only", "no category known"],
)
def test_narrow_inputs(fit, rows, encoding, share_of_spread):
    fitted, later = fit([rows(2000, noise=0.0)], encoding=encoding, rounds=100), rows(500, seed=4)
    assert rmse(fitted, later, encoding) < share_of_spread * np.std(later.column("y").to_numpy())


def test_infinite_numbers_are_missing_ones_in_training_too(fit, rows):
    whole = rows(300)
    size = whole.column("size").to_numpy().copy()
    size[::7] = np.inf
    infinite = whole.set_column(0, "size", pa.array(size))
    missing = whole.set_column(0, "size", pa.array(np.where(np.isinf(size), np.nan, size)))
    assert fit([infinite])["booster"] == fit([missing])["booster"]


def test_it_learns_on_the_targets_scale(fit, rows):
    whole = rows(500)
    prices = whole.set_column(2, "y", pa.array(np.exp(whole.column("y").to_numpy())))
    assert fit([prices], scale=TargetScale("y", "log"))["booster"] == fit([whole])["booster"]


def test_what_xgboost_cannot_learn_from_is_one_plain_line(fit, rows):
    hopeless = rows(50).set_column(2, "y", pa.array([np.nan] * 50))
    with pytest.raises(AssayError, match=r"^XGBoost stopped on rank 0: .*Label contains NaN") as caught:
        fit([hopeless])
    assert "\n" not in str(caught.value)
    assert "Stack trace" not in str(caught.value)


@pytest.mark.parametrize("anchored", [False, True])
def test_each_round_is_measured_in_the_targets_unit_too(fit, rows, anchored):
    def priced(batch):
        last = pa.array(np.exp(batch.column("size").to_numpy().astype(np.float64)))
        prices = pa.array(np.exp(batch.column("y").to_numpy() / 10) + 100)
        return batch.set_column(2, "y", prices).append_column("last", last)

    scale = TargetScale("y", "log", "last" if anchored else None)
    train, tune = [priced(rows(500))], [priced(rows(300, seed=1)), priced(rows(200, seed=2))]
    fitted = fit(train, tune=tune, scale=scale, rounds=30, stopping=10, params={"eta": 0.3})
    history, best = fitted["history"], fitted["rounds"] - 1
    both = pa.Table.from_batches(tune).combine_chunks().to_batches()[0]
    found = scale.inverse(predictions(fitted, both), both)
    expected = point_metrics(both.column("y").to_numpy(), found)
    assert history["tune_unit_rmse"][best] == pytest.approx(expected["rmse"], rel=1e-5)
    assert history["tune_unit_within_20pct"][best] == pytest.approx(expected["within_20pct"])
    assert {len(values) for values in history.values()} == {len(history["tune_rmse"])}
    assert np.argmin(history["tune_rmse"]) == best  # early stopping listens to what is learned


def test_a_tune_period_without_rows_has_no_figures_in_its_unit(fit, rows):
    assert set(fit([rows(100)], tune=[], rounds=3)["history"]) == {"tune_rmse"}
