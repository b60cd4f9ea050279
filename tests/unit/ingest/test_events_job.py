"""Consumes files of events that come and go, checks the tables that ingest leaves: without Spark, in this process."""

from __future__ import annotations

import csv
import shutil
from functools import cached_property

import polars as pl
import pytest
import yaml
from deltalake import DeltaTable

from assay.config import load_run
from assay.pipeline import JOBS
from assay.runtime.job import JobContext
from assay.runtime.local_plane import LocalPlane
from assay.runtime.progress import Reporter
from assay.runtime.session import SparkSettings

HEADER = ["at", "who", "bill", "pieces", "price"]
DATASET = {
    "name": "shop",
    "source": {"path": "bills"},
    "time": {"column": "at"},
    "entity": ["who"],
    "duplicates": "allow",
    "bounds": {"price": [0, 100]},
    "ingest": {"max_quarantine_share": 0.5},
    "events": {
        "period": "1w",
        "numeric": ["pieces", "price"],
        "categorical": ["bill"],
        "values": {"spend": {"sum": "pieces * price"}, "buys": {"any": "pieces > 0"}},
        "known": {"recency": {"days_since_last": "pieces > 0"}},
    },
    "targets": [{"name": "buys", "task": "binary"}],
    "columns": {"outcomes": ["spend"], "numeric": ["recency"]},
}
JANUARY = [
    ["2011-01-04 10:00", "ann", "1", 2, 5],
    ["2011-01-13 10:00", "bob", "2", 1, 7],
    ["2011-01-14", "", "3", 1, 7],
]
LATER = [["2011-02-01 10:00", "ann", "4", 1, 9], ["2011-02-02 10:00", "ann", "5", 1, -3]]
LATE = [["2011-01-10 10:00", "ann", "6", 3, 3]]


class WithoutSpark(JobContext):
    """A context whose tasks run here."""

    def spark(self):
        return None

    @cached_property
    def plane(self):
        return LocalPlane(self.config.workspace / "lake")


@pytest.fixture
def shop(tmp_path, empty_store):
    """shop(name, **changes) ingests the folder `bills` into the workspace of that name; returns (result, table)."""
    (tmp_path / "bills").mkdir()

    def run(name="ws", **changes):
        folder = tmp_path / name
        if not folder.exists():
            folder.mkdir()
            shutil.copy(empty_store, folder / "mlflow.db")
        (tmp_path / "shop.yml").write_text(yaml.safe_dump({**DATASET, **changes}), encoding="utf-8")
        config = load_run(dataset=tmp_path / "shop.yml", workspace=folder)
        context = WithoutSpark(config, SparkSettings(), Reporter(quiet=True))
        try:
            result = JOBS["ingest"].run(context)
        finally:
            context.close()
        return result, lambda table: pl.from_arrow(DeltaTable(folder / "lake" / table).to_pyarrow_table())

    run.folder = tmp_path / "bills"
    return run


def write(folder, name, rows):
    with (folder / name).open("w", newline="", encoding="utf-8") as stream:
        csv.writer(stream).writerows([HEADER, *rows])


def in_order(frame):
    return frame.sort("who", "time", "bill") if "bill" in frame.columns else frame.sort("who", "time")


def test_files_that_come_and_go_give_what_a_first_run_would(shop):
    write(shop.folder, "1.csv", JANUARY)
    first, table = shop()
    assert (first.metrics["rows_kept"], first.metrics["rows_quarantined"], first.metrics["rows_made"]) == (2, 1, 3)
    assert "entity key is missing" in table("observations_quarantine")["reasons"][0]
    again, _ = shop()
    assert again.status == "unchanged"
    assert again.tables == first.tables

    write(shop.folder, "2.csv", LATER)
    write(shop.folder, "0.csv", LATE)
    grown, table = shop()
    assert any("read 2 of 3 file(s)" in line for line in grown.summary)
    assert grown.metrics["rows_quarantined"] == 2  # whoever it was, and a price below 0
    observations = in_order(table("observations"))
    ann = observations.filter(pl.col("who") == "ann")
    assert ann["spend"].to_list() == [10, 9, 0, 0, None]
    assert ann["buys"].to_list() == [None, 1, 0, 0, None]

    (shop.folder / "1.csv").unlink()
    for name in ("ws", "fresh"):
        _, table = shop(name)
        frames = [in_order(table(t)) for t in ("events", "observations")]
        if name == "ws":
            left = frames
    for one, other in zip(left, frames, strict=True):
        assert one.equals(other.select(one.columns))
    assert left[1]["who"].unique().to_list() == ["ann"]  # bob's only event went with its file


def test_another_expression_makes_other_observations_of_the_same_events(shop):
    write(shop.folder, "1.csv", JANUARY + LATER)
    first, _ = shop()
    values = {**DATASET["events"]["values"], "spend": {"sum": "pieces"}}
    other, table = shop(events={**DATASET["events"], "values": values})
    assert other.tables["events"] == first.tables["events"]
    assert other.tables["observations"].version == first.tables["observations"].version + 1
    assert in_order(table("observations"))["spend"].to_list()[0] == 2


def test_events_that_are_refused_leave_the_observations_as_they_were(shop):
    write(shop.folder, "1.csv", JANUARY)
    first, _ = shop()
    write(shop.folder, "2.csv", [["2011-01-05", "", "7", 1, 1]] * 5)
    refused, table = shop()
    assert refused.status == "refused"
    assert table("observations").height == first.metrics["rows_made"]
