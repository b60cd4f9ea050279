"""Consumes an invented panel, checks that every engine trains, is on record and scores through the jobs."""

from __future__ import annotations

import shutil

import numpy as np
import polars as pl
import pyarrow as pa
import pytest
from deltalake import DeltaTable
from pyspark.sql.classic.dataframe import DataFrame

from assay.config import load_run
from assay.config.profile import SAMPLED
from assay.model.bundle import PREPARATION
from assay.model.predictors import LOADERS, stored_file
from assay.model.registry import load_trained
from assay.runtime.arrow_flow import ArrowFlow
from assay.runtime.tracking import Tracking
from assay.training.job import Training

pytestmark = pytest.mark.spark

WINDOWED = ("lstm", "gru")
ENGINES = [name for name in LOADERS if name not in {"xgboost", "ensemble", *WINDOWED}]  # all other tests train XGBoost
QUICK = ["training.force_production_quality=false", "training.enable_advanced_features=false"]
PARAMS = {"random_forest": ["engine.params.n_estimators=20"], "linear": ["engine.ranks=2"]}


@pytest.fixture(scope="module")
def built(run_in, towns, tmp_path_factory):
    """A workspace with features of a panel whose target is the price itself; its folder and dataset."""
    folder = tmp_path_factory.mktemp("engines")
    dataset = towns(folder, towns=4, months=48)
    dataset["targets"] = [{"name": "price"}]
    for job in ("ingest", "build_features"):
        run_in(folder / "ws", job, dataset, overrides=QUICK)
    return folder / "ws", dataset


@pytest.fixture
def no_rows_on_the_driver(monkeypatch):
    """While an engine learns, nothing may collect the rows of a flow or of a frame."""
    given = Training.fit

    def refuse(*_, **__):
        raise AssertionError("an engine collected its rows")

    def fit(self, *arguments):
        with monkeypatch.context() as patch:
            patch.setattr(ArrowFlow, "collect", refuse)
            for name in ("collect", "toPandas", "toArrow", "toLocalIterator"):
                patch.setattr(DataFrame, name, refuse)
            return given(self, *arguments)

    monkeypatch.setattr(Training, "fit", fit)


def table(folder, name):
    return pl.from_arrow(DeltaTable(folder / "lake" / name).to_pyarrow_table())


@pytest.mark.parametrize("engine", ENGINES)
def test_an_engine_trains_and_its_model_is_on_record(built, run_job, workspace, no_rows_on_the_driver, engine):
    shutil.copytree(built[0] / "lake", workspace / "lake")
    settings = [*QUICK, f"engine.name={engine}", *PARAMS.get(engine, [])]
    settings += ["engine.sample_rows=100"] if engine in SAMPLED else []
    result = run_job("train", built[1], overrides=settings)
    assert result.metrics["test_rmse"] < result.metrics["baseline_global_median_rmse"]
    tracking = Tracking(load_run(dataset=workspace / "dataset.yml", workspace=workspace))
    run = tracking.client.get_run(result.run_id)
    model = load_trained(tracking, result.run_id).model
    assert model.engine == engine
    assert stored_file(engine) in model.files
    assert PREPARATION not in model.files
    assert run.data.metrics["tune_rmse"] > 0
    assert run.data.tags["assay.ranks"] == ("2" if engine == "linear" else "1")
    said = [line for line in result.summary if "learned from a sample of 100 of " in line]
    assert len(said) == (engine in SAMPLED)
    assert result.metrics.get("learned_rows") == (100 if engine in SAMPLED else None)
    if engine == "random_forest":
        run_job("score", built[1], overrides=QUICK)
        scored = (
            table(workspace, "predictions").join(table(workspace, "features"), on="row_id", how="left").sort("row_id")
        )
        scored = scored.filter(pl.col("price").is_not_null())  # later ones are those of the model that serves
        (batch,) = pa.Table.from_batches(scored.to_arrow().to_batches()).combine_chunks().to_batches()
        np.testing.assert_allclose(scored["prediction"], model.predict(batch), rtol=1e-12)
        assert (scored["lower_90"] <= scored["prediction"]).all()
        run_job("evaluate", built[1], overrides=QUICK)
        assert table(workspace, "segment_metrics").height > 0
        assert table(workspace, "explanations").height == 0  # a forest does not say what its inputs add


def test_a_recurrent_network_learns_in_two_ranks_from_windows(towns, run_job, workspace, no_rows_on_the_driver):
    pytest.importorskip("torch", reason="PyTorch is not installed: pip install 'assay[neural]'")
    dataset = towns(workspace / "raw", towns=4, months=60)
    few = {"lags": [1], "lookback": 6, "windows_days": [], "halflives_days": [], "expanding": []}
    dataset["features"] = {**few, "trend_days": [], "seasonality_days": []}
    settings = ["training.force_production_quality=false", "training.enable_market_features=false"]
    settings += ["engine.name=gru", "engine.ranks=2", "engine.params.lookback=6", "engine.params.epochs=4"]
    settings += ["engine.params.batch_size=16", "serving.learns_until=tune"]
    for job in ("ingest", "build_features"):
        run_job(job, dataset, overrides=settings)
    result = run_job("train", dataset, overrides=settings)
    assert result.metrics["test_rmse"] < 0.2 * result.metrics["baseline_global_median_rmse"]
    run = Tracking(load_run(dataset=workspace / "dataset.yml", workspace=workspace)).client.get_run(result.run_id)
    assert run.data.tags["assay.ranks"] == "2"
    assert run.data.metrics["tune_rmse"] > 0
    run_job("score", dataset, overrides=settings)
    assert table(workspace, "predictions")["prediction"].is_finite().all()
