"""Consumes one MLflow server on a real PostgreSQL, checks that of jobs which write there at once nothing is lost."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import mlflow
import pytest
import requests
import yaml
from lake_story import SETTINGS, free_port, running

from job_process import environment, finished

pytestmark = [pytest.mark.heavy, pytest.mark.cluster]

DRIVER = "psycopg[binary]>=3.2,<4"
WRITERS, RUNS, ROUNDS = 6, 8, 120
WRITE = """
import sys
from pathlib import Path
from assay.config import load_run
from assay.runtime.tracking import Tracking
dataset, workspace, uri, number, runs, rounds = sys.argv[1:]
number, runs, rounds = int(number), int(runs), int(rounds)
overrides = [f"runtime.tracking_uri={uri}"]
tracking = Tracking(load_run(dataset=Path(dataset), workspace=Path(workspace), overrides=overrides))
for run in range(runs):
    with tracking.run("train", f"writer {number} run {run}"):
        tracking.rounds({"tune_rmse": [number + i / rounds for i in range(rounds)]})
        tracking.metrics({"test_rmse": 100.0 * number + run})
        tracking.input_table("features", "lake/features", run)
        tracking.json({"number": number, "run": run}, "told.json")
        tracking.finish("done")
"""


@pytest.fixture(scope="module")
def postgres():
    """URI of an empty database of a server of its own, as a user that is not root."""
    programs = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: int(path.parent.name))
    if not programs and os.geteuid() == 0 and shutil.which("apt-get"):
        subprocess.run(["apt-get", "install", "-y", "-qq", "postgresql"], check=False, capture_output=True, timeout=300)
        programs = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: int(path.parent.name))
    if not programs:
        pytest.skip("PostgreSQL is not installed: apt-get install postgresql")
    folder, port = Path(tempfile.mkdtemp(prefix="assay-postgres-")), free_port()
    who = {"user": "postgres", "group": "postgres", "extra_groups": []} if os.geteuid() == 0 else {}
    if who:
        shutil.chown(folder, "postgres", "postgres")
    try:
        initdb = [str(programs[-1] / "initdb"), "-D", str(folder / "data"), "-U", "assay", "-A", "trust", "-E", "UTF8"]
        subprocess.run(initdb, check=True, capture_output=True, timeout=120, cwd=folder, **who)
        listening = ["-c", "listen_addresses=127.0.0.1", "-p", str(port), "-k", str(folder)]
        command = [str(programs[-1] / "postgres"), "-D", str(folder / "data"), *listening]
        at = ["-h", "127.0.0.1", "-p", str(port), "-U", "assay"]
        log = Path(tempfile.mkdtemp(prefix="assay-log-")) / "postgres.log"

        def ready() -> bool:
            asked = subprocess.run([str(programs[-1] / "pg_isready"), *at], check=False, capture_output=True)
            return asked.returncode == 0

        with running(command, log, ready, cwd=folder, **who):
            subprocess.run([str(programs[-1] / "createdb"), *at, "mlflow"], check=True, capture_output=True)
            yield f"postgresql+psycopg://assay@127.0.0.1:{port}/mlflow"
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="module")
def server(postgres, tmp_path_factory):
    """Address of an MLflow server, which keeps artifacts as well."""
    folder, port = tmp_path_factory.mktemp("mlflow server"), free_port()
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--target", str(folder / "driver"), DRIVER]
    done = subprocess.run(install, capture_output=True, text=True, timeout=300, check=False)
    if done.returncode:
        pytest.skip(f"{DRIVER} cannot be installed: {done.stderr[-300:]}")
    address = f"http://127.0.0.1:{port}"
    command = [sys.executable, "-m", "mlflow", "server", "--backend-store-uri", postgres, "--host", "127.0.0.1"]
    command += ["--port", str(port), "--workers", "2", "--artifacts-destination", str(folder / "artifacts")]
    path = {**environment(), "PYTHONPATH": str(folder / "driver"), "MLFLOW_DISABLE_TELEMETRY": "true"}

    def ready() -> bool:
        try:
            return requests.get(f"{address}/health", timeout=2).ok
        except requests.RequestException:
            return False

    with running(command, folder / "server.log", ready, cwd=folder, env=path):
        yield address


def dataset_of(folder: Path, tree: dict, name: str) -> Path:
    path = folder / f"{name}.yml"
    path.write_text(yaml.safe_dump({**tree, "name": name}), encoding="utf-8")
    return path


def runs_of(client: mlflow.MlflowClient, dataset: str) -> list:
    experiment = client.get_experiment_by_name(f"assay/{dataset}")
    return client.search_runs([experiment.experiment_id], max_results=1000)


def test_writers_that_begin_at_once_lose_nothing(server, towns, tmp_path):
    """All want the same experiment, which none finds there; each writes runs with figures, inputs and files."""
    dataset = dataset_of(tmp_path, towns(tmp_path), "crowd")

    def write(number: int) -> subprocess.CompletedProcess[str]:
        arguments = [dataset, tmp_path / f"workspace {number % 3}", server, number, RUNS, ROUNDS]
        return subprocess.run([sys.executable, "-c", WRITE, *map(str, arguments)], env=environment(),
                              capture_output=True, text=True, timeout=600, check=False)  # fmt: skip

    begun = time.monotonic()
    with ThreadPoolExecutor(WRITERS) as pool:
        for done in pool.map(write, range(WRITERS)):
            assert done.returncode == 0, done.stderr
    print("SECONDS", round(time.monotonic() - begun, 1), WRITERS * RUNS, "runs")
    client = mlflow.MlflowClient(server, registry_uri=server)
    found = {run.data.tags["assay.identity"]: run for run in runs_of(client, "crowd")}
    assert sorted(found) == sorted(f"writer {number} run {run}" for number in range(WRITERS) for run in range(RUNS))
    for identity, run in found.items():
        number, place = int(identity.split()[1]), int(identity.split()[3])
        assert (run.info.status, run.data.tags["assay.status"]) == ("FINISHED", "done")
        assert run.data.metrics["test_rmse"] == 100 * number + place
        assert len(run.data.params) > 100
        assert [i.dataset.name for i in run.inputs.dataset_inputs] == [f"features@v{place}"]
        rounds = client.get_metric_history(run.info.run_id, "tune_rmse")
        assert [m.value for m in sorted(rounds, key=lambda m: m.step)] == [number + i / ROUNDS for i in range(ROUNDS)]
        file = mlflow.artifacts.download_artifacts(
            run_id=run.info.run_id, artifact_path="told.json", dst_path=str(tmp_path / identity), tracking_uri=server
        )
        assert json.loads(Path(file).read_text()) == {"number": number, "run": place}


def test_pipelines_at_once_of_one_dataset_and_of_another(server, towns, tmp_path):
    """Two workspaces of one dataset share its experiment and its registered model; a third has a dataset of its own."""
    tree = towns(tmp_path, towns=6, months=60)
    shared, own = dataset_of(tmp_path, tree, "shared"), dataset_of(tmp_path, tree, "alone")
    jobs = [(shared, "one", 1), (shared, "two", 2), (own, "three", 3)]

    def run(job: tuple[Path, str, int]) -> dict:
        dataset, workspace, seed = job
        told = ["pipeline", "--dataset", str(dataset), "--workspace", str(tmp_path / workspace), "--json"]
        told += ["--profile", "development", "--master", "local[1]", "--set", f"runtime.tracking_uri={server}"]
        told += [word for setting in (*SETTINGS, f"engine.seed={seed}") for word in ("--set", setting)]
        done = finished(*told)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout.splitlines()[-1])

    begun = time.monotonic()
    with ThreadPoolExecutor(len(jobs)) as pool:
        results = list(pool.map(run, jobs))
    print("SECONDS", round(time.monotonic() - begun, 1), len(jobs), "pipelines")
    client = mlflow.MlflowClient(server, registry_uri=server)
    for name, pipelines in (("shared", 2), ("alone", 1)):
        runs = runs_of(client, name)
        assert {(run.info.status, run.data.tags["assay.status"]) for run in runs} == {("FINISHED", "done")}
        jobs_run = [run.data.tags["assay.job"] for run in runs]
        wanted = ("ingest", "build_features", "train", "calibrate", "score", "evaluate", "pipeline")
        assert all(jobs_run.count(job) == pipelines for job in wanted), jobs_run
    assert {result["run_id"] for result in results} <= {
        run.info.run_id for n in ("shared", "alone") for run in runs_of(client, n)
    }
    for name in ("shared", "alone"):
        versions = client.search_model_versions(f"name = '{name}.price'")
        semantic = [version.tags["assay.semantic_version"] for version in versions]
        assert len(set(semantic)) == len(semantic) >= 1, semantic
        assert {"champion"} <= {*client.get_registered_model(f"{name}.price").aliases}
    assert not list(tmp_path.glob("*/mlflow.db"))
