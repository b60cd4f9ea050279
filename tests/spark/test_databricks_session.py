"""Consumes a session as Databricks gives it, checks that the wheel's entry point works there as a wheel task calls it.

The session is not ours to set up: it takes no setting, and has no context but for learners. Tables are a catalog's,
which Spark alone reads and writes; the workspace is a folder as a volume is one, whose files are written whole.
"""

from __future__ import annotations

import re
import sys
from importlib.metadata import EntryPoint
from pathlib import Path

import pyarrow as pa
import pytest
import tomllib
import yaml
from lake_tables import NOTES, commit_of
from pyspark import SparkContext
from pyspark.errors import AnalysisException, PySparkAttributeError
from pyspark.sql import SparkSession
from pyspark.sql.conf import RuntimeConfig

from assay.errors import TaskFailed
from assay.runtime.plane import Output
from assay.runtime.session import SparkSettings, open_session
from assay.runtime.spark_commit import SKIP_EMPTY
from assay.runtime.spark_plane import SparkPlane
from assay.tuning import journal

ROOT = Path(__file__).resolve().parents[2]
LEARNERS = re.compile(r"assay\.(training|tuning)\b")
ASKS = "assay.runtime.spark_plane"  # how many tasks run at once; it does without an answer
TABLES = (
    "observations",
    "source_files",
    "quality_reports",
    "features",
    "calibrations",
    "predictions",
    "segment_metrics",
)


class Narrow:
    """What was asked of the session that it refused: settings, and modules that wanted its context."""

    def __init__(self):
        self.settings, self.contexts, self.rdds = [], [], []


@pytest.fixture
def narrow(spark, monkeypatch):
    """The session with what a cluster of Databricks may refuse refused; PySpark itself and learners are not."""
    told, context, parallelize = Narrow(), spark.sparkContext, SparkContext.parallelize

    def setting(self, key, *_):
        told.settings.append(key)
        raise AnalysisException(f"[CANNOT_MODIFY_CONFIG] Cannot modify the value of the Spark config: {key}")

    def of_context(self):
        caller = sys._getframe(1).f_globals["__name__"]
        if caller.startswith("pyspark.") or LEARNERS.match(caller):
            return context
        told.contexts.append(caller)
        raise PySparkAttributeError(errorClass="JVM_ATTRIBUTE_NOT_SUPPORTED", messageParameters={"attr_name": "sc"})

    def rdd(self, *arguments):
        caller = sys._getframe(1).f_globals["__name__"]
        told.rdds += [] if caller.startswith("pyspark.") else [caller]
        return parallelize(self, *arguments)

    monkeypatch.setenv("DATABRICKS_RUNTIME_VERSION", "18.0")
    monkeypatch.setattr(RuntimeConfig, "set", setting)
    monkeypatch.setattr(RuntimeConfig, "unset", setting)
    monkeypatch.setattr(SparkSession, "sparkContext", property(of_context))
    monkeypatch.setattr(SparkContext, "parallelize", rdd)
    return told


@pytest.fixture
def schema(spark, tmp_path):
    """A schema of the session's catalog, whose tables lie apart from the workspace."""
    spark.sql(f"CREATE SCHEMA unity LOCATION '{(tmp_path / 'catalog').as_uri()}'")
    yield "spark_catalog.unity"
    spark.sql("DROP SCHEMA unity CASCADE")


def wheel_task(monkeypatch, *parameters):
    """Call the entry point as a wheel task does: by its name, in this process, with the parameters in sys.argv."""
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["scripts"]
    monkeypatch.setattr(sys, "argv", ["assay-task", *map(str, parameters)])
    return EntryPoint("assay-task", scripts["assay-task"], "console_scripts").load()()


def test_the_pipeline_on_tables_of_a_catalog_and_files_of_a_volume(
    spark, narrow, schema, towns, workspace, monkeypatch, capsys
):
    monkeypatch.setattr(journal, "WHOLE", (str(workspace),))
    dataset = workspace / "raw" / "towns.yml"
    dataset.parent.mkdir()
    dataset.write_text(yaml.safe_dump(towns(dataset.parent, towns=3, months=60)), encoding="utf-8")
    settings = (f"runtime.catalog={schema}", "engine.rounds=10", "training.max_evals=2", "explain.rows=0")
    given = ["--json", "--dataset", dataset, "--profile", "development", "--workspace", workspace]
    given += [part for setting in settings for part in ("--set", setting)]
    tuned = ("--set", "training.enable_hyperparameter_tuning=true")
    assert wheel_task(monkeypatch, "pipeline", *given, *tuned) is None
    for name in TABLES:
        assert spark.table(f"{schema}.{name}").count() > 0, name
    assert not (workspace / "lake").exists()
    assert list((workspace / "reports").glob("*.html"))
    assert len(journal.read(next((workspace / "studies").glob("*.jsonl"))).trials) >= 2
    assert set(narrow.contexts) <= {ASKS}
    assert narrow.rdds == []
    assert SKIP_EMPTY in narrow.settings  # it was tried, and did without
    capsys.readouterr()
    assert wheel_task(monkeypatch, "ingest", *given) is None
    assert '"status": "unchanged"' in capsys.readouterr().out
    with pytest.raises(TaskFailed, match=r"^assay train ended with exit code 2: no row has a known target 'price'"):
        wheel_task(monkeypatch, "train", *given, "--where", "city=nowhere")


def test_a_write_that_changes_no_row_is_on_record_all_the_same(spark, narrow, schema):
    plane = SparkPlane(lambda: spark, "", catalog=schema)
    empty = NOTES.schema().empty_table()

    def put(rows, identity):
        output = Output(NOTES, NOTES.schema(), commit_of(identity))
        return plane.rows_of(NOTES, NOTES.schema(), rows).write([output])[0].version

    versions = [put(pa.Table.from_pylist([{"row": 1, "text": "a"}], NOTES.schema()), "first")]
    versions += [put(empty, "second"), put(empty, "third")]
    assert versions == [0, 1, 2]
    assert plane.last_commit("notes", "all").identity == "third"
    assert set(narrow.contexts) <= {ASKS}


def test_the_session_that_is_there_is_taken_as_it_is(spark, narrow, monkeypatch, tmp_path):
    for active in (spark, None):
        monkeypatch.setattr(SparkSession, "getActiveSession", classmethod(lambda cls, found=active: found))
        found = open_session(SparkSettings(), app="assay towns", log_file=tmp_path / "spark.log")
        assert found.conf.get("spark.app.name") == "assay tests"
    assert (narrow.settings, narrow.contexts) == ([], [])
    assert not (tmp_path / "spark.log").exists()
