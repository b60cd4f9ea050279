"""Consumes streams of feature batches, checks what ranks of the CatBoost engine learn from them, without Spark."""

from __future__ import annotations

import catboost
import numpy as np
import pyarrow as pa
import pytest
from catboost_harness import (
    BOTH,
    CITIES,
    NUMBERS,
    ByAge,
    invent,
    lone,
    plain,
    predictions,
    rmse,
    shares_of,
    task_of,
    together,
)

from assay.errors import AssayError
from assay.model.bundle import Model
from assay.model.catboost_predictor import packed
from assay.model.encoding import Encoding
from assay.model.predictors import load_predictor
from assay.model.scale import TargetScale
from assay.runtime.barrier import RankContext
from assay.training.catboost_engine import RankTask, device_params
from assay.training.catboost_models import bytes_of, constant, merged
from assay.training.catboost_params import QUIET, resolve
from assay.training.catboost_progress import LogLines


def test_it_is_catboost_on_the_same_rows():
    batch = invent(2000)
    model, frame, rows = plain([batch])
    stored = lone([batch])["booster"]
    found = load_predictor("catboost", stored, threads=1).predict(np.array(rows.matrix))
    np.testing.assert_array_equal(found, model.predict(frame))
    shares = load_predictor("catboost", stored, threads=1).importance()
    np.testing.assert_allclose([shares[0], shares[1]], model.get_feature_importance())


def test_equal_seeds_give_equal_bytes_whatever_the_threads_and_another_seed_another_model():
    train = [invent(400), invent(300, seed=1)]
    first = lone(train)["booster"]
    assert lone(train)["booster"] == first
    assert lone(train, threads=2)["booster"] == first
    assert lone(train, seed=8)["booster"] != first


def test_neither_the_cut_nor_the_order_of_batches_shows():
    whole = invent(3000)
    slices = [whole.slice(start, 7) for start in range(0, 3000, 7)]
    first = lone([whole])["booster"]
    assert lone(slices)["booster"] == first
    assert lone(slices[::-1])["booster"] == first


def test_it_learns_numbers_categories_and_what_missing_means():
    later = invent(1000, seed=9, noise=0.0)
    stored = lone([invent(4000)], rounds=300)["booster"]
    known = later.filter(pa.array([size == size for size in later.column("size").to_pylist()]))
    assert rmse(stored, known) < 0.6  # the outcome's own spread is about 4.5
    assert set(load_predictor("catboost", stored, threads=1).importance()) == {0, 1}


def test_unseen_and_missing_categories_are_one():
    stored = lone([invent(1000)])["booster"]
    batch = pa.record_batch({"size": pa.array([0.5] * 3, pa.float32()), "city": ["Nowhere", None, "Austin"]})
    unseen, missing, austin = predictions(stored, batch)
    assert unseen == missing != austin


def test_weights_are_those_of_catboost_and_change_what_is_learned():
    batch = invent(1000)
    model, frame, rows = plain([batch], weight=ByAge())
    weighted = lone([batch.slice(0, 300), batch.slice(300)], weights=ByAge())["booster"]
    found = load_predictor("catboost", weighted, threads=1).predict(np.array(rows.matrix))
    np.testing.assert_array_equal(found, model.predict(frame))
    assert weighted != lone([batch])["booster"]


def test_a_monotone_input_never_lowers_predictions_as_it_rises():
    batch = invent(500, noise=5.0)
    params = resolve({}, NUMBERS, seed=7, monotone={"size": 1})
    assert params["monotone_constraints"] == [1, 0]
    rising = task_of(encoding=NUMBERS, rounds=100)
    free, bound = (
        task(RankContext(0, 1, (), 1, "127.0.0.1", lambda text: [text]), shares_of([batch], None))["booster"]
        for task in (rising, RankTask(**{**vars(rising), "params": params}))
    )
    line = np.column_stack([np.linspace(-3, 3, 200), np.full(200, 4.0)]).astype(np.float32)
    steps = [np.diff(load_predictor("catboost", stored, threads=1).predict(line)) for stored in (free, bound)]
    assert steps[0].min() < 0
    assert steps[1].min() >= 0


