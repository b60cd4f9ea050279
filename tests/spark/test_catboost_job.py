"""Consumes feature tables and shares of rows, checks `train` and `score` with CatBoost on one rank and on two."""

from __future__ import annotations

import shutil
import threading

import numpy as np
import polars as pl
import pyarrow as pa
import pytest

from assay.config import load_run
from assay.model.catboost_predictor import unpacked
from assay.model.encoding import Encoding
from assay.model.predictors import load_predictor
from assay.model.registry import load_trained
from assay.model.scale import TargetScale
from assay.runtime.arrow_plane import ArrowPlane
from assay.runtime.tracking import Tracking
from assay.training.engine import FitRequest, engine_named

pytestmark = pytest.mark.spark

CITIES = ("Austin", "Dallas", "Waco")
SCHEMA = pa.schema([("size", pa.float32()), ("city", pa.string()), ("y", pa.float64())])
SETTINGS = [
    "engine.name=catboost",
    "engine.rounds=40",
    "engine.early_stopping_rounds=10",
    "training.force_production_quality=false",
]


@pytest.mark.parametrize("ranks", [0, 2], ids=["one rank, as the rows fit", "two shards"])
def test_train_and_score(finished, run_in, tmp_path, ranks):
    folder = tmp_path / "workspace"
    for table in ("observations", "features"):
        shutil.copytree(finished.folder / "lake" / table, folder / "lake" / table)
    options = {"overrides": [*SETTINGS, f"engine.ranks={ranks}", "serving.learns_until=tune"]}
    trained = run_in(folder, "train", finished.dataset, **options)
    scored = run_in(folder, "score", finished.dataset, **options)

    tracking = Tracking(load_run(dataset=folder / "dataset.yml", workspace=folder, **options))
    runs = tracking.client.search_runs([tracking.experiment_id], "tags.`assay.job` = 'train'")
    (run,) = [run for run in runs if "assay.ranks" in run.data.tags]
    assert run.data.tags["assay.ranks"] == str(max(ranks, 1))
    model = load_trained(tracking, run.info.run_id).model
    assert model.engine == "catboost"
    assert len(unpacked(model.stored)) == max(ranks, 1)
    assert run.data.metrics["test_rmse"] < 1.2 * run.data.metrics["best_baseline_rmse"]
    losses = [point.value for point in tracking.client.get_metric_history(run.info.run_id, "tune_rmse")]
    assert len(losses) >= run.data.metrics["rounds"] == int(np.argmin(losses)) + 1
    merged = {name: value for name, value in run.data.metrics.items() if name.startswith("tune_rmse_")}
    assert set(merged) == ({"tune_rmse_merged", "tune_rmse_shard_0", "tune_rmse_shard_1"} if ranks else set())
    assert merged.get("tune_rmse_merged", 0) <= max(merged.values(), default=0)
    assert any("shards" in line for line in trained.summary) == bool(ranks)

    assert (trained.status, scored.status) == ("done", "done")
    predictions = pl.read_delta(str(folder / "lake" / "predictions")).sort("row_id")
    features = pl.read_delta(str(folder / "lake" / "features")).join(predictions.select("row_id"), on="row_id")
    (batch,) = features.sort("row_id").to_arrow().combine_chunks().to_batches()
    np.testing.assert_allclose(predictions["prediction"], model.predict(batch), rtol=1e-12)


def invent(seed, rows):
    """A batch of labelled rows."""
    random = np.random.default_rng(seed)
    size, city = random.normal(size=rows).astype(np.float32), random.choice(CITIES, rows)
    y = 3 * size + 5 * (city == "Austin") + 0.1 * random.normal(size=rows)
    return pa.record_batch({"size": pa.array(size), "city": pa.array(city, pa.string()), "y": pa.array(y)})


@pytest.mark.parametrize("encoding", [Encoding(("size",), {}), Encoding(("size",), {"city": CITIES})], ids=["n", "c"])
def test_ranks_learn_apart_and_their_mean_is_the_model(spark, tmp_path, encoding):
    plane, lock, heard = ArrowPlane(lambda: spark.sparkContext, tmp_path / "lake"), threading.Lock(), []

    def read(shares):  # travels by value: workers cannot import this file
        yield from shares

    def on_round(number, metrics):
        with lock:
            heard.append((number, metrics["tune_rmse"]))

    def fit(train, tune, ranks, rounds=20):
        request = FitRequest(
            train=plane.inputs(train, read, SCHEMA),
            tune=plane.inputs(tune, read, SCHEMA) if tune else None,
            encoding=encoding,
            scale=TargetScale("y"),
            params={},
            rounds=rounds,
            early_stopping_rounds=5,
            refit=True,
            seed=7,
            ranks=ranks,
            threads=1,
            driver_host="127.0.0.1",
        )
        return engine_named("catboost").fit(plane, request, on_round)

    train, tune = [invent(1, 600), invent(2, 300)], [invent(3, 200), invent(4, 100)]
    both = fit(train, tune, 2)
    assert both.devices == ("cpu", "cpu")
    assert [number for number, _ in heard] == list(range(len(heard)))
    assert len(heard) >= both.rounds - 1  # the last one may still be on its way when the stage ends
    apart = [fit([train[rank], tune[rank]], None, 1, both.rounds) for rank in (0, 1)]
    matrix = encoding.matrix(invent(9, 200))
    alone = [load_predictor("catboost", one.stored, threads=1).predict(matrix) for one in apart]
    found = load_predictor("catboost", both.stored, threads=1).predict(matrix)
    np.testing.assert_allclose(found, (2 * alone[0] + alone[1]) / 3, rtol=0, atol=1e-9)
    assert both.figures["tune_rmse_merged"] < max(both.figures.values())
