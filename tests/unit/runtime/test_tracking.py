"""Consumes runs that end well, badly or not at all, checks what a real MLflow store knows of them afterwards."""

from __future__ import annotations

import json
import math
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import mlflow
import psutil
import pytest
import yaml

from assay.config import load_run
from assay.errors import PreflightError
from assay.runtime import tracking as tracking_module
from assay.runtime.tracking import (
    PROCESS,
    Tracking,
    git_tags,
    make_store,
    this_process,
    tracking_uri,
)

DATASET = {
    "name": "towns",
    "source": {"path": "towns.csv"},
    "time": {"column": "day"},
    "entity": ["city"],
    "targets": [{"name": "price"}],
}
MAKE = "import sys; from assay.runtime.tracking import make_store; make_store('sqlite:///' + sys.argv[1])"


def config_in(workspace, **options):
    path = workspace / "towns.yml"
    path.write_text(yaml.safe_dump(DATASET), encoding="utf-8")
    return load_run(dataset=path, workspace=workspace, **options)


@pytest.fixture
def tracking(workspace):
    return Tracking(config_in(workspace))


def status_of(tracking, run_id):
    return tracking.client.get_run(run_id).info.status


def test_only_a_run_that_was_finished_counts_as_past(tracking):
    with tracking.run("ingest", "a1") as done:
        tracking.metrics({"rows": 3})
        tracking.finish("done")
    with tracking.run("ingest", "b2"):
        pass

    def fail():
        with tracking.run("ingest", "c3"):
            tracking.finish("done")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    found = tracking.finished("ingest", "a1")
    assert (found.run_id, found.status, found.metrics) == (done, "done", {"rows": 3.0})
    assert tracking.finished("ingest", "b2") is None
    assert tracking.finished("ingest", "c3") is None
    assert tracking.finished("train", "a1") is None
    newest = tracking.client.search_runs([tracking.experiment_id], max_results=1)[0]
    assert (newest.data.tags["assay.identity"], newest.info.status) == ("c3", "FAILED")


def test_the_newest_of_equal_runs_is_found_and_a_refusal_is_one_too(tracking):
    for status in ("done", "refused"):
        with tracking.run("train", "a1") as newest:
            tracking.finish(status)
        time.sleep(0.01)
    assert (tracking.finished("train", "a1").run_id, tracking.finished("train", "a1").status) == (newest, "refused")


def test_stages_are_nested_below_the_pipeline(tracking):
    with tracking.run("pipeline", "p") as outer, tracking.run("ingest", "i") as inner:
        pass
    assert tracking.client.get_run(inner).data.tags["mlflow.parentRunId"] == outer


def open_run(tracking, process, identity="x9"):
    tags = {"assay.identity": identity, **({PROCESS: process} if process else {})}
    return tracking.client.create_run(tracking.experiment_id, tags=tags).info.run_id


def test_open_runs_of_dead_processes_are_marked_killed_and_those_of_living_ones_are_left(tracking):
    host = socket.gethostname()
    gone = subprocess.Popen([sys.executable, "-S", "-c", ""])
    gone.wait()
    with subprocess.Popen([sys.executable, "-S", "-c", "input()"], stdin=subprocess.PIPE) as living:
        born = psutil.Process(living.pid).create_time()
        dead = open_run(tracking, f"{host}:{gone.pid}:{time.time():.0f}")
        reused = open_run(tracking, f"{host}:{living.pid}:{born - 500:.0f}")
        alive = open_run(tracking, f"{host}:{living.pid}:{born:.0f}", identity="again")
        own = open_run(tracking, this_process(), identity="again")
        elsewhere = open_run(tracking, "another-host:7:1700000000")
        repeated = open_run(tracking, "another-host:7:1700000000", identity="again")
        nameless = open_run(tracking, None, identity="again")
        with tracking.run("ingest", "again"):
            found = {r: status_of(tracking, r) for r in (dead, reused, repeated, nameless, alive, own, elsewhere)}
        living.communicate(b"\n")
    assert [found[r] for r in (dead, reused, repeated, nameless)] == ["KILLED"] * 4
    assert [found[r] for r in (alive, own, elsewhere)] == ["RUNNING"] * 3