def test_early_stopping_listens_to_the_later_period():
    train, tune = [invent(200, noise=3.0)], [invent(200, seed=1, noise=3.0)]
    fitted = lone(train, tune=tune, rounds=500, stopping=5, params={"learning_rate": 0.3})
    history = fitted["history"]["tune_rmse"]
    assert fitted["rounds"] == int(np.argmin(history)) + 1 < 100
    assert len(history) == fitted["rounds"] + 5
    assert rmse(fitted["booster"], tune[0]) == pytest.approx(min(history))


def test_refit_learns_from_both_periods_with_the_rounds_that_were_chosen():
    train, tune = [invent(500, cities=("Austin", "Dallas"))], [invent(500, seed=1), invent(500, seed=2)]
    without, refitted = (lone(train, tune=tune, rounds=60, stopping=10, refit=refit) for refit in (False, True))
    assert refitted["rounds"] == without["rounds"]
    assert refitted["history"] == without["history"]
    both = lone([*train, *tune], rounds=without["rounds"])
    assert refitted["booster"] == both["booster"] != without["booster"]


def test_refit_takes_the_inputs_rows_and_weights_of_both_periods():
    train, tune = [invent(500)], [invent(500, seed=1)]
    only = Encoding(("size",), {"city": ("Austin",)})

    def rule(batches):
        return (batch.slice(0, 100) for batch in batches)

    refitted = lone(
        train, tune=tune, stopping=5, refit=True, refit_encoding=only, refit_rule=rule, refit_weights=ByAge()
    )
    wanted = lone([*train, tune[0].slice(0, 100)], encoding=only, weights=ByAge(), rounds=refitted["rounds"])
    assert refitted["booster"] == wanted["booster"]


def test_periods_without_rows():
    assert lone([])["total"] == 0
    assert lone([invent(100)], tune=[], rounds=5, stopping=3)["rounds"] == 5


def test_one_row_is_its_own_prediction():
    one = invent(1)
    np.testing.assert_allclose(predictions(lone([one])["booster"], invent(5)), one.column("y")[0].as_py(), rtol=1e-6)


@pytest.mark.parametrize("encoding", [BOTH, NUMBERS, Encoding((), {"city": CITIES})], ids=["both", "numbers", "texts"])
def test_a_constant_target_is_predicted_exactly(encoding):
    level = invent(200).set_column(3, "y", pa.array([12.5] * 200))
    stored = lone([level], encoding=encoding)["booster"]
    np.testing.assert_array_equal(predictions(stored, invent(50, seed=3), encoding), 12.5)
    assert load_predictor("catboost", stored, threads=1).importance() == {}


@pytest.mark.parametrize(
    ("encoding", "share_of_spread"),
    [
        (Encoding(("size",), {}), 0.9),
        (Encoding((), {"city": CITIES}), 0.9),
        (Encoding((), {"city": ()}), 1.01),
        (Encoding(("size",), {"city": CITIES, "kind": ()}), 0.5),
    ],
    ids=["one number", "categories only", "no category known", "a constant category"],
)
def test_narrow_inputs(encoding, share_of_spread):
    train, later = (invent(2000, seed).append_column("kind", pa.nulls(2000, pa.string())) for seed in (0, 4))
    stored = lone([train], encoding=encoding, rounds=100)["booster"]
    assert rmse(stored, later, encoding) < share_of_spread * np.std(later.column("y").to_numpy())


def test_infinite_numbers_are_missing_ones():
    whole = invent(300)
    size = whole.column("size").to_numpy()
    infinite = whole.set_column(0, "size", pa.array(np.where(np.isnan(size), np.float32("inf"), size)))
    assert lone([infinite])["booster"] == lone([whole])["booster"]


