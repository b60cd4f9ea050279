"""Consumes streams of feature batches, checks what ranks of the CatBoost engine learn from them, without Spark."""

from __future__ import annotations

import threading

import catboost
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from assay.errors import AssayError
from assay.model.bundle import Model
from assay.model.catboost_predictor import packed, unpacked
from assay.model.encoding import Encoding
from assay.model.predictors import load_predictor
from assay.model.scale import TargetScale
from assay.runtime.barrier import RankContext
from assay.training.catboost_engine import RankTask, device_params, pooled
from assay.training.catboost_judge import Judge
from assay.training.catboost_models import bytes_of, constant, merged
from assay.training.catboost_params import QUIET, resolve
from assay.training.catboost_progress import LogLines
from assay.training.catboost_rows import read_rows

CITIES = ("Austin", "Dallas", "Waco")
BOTH = Encoding(("size",), {"city": CITIES})
NUMBERS = Encoding(("size", "age"), {})


def invent(rows, seed=0, *, cities=CITIES, noise=0.1):
    """A batch with two numbers, one of them with holes, a category with missing and unseen values, and an outcome."""
    random = np.random.default_rng(seed)
    size, city = (
        random.normal(size=rows).astype(np.float32),
        random.choice(np.array([*cities, "Lufkin", None], object), rows),
    )
    y = 3 * size + 5 * (city == "Austin") - 4 * ~np.isin(city, CITIES) + noise * random.normal(size=rows)
    size[random.random(rows) < 0.1] = np.nan
    columns = {"size": pa.array(size), "age": pa.array(random.integers(0, 9, rows), pa.float32())}
    return pa.record_batch({**columns, "city": pa.array(city.tolist(), pa.string()), "y": pa.array(y)})


def task_of(*, encoding=BOTH, scale=None, params=None, rounds=20, stopping=0, refit=False, seed=7, **more):
    return RankTask(
        encoding=encoding,
        scale=scale or TargetScale("y"),
        params=resolve(params or {}, encoding, seed=seed),
        rounds=rounds,
        early_stopping_rounds=stopping,
        refit=refit,
        address=None,
        **{"threads": 1, **more},
    )


def shares_of(train, tune):
    return [lambda: iter(train)] + ([lambda: iter(tune)] if tune is not None else [])


def lone(train, *, tune=None, **more):
    """Learn as a lone rank does; train and tune are lists of batches."""
    context = RankContext(rank=0, ranks=1, gpus=(), cpus=1, host="127.0.0.1", gather=lambda text: [text])
    return task_of(**more)(context, shares_of(train, tune))


