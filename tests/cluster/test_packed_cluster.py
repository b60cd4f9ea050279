"""Consumes what `./spark-submit.sh pack` wrote, checks that it runs on workers with a bare Python and nothing else."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from assay import open_workspace
from assay.packing.folder import pack

pytestmark = [pytest.mark.heavy, pytest.mark.cluster]

# What these runs do without: the archive is unpacked four times here.
WITHOUT = ("catboost", "nvidia-nccl-cu12")
NEEDED_BYTES = 15e9
BASE = os.path.realpath(getattr(sys, "_base_executable", sys.executable))


@pytest.fixture(scope="module")
def packed(tmp_path_factory):
    """A packed folder, moved after it was written."""
    pytest.importorskip("venv_pack", reason="venv-pack is not installed: pip install 'assay[pack]'")
    folder = tmp_path_factory.mktemp("packed")
    if shutil.disk_usage(folder).free < NEEDED_BYTES:
        pytest.skip(f"{folder} has less than {NEEDED_BYTES / 1e9:.0f} GB left, for four copies of all libraries")
    pack(folder / "here", without=WITHOUT, level=0)
    (folder / "here").rename(folder / "elsewhere")
    yield folder / "elsewhere"
    shutil.rmtree(folder)  # some gigabytes


def run(folder: Path, *command: str) -> subprocess.CompletedProcess[str]:
    """Run a command as somebody who has Java and a bare Python."""
    home = os.environ.get("JAVA_HOME")
    java = Path(home) / "bin" if home else Path(shutil.which("java") or "").parent
    kept = {k: v for k, v in os.environ.items() if k in {"JAVA_HOME", "SPARK_LAUNCHER_OPTS", "SPARK_SUBMIT_OPTS"}}
    environment = {**kept, "HOME": str(folder), "PATH": f"/usr/bin:/bin:{java}"}
    return subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=600, check=False
    )


def test_a_packed_pipeline_runs_on_workers_that_have_a_bare_python(cluster, packed, towns, tmp_path, empty_store):
    for module in ("assay", "xgboost", "polars"):
        bare = subprocess.run([BASE, "-I", "-c", f"import {module}"], capture_output=True, check=False)
        assert bare.returncode == 1, f"{BASE} has {module}, so that this proves nothing"
    workspace = tmp_path / "workspace"
    workspace.mkdir()
    shutil.copy(empty_store, workspace / "mlflow.db")
    (tmp_path / "dataset.yml").write_text(yaml.safe_dump(towns(tmp_path, towns=6, months=60)), encoding="utf-8")
    command = [str(packed / "run.sh"), "pipeline", "--dataset", "dataset.yml", "--workspace", str(workspace)]
    command += ["--profile", "development", "--set", "engine.rounds=20", "--set", "engine.ranks=2", "--json"]
    conf = tmp_path / "packed.conf"
    conf.write_text(cluster.conf_file.read_text() + "spark.files.useFetchCache false\n", encoding="utf-8")  # less disk
    command += ["--master", cluster.master, "--conf-file", str(conf)]

    done = run(tmp_path, *command)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1])["status"] == "done"
    assert open_workspace(workspace).table("predictions").height > 30
    used = list(cluster.folder.glob("work-*/app-*/*/environment/lib/*/site-packages/xgboost/lib"))
    assert {found.relative_to(cluster.folder).parts[0] for found in used} == {"work-1", "work-2"}
    for found in cluster.folder.glob("work-*/app-*/*/environment*"):
        shutil.rmtree(found) if found.is_dir() else found.unlink()

    line = run(tmp_path, *command, "--dry-run").stdout.rpartition("\n{")[0]
    words = ["PYSPARK_PYTHON=./environment/bin/python", f"--archives '{packed}/environment.tar.gz#environment'"]
    words += [f"PYSPARK_DRIVER_PYTHON={packed}/environment/bin/python", f"--py-files {packed}/assay-"]
    words += [f"{packed}/spark/pyspark/bin/spark-submit", f"{packed}/jobs/pipeline.py"]
    assert all(word in line for word in words), line
    done = run(tmp_path, "bash", "-c", line)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1])["status"] == "unchanged"  # it equals the job that has run
