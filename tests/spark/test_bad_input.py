"""Consumes each bad input that users bring, checks through the command line: exit code, one clear line, or a reason."""

from __future__ import annotations

import csv
import datetime as dt
import json
import math
import os
import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest
import yaml
from deltalake import DeltaTable

from assay import cli

pytestmark = pytest.mark.spark

ROOT = Path(__file__).resolve().parents[2]
HEADER = ["day", "shop", "price", "size", "kind"]
FAST = ["--profile", "development", "--set", "engine.rounds=5", "--set", "engine.early_stopping_rounds=0"]


def dataset_tree(**changes):
    return {
        "name": "shops",
        "source": {"path": "shops.csv"},
        "time": {"column": "day"},
        "entity": ["shop"],
        "targets": [{"name": "price", "transform": "log"}],
        "columns": {"numeric": ["size"], "categorical": ["kind"]},
        "features": {"lags": [1], "windows_days": [60], "statistics": ["mean"], "market_momentum_months": [1]},
        **changes,
    }


def months(count, *, shops=("a", "b"), skip=(), start=2015):
    """One row per shop and month, prices that rise."""
    rows = []
    for index in range(count):
        if index in skip:
            continue
        day = dt.date(start + index // 12, index % 12 + 1, 1).isoformat()
        for number, shop in enumerate(shops):
            rows.append([day, shop, f"{100 + index + 10 * number:.1f}", str(10 + number), "xyz"[number % 3]])
    return rows


@pytest.fixture
def lab(tmp_path, workspace, spark, capsys):
    """A workspace, and the command line run in this process on the shared Spark session."""

    class Lab:
        folder = workspace

        def write(self, rows, header=HEADER, name="shops.csv"):
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("w", encoding="utf-8", newline="") as stream:
                csv.writer(stream).writerows([header, *rows])
            return path

        def describe(self, **changes):
            path = tmp_path / "shops.yml"
            path.write_text(yaml.safe_dump(dataset_tree(**changes), allow_unicode=True), encoding="utf-8")
            return path

        def run(self, job, *arguments, **changes):
            """Exit code, the JSON of the last line on standard output, and the last line on standard error."""
            path = self.describe(**changes)
            given = [job, "--dataset", str(path), "--workspace", str(self.folder), "--json", *map(str, arguments)]
            with pytest.raises(SystemExit) as ended:
                cli.main(given)
            told = capsys.readouterr()
            last = told.err.splitlines()[-1] if told.err else ""
            return ended.value.code, json.loads(told.out.splitlines()[-1]), last

        def table(self, name):
            found = pl.from_arrow(DeltaTable(str(self.folder / "lake" / name)).to_pyarrow_table())
            assert isinstance(found, pl.DataFrame)
            return found

    return Lab()


def test_success_ends_with_exit_code_0_and_one_json_object(lab):
    lab.write(months(3))
    code, told, _ = lab.run("ingest")
    assert code == 0
    assert told["job"] == "ingest"
    assert told["status"] == "done"
    assert set(told) == {"job", "status", "run_id", "identity", "metrics", "tables"}
    rows = {name: value for name, value in told["metrics"].items() if name.startswith("rows_")}
    assert rows == {"rows_in": 6, "rows_kept": 6, "rows_quarantined": 0}
    assert told["metrics"]["quality_overall"] > 90
    assert told["tables"]["observations"] == {"location": str(lab.folder / "lake" / "observations"), "version": 1}
    again = lab.run("ingest")[1]
    assert again == {**told, "status": "unchanged"}


def test_too_many_bad_rows_end_with_exit_code_3(lab):
    rows = months(3)
    lab.write([*rows[:4], [*rows[4][:2], "-1", *rows[4][3:]], [*rows[5][:2], "cheap", *rows[5][3:]]])
    code, told, _ = lab.run("ingest")
    assert (code, told["status"]) == (3, "refused")
    assert told["metrics"]["rows_quarantined"] == 2
    assert set(told["tables"]) == {"observations_quarantine", "quality_reports"}
    assert sorted(lab.table("observations_quarantine")["source_row"]) == [5, 6]
    code, told, line = lab.run("build_features")
    assert code == 2
    assert line.endswith("run the job ingest first (or `pipeline`, which runs all)")
    assert lab.run("pipeline", *FAST)[0] == 3


@pytest.mark.parametrize(
    ("content", "line"),
    [
        (
            'day,shop,price,size,kind\n2015-01-01,a,1,1,x\n2015-01-02,"a,1,1,x\n2015-01-03,a,1,1,x\n',
            "a quote in line 3",
        ),
        ("day,shop,price,size,kind\n2015-01-01,São,1,1,x\n", "the text is not utf-8"),
        ("day,shop,price,size,kind\n", "the file has columns but no rows; change dataset.source.path"),
        ("day;shop;price;size;kind\n", "set dataset.source.delimiter to ';'"),
        ("Day,shop,price,size,kind\n2015-01-01,a,1,1,x\n", "'day' (did you mean 'Day'?)"),
        ("", "the file is empty (0 bytes)"),
    ],
)
def test_a_file_that_cannot_be_used_ends_with_exit_code_2(lab, content, line):
    path = lab.write([])
    path.write_text(content, encoding="latin-1", newline="")
    code, told, last = lab.run("ingest")
    assert (code, told["status"]) == (2, "failed")
    assert last.startswith(f"assay ingest: {path}: ")
    assert line in last
    assert not (lab.folder / "logs" / "error.log").exists()


def test_one_row_is_kept_but_nothing_can_be_learned(lab):
    lab.write(months(1, shops=["a"]))
    assert lab.run("ingest")[0] == 0
    assert lab.run("build_features", *FAST)[0] == 0
    code, told, line = lab.run("train", *FAST)
    assert (code, told["status"]) == (2, "failed")
    assert line.startswith("assay train: 1 labelled row(s) at 1 distinct time(s): a forward split into train, tune, ")
    assert "Give more history (dataset.source)" in line


def test_rows_without_one_known_target(lab):
    lab.write([[day, shop, "", size, kind] for day, shop, _, size, kind in months(3)])
    assert lab.run("ingest")[1]["metrics"]["rows_kept"] == 6
    assert lab.run("build_features", *FAST)[0] == 0
    code, _, line = lab.run("train", *FAST)
    assert code == 2
    assert line == "assay train: no row has a known target 'price'; nothing can be learned"


def test_a_slice_without_rows(lab):
    lab.write(months(12))
    assert lab.run("ingest")[0] == 0
    assert lab.run("build_features", *FAST)[0] == 0
    code, _, line = lab.run("train", *FAST, "--where", "shop=nobody")
    assert code == 2
    assert "no row has a known target 'price' where shop=nobody (--where)" in line


def test_one_entity_and_months_without_rows_go_through_everything(lab):
    lab.write(months(40, shops=["a"], skip=(5, 6, 20, 35)))
    code, told, _ = lab.run("pipeline", *FAST, "--set", "training.enable_advanced_features=true")
    assert code == 0
    assert told["metrics"]["rows_kept"] == 36
    assert math.isfinite(told["metrics"]["test_rmse"])
    features = lab.table("features")
    assert features["month"].n_unique() == features.height == 36
    predictions = lab.table("predictions")
    assert predictions.height > 0
    assert predictions["prediction"].is_finite().all()


AWKWARD = {
    "source": {"path": "données 1,2/größe {x}.csv"},
    "time": {"column": "time"},
    "entity": ["index"],
    "targets": [{"name": "target", "transform": "log", "relative_to": "last_value"}],
    "columns": {"numeric": ["prediction"], "categorical": ["count(1)"]},
    "groups": [["count(1)"], []],
    "segments": ["index", "count(1)"],
}


def test_names_that_mean_something_to_the_machinery(lab):
    """Columns called like internals of assay, Polars, Spark or SQL, in a path with blanks and letters."""
    header = ["time", "index", "target", "prediction", "count(1)"]
    lab.write(months(24, shops=["a'b", "c=d/e", "50 %"]), header=header, name=AWKWARD["source"]["path"])
    lab.folder = lab.folder.rename(lab.folder.parent / "wörk späce")
    code, told, _ = lab.run("pipeline", *FAST, "--set", "training.enable_advanced_features=true", **AWKWARD)
    assert code == 0
    assert told["metrics"]["rows_kept"] == 72
    assert {"index", "target_", "prediction_", "count_1_"} <= set(lab.table("observations").columns)
    assert Path(told["report"]).is_file()
    assert lab.run("score", *FAST, "--where", "index=c=d/e", **AWKWARD)[0] == 0
    assert set(lab.table("predictions")["index"]) == {"c=d/e"}


def test_rows_of_the_future_are_set_aside(lab):
    lab.write([*months(3), ["2150-01-01", "a", "5", "1", "x"]])
    code, told, _ = lab.run("ingest", "--set", "ingest.max_quarantine_share=0.2")
    assert (code, told["metrics"]["rows_quarantined"]) == (0, 1)
    assert lab.table("observations_quarantine")["reasons"].to_list() == [
        "column 'day': in the future (dataset.time.future)"
    ]


def test_the_same_in_a_process_of_its_own(tmp_path, workspace):
    """What users run: Spark starts, works, and the exit code, JSON and error of a refusal arrive."""
    (tmp_path / "shops.yml").write_text(yaml.safe_dump(dataset_tree()), encoding="utf-8")
    with (tmp_path / "shops.csv").open("w", encoding="utf-8", newline="") as stream:
        csv.writer(stream).writerows([HEADER, *months(2), ["soon", "a", "x", "", ""]])
    command = [sys.executable, str(ROOT / "jobs" / "ingest.py"), "--dataset", "shops.yml", "--json"]
    done = subprocess.run(
        [*command, "--workspace", str(workspace), "--master", "local[1]"],
        env={**os.environ, "PYTHONPATH": str(ROOT / "lib")},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 3
    told = json.loads(done.stdout.splitlines()[-1])
    assert told["status"] == "refused"
    rows = {name: value for name, value in told["metrics"].items() if name.startswith("rows_")}
    assert rows == {"rows_in": 5, "rows_kept": 4, "rows_quarantined": 1}
    assert "1 of 5 rows (20.0%) cannot be used" in done.stdout
    assert "no readable time (dataset.time.format)" in done.stdout
    assert "WARN" not in done.stderr + done.stdout
    assert (workspace / "logs" / "spark.log").stat().st_size > 0
