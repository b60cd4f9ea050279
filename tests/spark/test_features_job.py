"""Consumes the Texan housing panel, checks the features job: the same bits on any road and number of tasks."""

from __future__ import annotations

import datetime as dt
import shutil
from pathlib import Path

import polars as pl
import pytest
from deltalake import DeltaTable

from assay.config import load_run
from assay.demo import dataset_file, write_source
from assay.errors import ConfigError, DataError
from assay.features.catalog import features_of, numeric_features
from assay.features.plan import FeaturePlan
from assay.runtime.plane import Commit

pytestmark = pytest.mark.spark


def table(folder: Path, name: str) -> pl.DataFrame:
    """Rows of a table in order, as they are on disk."""
    frame = pl.from_arrow(DeltaTable(folder / "lake" / name).to_pyarrow_table())
    return frame.sort(frame.columns)


@pytest.fixture
def workspaces(tmp_path, empty_store):
    """Makes workspaces that hold the panel as raw data."""

    def make(name: str) -> Path:
        folder = tmp_path / name
        folder.mkdir()
        shutil.copy(empty_store, folder / "mlflow.db")
        write_source(folder)
        return folder

    return make


def test_roads_and_numbers_of_tasks_make_no_difference(run_job, workspaces):
    ways = {
        "one task": ["runtime.rows_per_task=1000000"],
        "many tasks": ["runtime.rows_per_task=2500"],
        "Spark's road, ü": ["runtime.road=spark", "runtime.rows_per_task=3000"],
    }
    found = {}
    for name, overrides in ways.items():
        folder = workspaces(name)
        results = [
            run_job(job, dataset_file(), folder=folder, overrides=overrides) for job in ("ingest", "build_features")
        ]
        assert [result.status for result in results] == ["done", "done"]
        tables = {name: table(folder, name) for name in ("observations", "observations_quarantine", "features")}
        quality = table(folder, "quality_reports")
        found[name] = (tables | {"quality_reports": quality}, [dict(result.metrics) for result in results])
    expected, metrics = found.pop("one task")
    assert expected["features"].height == metrics[1]["rows"] > 8_000
    for name, (tables, figures) in found.items():
        assert figures == metrics, name
        for label, frame in tables.items():
            assert frame.schema == expected[label].schema, (name, label)
            different = [c for c in frame.columns if not frame[c].equals(expected[label][c], null_equal=True)]
            assert not different, (name, label)


def test_a_second_run_changes_nothing_and_the_table_is_what_the_plan_says(run_job, workspaces):
    folder = workspaces("w")
    run_job("ingest", dataset_file(), folder=folder)
    first = run_job("build_features", dataset_file(), folder=folder)
    log = sorted((folder / "lake" / "features" / "_delta_log").iterdir())
    again = run_job("build_features", dataset_file(), folder=folder)
    assert (first.status, again.status) == ("done", "unchanged")
    assert (again.identity, again.tables, again.metrics) == (first.identity, first.tables, first.metrics)
    assert sorted((folder / "lake" / "features" / "_delta_log").iterdir()) == log

    delta = DeltaTable(folder / "lake" / "features")
    commit = Commit.parse(delta.history(1)[0]["userMetadata"], delta.version())
    plan = FeaturePlan.of(load_run(dataset=dataset_file(), workspace=folder))
    assert commit.identity == first.identity
    assert FeaturePlan.from_dict(commit.details["plan"]) == plan
    assert commit.details["plan_hash"] == plan.hash
    frame = table(folder, "features")
    names = [feature.name for feature in features_of(plan)]
    assert set(names) <= set(frame.columns)
    assert set(frame.columns) - set(names) <= {"row_id", "time", "month", *plan.texts, *plan.targets}
    assert first.metrics["features"] == len(names)
    numbers = {frame.schema[name] for name in numeric_features(plan)}
    assert numbers == {pl.Float32}
    assert not [
        name for name in numeric_features(plan) if frame[name].is_infinite().any() or frame[name].is_nan().any()
    ]

    fewer = run_job("build_features", dataset_file(), folder=folder, overrides=["dataset.features.lags=[1]"])
    assert fewer.status == "done"
    assert fewer.identity != first.identity
    lags = {name for name in table(folder, "features").columns if "__lag_" in name}
    assert lags == {name for name in names if "__lag_1" in name and "__lag_12" not in name}


def test_a_date_drops_later_rows_and_leaves_the_others_as_they_are(run_job, workspaces):
    folder = workspaces("w")
    run_job("ingest", dataset_file(), folder=folder)
    run_job("build_features", dataset_file(), folder=folder)
    whole = table(folder, "features")
    cut = run_job("build_features", dataset_file(), folder=folder, date="2008-06-01")
    kept = table(folder, "features")
    last = dt.datetime(2008, 6, 1, tzinfo=dt.timezone.utc)
    assert cut.metrics["rows"] == kept.height
    assert kept["time"].max() == last
    assert kept.equals(whole.filter(pl.col("time") <= last))
    nothing = run_job("build_features", dataset_file(), folder=folder, date="1990-01-01")
    assert nothing.metrics["rows"] == table(folder, "features").height == 0
    assert table(folder, "features").schema == whole.schema


def test_features_need_observations_and_a_country_that_has_holidays(run_job, workspaces):
    folder = workspaces("w")
    with pytest.raises(DataError, match=r"table observations does not exist.*run the job ingest first"):
        run_job("build_features", dataset_file(), folder=folder)
    with pytest.raises(ConfigError, match=r"calendar.country: no holidays are known for 'TX'"):
        run_job("build_features", dataset_file(), folder=folder, overrides=["dataset.calendar.country=TX"])
