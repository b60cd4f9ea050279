"""Consumes results, runs, models and reports, checks how they show themselves, and that jobs are functions."""

from __future__ import annotations

import dataclasses
import datetime as dt
import inspect
import math
import re
from html.parser import HTMLParser

import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

import assay
from assay import jobs
from assay.config import load_run
from assay.errors import DataError, UserError
from assay.pages.cards import MOST_TILES, Card, Tile, headlines
from assay.pipeline import JOBS
from assay.runtime.job import Result, TableState
from assay.runtime.local_plane import LocalPlane
from assay.runtime.plane import Commit, Output
from assay.runtime.tables import TABLES
from assay.runtime.tracking import Tracking
from assay.shown import JobResult, Report, Run, duration
from small_models import SmallRegistry, train_model

EVIL = """<script>alert('x')</script>"><img src=x onerror=alert(1)>"""
TEXT = ("h4", "span", "ul", "li", "strong", "dl", "dt", "dd", "p", "a")
NUMBERS = {
    "test_rmse": 11766.2,
    "best_baseline_rmse": 15605.0,
    "test_median_ape": 0.0384,
    "coverage_80": 0.809,
    "coverage_80_chance_low": 0.766,
    "coverage_80_chance_high": 0.834,
}


class Page(HTMLParser):
    """Tags of a page with their attributes, and its texts."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.texts = [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.texts.append(data)


def result(**changes):
    told = {"job": "train", "status": "done", "run_id": "f23b", "identity": "ab", "metrics": NUMBERS, "tables": {}}
    return JobResult(**{**told, **changes})


def run(**changes):
    at = dt.datetime(2024, 5, 6, 7, 8, tzinfo=dt.timezone.utc)
    told = {"run_id": "f23b", "job": "train", "status": "done", "started": at, "seconds": 88.0, "metrics": NUMBERS}
    return Run(**{**told, **changes})


def test_figures_say_their_unit_and_what_they_are_to_be_seen_against():
    assert headlines(NUMBERS) == [
        Tile("11,766", "root mean squared error, in the target's unit", "best simple rule 15,605"),
        Tile("3.8\u202f%", "median error"),
        Tile(
            "80.9\u202f%", "held by the 80\u202f% interval", "promised 80\u202f%; by chance 76.6\u202f% to 83.4\u202f%"
        ),
    ]


def test_figures_of_several_targets_are_told_apart_and_others_are_shown_by_their_names():
    found = headlines({"test_r2": 0.9, "churn.test_log_loss": 0.3, "churn.best_baseline_log_loss": 0.5})
    assert [(tile.label, tile.note) for tile in found] == [("R²", ""), ("churn: log loss", "best simple rule 0.500")]
    assert headlines({"moved_rows": 12.0}) == [Tile("12.0", "moved rows")]
    assert headlines({"quality_overall": 98.14, "quality_metric.time_gaps": 0.0}) == [
        Tile("98.1", "data quality, of 100")
    ]
    assert len(headlines({f"figure_{n}": n for n in range(50)})) == MOST_TILES
    assert headlines({"test_rmse": math.nan})[0].value == "–"


@pytest.mark.parametrize(
    "shown",
    [
        result(summary=[EVIL], tables={EVIL: TableState("x", 1)}, metrics={EVIL: 1.0}, report=f"/tmp/{EVIL}.html"),
        result(job=EVIL, status=EVIL),
        run(job=EVIL, summary=[EVIL], target=EVIL, report=f"/tmp/{EVIL}.html", metrics={f"{EVIL}.test_rmse": 1.0}),
        Card(EVIL, EVIL, EVIL, True, [Tile(EVIL, EVIL, EVIL)], [(EVIL, EVIL)], [EVIL], (EVIL, EVIL)),
    ],
)
def test_no_text_becomes_a_tag(shown):
    page = Page(shown.html() if isinstance(shown, Card) else shown._repr_html_())
    assert {tag for tag, _ in page.tags} <= {"section", "style", *TEXT}
    assert not [name for _, attributes in page.tags for name in attributes if name.startswith("on")]
    assert any(EVIL in text for text in page.texts)


def test_a_card_is_complete_in_itself_and_styles_nothing_else():
    text = result(summary=["all well"])._repr_html_()
    assert not re.search(r"https?://|@import|url\(|<script|<link", text)
    style = text.partition("<style>")[2].partition("</style>")[0]
    for selector in re.findall(r"(?:^|\}|\{)\s*([^{}@]+?)\s*\{", style):
        assert selector.startswith(".assay-card"), selector
    section = next(attributes for tag, attributes in Page(text).tags if tag == "section")
    assert section["aria-label"] == "job train"


def test_results_and_runs_say_the_same_in_a_terminal():
    text = repr(result(seconds=125, tables={"predictions": TableState("lake/predictions", 3)}, summary=["well done"]))
    assert text.startswith(
        "job train: done\n  root mean squared error, in the target's unit: 11,766 (best simple rule "
    )
    for line in ("took: 2 min 5 s", "tables: predictions (version 3)", "well done"):
        assert f"\n  {line}" in text
    assert "started: 2024-05-06 07:08 UTC\n  took: 1 min 28 s" in repr(run())
    assert "took: not ended" in repr(run(seconds=None))
    assert "refused by a quality gate" in repr(result(status="refused"))
    assert '<span class="badge bad">refused</span>' in run(status="refused")._repr_html_()


@pytest.mark.parametrize(("seconds", "said"), [(4.21, "4.2 s"), (88, "1 min 28 s"), (7800, "2 h 10 min")])
def test_durations_are_said_as_people_say_them(seconds, said):
    assert duration(seconds) == said


def test_a_report_is_shown_whole_and_apart_from_the_notebook(tmp_path):
    path = tmp_path / 'evaluation "a&b".html'
    path.write_text(f"<h1>Held</h1>{EVIL}", encoding="utf-8")
    page = Page(Report(path)._repr_html_())
    assert [tag for tag, _ in page.tags] == ["div", "iframe"]
    frame = page.tags[1][1]
    assert frame["srcdoc"] == path.read_text(encoding="utf-8")
    assert frame["title"] == 'report evaluation "a&b"'
    assert "allow-same-origin" not in frame["sandbox"]
    assert repr(Report(path)) == f'report evaluation "a&b": {path}'
    with open(Report(path), encoding="utf-8") as file:
        assert file.read().startswith("<h1>")


@pytest.fixture
def filled(workspace, flats):
    """A workspace with a table of two versions, a finished run, a failed one, and two reports."""
    tracking = Tracking(load_run(dataset=flats, workspace=workspace))
    plane, table = LocalPlane(workspace / "lake", rows_per_task=100), TABLES["segments"]
    schema = table.schema([pa.field("flat", pa.string())])
    for count in (5, 2):
        rows = pa.Table.from_pylist([{"row_id": n, "segment": 1, "flat": f"f{n}"} for n in range(count)], schema)
        commit = Commit(-1, "segment", "all", "0123456789abcdef")
        plane.rows_of(table, schema, rows).write([Output(table, schema, commit)])
    (workspace / "reports").mkdir()
    for name in ("evaluation-price", "health-price"):
        (workspace / "reports" / f"{name}.html").write_text(f"<p>{name}</p>", encoding="utf-8")
    with tracking.run("evaluate", "0123456789abcdef"):
        tracking.metrics(NUMBERS)
        tracking.mlflow.set_tag("assay.summary", '["all well"]')
        tracking.mlflow.set_tag("assay.report", "/where/it/was/reports/evaluation-price.html")
        tracking.finish("done")
    with pytest.raises(ZeroDivisionError), tracking.run("train", "1123456789abcdef"):
        raise ZeroDivisionError
    (workspace / "assay.json").write_text("{}", encoding="utf-8")
    return assay.open(workspace)


def test_a_table_is_a_frame_of_whatever_one_works_with(filled):
    kinds = {"table": pl.DataFrame, "pandas": pd.DataFrame, "arrow": pa.Table}
    for name, kind in kinds.items():
        frame = getattr(filled, name)("segments")
        assert isinstance(frame, kind)
        assert (len(frame), len(getattr(filled, name)("segments", version=1))) == (2, 5)
    with pytest.raises(DataError, match="there is no table 'nothing'"):
        filled.pandas("nothing")


def test_runs_are_found_by_job_and_by_id(filled):
    found = filled.run("evaluate")
    assert (found.status, found.summary) == ("done", ["all well"])
    assert found.metrics == pytest.approx(NUMBERS)
    assert found.report == str(filled.folder / "reports" / "evaluation-price.html")  # also after a move
    assert filled.run(found.run_id[:8]) == found
    assert filled.run("train").status == "failed"
    for nothing in ("segment", "zzz", ""):
        with pytest.raises(DataError, match="has no run of a job"):
            filled.run(nothing)


def test_reports_are_found_by_a_part_of_their_name(filled):
    assert filled.report("eval").path.name == "evaluation-price.html"
    assert filled.report().path.name in {"evaluation-price.html", "health-price.html"}
    with pytest.raises(DataError, match=r"has no report 'tune'; it has (evaluation|health)-price, "):
        filled.report("tune")


def test_a_workspace_says_what_is_in_it(filled):
    assert repr(filled) == f"Workspace({str(filled.folder)!r})"
    texts = Page(filled._repr_html_()).texts
    assert "segments" in texts
    assert "2 rows, version 2" in texts


def test_a_model_says_what_it_is_and_what_its_intervals_promise(workspace):
    registry = SmallRegistry(workspace, train_model())
    registry.register(registry.train(), coverage={0.8: 0.81, 0.9: 0.895})
    (workspace / "assay.json").write_text("{}", encoding="utf-8")
    found = assay.open(workspace).model()
    page = Page(found._repr_html_())
    assert found.target == "price"
    assert "model of price: serving" in repr(found)
    for term in ("engine: xgboost", "version: 1 (1.0.0)", "learned until: ", "inputs: "):
        assert f"\n  {term}" in repr(found)
    assert "held 81.0\u202f% of the test period" in page.texts
    with pytest.raises(DataError, match="which target's model"):
        assay.open(workspace).model("other")


def test_every_job_is_a_function_with_what_a_job_may_be_told():
    expected = inspect.signature(jobs.train)
    for name, job in JOBS.items():
        function = getattr(jobs, name)
        assert inspect.signature(function) == expected
        assert function.__doc__.split(".")[0].split(":")[0].split(",")[0] in job.purpose
        if name not in {"ingest", "pipeline"}:  # which modules are called
            assert getattr(assay, name) is function
    assert assay.predict is assay.score
    assert assay.open is assay.open_workspace


def test_each_function_runs_its_own_job(monkeypatch, flats, tmp_path):
    asked = []

    def run_configured(name, config, *, settings, reporter):
        asked.append((name, config))
        return Result(name, "done", "r", "i", {}, {})

    monkeypatch.setattr("assay.pipeline.run_configured", run_configured)
    config = assay.configuration(flats, tmp_path / "ws", overrides=["engine.rounds=7"])
    for name in JOBS:
        found = getattr(jobs, name)(flats, tmp_path / "ws", overrides=["engine.rounds=7"])
        assert isinstance(found, JobResult)
        assert (found.job, found.workspace) == (name, tmp_path / "ws")
        assert getattr(jobs, name)(config).job == name
    assert asked == [(name, config) for name in JOBS for _ in range(2)]
    with pytest.raises(UserError, match="train: a configuration says workspace already"):
        assay.train(config, tmp_path)
    with pytest.raises(UserError, match="train: a configuration says date already"):
        assay.train(config, date="2020-01-01")


def test_a_result_keeps_all_that_a_job_says():
    plain = Result("score", "done", "r", "i", {"predictions": 3.0}, {}, ["three"], None)
    found = JobResult.of(plain, seconds=1.5, workspace=None)
    assert found.as_dict() == plain.as_dict()
    assert all(getattr(found, field.name) == getattr(plain, field.name) for field in dataclasses.fields(Result))
