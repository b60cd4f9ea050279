"""Consumes jobs/*.py, checks that plain spark-submit runs them like the command line does."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pyspark
import pytest
import yaml
from job_process import ROOT, environment

from assay.pipeline import JOBS

pytestmark = pytest.mark.e2e


def test_there_is_a_two_line_file_per_job():
    files = {p.stem: p.read_text().split("\n") for p in (ROOT / "jobs").glob("*.py")}
    assert set(files) == {*JOBS, "demo", "generate", "init", "serve", "season", "tables", "registry"}
    for name, lines in files.items():
        assert [line for line in lines if line] == ["from assay.cli import job_main", f'job_main("{name}")']


def test_spark_submit_runs_the_pipeline(towns, tmp_path):
    dataset = tmp_path / "dataset.yml"
    dataset.write_text(yaml.safe_dump(towns(tmp_path, towns=4, months=60)), encoding="utf-8")
    submit = Path(pyspark.__file__).parent / "bin" / "spark-submit"
    settings = ["--master", "local[2]", "--conf", "spark.ui.enabled=false"]
    options = ["--dataset", str(dataset), "--workspace", str(tmp_path / "workspace"), "--profile", "development"]
    done = subprocess.run(
        [str(submit), *settings, str(ROOT / "jobs" / "pipeline.py"), *options, "--set", "engine.rounds=20", "--json"],
        env={**environment(), "PYSPARK_PYTHON": sys.executable},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    result = json.loads(done.stdout.strip().splitlines()[-1])
    assert result["status"] == "done"
    assert result["tables"]["predictions"]["version"] == 1
