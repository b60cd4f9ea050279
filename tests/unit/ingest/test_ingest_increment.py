"""Consumes folders whose files come, change and go, checks that what runs leave equals a first run on the folder.

Tasks run in this process: the kernels, the files and the Delta logs are those of the Arrow road.
"""

from __future__ import annotations

import datetime as dt
import os
import shutil
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from deltalake import DeltaTable
from hypothesis import example, given, settings
from hypothesis import strategies as st

from assay.config import RunConfig
from assay.config.profile import IngestConfig, ProfileConfig
from assay.config.quality import METRICS, QualityConfig
from assay.errors import AssayError, DataError
from assay.ingest import increment, job
from assay.runtime.arrow_plane import ArrowPlane
from assay.runtime.job import identity_of
from assay.runtime.plane import Commit
from assay.runtime.progress import Reporter

HEADER = "sold_on,flat,price,rooms,district\n"
RULES = ("keep_first", "keep_last", "allow")


class HerePlane(ArrowPlane):
    """The Arrow road with tasks in this process."""

    @property
    def slots(self) -> int:
        return 2

    def run_tasks(self, work, function):
        return [function(index, item) for index, item in enumerate(work)]


def no_context():
    raise AssertionError("no task needs Spark here")


class Folder:
    """A source folder and a workspace of its own: `ingest()` runs the job on them."""

    def __init__(
        self, place: Path, dataset: Callable[..., Any], *, most_bad: float = 1.0, scope: Any = "all", **changes: Any
    ) -> None:
        self.raw, self.lake = place / "raw", place / "lake"
        self.raw.mkdir(parents=True, exist_ok=True)
        given = {"path": str(self.raw), **changes.pop("source", {})}
        anything = {name: 0.0 if metric.at_least else 1.0 for name, metric in METRICS.items()}
        limits = IngestConfig(max_quarantine_share=most_bad, min_quality_score=0.0, quality_limits=anything)
        profile = ProfileConfig(ingest=limits, quality=QualityConfig(scope=scope))
        self.config = RunConfig(dataset(source=given, **changes), profile, "production", place, place)
        self.plane = HerePlane(no_context, self.lake, rows_per_task=4)
        self.refused: set[str] = set()

    def put(self, name: str, *rows: str) -> None:
        path = self.raw / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(HEADER + "".join(f"{row}\n" for row in rows), encoding="utf-8")

    def ingest(self, now: dt.datetime = dt.datetime(2020, 1, 1, tzinfo=dt.timezone.utc)):
        tracking = types.SimpleNamespace(finished=lambda *_: None, json=lambda *_: None, metrics=lambda *_: None)
        context = types.SimpleNamespace(
            config=self.config,
            plane=self.plane,
            reporter=Reporter(quiet=True),
            tracking=tracking,
            commit=lambda job, slot, identity, **details: Commit(-1, job, slot, identity, details),
        )
        plan = job._plan_files(context, now)
        done = plan.execute(identity_of(plan, self.config))
        self.plane.clean()
        return done

    def table(self, name: str) -> pl.DataFrame:
        frame = pl.from_arrow(DeltaTable(self.lake / name).to_pyarrow_table())
        assert isinstance(frame, pl.DataFrame)
        return frame.sort([c for c in ("source_file", "source_row", "row_id", "measure") if c in frame.columns])

    def quality(self) -> list[Any]:
        """The newest run's measures, whatever the run is called."""
        commit = self.plane.last_commit("quality_reports", "all")
        assert commit is not None
        mine = self.table("quality_reports").filter(pl.col("run") == commit.identity)
        return mine.drop("run").sort("column", "measure").rows()

    def state(self) -> tuple[list[Any], list[Any]]:
        return self.table("observations").rows(), self.table("observations_quarantine").rows()


@pytest.fixture
def folder(tmp_path, dataset) -> Callable[..., Folder]:
    return lambda name="one", **changes: Folder(tmp_path / name, dataset, **changes)


def as_new(old: Folder, folder: Callable[..., Folder], now: dt.datetime, **changes: Any) -> Folder:
    """A first run on a copy of the folder."""
    fresh = folder(f"fresh{len(list(old.lake.parent.parent.iterdir()))}", **changes)
    shutil.copytree(old.raw, fresh.raw, dirs_exist_ok=True)
    fresh.ingest(now)
    return fresh


