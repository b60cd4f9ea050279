"""Consumes feature tables, checks that prepared inputs are fitted on training time and replayed wherever a model is."""

from __future__ import annotations

import dataclasses
import datetime as dt
import json
import shutil

import numpy as np
import polars as pl
import pytest
from deltalake import DeltaTable

from assay.config import load_run
from assay.errors import ConfigError
from assay.model.bundle import PREPARATION
from assay.model.encoding import Encoding
from assay.model.registry import load_trained
from assay.model.scale import TargetScale
from assay.model.versions import CHAMPION
from assay.runtime.arrow_plane import ArrowPlane
from assay.runtime.tables import FEATURES
from assay.runtime.tracking import Tracking
from assay.training.preparation import prepare
from assay.training.preparation_sample import TrainingRows

pytestmark = pytest.mark.spark

QUICK = [
    "engine.rounds=30",
    "training.force_production_quality=false",
    "training.enable_advanced_features=false",
    "serving.learns_until=tune",
    "conformal.adaptive=false",  # a served model has the last step's intervals for all rows
]
CLEANED = [
    "preparation.outliers.bounds={x0: [-3, 3]}",
    "preparation.outliers.winsorize=[0.01, 0.99]",
    "preparation.outliers.remove=zscore",
    "preparation.outliers.zscore=2.5",
    "preparation.outliers.isolation_forest=flag",
    "preparation.impute={default: mean, indicators: true, columns: {x1: {method: knn}, x2: {method: iterative}}}",
    "preparation.scaling=standard",
    "preparation.pca={enabled: true, keep_columns: true}",
    "preparation.selection={method: importance, max_features: 8, max_correlation: 0.999}",
]
OTHERS = [
    "preparation.outliers.isolation_forest=remove",
    "preparation.impute={default: median, columns: {x1: {method: most_frequent}, x2: {method: constant, value: -1}}}",
    "preparation.scaling=minmax",
    "preparation.pca={enabled: true}",
    "preparation.selection={method: mutual_information, max_features: 4}",
]
LEFT_MISSING = [
    "runtime.road=spark",
    "preparation.outliers={remove: iqr, iqr: 1.0, isolation_forest: score}",
    "preparation.scaling=robust",
    "preparation.selection={method: spearman, max_features: 3, min_variance: 0}",
]


@pytest.fixture(scope="module")
def built(run_in, tmp_path_factory):
    """A workspace with features of 1,500 rows, of which the last tenth has no inputs; returns (folder, dataset)."""
    folder = tmp_path_factory.mktemp("built")
    random, rows = np.random.default_rng(5), 1500
    x = random.normal(size=(rows, 4)) * [1, 10, 0.1, 1000]
    x[:, 3] += 900 * x[:, 0]
    city, day = random.integers(0, 4, rows), np.sort(random.integers(0, 200, rows))
    price = 10 * city + 3 * x[:, 0] + 0.2 * x[:, 1] + random.normal(size=rows)
    x[random.random((rows, 4)) < 0.1] = np.nan
    x[day >= 180] = np.nan
    frame = pl.DataFrame({f"x{n}": x[:, n] for n in range(4)}).fill_nan(None)
    days = [f"{dt.date(2019, 1, 1) + dt.timedelta(days=int(n))}" for n in day]
    frame = frame.with_columns(city=pl.Series([f"city {n}" for n in city]), day=pl.Series(days), price=pl.Series(price))
    frame.write_csv(folder / "made.csv")
    dataset = {
        "name": "made",
        "source": {"path": str(folder / "made.csv")},
        "time": {"column": "day"},
        "entity": ["city"],
        "targets": [{"name": "price"}],
        "columns": {"categorical": ["city"], "numeric": ["x0", "x1", "x2", "x3"]},
        "duplicates": "allow",
    }
    for job in ("ingest", "build_features"):
        run_in(folder / "ws", job, dataset, overrides=QUICK)
    return folder / "ws", dataset