def test_a_run_records_its_configuration_its_code_and_its_inputs(tracking, workspace):
    with tracking.run("train", "a1") as run_id:
        tracking.input_table("features", str(workspace / "lake" / "features"), 4)
    run = tracking.client.get_run(run_id)
    assert run.data.params["engine.rounds"] == "600"
    assert {name.partition(".")[0] for name in run.data.params} >= {*tracking.config.resolved()} - {"as_of", "where"}
    assert run.data.params["dataset.entity"] == '["city"]'
    assert run.data.tags["assay.config_hash"] == tracking.config.hash_of()
    assert run.data.tags[PROCESS] == this_process()
    (dataset,) = run.inputs.dataset_inputs
    source = json.loads(dataset.dataset.source)
    assert (dataset.dataset.name, source["delta_table_version"]) == ("features@v4", 4)
    with tracking.download(run_id, "config.json") as path:
        assert json.loads(path.read_text(encoding="utf-8")) == json.loads(json.dumps(tracking.config.resolved()))


def test_figures_that_mlflow_cannot_hold_do_not_end_a_job(tracking):
    with tracking.run("train", "a1") as run_id:
        tracking.metrics({"width_90": math.inf, "r2": math.nan, "prix médian ($).rmse": 2.0})
        tracking.rounds({"tune_rmse": [3.0, 2.0, 2.5]})
    assert tracking.client.get_run(run_id).data.metrics == {"prix médian ___.rmse": 2.0, "tune_rmse": 2.5}
    assert [m.value for m in tracking.client.get_metric_history(run_id, "tune_rmse")] == [3.0, 2.0, 2.5]


def test_secrets_in_the_configuration_are_masked(workspace):
    workspace.joinpath("mlflow.db").rename(workspace / "other.db")
    uri = f"sqlite:///{workspace / 'other.db'}"
    tracking = Tracking(config_in(workspace, overrides=[f"runtime.tracking_uri={uri}", "engine.params.token=hunter2"]))
    with tracking.run("train", "a1") as run_id:
        pass
    assert "hunter2" not in json.dumps(dict(tracking.client.get_run(run_id).data.params))
    with tracking.download(run_id, "config.json") as path:
        assert "hunter2" not in path.read_text(encoding="utf-8")
    assert not (workspace / "mlflow.db").exists()


def test_a_stray_folder_does_not_redirect_the_store(workspace, monkeypatch):
    (workspace / "mlruns").mkdir()
    monkeypatch.chdir(workspace)
    tracking = Tracking(config_in(workspace))
    with tracking.run("ingest", "a1") as run_id:
        tracking.json({"a": 1}, "a.json")
    assert not list((workspace / "mlruns").iterdir())
    assert (workspace / "mlartifacts" / run_id / "artifacts" / "a.json").is_file()


def test_nothing_is_left_where_the_user_stands(tmp_path, workspace, monkeypatch):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    tracking = Tracking(config_in(workspace))
    with tracking.run("ingest", "a1"):
        tracking.json({"a": 1}, "a.json")
    assert list(Path().iterdir()) == []


def test_where_nobody_may_write_a_store_opens_or_the_folder_is_named(tmp_path, workspace, monkeypatch):
    config = config_in(workspace)
    monkeypatch.chdir("/proc")
    try:
        said = Tracking(config).experiment_id
    except PreflightError as error:  # MLflow 3.8
        said = str(error)
    assert said.isdigit() or said.startswith("/proc: this version of MLflow makes a folder 'mlruns'")


def make_store_process(path):
    return subprocess.Popen([sys.executable, "-c", MAKE, str(path)], stderr=subprocess.DEVNULL, env=child_environment())


def child_environment():
    return {**os.environ, "PYTHONPATH": str(Path(tracking_module.__file__).parents[2])}