def together(trains, *, tunes=None, **more):
    """Learn as several ranks do, at the same time; results in order of rank."""
    ranks, barrier = len(trains), threading.Barrier(len(trains))
    told, results = [""] * ranks, [None] * ranks

    def run(rank):
        def gather(text):
            told[rank] = text
            barrier.wait(30)
            return list(told)

        context = RankContext(rank=rank, ranks=ranks, gpus=(), cpus=1, host="127.0.0.1", gather=gather)
        results[rank] = task_of(**more)(context, shares_of(trains[rank], tunes[rank] if tunes is not None else None))

    threads = [threading.Thread(target=run, args=(rank,)) for rank in range(ranks)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results


def predictions(stored, batch, encoding=BOTH):
    return load_predictor("catboost", stored, threads=1).predict(encoding.matrix(batch))


def rmse(stored, batch, encoding=BOTH):
    return float(np.sqrt(np.mean((predictions(stored, batch, encoding) - batch.column("y").to_numpy()) ** 2)))


def plain(batches, encoding=BOTH, *, rounds=20, seed=7, weight=None, **params):
    """CatBoost by itself on strings, rows in the order of the engine's."""
    rows = read_rows([lambda: iter(batches)], encoding, TargetScale("y"), weight)
    frame = pd.DataFrame(np.array(rows.matrix[:, : rows.numbers]))
    for position in range(rows.numbers, rows.matrix.shape[1]):
        frame[position] = [str(int(code)) if code == code else "-1" for code in rows.matrix[:, position]]
    categorical = list(range(rows.numbers, rows.matrix.shape[1]))
    pool = catboost.Pool(frame, rows.label, weight=rows.weight, cat_features=categorical)
    settings = {"loss_function": "RMSE", "depth": 6, "learning_rate": 0.05, "random_seed": seed, **QUIET, **params}
    model = catboost.CatBoost({**settings, "iterations": rounds, "thread_count": 1})
    return model.fit(pool), frame, rows


class ByAge:
    """Rows count what their age says."""

    columns = ("age",)

    def __call__(self, batch):
        return batch.column("age").to_numpy().astype(np.float32)


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


@pytest.mark.parametrize("encoding", [NUMBERS, BOTH], ids=["summed", "side by side"])
def test_shards_merge_into_the_mean_of_their_predictions(encoding):
    trains, later = [[invent(600)], [invent(200, seed=1)]], invent(300, seed=5)
    shards = [result["booster"] for result in together(trains, encoding=encoding)]
    members = [(0.75, shards[0]), (0.25, shards[1])]
    stored = merged(members, numeric=not encoding.categories)
    assert stored.startswith(b"CBM1") == (encoding is NUMBERS)
    assert merged(members, numeric=not encoding.categories) == stored
    alone = [predictions(shard, later, encoding) for shard in shards]
    wanted = 0.75 * alone[0] + 0.25 * alone[1]
    np.testing.assert_allclose(predictions(stored, later, encoding), wanted, rtol=0, atol=1e-12)
    gains = load_predictor("catboost", stored, threads=1).importance()
    assert sum(gains.values()) == pytest.approx(100)


def test_shards_stop_together_where_their_pooled_loss_is_least():
    trains = [[invent(300, seed, noise=3.0)] for seed in (0, 1)]
    tunes = [[invent(100, 2, noise=3.0)], [invent(400, 3, noise=3.0)]]
    settings = {"rounds": 400, "stopping": 8, "params": {"learning_rate": 0.3}}
    one, other = together(trains, tunes=tunes, **settings)
    assert one["rounds"] == other["rounds"]
    assert one["history"] == other["history"]
    losses = one["history"]["tune_rmse"]
    assert one["rounds"] == int(np.argmin(losses)) + 1
    squares = [100 * rmse(one["judged"], tunes[0][0]) ** 2, 400 * rmse(other["judged"], tunes[1][0]) ** 2]
    assert np.sqrt(sum(squares) / 500) == pytest.approx(min(losses))
    again = together(trains, tunes=tunes, refit=True, **settings)
    assert (
        again[0]["booster"] == lone([*trains[0], *tunes[0]], rounds=one["rounds"], params=settings["params"])["booster"]
    )
    assert [result["judged"] for result in again] == [one["judged"], other["judged"]]


def test_a_rank_without_rows_counts_for_nothing_and_stops_nobody():
    train, tune = [invent(300)], [invent(100, 2)]
    full, empty = together([train, []], tunes=[tune, []], stopping=5, refit=True)
    assert (empty["total"], empty["booster"]) == (0, b"")
    assert full["booster"] == lone(train, tune=tune, stopping=5, refit=True)["booster"]
    assert full["rounds"] == empty["rounds"]


def test_losses_are_pooled_over_the_rounds_that_all_reached():
    told = [
        {"rows": 1, "history": {"tune_rmse": [3.0, 2.0, 1.0], "tune_mae": [3.0, 2.0, 1.0]}},
        {"rows": 3, "history": {"tune_rmse": [1.0, 1.0], "tune_mae": [1.0, 1.0]}},
        {"rows": 9, "history": {}},
        {"rows": 0, "history": {}},
    ]
    found = pooled(told)
    assert found["tune_rmse"] == pytest.approx([np.sqrt((9 + 3) / 4), np.sqrt((4 + 3) / 4)])
    assert found["tune_mae"] == pytest.approx([1.5, 1.25])
    assert pooled(told[2:]) == {}


def test_the_judge_tells_what_the_mean_and_each_shard_are_worth():
    shards = [(0.5, result["booster"]) for result in together([[invent(300)], [invent(300, seed=1)]])]
    tune = [invent(100, seed=2), invent(50, seed=3)]
    (row,) = pa.Table.from_batches(Judge(BOTH, TargetScale("y"), tuple(shards))(iter(tune))).to_pylist()
    whole = pa.concat_batches(tune)
    assert row["rows"] == 150
    wanted = [rmse(packed(shards), whole), *(rmse(cbm, whole) for _, cbm in shards)]
    found = [np.sqrt(row[name] / 150) for name in ("merged", "shard_0", "shard_1")]
    assert found == pytest.approx(wanted)
    assert list(Judge(BOTH, TargetScale("y"), tuple(shards))(iter([]))) == []


def test_shards_in_one_zip_come_back_as_they_were():
    members = [(0.25, b"CBM1 one"), (0.75, b"CBM1 other")]
    assert unpacked(packed(members)) == members
    assert packed(members) == packed(members)
    assert packed([(1.0, b"CBM1 one")]) == b"CBM1 one"


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


def test_a_constant_among_shards_takes_part_in_the_mean():
    shard, level = lone([invent(200)], encoding=NUMBERS)["booster"], bytes_of(constant(8.0))
    stored, later = merged([(0.5, shard), (0.5, level)], numeric=True), invent(40, seed=2)
    wanted = 0.5 * predictions(shard, later, NUMBERS) + 4.0
    np.testing.assert_allclose(predictions(stored, later, NUMBERS), wanted, rtol=0, atol=1e-12)


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
