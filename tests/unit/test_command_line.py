"""Consumes command lines, checks exit codes, the one line of an error, JSON, help, and where a failure's details go."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from assay import __version__, cli
from assay.errors import DataError, GateRefused, TaskFailed
from assay.ingest import job as ingest_job
from assay.pipeline import JOBS
from assay.runtime.job import Result

ROOT = Path(__file__).resolve().parents[2]
SECRET = "hunter2-Tr0ub4dor"
COLOUR = re.compile(r"\x1b\[[0-9;]*m")  # which CI services and some terminals ask for


@pytest.fixture
def run(capsys):
    """run("ingest", "--json") -> exit code, lines on standard output, lines on standard error."""

    def call(*arguments):
        with pytest.raises(SystemExit) as ended:
            cli.main([str(a) for a in arguments])
        out, err = (COLOUR.sub("", text).splitlines() for text in capsys.readouterr())
        return ended.value.code, out, err

    return call


@pytest.fixture
def dataset(flats):
    return flats


def test_alone_it_teaches_the_jobs_in_pipeline_order(run):
    code, out, err = run()
    text = "\n".join(out)
    assert (code, err) == (0, [])
    names = [*JOBS, "demo", "serve", "init", "generate", "season", "tables", "doctor", "completion", "registry"]
    listed = [line.split()[1] for line in out if line.startswith("│ ") and line.split()[1] in names]
    stages = ["ingest", "build_features", "train", "tune", "calibrate", "score", "evaluate", "segment"]
    stages += ["monitor", "retrain", "deploy", "pipeline", "daily"]
    assert listed == [*stages, *names[len(JOBS) :]]
    assert "assay demo" in text
    assert "assay pipeline --dataset FILE" in " ".join(text.split())
    assert "Exit codes: 0 done" in " ".join(text.split())
    assert run("--help")[1] == out


@pytest.mark.parametrize("name", [*JOBS, "demo"])
def test_help_of_a_job_says_what_it_reads_and_writes_and_shows_an_example(run, name):
    code, out, _ = run(name, "--help")
    text = " ".join(" ".join(out).split())
    assert code == 0
    assert "Reads: " in text
    assert "Writes: " in text
    assert f"Example: assay {name}" in text
    options = ("--profile", "--workspace", "--set", "--date", "--where", "--master", "--conf-file", "--json")
    for option in (*options, "--print-command" if name == "deploy" else "--dry-run"):
        assert option in text
    assert ("--dataset" in text) == (name != "demo")


def test_examples_can_be_run_as_they_are_written(run, monkeypatch):
    monkeypatch.chdir(ROOT)
    for job in JOBS.values():
        asked = []
        monkeypatch.setattr(cli, "_run", lambda *given, asked=asked, **named: asked.append((given, named)))
        assert run(*job.example.split()[1:])[0] == 0
        ((given, _),) = asked
        assert given[0].name == job.name
        assert given[1].is_file()


def test_version(run):
    assert run("--version") == (0, [f"assay {__version__}"], [])


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["ingest"], "assay ingest: Missing option '--dataset'; see `assay ingest --help`"),
        (["ingst"], "assay: No such command 'ingst'. Did you mean 'ingest', 'init'?; see `assay --help`"),
        (["--bogus"], "assay: No such option: --bogus; see `assay --help`"),
        (["train", "--dataset"], "assay train: Option '--dataset' requires an argument; see `assay train --help`"),
        (["train", "--dataset", "x", "y"], "assay train: Got unexpected extra argument"),
        (["train", "--datset", "x"], "assay train: No such option: --datset"),
        (
            ["registry", "lst"],
            "assay registry: No such command 'lst'. Did you mean 'list'?; see `assay registry --help`",
        ),
        (["registry", "list"], "assay registry list: Missing option '--dataset'; see `assay registry list --help`"),
    ],
)
def test_a_mistake_on_the_command_line_is_one_line_and_exit_code_2(run, arguments, line):
    code, out, err = run(*arguments)
    assert (code, out, len(err)) == (2, [], 1)
    assert err[0].startswith(line)
    code, out, err = run(*arguments[:1], "--json", *arguments[1:])
    assert (code, len(out), len(err)) == (2, 1, 1)
    assert json.loads(out[0])["status"] == "failed"
    assert err == [f"assay {json.loads(out[0])['job']}".strip() + f": {json.loads(out[0])['error']}"]


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["--set", "engine.round=5"], "--set engine.round: unknown key; did you mean engine.rounds?"),
        (["--profile", "prod"], "--profile prod: there is no such profile; did you mean production?"),
        (["--date", "soon"], "--date soon: not a date; write it as 2015-06-30"),
        (["--where", "x=1"], "--where x=1: 'x' is no entity, categorical, group or segment column of flats"),
        (["--workspace", "/proc/nowhere"], "--workspace /proc/nowhere: cannot write there"),
    ],
)
@pytest.mark.parametrize("job", ["ingest", "pipeline"])
def test_a_mistake_in_the_settings_is_one_line_and_exit_code_2(run, dataset, job, arguments, line):
    code, out, err = run(job, "--dataset", dataset, "--json", *arguments)
    assert (code, len(out), len(err)) == (2, 1, 1)
    assert err[0].startswith(f"assay {job}: {line}")
    told = json.loads(out[0])
    assert (told["job"], told["status"]) == (job, "failed")
    assert f"assay {job}: {told['error']}" == err[0]


def test_a_missing_source_and_a_missing_table_say_what_to_do(run, dataset, workspace):
    code, out, err = run("ingest", "--dataset", dataset, "--workspace", workspace)
    assert (code, out, len(err)) == (2, [], 1)
    assert "source.path flats.csv: there is no such file (looked at" in err[0]
    for job, needs in (("build_features", "ingest"), ("train", "build_features")):
        code, out, err = run(job, "--dataset", dataset, "--workspace", workspace)
        assert (code, out, len(err)) == (2, [], 1)
        assert f"run the job {needs} first (or `pipeline`, which runs all)" in err[0]


def failing(monkeypatch, error):
    def plan(_):
        raise error

    monkeypatch.setattr(ingest_job, "plan", plan)


def test_a_failure_of_ours_is_one_line_with_the_details_in_a_file(run, dataset, workspace, monkeypatch):
    failing(monkeypatch, RuntimeError(f"first line with password={SECRET}\nsecond line"))
    code, out, err = run("ingest", "--dataset", dataset, "--workspace", workspace, "--json")
    log = workspace / "logs" / "error.log"
    assert (code, len(out), len(err)) == (1, 1, 1)
    assert err[0] == (
        f"assay ingest: RuntimeError: first line with password=*** (this is assay's failure; details: {log})"
    )
    assert json.loads(out[0])["status"] == "failed"
    details = log.read_text()
    assert "Traceback (most recent call last)" in details
    assert "second line" in details
    assert SECRET not in details + out[0] + err[0]


def test_details_that_cannot_be_kept_do_not_hide_the_failure(run, dataset, workspace, monkeypatch):
    failing(monkeypatch, RuntimeError("disk full"))
    (workspace / "logs" / "error.log").mkdir(parents=True)
    code, _, err = run("ingest", "--dataset", dataset, "--workspace", workspace)
    assert (code, len(err)) == (1, 1)
    assert "RuntimeError: disk full (no details: " in err[0]


def test_a_failure_before_there_is_a_workspace_keeps_its_details_too(run, dataset, monkeypatch, tmp_path):
    monkeypatch.setattr("assay.runtime.failures.tempfile.gettempdir", lambda: str(tmp_path))
    monkeypatch.setattr("assay.config.load_run", lambda **_: 1 / 0)
    code, _, err = run("ingest", "--dataset", dataset)
    assert (code, len(err)) == (1, 1)
    assert (
        f"ZeroDivisionError: division by zero (this is assay's failure; details: {tmp_path}/assay-error.log)" in err[0]
    )
    assert "ZeroDivisionError" in (tmp_path / "assay-error.log").read_text()


@pytest.mark.parametrize(
    ("error", "code", "status"),
    [
        (DataError(f"a file\nwith token={SECRET}"), 2, "failed"),
        (GateRefused("R² 0.1 is below 0.75"), 3, "refused"),
        (RuntimeError(f"Traceback\n  x\nassay.errors.DataError: a file with token={SECRET}\n\tat java"), 2, "failed"),
    ],
)
def test_errors_with_a_meaning_keep_their_exit_code(run, dataset, workspace, monkeypatch, error, code, status):
    failing(monkeypatch, error)
    found, out, err = run("ingest", "--dataset", dataset, "--workspace", workspace, "--json")
    assert (found, len(out), len(err)) == (code, 1, 1)
    assert json.loads(out[0])["status"] == status
    assert SECRET not in out[0] + err[0]
    assert "Traceback" not in err[0]


def test_ctrl_c_ends_without_a_word(run, dataset, workspace, monkeypatch):
    failing(monkeypatch, KeyboardInterrupt())
    assert run("ingest", "--dataset", dataset, "--workspace", workspace) == (130, [], [])


@pytest.mark.parametrize("status", ["done", "unchanged"])
def test_a_task_of_a_scheduler_returns_where_a_command_exits_with_0(dataset, workspace, monkeypatch, capsys, status):
    result = Result("ingest", status, "r", "i", {}, {}, ("3 rows",))
    monkeypatch.setattr(ingest_job, "plan", lambda context: None)
    monkeypatch.setattr("assay.pipeline.run_stage", lambda context, plan: result)
    assert cli.task(["ingest", "--dataset", str(dataset), "--workspace", str(workspace)]) is None
    assert "3 rows" in capsys.readouterr().out
    assert cli.task(["--version"]) is None


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (DataError(f"a file with token={SECRET}"), "exit code 2: a file with token="),
        (GateRefused("R² 0.1 is below 0.75"), "exit code 3: R² 0.1 is below 0.75"),
        (ZeroDivisionError("division by zero"), "exit code 1: ZeroDivisionError: division by zero (this is assay's"),
        (KeyboardInterrupt(), "exit code 130: see above"),
    ],
)
def test_a_task_of_a_scheduler_raises_with_the_reason(dataset, workspace, monkeypatch, capsys, error, told):
    failing(monkeypatch, error)
    with pytest.raises(TaskFailed) as failed:
        cli.task(["ingest", "--dataset", str(dataset), "--workspace", str(workspace)])
    assert str(failed.value).startswith(f"assay ingest ended with {told}")
    assert SECRET not in str(failed.value) + capsys.readouterr().err
    assert failed.value.__cause__ is None


def test_a_task_that_a_gate_refused_and_one_with_a_typo_fail(dataset, workspace, monkeypatch):
    monkeypatch.setattr(ingest_job, "plan", lambda context: None)
    refused = Result("ingest", "refused", "r", "i", {}, {})
    monkeypatch.setattr("assay.pipeline.run_stage", lambda context, plan: refused)
    with pytest.raises(TaskFailed, match=r"^assay ingest ended with exit code 3: a quality gate refused"):
        cli.task(["ingest", "--dataset", str(dataset), "--workspace", str(workspace)])
    with pytest.raises(TaskFailed, match=r"exit code 2: No such option: --datset"):
        cli.task(["ingest", "--datset", str(dataset)])


def test_the_demo_says_where_it_cannot_write(run):
    code, out, err = run("demo", "--workspace", "/proc/nowhere", "--json")
    assert (code, len(out), len(err)) == (2, 1, 1)
    assert err[0].startswith("assay demo: --workspace /proc/nowhere: cannot write there")
    assert json.loads(out[0])["job"] == "demo"


@pytest.mark.parametrize("name", [*JOBS, "demo", "serve", "init", "generate", "season", "tables", "doctor", "registry"])
def test_every_job_has_its_two_lines(name):
    text = (ROOT / "jobs" / f"{name}.py").read_text()
    assert text == f'from assay.cli import job_main\n\njob_main("{name}")\n'
    assert sorted(p.stem for p in (ROOT / "jobs").glob("*.py")) == sorted(
        [*JOBS, "demo", "serve", "init", "generate", "season", "tables", "doctor", "registry"]
    )


def test_a_job_file_is_the_same_command(tmp_path):
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "lib")}
    command = [sys.executable, str(ROOT / "jobs" / "train.py"), "--dataset", "nowhere.yml", "--json"]
    done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr == "assay train: --dataset nowhere.yml: there is no such file\n"
    assert json.loads(done.stdout) == {
        "job": "train",
        "status": "failed",
        "error": "--dataset nowhere.yml: there is no such file",
    }
    assert list(tmp_path.iterdir()) == []
