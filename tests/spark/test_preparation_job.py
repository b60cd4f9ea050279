"""Consumes feature tables, checks that prepared inputs are fitted on training time and replayed wherever a model is."""

from __future__ import annotations

import datetime as dt
import json

import numpy as np
import polars as pl
import pyarrow as pa
import pytest
from deltalake import DeltaTable

from assay.config import load_run
from assay.errors import ConfigError
from assay.model.bundle import PREPARATION
from assay.model.encoding import Encoding
from assay.model.registry import CHAMPION, load_trained
from assay.model.scale import TargetScale
from assay.runtime.arrow_plane import ArrowPlane
from assay.runtime.plane import Commit, Output
from assay.runtime.tables import FEATURES
from assay.runtime.tracking import Tracking
from assay.training.preparation import prepare
from assay.training.preparation_sample import TrainingRows

pytestmark = pytest.mark.spark

DATASET = {
    "name": "made",
    "source": {"path": "made.csv"},
    "time": {"column": "day"},
    "entity": ["city"],
    "targets": [{"name": "price"}],
    "columns": {"categorical": ["city"], "numeric": ["x0"]},
}
QUICK = ["engine.rounds=30", "training.force_production_quality=false"]
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


@pytest.fixture
def features(spark):
    """Write a features table of 1,500 rows, as build_features would: features(workspace, after=None, lost=False).

    after: share of the time from which on every input is a thousandfold.  lost: and there all of them are missing.
    """

    def write(workspace, *, after=None, lost=False, rows=1500):
        random = np.random.default_rng(5)
        x = random.normal(size=(rows, 4)) * [1, 10, 0.1, 1000]
        x[:, 3] += 900 * x[:, 0]
        city, day = random.integers(0, 4, rows), np.sort(random.integers(0, 200, rows))
        y = 10 * city + 3 * x[:, 0] + 0.2 * x[:, 1] + random.normal(size=rows)
        x[random.random((rows, 4)) < 0.1] = np.nan
        if after is not None:
            x[day >= 200 * after] = np.nan if lost else x[day >= 200 * after] * 1000
        names = [f"x{n}" for n in range(4)]
        schema = FEATURES.schema(
            [
                pa.field("city", pa.string()),
                pa.field("price", pa.float64()),
                *(pa.field(n, pa.float32()) for n in names),
            ]
        )
        moments = [dt.datetime(2019, 1, 1, tzinfo=dt.UTC) + dt.timedelta(days=int(n)) for n in day]
        values = {
            "row_id": random.permutation(rows),
            "time": pa.array(moments, schema.field("time").type),
            "month": [f"{m:%Y-%m}" for m in moments],
            "city": np.array([f"city {n}" for n in range(4)])[city],
            "price": y,
            **{name: pa.array(x[:, n], pa.float32(), from_pandas=True) for n, name in enumerate(names)},
        }
        table = pa.table({name: pa.array(values[name]) for name in schema.names}).cast(schema)
        plane = ArrowPlane(lambda: spark.sparkContext, workspace / "lake")
        commit = Commit(-1, "build_features", "all", f"made {after} {lost}", {"plan_hash": "made", "plan": {}})
        plane.rows_of(FEATURES, schema, table).write([Output(FEATURES, schema, commit)])

    return write


def trained(folder, run_id):
    return load_trained(Tracking(load_run(dataset=folder / "dataset.yml", workspace=folder)), run_id).model