def test_it_learns_on_the_targets_scale():
    whole = invent(500)
    prices = whole.set_column(3, "y", pa.array(np.exp(whole.column("y").to_numpy())))
    assert lone([prices], scale=TargetScale("y", "log"))["booster"] == lone([whole])["booster"]


def test_what_nobody_can_learn_from_is_one_plain_line():
    hopeless = invent(50).set_column(3, "y", pa.array([np.nan, np.inf] * 25))
    with pytest.raises(AssayError, match=r"^CatBoost: 50 of 50 rows have a target 'y' that is no finite number$"):
        lone([hopeless])


@pytest.mark.parametrize("ranks", [1, 2])
def test_a_model_on_disk_predicts_what_it_did(tmp_path, ranks):
    results = together([[invent(300, seed)] for seed in range(ranks)])
    stored = merged([(1 / ranks, result["booster"]) for result in results], numeric=False)
    model = Model("catboost", stored, BOTH, TargetScale("y"), {}, "abc", {})
    model.save(tmp_path / "model")
    again, batch = Model.load(tmp_path / "model", threads=2), invent(100, seed=6)
    np.testing.assert_array_equal(again.predict(batch), predictions(stored, batch))
    assert again.version == model.version
    assert list(again.importance()) == list(model.importance())
    assert len(again.predict(batch.slice(0, 0))) == 0


@pytest.mark.parametrize("encoding", [NUMBERS, BOTH], ids=["summed", "side by side"])
def test_contributions_add_up_to_the_prediction(encoding):
    results = together([[invent(300)], [invent(300, seed=1)]], encoding=encoding)
    members = [(0.5, result["booster"]) for result in results]
    with_level = [*((0.8 * weight, cbm) for weight, cbm in members), (0.2, bytes_of(constant(9.0)))]
    later = invent(50, seed=2)
    for stored in (merged(members, numeric=encoding is NUMBERS), packed(with_level), bytes_of(constant(9.0))):
        found = load_predictor("catboost", stored, threads=1).contributions(encoding.matrix(later))
        assert found.shape == (50, 3)
        np.testing.assert_allclose(found.sum(axis=1), predictions(stored, later, encoding), rtol=1e-5, atol=1e-5)
    assert load_predictor("catboost", stored, threads=1).contributions(encoding.matrix(later)[:0]).shape == (0, 3)


def test_gpus_are_those_that_spark_gave():
    context = RankContext(rank=0, ranks=1, gpus=("3",), cpus=1, host="h", gather=lambda text: [text])
    assert device_params(context) == {"task_type": "GPU", "devices": "3"}
    assert device_params(RankContext(0, 1, ("0", "2"), 1, "h", context.gather))["devices"] == "0:2"
    assert device_params(RankContext(0, 1, (), 1, "h", context.gather)) == {}


def test_rounds_are_read_from_catboosts_log():
    heard = []

    class Listener:
        def send(self, **message):
            heard.append(message)

    _, frame, rows = plain([invent(200)])
    pool = catboost.Pool(frame, rows.label, cat_features=[1])
    again = catboost.CatBoost({"iterations": 4, "thread_count": 1, **QUIET, "logging_level": "Verbose"})
    again.fit(pool, eval_set=pool, log_cout=LogLines(Listener(), "tune_rmse"))
    assert [message["round"] for message in heard] == [0, 1, 2, 3]
    told = [message["metrics"]["tune_rmse"] for message in heard]
    assert told == pytest.approx(again.evals_result_["validation"]["RMSE"], rel=1e-6)


def test_nothing_is_printed_and_no_file_is_left(tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    lone([invent(300)], tune=[invent(100, 2)], stopping=5, refit=True)
    assert list(tmp_path.iterdir()) == []
    assert capfd.readouterr() == ("", "")
