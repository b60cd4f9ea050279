"""Consumes shares of several ranks, checks that they learn one model from all rows, however few each one has."""

from __future__ import annotations

import datetime as dt
import threading
import time

import numpy as np
import pyarrow as pa
import pytest

from assay.errors import DataError
from assay.metrics import point_metrics
from assay.model.encoding import Encoding
from assay.model.predictors import load_predictor
from assay.runtime.signals import READER, Shelf, listen
from assay.runtime.tables import TIME
from assay.training.weights import TimeDecay
from assay.training.xgboost_rounds import REFIT, TRAIN

BOTH = Encoding(("size",), {"city": ("Austin", "Dallas", "Waco")})
ALL_ROWS = {"subsample": 1.0, "colsample_bytree": 1.0}


def predictions(results, batch):
    return load_predictor("xgboost", results[0]["booster"], threads=1).predict(BOTH.matrix(batch))


def cut(batch, *sizes):
    """Shares of these sizes, one after the other."""
    starts = np.cumsum([0, *sizes])
    return [[batch.slice(start, size)] if size else [] for start, size in zip(starts, sizes, strict=False)]


@pytest.mark.parametrize("sizes", [(1, 0, 0, 0), (0, 2, 0, 1), (0, 0, 0, 5)], ids=str)
def test_more_ranks_than_rows_learn_what_one_learns(fit, fit_ranks, rows, sizes):
    few, later = rows(sum(sizes)), rows(3, seed=1)
    settings = {"params": {**ALL_ROWS, "min_child_weight": 0}, "rounds": 30, "stopping": 3, "refit": True}
    alone = fit([few], tune=[later], **settings)
    found = fit_ranks(cut(few, *sizes), tune=cut(later, 0, 0, 2, 1), checkpoint_rounds=4, **settings)
    assert found[0]["rounds"] == alone["rounds"]
    np.testing.assert_allclose(predictions(found, few), predictions([alone], few), rtol=1e-5, atol=1e-5)


def test_a_tune_period_without_rows_on_any_rank_but_one(fit, fit_ranks, rows):
    train, later = rows(400), rows(50, seed=1)
    found = fit_ranks(cut(train, 150, 150, 100), tune=cut(later, 0, 50, 0), params=ALL_ROWS, rounds=5)
    history = {name: np.array(values) for name, values in found[0]["history"].items()}
    assert found[1]["history"] == found[0]["history"]
    expected = point_metrics(later.column("y").to_numpy(), predictions(found, later))
    assert history["tune_rmse"][-1] == pytest.approx(expected["rmse"], rel=1e-5)
    assert history["tune_unit_rmse"][-1] == pytest.approx(expected["rmse"], rel=1e-5)
    assert history["tune_unit_within_20pct"][-1] == pytest.approx(expected["within_20pct"])


def test_weights_of_several_ranks_are_those_of_one(fit, fit_ranks, rows):
    newest = dt.datetime(2024, 1, 1, tzinfo=dt.timezone.utc)
    times = [newest - dt.timedelta(days=row % 90) for row in range(1200)]
    dated = rows(1200).append_column("time", pa.array(times, TIME))
    settings = {"weights": TimeDecay(newest, 15.0), "params": ALL_ROWS, "rounds": 40}
    one, three = fit([dated], **settings), fit_ranks(cut(dated, 300, 500, 400), **settings)
    later = rows(200, seed=3)
    error = predictions(three, later) - predictions([one], later)
    assert float(np.sqrt(np.mean(error**2))) < 0.02 * float(np.std(predictions([one], later)))


def test_ranks_that_go_on_from_any_checkpoint_end_with_the_same_bytes(fit_ranks, rows):
    given, left = b"", []

    class Shelves(Shelf):
        def put(self, order, stored):
            left.append((tuple(order), stored))

        def newest(self):
            return given

    train, tune = cut(rows(900, noise=2.0), 400, 300, 200), cut(rows(300, seed=1, noise=2.0), 100, 0, 200)
    settings = {"rounds": 40, "stopping": 6, "refit": True, "params": {"eta": 0.3}, "checkpoint_rounds": 5}

    def run():
        with listen("127.0.0.1", lambda message: None, Shelves()) as address:
            found = fit_ranks(train, tune=tune, address=address, **settings)
            while any(thread.name == READER for thread in threading.enumerate()):
                time.sleep(0.01)
        return found

    whole, checkpoints = run(), list(left)
    assert {phase for (phase, _), _ in checkpoints} == {TRAIN, REFIT}
    for _, stored in checkpoints:
        given = stored
        assert run() == whole


@pytest.mark.parametrize("place", [0, 2])
def test_one_rank_that_cannot_read_ends_all_and_its_words_are_told(fit_ranks, rows, place):
    def unreadable():
        yield rows(10)
        raise DataError("b.parquet is cut off")

    train = cut(rows(900), 300, 300, 300)
    train[place] = unreadable()
    started = time.monotonic()
    with pytest.raises(DataError, match=r"^b\.parquet is cut off$"):
        fit_ranks(train)
    assert time.monotonic() - started < 20