@pytest.fixture
def train(built, run_job, workspace):
    """Train in a copy of that workspace: train(settings) -> (result, model)."""
    shutil.copytree(built[0] / "lake", workspace / "lake")

    def run(settings):
        result = run_job("train", built[1], overrides=[*QUICK, *settings])
        return result, trained(workspace, result.run_id)

    return run


def trained(folder, run_id):
    return load_trained(Tracking(load_run(dataset=folder / "dataset.yml", workspace=folder)), run_id).model


@pytest.mark.parametrize("settings", [CLEANED, OTHERS, LEFT_MISSING], ids=["cleaned", "others", "left missing"])
def test_table_pyfunc_and_bundle_give_the_same_numbers(train, run_job, built, workspace, settings):
    result, model = train(settings)
    assert result.metrics["features_selected"] == len(model.encoding.features)
    assert 0 < result.metrics["training_rows_removed"] < 300
    assert result.metrics["test_r2"] > 0.5
    assert PREPARATION in model.files
    tracking = Tracking(load_run(dataset=workspace / "dataset.yml", workspace=workspace))
    with tracking.download(result.run_id, "selection.json") as path:
        listed = json.loads(path.read_text())
    assert {one["name"] for one in listed if one["kept"]} == set(model.encoding.features)
    run_job("score", built[1], overrides=[*QUICK, *settings])
    frames = [pl.from_arrow(DeltaTable(workspace / "lake" / n).to_pyarrow_table()) for n in ("predictions", "features")]
    scored = frames[0].drop("time", "month", "city").join(frames[1], on="row_id", how="left").sort("row_id")
    assert scored.height == frames[0].height > 200  # rows to be scored are never removed
    assert scored.filter(pl.all_horizontal(pl.col("x0", "x1", "x2", "x3").is_null())).height > 100
    assert scored["prediction"].is_finite().all()  # also of rows that know nothing
    batch = scored.to_arrow().combine_chunks().to_batches()[0]
    np.testing.assert_array_equal(model.predict(batch), scored["prediction"])
    served = tracking.mlflow.pyfunc.load_model(f"models:/made.price@{CHAMPION}")
    found = served.predict(scored.select(model.input_columns).to_pandas())
    np.testing.assert_array_equal(found["prediction"], scored["prediction"])
    np.testing.assert_array_equal(found["upper_90"], scored["upper_90"])


@pytest.mark.parametrize(
    ("last", "choices"),
    [
        ("tune", ["engine.refit=true"]),
        ("train", ["engine.refit=false", "engine.ranks=2", "runtime.rows_per_task=300"]),
        ("calibrate", ["serving.learns_until=newest"]),
    ],
    ids=["train and tune", "train alone, many tasks", "all before the test period"],
)
def test_where_nothing_comes_after_the_training_time_the_same_is_fitted(train, built, spark, workspace, last, choices):
    settings = [*CLEANED, *choices]
    _, model = train(settings)
    table = pl.from_arrow(DeltaTable(workspace / "lake" / "features").to_pyarrow_table())
    plane = ArrowPlane(lambda: spark.sparkContext, workspace / "other")

    def until(period):
        rows = table.filter(pl.col("time") < pl.lit(dt.datetime.fromisoformat(period["end"]))).to_arrow()

        def read(columns):
            part = rows.select(columns)
            return [plane.rows_of(FEATURES, part.schema, part)]

        return TrainingRows(read, rows.num_rows)

    config = load_run(dataset=workspace / "dataset.yml", overrides=[*QUICK, *settings])
    encoding = Encoding(("x0", "x1", "x2", "x3"), {"city": tuple(f"city {n}" for n in range(4))})
    split = model.facts["split"]
    found = prepare(
        config.profile.preparation, encoding, TargetScale("price"), until(split["train"]), until(split[last]), seed=7
    )
    assert found.again != found.encoding or last == "train"
    assert dataclasses.replace(model.encoding, seen={}) == found.again  # what was seen of inputs is told by the job


def test_a_column_that_is_no_input_is_refused_before_training(train):
    with pytest.raises(
        ConfigError, match=r"preparation\.impute\.columns\.x00: there is no such numeric input; did you mean x0"
    ):
        train(["preparation.impute.columns.x00={method: mean}"])