def written_months(one: Folder, before: int) -> set[str]:
    """Partitions whose files are others than at an earlier version."""
    old = set(DeltaTable(one.lake / "observations", version=before).file_uris())
    changed = old ^ set(DeltaTable(one.lake / "observations").file_uris())
    return {part.removeprefix("month=") for uri in changed for part in uri.split("/") if part.startswith("month=")}


ROW = st.tuples(
    st.sampled_from(
        ["2015-01-05", "2015-01-20", "2015-02-01", "2015-03-31T22:00:00Z", "2019-06-01", "2030-01-01", "?"]
    ),
    st.sampled_from(["a", "b", ""]),
    st.sampled_from(["1", "2", "2.5", "", "cheap"]),
    st.sampled_from(["3", "", "nan"]),
    st.sampled_from(["north", "süd, ost", ""]),
).map(lambda cells: ",".join(f'"{cell}"' for cell in cells))
FILE = st.lists(ROW | st.just("broken"), min_size=1, max_size=6).map(tuple)
# What each file of the folder becomes in a step: other rows, nothing (gone), or itself.
STEP = st.dictionaries(
    st.sampled_from(["a.csv", "b.csv", "c/a.csv", "d.csv"]), FILE | st.none(), min_size=1, max_size=3
)
A, B = '"2015-01-05","a","1","3","north"', '"2015-01-05","a","2","3","north"'


@settings(max_examples=8, deadline=None)
@given(steps=st.lists(STEP, min_size=2, max_size=4))
@example(steps=[{"a.csv": (A,), "b.csv": (B,)}, {"b.csv": None}, {"a.csv": None, "d.csv": (B, A)}])
@example(
    steps=[{"a.csv": (A,)}, {"a.csv": ('"2030-01-01","a","1","3","north"',)}, {"b.csv": (A,)}]
)  # due to the instant
@example(steps=[{"a.csv": (A,), "b.csv": (B,), "d.csv": (A, A)}, {"d.csv": (B,)}, {"a.csv": (B, B)}])
@pytest.mark.parametrize("rule", RULES)
def test_runs_one_after_the_other_leave_what_a_first_run_leaves(tmp_path_factory, dataset, rule, steps):
    place = tmp_path_factory.mktemp("steps")
    grown = Folder(place / "grown", dataset, duplicates=rule)
    good = A.replace("2015", "2012")
    grown.put("always.csv", good)
    for index, step in enumerate(steps):
        for name, rows in step.items():
            if rows is not None:
                grown.put(name, *rows)
            else:
                (grown.raw / name).unlink(missing_ok=True)
        now = dt.datetime(2018 + 6 * index, 1, 1, tzinfo=dt.timezone.utc)  # rows of the future come due
        grown.ingest(now)
        fresh = Folder(place / f"fresh{index}", dataset, duplicates=rule)
        shutil.copytree(grown.raw, fresh.raw, dirs_exist_ok=True)
        fresh.ingest(now)
        assert grown.state() == fresh.state()
        assert grown.quality() == fresh.quality()
    shutil.rmtree(place)


def test_a_new_file_is_read_alone_and_only_its_months_are_written(folder, monkeypatch):
    one = folder()
    one.put("2015.csv", *(f"2015-{m:02d}-05,a,{m},3,north" for m in range(1, 13)))
    one.ingest()
    version = DeltaTable(one.lake / "observations").version()
    one.put("late.csv", "2015-03-20,a,7,3,north", "2016-01-05,a,8,3,north", "x")
    opened = []
    read = increment.read_part
    monkeypatch.setattr(increment, "read_part", lambda part, *a: opened.append(part.name) or read(part, *a))
    monkeypatch.setattr("assay.ingest.rules.read_part", increment.read_part)
    done = one.ingest()
    assert set(opened) == {"late.csv"}
    assert {k: v for k, v in done.metrics.items() if not k.startswith("quality_")} == {
        "rows_in": 15,
        "rows_kept": 14,
        "rows_quarantined": 1,
        "files_read": 1,
        "files_removed": 0,
        "months_written": 2,
    }
    assert "read 1 of 2 file(s), wrote 2 month(s) of observations" in done.summary
    assert written_months(one, version) == {"2015-03", "2016-01"}
    march = one.table("observations").filter(pl.col("month") == "2015-03")
    assert march.select("source_file", "price").rows() == [("2015.csv", 3.0), ("late.csv", 7.0)]


