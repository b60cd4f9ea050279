"""Consumes shares of rows for several ranks, checks that XGBoost's ranks learn one model and fail as one."""

from __future__ import annotations

import os
import signal
import threading
import time

import numpy as np
import pyarrow as pa
import pytest

from assay.errors import AssayError, ConfigError
from assay.model.encoding import Encoding
from assay.model.predictors import load_predictor
from assay.model.scale import TargetScale
from assay.runtime.arrow_plane import ArrowPlane
from assay.training.engine import FitRequest, engine_named

pytestmark = pytest.mark.spark

CITIES = ("Austin", "Dallas", "Waco")
ENCODING = Encoding(("size",), {"city": CITIES})
SCHEMA = pa.schema([("size", pa.float32()), ("city", pa.string()), ("y", pa.float64())])


def invent(seed, rows, cities=CITIES):
    """A batch of labelled rows."""
    random = np.random.default_rng(seed)
    size, city = random.normal(size=rows).astype(np.float32), random.choice(cities, rows)
    y = 3 * size + 5 * (city == "Austin") + 0.1 * random.normal(size=rows)
    return pa.record_batch({"size": pa.array(size), "city": pa.array(city, pa.string()), "y": pa.array(y)})


@pytest.fixture
def fit(spark, tmp_path):
    """Train on one share per rank. A share is a batch, or a text that says what befalls its rank."""

    def read(shares):  # travels by value: workers cannot import this file
        for share in shares:
            if share == "cannot be read":
                raise ValueError("this share cannot be read")
            if share == "is killed":
                os.kill(os.getpid(), signal.SIGKILL)
            yield share

    plane = ArrowPlane(lambda: spark.sparkContext, tmp_path / "lake")

    def run(shares, *, tune=None, on_round=lambda *_: None, params=None, rounds=20):
        request = FitRequest(
            train=plane.inputs(shares, read, SCHEMA),
            tune=plane.inputs(tune, read, SCHEMA) if tune else None,
            encoding=ENCODING,
            scale=TargetScale("y"),
            params=params or {},
            rounds=rounds,
            early_stopping_rounds=5 if tune else 0,
            refit=True,
            seed=7,
            ranks=len(shares),
            threads=1,
            driver_host="127.0.0.1",
        )
        return engine_named("xgboost").fit(plane, request, on_round)

    return run


def predictions(fitted):
    matrix = ENCODING.matrix(invent(99, 500))
    return load_predictor("xgboost", fitted.stored, threads=1).predict(matrix)


def test_two_ranks_are_deterministic_and_report_their_rounds(fit):
    lock, heard = threading.Lock(), []  # a lock cannot be pickled: nothing of the driver's may travel with the task

    def on_round(number, metrics):
        with lock:
            heard.append((number, dict(metrics)))

    shares, tune = [invent(1, 2000), invent(2, 1500)], [invent(3, 500), invent(4, 300)]
    first = fit(shares, tune=tune, on_round=on_round)
    assert fit(shares, tune=tune).stored == first.stored
    assert first.devices == ("cpu", "cpu")
    history = first.history["tune_rmse"]
    assert [number for number, _ in heard] == list(range(len(heard)))
    assert len(heard) >= len(history) - 1  # the last one may still be on its way when the stage ends
    for number, metrics in heard:
        assert metrics["tune_rmse"] == pytest.approx(history[number])


def test_two_ranks_learn_what_one_learns_from_the_same_rows(fit):
    """The ranks merge two quantile sketches, so cuts differ a little; rows are not sampled, which differs as well."""
    whole, params = invent(1, 4000), {"subsample": 1.0, "colsample_bytree": 1.0}
    one = predictions(fit([whole], params=params, rounds=60))
    two = predictions(fit([whole.slice(0, 1500), whole.slice(1500)], params=params, rounds=60))
    assert float(np.sqrt(np.mean((one - two) ** 2))) < 0.01 * float(np.std(one))


def test_ranks_that_saw_other_categories_share_one_vocabulary(fit):
    austin, others = invent(1, 2000, ("Austin",)), invent(2, 2000, ("Waco", "Dallas"))
    fitted = fit([austin, others], rounds=150)
    error = predictions(fitted) - invent(99, 500).column("y").to_numpy()
    assert float(np.sqrt(np.mean(error**2))) < 0.5  # Austin is worth 5 more


def test_a_rank_without_rows_stays_in_step(fit):
    rows, nothing = invent(1, 1000), invent(1, 1000).slice(0, 0)
    alone = predictions(fit([rows]))
    for shares in ([rows, nothing], [nothing, rows]):
        np.testing.assert_allclose(predictions(fit(shares, tune=None)), alone, rtol=0.05, atol=0.2)
    assert fit([rows, nothing], tune=[nothing, rows]).rounds > 0


def test_more_ranks_than_rows(fit):
    assert np.isfinite(predictions(fit([invent(1, 1), invent(1, 0)]))).all()


@pytest.mark.parametrize(("trouble", "place"), [("cannot be read", 0), ("is killed", 1)])
def test_when_one_rank_fails_all_end_soon_and_the_next_training_works(fit, trouble, place):
    shares = [invent(1, 500), invent(2, 500)]
    shares[place] = trouble
    started = time.monotonic()
    with pytest.raises(Exception, match="this share cannot be read" if trouble == "cannot be read" else "crashed"):
        fit(shares)
    assert time.monotonic() - started < 120  # Spark tries four times what is killed
    assert fit([invent(1, 500), invent(2, 500)]).rounds == 20


def test_a_learners_own_words_reach_the_driver_as_one_line(fit):
    hopeless = invent(1, 50).set_column(2, "y", pa.array([float("nan")] * 50))
    with pytest.raises(AssayError, match=r"^XGBoost stopped on rank 0: .*Label contains NaN") as caught:
        fit([hopeless])
    assert type(caught.value) is AssayError
    assert "\n" not in str(caught.value)


def test_bad_parameters_never_reach_the_cluster(fit):
    with pytest.raises(ConfigError, match=r"engine\.params\.max_deep"):
        fit(["cannot be read"], params={"max_deep": 3})