def test_a_store_is_whole_or_absent_whoever_is_killed_and_however_many_make_it(tmp_path):
    path = tmp_path / "mlflow.db"
    victim = make_store_process(path)
    while not list(tmp_path.glob("mlflow.db.*.part")):
        assert victim.poll() is None
        time.sleep(0.01)
    victim.send_signal(signal.SIGKILL)
    victim.wait()
    assert not path.exists()
    makers = [make_store_process(path) for _ in range(2)]
    assert [maker.wait(timeout=300) for maker in makers] == [0, 0]
    assert [found.name for found in tmp_path.iterdir()] == ["mlflow.db"]
    config = config_in(tmp_path)
    assert tracking_uri(config) == f"sqlite:///{path}"
    with Tracking(config).run("ingest", "a1"):
        pass


def test_a_store_that_is_there_is_left_alone(workspace):
    before = (workspace / "mlflow.db").read_bytes()
    make_store(f"sqlite:///{workspace / 'mlflow.db'}")
    make_store("http://127.0.0.1:1/")
    assert (workspace / "mlflow.db").read_bytes() == before
    assert [found.name for found in workspace.iterdir()] == ["mlflow.db"]


def test_the_git_revision_is_that_of_the_codes_own_checkout(tmp_path, monkeypatch):
    """An environment inside somebody else's checkout must not take on its revision."""
    copied = tmp_path / "site-packages" / "tracking.py"
    copied.parent.mkdir()
    shutil.copy(tracking_module.__file__, copied)

    def tags():
        git_tags.cache_clear()
        return git_tags()

    git = ["git", "-c", "user.name=a", "-c", "user.email=a@example.org", "-c", "commit.gpgsign=false"]
    for command in (["init", "-q"], ["commit", "-q", "--allow-empty", "-m", "theirs"]):
        subprocess.run([*git, *command], cwd=tmp_path, check=True)
    monkeypatch.setattr(tracking_module, "__file__", str(copied))
    assert tags() == {}
    for command in (["add", "."], ["commit", "-q", "-m", "ours"]):
        subprocess.run([*git, *command], cwd=tmp_path, check=True)
    revision = subprocess.run([*git, "rev-parse", "HEAD"], cwd=tmp_path, check=True, capture_output=True, text=True)
    assert tags() == {"mlflow.source.git.commit": revision.stdout.strip(), "assay.git_dirty": "false"}
    copied.write_text("# changed", encoding="utf-8")
    assert tags()["assay.git_dirty"] == "true"
    git_tags.cache_clear()


def test_an_experiment_that_another_job_makes_meanwhile_is_taken(workspace, monkeypatch):
    """Its look at the store is the last one before the other job's experiment is there."""
    config, looked = config_in(workspace), []
    made = Tracking(config).experiment_id
    look = mlflow.MlflowClient.get_experiment_by_name

    def late(client, name):
        looked.append(name)
        return None if len(looked) == 1 else look(client, name)

    monkeypatch.setattr(mlflow.MlflowClient, "get_experiment_by_name", late)
    assert Tracking(config).experiment_id == made
    assert looked == ["assay/towns"] * 2


@pytest.mark.parametrize("said", ["UNIQUE constraint failed: datasets.name", "duplicate key value (UniqueViolation)"])
def test_a_table_that_another_job_names_meanwhile_is_an_input_all_the_same(tracking, workspace, monkeypatch, said):
    """MLflow's own race: two jobs log one table as their input at the same moment, and the later one is refused."""
    log_input, refused = tracking.mlflow.log_input, [said, "the disk is full"]

    def racing(dataset, context):
        if refused:
            raise tracking.mlflow.MlflowException(refused.pop(0))
        return log_input(dataset, context=context)

    with tracking.run("train", "a1") as run_id:
        monkeypatch.setattr(tracking.mlflow, "log_input", racing)
        with pytest.raises(tracking.mlflow.MlflowException, match="the disk is full"):
            tracking.input_table("features", str(workspace / "lake" / "features"), 3)
        refused.append(said)
        tracking.input_table("features", str(workspace / "lake" / "features"), 3)
    (found,) = tracking.client.get_run(run_id).inputs.dataset_inputs
    assert found.dataset.name == "features@v3"