@pytest.mark.parametrize(("scope", "share"), [("all", 6 / 7), ("touched", 1 / 2)])
def test_quality_is_of_all_rows_or_of_the_months_that_are_touched(folder, scope, share):
    one = folder(scope=scope)
    one.put("a.csv", *(f"2015-{m:02d}-05,a,{m},3,north" for m in range(1, 6)), "2015-06-05,a,7,3,north")
    one.ingest()
    one.put("b.csv", "2015-06-06,b,,,")
    one.ingest()
    measures = {(row[0], row[1]): row[2] for row in one.quality()}
    assert measures[("rooms", "completeness")] == pytest.approx(share)
    assert measures[("", "rows_in")] == 7
    assert one.table("observations").height == 7


def test_a_corrected_file_replaces_its_own_rows_and_only_those(folder):
    one = folder()
    one.put("a.csv", "2015-01-05,a,1,3,north", "2015-02-05,a,2,3,north")
    one.put("b.csv", "2015-01-05,b,3,3,north", "2015-04-05,b,4,3,north")
    one.ingest()
    version = DeltaTable(one.lake / "observations").version()
    one.put("a.csv", "2015-01-06,a,1,3,north", "?,a,2,3,north")
    one.ingest()
    assert one.table("observations").select("source_file", "price").rows() == [("a.csv", 1), ("b.csv", 3), ("b.csv", 4)]
    assert one.table("observations_quarantine")["source_file"].to_list() == ["a.csv"]
    assert written_months(one, version) == {"2015-01", "2015-02"}
    one.put("a.csv", "2015-01-06,a,1,3,north")
    one.ingest()
    assert one.table("observations_quarantine").is_empty()


@pytest.mark.parametrize("rule", RULES)
def test_a_loser_comes_back_when_the_winner_leaves(folder, rule):
    one = folder(duplicates=rule)
    for name, price in (("a.csv", 0.1), ("b.csv", 2), ("c.csv", 3)):
        one.put(name, f'2015-01-05,a,{price},,"s, ""x"""', f"2015-01-0{price:.0f}1,z,5,3,north")
    one.ingest()
    (one.raw / ("a.csv" if rule == "keep_first" else "c.csv")).unlink()
    done = one.ingest()
    assert any(line.startswith("gone from the source: ") and line.endswith("its rows went") for line in done.summary)
    assert one.state() == as_new(one, folder, dt.datetime(2020, 1, 1, tzinfo=dt.timezone.utc), duplicates=rule).state()
    prices = one.table("observations").filter(pl.col("flat") == "a")["price"].sort().to_list()
    assert prices == {"keep_first": [2], "keep_last": [2], "allow": [0.1, 2]}[rule]


def test_rows_of_a_file_that_is_gone_may_stay(folder):
    one = folder(source={"removed_files": "keep"})
    one.put("a.csv", "2015-01-05,a,1,3,north", "2030-01-01,a,9,3,north")
    one.ingest()
    (one.raw / "a.csv").unlink()
    one.put("b.csv", "2015-01-06,a,2,3,north")
    done = one.ingest()
    assert "gone from the source: a.csv; its rows stay" in done.summary
    assert one.table("observations")["price"].to_list() == [1, 2]
    assert one.table("source_files")["source_file"].to_list() == ["a.csv", "b.csv"]
    (one.raw / "b.csv").unlink()
    one.put("c.csv", "2015-01-06,a,3,3,north")  # beats the row of b.csv, which is gone as well
    one.ingest()
    assert one.table("observations")["price"].to_list() == [1, 3]
    assert one.table("observations_quarantine")["source_file"].to_list() == ["a.csv", "b.csv"]
    one.put("a.csv", "2015-01-05,a,5,3,north")  # it is back, with another price
    one.ingest()
    assert one.table("observations")["price"].to_list() == [5, 3]
    other = folder(source={"removed_files": "keep"}, bounds={"price": [0, 100]})
    with pytest.raises(DataError, match=r"1 file\(s\) of the last run are gone, and as the settings changed .* b\.csv"):
        other.ingest()


def test_rows_that_stay_survive_a_refused_run(folder):
    one = folder(source={"removed_files": "keep"}, most_bad=0.4)
    one.put("a.csv", "2015-01-05,a,1,3,north")
    one.ingest()
    (one.raw / "a.csv").unlink()
    one.put("b.csv", *["?,a,2,3,north"] * 5)
    assert "5 of 6 rows (83.3%)" in (one.ingest().refused or "")
    assert one.table("observations")["price"].to_list() == [1]
    one.put("b.csv", "2015-01-06,a,2,3,north")
    assert one.ingest().refused is None
    assert one.table("observations")["price"].to_list() == [1, 2]
    assert one.table("observations_quarantine").is_empty()