@pytest.mark.parametrize("settings", [CLEANED, OTHERS, LEFT_MISSING], ids=["cleaned", "others", "left missing"])
def test_table_pyfunc_and_bundle_give_the_same_numbers(run_job, features, workspace, settings):
    features(workspace)
    overrides = [*QUICK, *settings]
    result = run_job("train", DATASET, overrides=overrides)
    model = trained(workspace, result.run_id)
    assert result.metrics["features_selected"] == len(model.encoding.features)
    assert 0 < result.metrics["training_rows_removed"] < 300
    assert result.metrics["test_r2"] > 0.6
    assert PREPARATION in model.files
    tracking = Tracking(load_run(dataset=workspace / "dataset.yml", workspace=workspace))
    with tracking.download(result.run_id, "selection.json") as path:
        listed = json.loads(path.read_text())
    assert {one["name"] for one in listed if one["kept"]} == set(model.encoding.features)
    run_job("score", DATASET, overrides=overrides)
    frames = [pl.from_arrow(DeltaTable(workspace / "lake" / n).to_pyarrow_table()) for n in ("predictions", "features")]
    scored = frames[0].drop("time", "month", "city").join(frames[1], on="row_id", how="left").sort("row_id")
    assert scored.height == frames[0].height > 200  # rows to be scored are never removed
    batch = scored.to_arrow().combine_chunks().to_batches()[0]
    np.testing.assert_array_equal(model.predict(batch), scored["prediction"])
    served = tracking.mlflow.pyfunc.load_model(f"models:/made.price@{CHAMPION}")
    found = served.predict(scored.select(model.input_columns).to_pandas())
    np.testing.assert_array_equal(found["prediction"], scored["prediction"])
    np.testing.assert_array_equal(found["upper_90"], scored["upper_90"])


@pytest.mark.parametrize(
    ("after", "refit", "tasks"),
    [(0.9, "true", []), (0.56, "false", ["engine.ranks=2", "runtime.rows_per_task=300"])],
    ids=["test period changed", "everything after train changed"],
)
def test_what_comes_after_the_training_time_changes_nothing_that_was_fitted(
    run_job, features, spark, workspace, tmp_path, after, refit, tasks
):
    features(workspace, after=after)
    overrides = [*QUICK, *CLEANED, f"engine.refit={refit}", *tasks]
    model = trained(workspace, run_job("train", DATASET, overrides=overrides).run_id)
    features(tmp_path / "as it was")
    table = DeltaTable(tmp_path / "as it was" / "lake" / "features").to_pyarrow_table()
    plane = ArrowPlane(lambda: spark.sparkContext, tmp_path / "lake")

    def fit(**period):  # on rows that are not changed and with none of the others there
        rows = pl.from_arrow(table).filter(pl.col("time") < pl.lit(dt.datetime.fromisoformat(period["end"])))
        kept = rows.to_arrow()
        return lambda columns: [
            plane.rows_of(FEATURES, (part := kept.select(columns)).schema, part),
        ], rows.height

    split = model.facts["split"]
    train, both = (TrainingRows(*fit(**split[name])) for name in ("train", "tune"))
    settings = load_run(dataset=workspace / "dataset.yml", overrides=overrides).profile.preparation
    encoding = Encoding(("x0", "x1", "x2", "x3"), {"city": tuple(f"city {n}" for n in range(4))})
    found = prepare(settings, encoding, TargetScale("price"), train, both, seed=7)
    assert model.encoding == (found.again if refit == "true" else found.encoding)
    assert found.again != found.encoding


def test_rows_of_nothing_but_missing_values_are_scored(run_job, features, workspace):
    features(workspace, after=0.8, lost=True)
    run_job("train", DATASET, overrides=[*QUICK, *CLEANED])
    run_job("score", DATASET, overrides=[*QUICK, *CLEANED])
    predictions = pl.from_arrow(DeltaTable(workspace / "lake" / "predictions").to_pyarrow_table())
    assert predictions.height > 200
    assert predictions["prediction"].is_finite().all()


def test_a_column_that_is_no_input_is_refused_before_training(run_job, features, workspace):
    features(workspace)
    settings = [*QUICK, "preparation.impute.columns.x00={method: mean}"]
    with pytest.raises(
        ConfigError, match=r"preparation\.impute\.columns\.x00: there is no such numeric input; did you"
    ):
        run_job("train", DATASET, overrides=settings)
