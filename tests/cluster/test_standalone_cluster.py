"""Consumes a real cluster of two workers, checks that what holds on a laptop holds there."""

from __future__ import annotations

import dataclasses
import json
import sys
import sysconfig
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import psutil
import pyspark
import pytest
import yaml
from polars.testing import assert_frame_equal

from assay import open_workspace

pytestmark = pytest.mark.cluster

ENGINE = [
    "--set",
    "engine.rounds=30",
    "--set",
    "engine.params.subsample=1.0",
    "--set",
    "engine.params.colsample_bytree=1.0",
]


def dataset_file(folder: Path, tree: dict) -> str:
    path = folder / "dataset.yml"
    path.write_text(yaml.safe_dump(tree), encoding="utf-8")
    return str(path)


@pytest.fixture(scope="module")
def trained(cluster, towns, tmp_path_factory, empty_store):
    """The same pipeline with 1 rank, then with 2: the workspace, and ranks -> (result, predictions)."""
    folder = tmp_path_factory.mktemp("trained")
    dataset = dataset_file(folder, towns(folder, towns=12, months=120))
    workspace, results = folder / "workspace", {}
    for ranks in (1, 2):
        arguments = ["--dataset", dataset, "--workspace", str(workspace), "--json", "--profile", "development"]
        done = cluster.job("pipeline", *arguments, *ENGINE, "--set", f"engine.ranks={ranks}")
        assert done.returncode == 0, done.stderr
        predictions = open_workspace(workspace).table("predictions").sort("row_id")
        results[ranks] = (json.loads(done.stdout.splitlines()[-1]), predictions)
    return workspace, results


def test_two_ranks_learn_what_one_learns(trained):
    """Ranks sketch their own shares and merge the sketches, so cuts may differ a little; predictions then do, too."""
    (first, frame_of_one), (second, frame_of_two) = (trained[1][ranks] for ranks in (1, 2))
    one, two = frame_of_one["prediction"].to_numpy(), frame_of_two["prediction"].to_numpy()
    assert frame_of_one["model_version"][0] != frame_of_two["model_version"][0]
    assert len(one) == len(two) > 100
    assert np.median(np.abs(two / one - 1)) < 0.005
    assert np.max(np.abs(two / one - 1)) < 0.05
    assert second["metrics"]["test_rmse"] == pytest.approx(first["metrics"]["test_rmse"], rel=0.02)


def test_tables_are_those_of_a_laptop(trained, run_in, tmp_path):
    cluster, laptop = open_workspace(trained[0]), tmp_path / "laptop"
    for job in ("ingest", "build_features"):
        run_in(laptop, job, trained[0].parent / "dataset.yml", profile="development")
    for name in ("observations", "features"):
        found, expected = cluster.table(name), open_workspace(laptop).table(name)
        assert found.height > 0
        assert_frame_equal(found, expected, check_row_order=False, check_column_order=False, check_exact=True)


@pytest.mark.parametrize("start", ["python", "spark-submit"])
def test_executors_get_the_package_and_gpus_from_spark(cluster, trained, tmp_path, start):
    """Their Python reads no .pth files, so that an editable install of assay does not help them."""
    python = tmp_path / "python"
    python.write_text(f'#!/bin/sh\nexec {sys.executable} -S "$@"\n', encoding="utf-8")
    python.chmod(0o755)
    conf, program = str(_with_gpus(cluster)), [sys.executable]
    if start == "spark-submit":
        submit = str(Path(pyspark.__file__).parent / "bin" / "spark-submit")
        program = [submit, "--master", cluster.master, "--properties-file", conf]
    done = cluster.driver(
        str(Path(__file__).with_name("probe_driver.py")),
        *(cluster.master, conf, str(trained[0])),
        settings={"PYSPARK_PYTHON": str(python), "PYSPARK_DRIVER_PYTHON": sys.executable},
        program=program,
    )
    assert done.returncode == 0, done.stderr
    ranks = json.loads(done.stdout.splitlines()[-1])
    assert [r["rank"] for r in ranks] == [0, 1]
    assert len({r["pid"] for r in ranks}) == 2
    for rank in ranks:
        assert rank["gpus"] == ["0"]  # each worker has one, and each calls its own 0
        assert ".zip/assay/" in rank["code"]
        assert not rank["elsewhere"]
        assert rank["everyone"] == ["rank 0", "rank 1"]
    everything = open_workspace(trained[0]).table("features").height
    assert sum(r["rows"][0] for r in ranks) == everything
    assert all(r["rows"][0] > 0 for r in ranks)


def _with_gpus(cluster) -> Path:
    file = cluster.folder / "gpus.conf"
    settings = "spark.executor.resource.gpu.amount 1\nspark.task.resource.gpu.amount 1\n"
    settings += f"spark.executorEnv.PYTHONPATH {sysconfig.get_path('purelib')}\n"
    file.write_text(cluster.conf_file.read_text() + settings, encoding="utf-8")
    return file


