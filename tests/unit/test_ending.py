"""Consumes results, checks the last lines that a person reads: a report's place, and the command of each day."""

import shlex
from pathlib import Path

import pytest

from assay import cli, ending
from assay.runtime.job import Result


def result(status="done", report=None):
    return Result("pipeline", status, "r", "i", {}, {}, ("3 rows",), report)


def test_a_report_is_named_where_it_lies(tmp_path, capsys):
    ending.tell("pipeline", result(report=f"{tmp_path}/a/../reports/x.html"), "mlflow ui")
    assert capsys.readouterr().out.splitlines() == [
        "3 rows",
        "pipeline: done",
        f"report: {tmp_path}/reports/x.html",
        "MLflow: mlflow ui",
    ]


def test_the_command_of_each_day_is_one_that_a_shell_reads_without_its_secrets(monkeypatch):
    monkeypatch.setenv("ASSAY_PROGRAM", "./spark-submit.sh")
    told = ["engine.params={eta: 0.1}", "runtime.tracking_uri=https://me:hunter2@mlflow.example"]
    line = ending.command_of_each_day(Path("my data.yml"), "production", Path("ws"), told)
    first, second = "engine.params={eta: 0.1}", "runtime.tracking_uri=https://me:***@mlflow.example"
    assert shlex.split(line) == [
        *("./spark-submit.sh", "daily", "--dataset", "my data.yml", "--workspace", "ws"),
        *("--set", first, "--set", second),
    ]


@pytest.mark.parametrize(
    ("more", "status", "told"),
    [([], "done", True), ([], "unchanged", True), (["--where", "city=a"], "done", False), ([], "refused", False)],
)
def test_pipeline_ends_with_it_as_it_was_told_itself(flats, tmp_path, monkeypatch, capsys, more, status, told):
    monkeypatch.setattr("assay.pipeline._in_turn", lambda *given: result(status))
    given = ["--dataset", str(flats), "--profile", "development", "--workspace", str(tmp_path / "ws")]
    given += ["--set", "engine.rounds=20"]
    with pytest.raises(SystemExit):
        cli.main(["pipeline", *given, *more])
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("next")]
    assert lines == [f"next, every day: {shlex.join(['assay', 'daily', *given])}"] * told
