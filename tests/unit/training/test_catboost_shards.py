"""Consumes shards of feature batches, checks what ranks of the CatBoost engine make of them together."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from catboost_harness import BOTH, NUMBERS, invent, lone, predictions, rmse, together

from assay.model.catboost_predictor import packed, unpacked
from assay.model.predictors import load_predictor
from assay.model.scale import TargetScale
from assay.training.catboost_engine import pooled
from assay.training.catboost_judge import Judge
from assay.training.catboost_models import bytes_of, constant, merged


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


def test_a_constant_among_shards_takes_part_in_the_mean():
    shard, level = lone([invent(200)], encoding=NUMBERS)["booster"], bytes_of(constant(8.0))
    stored, later = merged([(0.5, shard), (0.5, level)], numeric=True), invent(40, seed=2)
    wanted = 0.5 * predictions(shard, later, NUMBERS) + 4.0
    np.testing.assert_allclose(predictions(stored, later, NUMBERS), wanted, rtol=0, atol=1e-12)
