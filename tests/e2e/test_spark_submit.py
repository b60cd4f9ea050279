"""Consumes jobs/*.py, checks that plain spark-submit runs them like the command line does."""

from __future__ import annotations

import json
import subprocess

import pyspark
import pytest
import yaml

from assay.cli import main
from assay.pipeline import JOBS
from job_process import ROOT, environment

pytestmark = pytest.mark.e2e


def test_there_is_a_two_line_file_per_job():
    files = {p.stem: p.read_text().split("\n") for p in (ROOT / "jobs").glob("*.py")}
    assert set(files) == {*JOBS, "demo", "generate", "init", "serve", "season", "tables", "doctor", "registry"}
    for name, lines in files.items():
        assert [line for line in lines if line] == ["from assay.cli import job_main", f'job_main("{name}")']


def test_the_line_of_a_dry_run_does_the_job(towns, tmp_path, capsys):
    """It is a plain spark-submit of jobs/pipeline.py, and a shell runs it as it is printed."""
    dataset, workspace = tmp_path / "dataset.yml", tmp_path / "work space"
    dataset.write_text(yaml.safe_dump(towns(tmp_path, towns=4, months=60)), encoding="utf-8")
    options = ["--dataset", str(dataset), "--workspace", str(workspace), "--profile", "development"]
    with pytest.raises(SystemExit):
        main(["pipeline", *options, "--set", "engine.rounds=20", "--master", "local[2]", "--json", "--dry-run"])
    line = capsys.readouterr().out.rpartition("\n{")[0]
    assert f"{pyspark.__path__[0]}/bin/spark-submit" in line
    assert not workspace.exists()
    done = subprocess.run(
        ["bash", "-c", line], env=environment(), capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    result = json.loads(done.stdout.strip().splitlines()[-1])
    assert result["status"] == "done"
    assert result["tables"]["predictions"]["version"] == 1
    assert (workspace / "logs" / "spark.log").is_file()