@pytest.mark.parametrize(
    ("options", "conf", "words"),
    [
        (["--set", "engine.ranks=5"], "", ["engine.ranks", "5", "2"]),
        (["--set", "engine.ranks=2"], "spark.cores.max 1", ["engine.ranks=2", "the cluster has 1"]),
        ([], "spark.dynamicAllocation.enabled true", ["dynamicAllocation", "false"]),
    ],
    ids=["more ranks than slots", "two ranks on one core", "dynamic allocation"],
)
def test_training_that_would_hang_is_refused(cluster, trained, options, conf, words):
    workspace = trained[0]
    dataset = str(workspace.parent / "dataset.yml")
    done = cluster.job("train", "--dataset", dataset, "--workspace", str(workspace), "--set", "engine.seed=99",
                       *options, conf=conf)  # fmt: skip
    assert done.returncode == 2, done.stderr
    line = done.stderr.strip().splitlines()[-1]
    assert all(word in line for word in words), line
    assert "splitting forward in time" not in done.stderr  # before any work


def test_sqlite_is_refused_for_a_master_elsewhere_before_anybody_waits_for_it(cluster, trained):
    elsewhere = dataclasses.replace(cluster, master="spark://192.0.2.7:7077")
    workspace, dataset = str(trained[0]), str(trained[0].parent / "dataset.yml")
    done = elsewhere.job("train", "--dataset", dataset, "--workspace", workspace, "--set", "engine.seed=98")
    assert done.returncode == 2, done.stderr
    assert "SQLite, which serves one host only, but the master is spark://192.0.2.7:7077" in done.stderr
    assert "starting Spark" not in done.stderr


@pytest.fixture(scope="module")
def fitted(cluster, tmp_path_factory):
    """What `train_driver.py` found."""
    folder = tmp_path_factory.mktemp("fitted")
    program = str(Path(__file__).with_name("train_driver.py"))
    done = cluster.driver(program, cluster.master, str(cluster.conf_file), str(folder))
    assert done.returncode == 0, done.stderr
    print(
        "SECONDS",
        {
            k: {n: t["seconds"] for n, t in v.items()}
            for k, v in json.loads(done.stdout.splitlines()[-1]).items()
            if k != "unreadable"
        },
        done.stderr[-3000:],
    )
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize(("training", "repeated"), [("xgboost arrow", 4), ("xgboost spark", 4), ("gru arrow", 1)])
def test_a_training_that_loses_an_executor_ends_with_the_model_of_one_that_does_not(fitted, training, repeated):
    """repeated: rounds or epochs between checkpoints."""
    if training not in fitted:
        pytest.skip("PyTorch is not installed: pip install 'assay[neural]'")
    alone, disturbed = fitted[training]["alone"], fitted[training]["disturbed"]
    assert disturbed["lost"] == [5]
    assert alone["heard"] == list(range(len(alone["history"]["tune_rmse"])))
    for told in ("model", "rounds", "history"):
        assert disturbed[told] == alone[told]
    assert sorted(set(disturbed["heard"])) == alone["heard"]
    assert len(disturbed["heard"]) - len(alone["heard"]) <= repeated


def test_a_study_that_loses_an_executor_makes_each_of_its_trials_once(cluster, trained):
    workspace, trials = trained[0], 8
    arguments = ["--dataset", str(workspace.parent / "dataset.yml"), "--workspace", str(workspace), "--json"]
    settings = [
        f"training.max_evals={trials}",
        "engine.rounds=100",
        "engine.early_stopping_rounds=100",
        "tuning.pruner=none",
    ]
    arguments += [*("--profile", "development"), *(word for each in settings for word in ("--set", each))]
    with ThreadPoolExecutor() as pool:
        run = pool.submit(cluster.job, "tune", *arguments)
        while len(_trials(workspace)) < 3 and not run.done():
            time.sleep(0.05)
        lost = 0
        for process in [] if run.done() else psutil.process_iter(["cmdline"]):
            if any("CoarseGrainedExecutorBackend" in word for word in process.info["cmdline"] or []):
                process.kill()
                lost += 1
                break
        done = run.result()
    assert done.returncode == 0, done.stderr
    assert lost == 1
    found = _trials(workspace)
    assert [trial["number"] for trial in found] == list(range(trials))
    assert {trial["state"] for trial in found} == {"complete"}
    assert json.loads(done.stdout.splitlines()[-1])["metrics"]["test_r2"] > 0.5


def _trials(workspace: Path) -> list[dict]:
    """The trials of the workspace's study that have ended, in order of their numbers."""
    lines = [line for path in (workspace / "studies").glob("*.jsonl") for line in path.read_text().splitlines()]
    return sorted((trial for line in lines if "number" in (trial := json.loads(line))), key=lambda one: one["number"])


def test_rows_that_cannot_be_read_end_a_training_at_the_first_try(fitted):
    assert "these rows cannot be read" in fitted["unreadable"]["error"]
    assert fitted["unreadable"]["tried"] == 1
