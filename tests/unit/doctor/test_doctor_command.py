"""Consumes command lines of `assay doctor`, checks findings, advice, JSON and exit codes, without Spark."""

import json
from pathlib import Path

import pytest

from assay import cli
from assay.doctor import examination
from assay.doctor.examination import looked
from assay.doctor.findings import ok

MACHINE = ["Python", "libraries", "extras", "Java", "Delta's jars", "cores", "memory"]


@pytest.fixture
def examined(capsys, monkeypatch, tmp_path):
    """examined("--workspace", folder) -> exit code, findings by check, lines on standard output."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(examination, "session_is_given", lambda: False)  # whatever session other tests have left

    def call(*arguments):
        with pytest.raises(SystemExit) as ended:
            cli.main(["doctor", "--quick", *map(str, arguments), "--json"])
        out = capsys.readouterr().out.splitlines()
        told = json.loads(out[-1])
        assert told["status"] == ("done" if ended.value.code == 0 else "failed")
        return ended.value.code, {one["check"]: one for one in told["findings"]}, out[:-1]

    return call


def test_a_machine_alone(examined, tmp_path):
    code, found, out = examined()
    assert list(found)[: len(MACHINE)] == MACHINE
    assert "workspace" not in found
    assert code == (2 if "fail" in {one["status"] for one in found.values()} else 0)
    assert list(tmp_path.iterdir()) == []
    assert out[-1].endswith(f"{len(found)} looked at")


def test_of_a_dataset(examined, flats, workspace, tmp_path):
    (tmp_path / "flats.csv").write_text("flat,sold_on,price\n1,2020-01-01,5\n")
    before = sorted(tmp_path.rglob("*"))
    code, found, _ = examined("--dataset", flats, "--workspace", workspace)
    assert code == 0, found
    assert {"workspace", "source", "rows", "MLflow"} <= set(found)
    assert sorted(tmp_path.rglob("*")) == before


def test_what_has_to_be_put_right_has_its_line_of_advice(examined, flats, tmp_path):
    code, found, out = examined("--dataset", flats, "--workspace", tmp_path / "mine")
    assert (code, found["source"]["status"]) == (2, "fail")
    (line,) = (text for text in out if text.startswith("fail source: "))
    assert line == "fail source: " + found["source"]["todo"]
    assert out[-1].startswith("doctor: 1 to put right, ")


def test_a_configuration_that_is_wrong_keeps_nothing_else_from_being_looked_at(examined, flats):
    code, found, _ = examined("--dataset", flats, "--set", "engine.round=5")
    assert (code, found["configuration"]["status"]) == (2, "fail")
    assert "did you mean engine.rounds?" in found["configuration"]["told"] + found["configuration"]["todo"]
    assert set(MACHINE) <= set(found)


def test_settings_of_spark_that_are_not_there(examined):
    code, found, _ = examined("--conf-file", "nowhere.conf")
    assert (code, "there is no such file" in found["Spark's settings"]["told"]) == (2, True)
    assert set(MACHINE) <= set(found)


def test_settings_of_spark_that_are(examined, tmp_path):
    file = tmp_path / "my.conf"
    file.write_text(
        "spark.master local[1]\nspark.driver.memory 9000g\nspark.jars.packages io.delta:delta-spark_2.13:3.2.0\n"
    )
    code, found, _ = examined("--conf-file", file)
    assert code == 2
    assert found["memory"]["status"] == "fail"
    assert "spark.driver.memory=9000g" in found["memory"]["told"]
    assert "mismatched jar" in found["Delta's jars"]["told"]
    assert "1 tasks at once (local[1])" in found["cores"]["told"]


def test_a_java_that_is_not_there(examined, monkeypatch):
    monkeypatch.setenv("JAVA_HOME", "/nowhere")
    code, found, _ = examined()
    assert (code, found["Java"]["told"]) == (2, "JAVA_HOME=/nowhere has no bin/java")


def test_settings_need_a_dataset(capsys):
    with pytest.raises(SystemExit) as ended:
        cli.main(["doctor", "--set", "engine.rounds=5"])
    assert ended.value.code == 2
    assert capsys.readouterr().err.startswith("assay doctor: --set changes the settings of a dataset's jobs")


def test_a_check_that_fails_itself_is_a_finding():
    def broken():
        yield ok("GPU", "first")
        raise ImportError("libgomp.so.1: cannot open shared object file\nmore")

    first, second = looked("machine", broken)
    assert (first.check, second.check, second.status) == ("GPU", "machine", "fail")
    assert second.told == "cannot be looked at: ImportError: libgomp.so.1: cannot open shared object file"


def test_no_secret_is_told(examined, flats, tmp_path):
    uri = "postgresql://me:hunter2-Tr0ub4dor@127.0.0.1:1/db"
    _, found, out = examined("--dataset", flats, "--workspace", tmp_path, "--set", f"runtime.tracking_uri={uri}")
    assert found["MLflow"]["status"] == "fail"
    assert "hunter2" not in json.dumps(found) + "\n".join(out)


def test_the_package_says_what_it_is_for():
    assert (
        (Path(cli.__file__).parent / "doctor" / "__init__.py").read_text().startswith('"""Whether jobs will run here')
    )
