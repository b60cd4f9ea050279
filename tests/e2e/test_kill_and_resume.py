"""Consumes a pipeline that is killed in the middle of every stage, checks that it ends as if it had never died."""

from __future__ import annotations

import contextlib
import os
import signal
import sqlite3
import time
from collections.abc import Callable
from pathlib import Path

import mlflow
import polars as pl
import pytest
import yaml
from polars.testing import assert_frame_equal

from assay import open_workspace
from job_process import started

pytestmark = pytest.mark.e2e

TABLES = (
    *("observations", "observations_quarantine", "quality_reports", "features"),
    *("training_metrics", "calibrations", "predictions", "explanations", "segment_metrics"),
)
OF_RUNS = {"training_metrics": ("run_id", "trained_at", "training")}  # columns that say which run it was, and when
SECONDS = 120


def committed(workspace: Path, table: str) -> bool:
    return (workspace / "lake" / table / "_delta_log" / f"{1:020d}.json").exists()


def writes(table: str) -> Callable[[Path, str], bool]:
    """Data files are there, their commit is not."""

    def is_so(workspace: Path, _: str) -> bool:
        return any((workspace / "lake" / table).glob("*/*.parquet")) and not committed(workspace, table)

    return is_so


# What shows from outside that a stage is in its middle: files on their way, or one of two results without the other.
MIDDLES: dict[str, Callable[[Path, str], bool]] = {
    "ingest": lambda workspace, _: any((workspace / "lake" / "_scratch").glob("*/*/*.arrow")),
    "build_features": writes("features"),
    "train": lambda _, stderr: "training xgboost" in stderr,
    "calibrate": lambda workspace, _: committed(workspace, "calibrations"),
    "score": lambda workspace, _: any((workspace / "lake" / "predictions").glob("*/*/*.parquet")),
    "evaluate": lambda workspace, _: committed(workspace, "segment_metrics"),
}


@pytest.fixture(scope="module")
def stories(towns, tmp_path_factory, empty_store):
    """One workspace whose pipeline was killed in each stage in turn and always run again, and one of a quiet life."""
    folder = tmp_path_factory.mktemp("stories")
    dataset = folder / "dataset.yml"
    tree = {**towns(folder, towns=5, months=72), "duplicates": "keep_first"}
    csv = folder / "towns.csv"
    csv.write_text(csv.read_text() + "town 1,big,not a day,5.0,1\n", encoding="utf-8")
    dataset.write_text(yaml.safe_dump(tree), encoding="utf-8")
    shared = ["pipeline", "--dataset", str(dataset), "--profile", "development", "--set", "engine.rounds=40"]
    shared += ["--set", "training.enable_advanced_features=true", "--master", "local[2]", "--workspace"]
    killed = []
    for stage, middle in MIDDLES.items():
        if kill_in([*shared, str(folder / "killed")], folder, middle):
            killed.append((stage, open_jobs(folder / "killed")))
    for life in ("killed", "quiet"):
        stderr = folder / f"{life}.txt"
        assert started([*shared, str(folder / life)], stderr).wait(SECONDS) == 0, stderr.read_text()
    return folder / "killed", folder / "quiet", killed


def kill_in(arguments: list[str], folder: Path, middle: Callable[[Path, str], bool]) -> bool:
    """Start the pipeline and kill its whole process group when it is in the middle; whether that came to pass."""
    stderr = folder / "stderr.txt"
    process = started(arguments, stderr)
    deadline = time.monotonic() + SECONDS
    while process.poll() is None:
        if middle(Path(arguments[-1]), stderr.read_text(errors="replace")):
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            return True
        assert time.monotonic() < deadline, stderr.read_text()
        time.sleep(0.005)
    return False


def open_jobs(workspace: Path) -> set[str]:
    """Jobs of which MLflow has a run that never ended."""
    with contextlib.closing(sqlite3.connect(workspace / "mlflow.db")) as store:
        query = (
            "select tags.value from runs join tags on runs.run_uuid = tags.run_uuid "
            "where runs.status = 'RUNNING' and tags.key = 'assay.job'"
        )
        return {job for (job,) in store.execute(query)}


def test_every_stage_was_killed_in_its_middle(stories):
    assert stories[2] == [(stage, {"pipeline", stage}) for stage in MIDDLES]


@pytest.mark.parametrize("name", TABLES)
def test_the_rows_are_those_of_a_run_that_never_died(stories, name):
    killed, quiet = (open_workspace(folder).table(name).drop(OF_RUNS.get(name, ())) for folder in stories[:2])
    assert killed.height > 0
    assert_frame_equal(killed, quiet, check_row_order=False, check_exact=True)


def test_nothing_is_left_behind(stories):
    workspace = stories[0]
    assert not (workspace / "lake" / "_scratch").exists()
    assert not list((workspace / "reports").glob("*.part"))
    assert [path.name for path in workspace.glob("mlflow.db*")] == ["mlflow.db"]
    uri = f"sqlite:///{workspace / 'mlflow.db'}"
    client = mlflow.MlflowClient(uri, registry_uri=uri)  # jobs of this process may have left their own registry
    runs = client.search_runs([e.experiment_id for e in client.search_experiments()])
    assert {run.info.status for run in runs} == {"FINISHED", "KILLED"}
    finished = [r.data.tags["assay.job"] for r in runs if r.info.status == "FINISHED"]
    assert sorted(set(finished)) == sorted({*MIDDLES, "certify", "pipeline"})
    champions = [v for m in client.search_registered_models() for v in m.aliases.values()]
    assert len(champions) == 1


def test_the_killed_run_predicts(stories):
    predictions = open_workspace(stories[0]).table("predictions")
    assert predictions.select((pl.col("lower_90") <= pl.col("upper_90")).all()).item()
