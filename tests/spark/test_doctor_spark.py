"""Consumes the session of the tests, checks what a doctor finds on it, and that nothing stays behind."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
import yaml

from assay import cli
from assay.config import load_run
from assay.doctor import data
from assay.doctor import spark as on_spark
from assay.doctor.probe import Seen
from assay.runtime.memory import PythonMemory

pytestmark = pytest.mark.spark
NAMES = ["pyspark", "xgboost", "no-such-library"]


def statuses(found):
    return {one.check: one.status for one in found}


def test_the_whole_command_on_the_session_that_is_there(spark, towns, workspace, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    dataset = tmp_path / "towns.yml"
    dataset.write_text(yaml.safe_dump(towns(tmp_path / "source")), encoding="utf-8")
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(SystemExit) as ended:
        cli.main(["doctor", "--dataset", str(dataset), "--workspace", str(workspace), "--json"])
    told = json.loads(capsys.readouterr().out.splitlines()[-1])
    found = {one["check"]: one for one in told["findings"]}
    assert ended.value.code == 0, told
    assert "which was there already" in found["Spark"]["told"]
    assert found["executors"]["told"] == "1 on 1 host(s), 2 task slots; local[2]"
    assert found["Delta"] == {
        "check": "Delta",
        "status": "ok",
        "told": "both roads write a table and read the other's",
        "todo": "",
    }
    assert found["source"]["told"].endswith("5 columns as the dataset names them")
    assert "Java" not in found  # it runs
    assert sorted(tmp_path.rglob("*")) == before


def test_a_real_task_sees_libraries_and_the_drivers_folder(spark, tmp_path):
    (tmp_path / "there").mkdir()
    seen, answers = on_spark._ask(spark.sparkContext, NAMES, tmp_path / "there", 2, barrier=True)
    assert len(seen) == 2
    assert all(one.shared for one in seen)
    assert answers >= 1
    assert seen[0].versions["pyspark"] == spark.version
    assert seen[0].versions["no-such-library"] is None
    seen, answers = on_spark._ask(spark.sparkContext, NAMES, tmp_path / "there", 3, barrier=False)
    assert len(seen) == 3


def test_a_job_that_fails_says_why(spark, tmp_path, monkeypatch):
    def lacking(*_):
        raise ModuleNotFoundError("No module named 'polars'")

    monkeypatch.setattr(on_spark, "look", lacking)
    found = on_spark.executors(spark, tmp_path, NAMES, shared=True)
    assert statuses(found) == {"executors": "fail"}
    assert "No module named 'polars'" in found[0].told
    assert "PYSPARK_PYTHON" in found[0].todo


def test_a_table_that_cannot_be_read_again(spark, tmp_path, monkeypatch):
    from assay.runtime.spark_plane import SparkPlane

    monkeypatch.setattr(SparkPlane, "version", lambda *_: 7)
    (found,) = on_spark.tables(spark, tmp_path)
    assert found.status == "fail"
    assert list(tmp_path.iterdir()) == []


def test_a_table_of_spark_as_a_source(spark, tmp_path):
    tree = {"name": "flats", "source": {"path": "x"}, "time": {"column": "sold_on"}, "entity": ["flat"]}
    flats = tmp_path / "flats.yml"
    flats.write_text(yaml.safe_dump({**tree, "targets": [{"name": "price"}]}), encoding="utf-8")
    frame = spark.createDataFrame([("a", "2020-01-01", 5.0)], ["flat", "sold_on", "price"])
    frame.write.format("delta").save(str(tmp_path / "lake" / "flats"))
    given = ("dataset.source.format=delta", f"dataset.source.path={tmp_path / 'lake' / 'flats'}")
    config = load_run(dataset=flats, workspace=tmp_path / "w", overrides=given)
    (found,) = data.source(config, spark)
    assert (found.status, ", version 0: 3 columns" in found.told) == ("ok", True)
    wrong = load_run(dataset=flats, workspace=tmp_path / "w", overrides=(*given, "dataset.entity=[house]"))
    (found,) = data.source(wrong, spark)
    assert (found.status, "'house'" in found.told) == ("fail", True)


HERE = Seen(("one", "/executors/1"), "3.11.7", "/bin/python", {"pyspark": "4.1.4"}, True)


def of(seen, *, shared=True, answers=1, tmp_path="/x", names=("pyspark",)):
    return {
        one.check: one
        for one in on_spark.of_executors(seen, "spark://x:1", 4, answers, Path(tmp_path), names, shared=shared)
    }


def test_executors_that_fit(tmp_path):
    other = dataclasses.replace(HERE, executor=("two", "/executors/1"), gpus=("0",))
    found = of([HERE, HERE, other], tmp_path=tmp_path)
    assert found["executors"].told == "2 on 2 host(s), 4 task slots, 1 GPU(s); spark://x:1"
    assert set(statuses(found.values()).values()) == {"ok"}


@pytest.mark.parametrize(("version", "status"), [("4.1.3", "warn"), (None, "fail")])
def test_libraries_of_executors(version, status):
    found = of([HERE, dataclasses.replace(HERE, versions={"pyspark": version})])["Python of executors"]
    assert found.status == status
    assert f"pyspark is {version or 'missing'}, not 4.1.4" in found.told


def test_a_workspace_that_executors_do_not_see(tmp_path):
    blind = dataclasses.replace(HERE, executor=("two", "/"), shared=False)
    found = of([HERE, blind], tmp_path=tmp_path)["shared storage"]
    assert (found.status, "cannot be seen from two" in found.told) == ("fail", True)
    assert of([HERE], answers=0, tmp_path=tmp_path)["shared storage"].status == "fail"
    assert of([blind], shared=False, tmp_path=tmp_path)["shared storage"].status == "ok"


def test_memory_of_executors():
    assert on_spark.of_memory(None) == []
    assert on_spark.of_memory(PythonMemory(4 << 30, 4))[0].status == "ok"
    assert on_spark.of_memory(PythonMemory(1 << 30, 4))[0].status == "warn"
