"""Consumes a small lake with its MLflow store, checks what `assay tables` says of it, and what README does."""

import json
import re
from pathlib import Path

import pyarrow as pa
import pytest

from assay import cli
from assay import workspace as workspace_module
from assay.config import load_run
from assay.runtime.local_plane import LocalPlane
from assay.runtime.plane import Commit, Output
from assay.runtime.tables import TABLES
from assay.runtime.tracking import Tracking
from assay.workspace import DECLARED, Workspace

ROOT = Path(__file__).resolve().parents[2]
OF_A_MODEL = (  # which README documents column by column
    *("training_metrics", "model_registry", "predictions", "deployments", "experiments"),
    *("drift_detections", "performance", "health", "alerts", "retrain_queue", "underperformers"),
)


@pytest.fixture
def told(capsys):
    """told("alerts") -> exit code, the JSON object of the last line, lines on standard output and error."""

    def call(*arguments):
        with pytest.raises(SystemExit) as ended:
            cli.main(["tables", *map(str, arguments), "--json"])
        out, err = (text.splitlines() for text in capsys.readouterr())
        return ended.value.code, json.loads(out[-1]), out[:-1], err

    return call


@pytest.fixture
def lake(workspace, flats):
    """Segments of version 1, written by `segment` from features of version 3, as MLflow has it."""
    tracking = Tracking(load_run(dataset=flats, workspace=workspace))
    plane, table = LocalPlane(workspace / "lake", rows_per_task=100), TABLES["segments"]
    schema = table.schema([pa.field("flat", pa.string())])
    with tracking.run("segment", "0123456789abcdef"):
        tracking.input_table("features", "lake/features", 3)
        for count in (5, 2):
            rows = pa.Table.from_pylist([{"row_id": n, "segment": 1, "flat": f"f{n}"} for n in range(count)], schema)
            commit = Commit(-1, "segment", "all", "0123456789abcdef")
            plane.rows_of(table, schema, rows).write([Output(table, schema, commit)])
    (workspace / "assay.json").write_text("{}", encoding="utf-8")
    return workspace


def test_a_workspace_says_what_is_in_it_and_what_that_was_made_from(told, lake):
    code, found, out, err = told("--workspace", lake)
    assert (code, err) == (0, [])
    (only,) = found["tables"]
    size = sum(path.stat().st_size for path in newest_files(lake / "lake" / "segments"))
    assert {key: only[key] for key in ("table", "version", "rows", "files", "bytes", "written_by", "made_from")} == {
        "table": "segments",
        "version": 2,
        "rows": 2,
        "files": 1,
        "bytes": size,
        "written_by": "segment",
        "made_from": ["features@v3"],
    }
    assert any("segments" in line and "features@v3" in line for line in out)


def newest_files(folder):
    files = sorted(folder.glob("*.parquet"), key=lambda path: path.stat().st_mtime_ns)
    return files[-1:]


def test_columns_are_those_of_the_table_with_what_they_mean(told, lake):
    _, found, out, _ = told("segments", "--workspace", lake)
    meanings = {one["column"]: one["meaning"] for one in found["columns"]}
    assert meanings == {name: text for name, (_, text) in TABLES["segments"].columns.items()} | {
        "flat": "(of the data)"
    }
    types = {one["column"]: one["type"] for one in found["columns"]}
    assert (types["row_id"], types["flat"], types["time"]) == ("long", "string", "timestamp")
    assert any("1 for the largest one" in line for line in out)


def test_without_a_workspace_it_says_what_is_declared(told):
    code, found, _, _ = told()
    assert code == 0
    assert [one["table"] for one in found["tables"]] == list(DECLARED)
    _, found, _, _ = told("alerts")
    assert [one["column"] for one in found["columns"]] == list(DECLARED["alerts"].columns)


def test_an_unknown_table_is_refused_with_the_nearest(told, lake):
    code, found, _, err = told("segmants")
    assert (code, err) == (2, ["assay tables: no table 'segmants'; did you mean segments?"])
    assert found["status"] == "failed"
    code, _, _, err = told("alerts", "--workspace", lake)
    assert (code, err) == (2, [f"assay tables: there is no table 'alerts' in {lake}; it has segments"])
    code, _, _, err = told("--workspace", lake / "lake")
    assert code == 2
    assert "is no workspace of assay" in err[0]


def test_all_runs_are_listed_however_many_come_at_once(lake, flats, monkeypatch):
    tracking = Tracking(load_run(dataset=flats, workspace=lake))
    for number in range(4):
        with tracking.run("score", f"{number:016x}"):
            tracking.metrics({"rows": number})
            tracking.finish("done")
    monkeypatch.setattr(workspace_module, "RUNS_AT_ONCE", 2)
    found = Workspace(lake).runs()
    assert sorted(found["job"]) == ["score"] * 4 + ["segment"]
    assert found["started"].is_monotonic_decreasing
    assert set(Workspace(lake).runs(job="score")["rows"]) == {0, 1, 2, 3}
    assert list(Workspace(lake).runs(job="tune").columns) == ["run_id", "job", "status", "started"]


def test_lineage_of_what_mlflow_does_not_know_is_empty(lake):
    assert Workspace(lake).made_from(["0123456789abcdef", "f" * 16]) == {
        "0123456789abcdef": ["features@v3"],
        "f" * 16: [],
    }


def documented(table):
    """A table as README has it."""
    partitions = ", ".join(f"`{one}`" for one in table.partition_by)
    keys = ", ".join(f"`{one}`" for one in table.key)
    lines = [
        f"**`{table.name}`**: {table.grain}. Key: {keys}" + (f"; partitioned by {partitions}." if partitions else ".")
    ]
    lines += ["", "| column | type | meaning |", "|---|---|---|"]
    for column, (kind, meaning) in table.columns.items():
        words = re.sub(r"list<item: (\w+)>", r"list of \1", str(kind)).replace("timestamp[us, tz=UTC]", "time")
        lines.append(f"| `{column}` | {words} | {meaning.replace('|', '&#124;')} |")
    return "\n".join(lines)


@pytest.mark.parametrize("name", OF_A_MODEL)
def test_readme_documents_each_column_of_the_tables_of_a_models_life(name):
    wanted = documented(DECLARED[name])
    assert wanted in (ROOT / "README.md").read_text(encoding="utf-8"), f"README lacks:\n\n{wanted}"


def test_every_column_of_every_table_has_a_meaning():
    for table in DECLARED.values():
        assert table.grain
        for column, (_, meaning) in table.columns.items():
            assert re.search(r"\w{3}", meaning), (table.name, column)