def test_removed_files_may_be_refused(folder):
    one = folder(source={"removed_files": "refuse"})
    one.put("a.csv", "2015-01-05,a,1,3,north")
    one.put("b.csv", "2015-01-06,a,2,3,north")
    one.ingest()
    (one.raw / "a.csv").unlink()
    with pytest.raises(
        DataError, match=r"1 file\(s\) of the last run are gone: a\.csv\. Put them back, or set dataset\."
    ):
        one.ingest()
    assert one.table("observations")["price"].to_list() == [1, 2]


@pytest.mark.parametrize("cut", ["observations_quarantine", "observations"])
def test_a_run_cut_short_between_two_commits_is_made_good(folder, monkeypatch, cut):
    one = folder()
    one.put("a.csv", "2015-01-05,a,1,3,north", "?,a,2,3,north")
    one.ingest()
    one.put("b.csv", "2015-01-05,a,3,3,north", "?,b,4,3,north")

    commit = one.plane.commit

    def killed(output, files):
        if output.table.name == cut:
            raise KeyboardInterrupt
        return commit(output, files)

    monkeypatch.setattr(one.plane, "commit", killed)
    with pytest.raises(KeyboardInterrupt):
        one.ingest()
    monkeypatch.undo()
    one.ingest()
    assert one.state() == as_new(one, folder, dt.datetime(2020, 1, 1, tzinfo=dt.timezone.utc)).state()


def test_lost_rows_stop_the_run_before_anything_is_written(folder, monkeypatch):
    one = folder()
    one.put("a.csv", "2015-01-05,a,1,3,north")
    one.ingest()
    before = one.state()
    one.put("b.csv", "2015-01-06,a,2,3,north", "2015-01-07,a,2,3,north")
    keep = increment.KeepObserved.__call__
    monkeypatch.setattr(
        increment.KeepObserved, "__call__", lambda self, batches: (b.slice(1) for b in keep(self, batches))
    )
    with pytest.raises(AssayError, match="ingest lost rows: the source has 3, 2 arrived"):
        one.ingest()
    assert one.state() == before


def test_a_file_that_only_looks_newer_is_not_read_again(folder):
    one = folder()
    one.put("a.csv", "2015-01-05,a,1,3,north")
    one.ingest()
    files = job.find_source(one.config)
    known = increment.look_at(files, {})
    assert known["a.csv"].modified_ns is None  # so young that a change may follow within its time's precision
    os.utime(one.raw / "a.csv", ns=(0, 10**18))
    old = job.find_source(one.config)
    settled = increment.look_at(old, known)
    assert settled["a.csv"].modified_ns == 10**18
    assert increment.version_of(settled) == increment.version_of(known)
    (one.raw / "a.csv").write_text("x" * old[0].size)
    os.utime(one.raw / "a.csv", ns=(0, 10**18))
    assert increment.look_at(job.find_source(one.config), settled) == settled  # the promise: size and time are trusted
    os.utime(one.raw / "a.csv", ns=(0, 10**18 + 1))
    assert increment.version_of(increment.look_at(job.find_source(one.config), settled)) != increment.version_of(known)


def test_aligned_rows_are_merged_on_record_and_again_when_a_file_comes(folder):
    align = {"column": "sold_on", "align": {"frequency": "1mo", "aggregate": "mean"}}
    one = folder(time=align)
    one.put("a.csv", "2015-01-05,a,1,3,north", "2015-01-20,a,2,,south", "2015-02-05,a,3,3,north", "?,a,1,1,x")
    done = one.ingest()
    rows = {k: v for k, v in done.metrics.items() if k.startswith("rows_")}
    assert rows == {"rows_in": 4, "rows_kept": 2, "rows_quarantined": 1, "rows_merged": 1}
    assert done.summary[0] == "4 rows in: 2 observations, 1 merged into them (dataset.time.align), 1 quarantined"
    measures = dict(one.table("quality_reports").filter(pl.col("column") == "").select("measure", "value").rows())
    assert measures["rows_merged"] == 1
    one.put("b.csv", "2015-01-31,a,6,4,east")
    assert one.ingest().metrics["rows_merged"] == 2
    rows = one.table("observations").sort("time").select("time", "price", "rooms", "district", "source_rows").rows()
    assert rows == [
        (dt.datetime(2015, 1, 1, tzinfo=dt.timezone.utc), 3.0, 3.5, "east", 3),
        (dt.datetime(2015, 2, 1, tzinfo=dt.timezone.utc), 3.0, 3.0, "north", 1),
    ]
