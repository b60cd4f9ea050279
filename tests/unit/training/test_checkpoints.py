"""Consumes checkpoints of a training, checks that each one leads to the same end as a training never disturbed."""

from __future__ import annotations

import pytest
import xgboost as xgb
from checkpoint_harness import with_checkpoints

from assay.training.xgboost_rounds import REFIT, TRAIN, History, Progress


@pytest.fixture
def train(fit, rows):
    """Train from a checkpoint: see `with_checkpoints`."""

    def run(given=b"", **more):
        batches = [rows(600, noise=2.0), rows(300, seed=1, noise=2.0)]
        return with_checkpoints(lambda address: fit(batches, address=address, **more), given)

    return run


SETTINGS = {
    "plain": {},
    "drawn at every level": {"subsample": 0.6, "colsample_bynode": 0.5, "colsample_bylevel": 0.9},
    "forests": {"num_parallel_tree": 3, "subsample": 0.5},
    "absolute errors": {"objective": "reg:absoluteerror"},
    "nothing drawn": {"subsample": 1.0, "colsample_bytree": 1.0},
    "leaf by leaf": {"grow_policy": "lossguide", "max_leaves": 9, "max_cat_to_onehot": 1},
    "dart": {"booster": "dart", "rate_drop": 0.3},
}


@pytest.mark.parametrize("params", SETTINGS.values(), ids=SETTINGS)
def test_whichever_checkpoint_training_goes_on_from_it_ends_alike(train, params):
    whole, left, heard = train(params=params, rounds=23, checkpoint_rounds=5)
    assert [order for order, _ in left] == [(TRAIN, done) for done in (5, 10, 15, 20)]
    assert heard == list(range(23))
    for (_, done), stored in left:
        again, _, rest = train(stored, params=params, rounds=23, checkpoint_rounds=5)
        assert again == whole
        assert rest == list(range(done, 23))


def test_early_stopping_and_refit_are_taken_up_where_they_were(train, rows):
    settings = {
        "tune": [rows(300, seed=2, noise=2.0)],
        "rounds": 200,
        "stopping": 8,
        "refit": True,
        "params": {"eta": 0.2},
        "checkpoint_rounds": 4,
    }
    whole, left, heard = train(**settings)
    history = whole["history"]["tune_rmse"]
    assert whole["rounds"] == len(history) - 8 > 8
    phases = [phase for (phase, _), _ in left]
    assert phases.count(TRAIN) == (len(history) - 1) // 4
    assert (phases.count(REFIT), phases) == ((whole["rounds"] - 1) // 4 + 1, sorted(phases))
    for (phase, done), stored in left:
        again, _, rest = train(stored, **settings)
        assert again == whole
        assert rest == (list(range(done, len(heard))) if phase == TRAIN else [])


def test_rounds_before_the_first_checkpoint_are_those_of_a_training_without(train):
    def trees(every, rounds):
        return xgb.Booster(model_file=bytearray(train(rounds=rounds, checkpoint_rounds=every)[0]["booster"])).get_dump()

    without, kept = trees(0, 12), trees(5, 12)
    assert kept[:5] == without[:5]
    assert kept[5:] != without[5:]
    assert trees(12, 12) == without
    nothing_drawn = {"params": {"subsample": 1.0, "colsample_bytree": 1.0}, "rounds": 12}
    assert train(**nothing_drawn, checkpoint_rounds=5)[0] == train(**nothing_drawn)[0]


def test_no_tree_is_drawn_twice(train):
    """Streams start anew with other seeds: the same rows and columns do not come back every few rounds."""
    constant = {"params": {"eta": 1e-9, "subsample": 0.3, "base_score": 0.0}, "rounds": 9, "checkpoint_rounds": 3}
    trees = xgb.Booster(model_file=bytearray(train(**constant)[0]["booster"])).get_dump()
    assert len(set(trees)) == 9


def test_without_checkpoints_nothing_is_sent_or_asked_for(train):
    stored = train(rounds=10, checkpoint_rounds=5)[1][0][1]
    whole, left, heard = train(stored, rounds=10)
    assert (left, len(heard)) == ([], 10)
    assert whole["rounds"] == 10


def test_progress_survives_the_way():
    history: History = {"tune": {"rmse": [0.1 + 0.2, 1e-300, float("inf")]}}
    told = Progress(REFIT, 3, b"\n{}\x00\xff\n", history, 17)
    assert Progress.from_bytes(told.to_bytes()) == told
    assert Progress.from_bytes(b"") == Progress()
    assert Progress(REFIT, 0).order > Progress(TRAIN, 900).order
