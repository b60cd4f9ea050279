"""Consumes raw files with every fault that the issue names, checks the tables that ingest leaves, and its repeats."""

from __future__ import annotations

import csv
import datetime as dt
import json
import types
from pathlib import Path

import polars as pl
import pytest
from deltalake import DeltaTable

from assay.errors import DataError
from assay.ingest import job

pytestmark = pytest.mark.spark

HEADER = ["Verkauft am", "Straße", "price", "floor area", "Bezirk"]
DATASET = {
    "name": "wohnungen",
    "source": {"path": "données brutes/häuser 1,2.csv"},
    "time": {"column": "Verkauft am", "zone": "Europe/Berlin"},
    "entity": ["Straße"],
    "targets": [{"name": "price", "transform": "log"}],
    "columns": {"numeric": ["floor area"], "categorical": ["Bezirk"]},
    "bounds": {"floor area": [5, 1000]},
}
TOLERANT = ["ingest.max_quarantine_share=0.95"]
FAULTS = {
    2: (["gestern", "Ä", "1", "50", "Süd"], "column 'Verkauft am': no readable time (dataset.time.format)"),
    3: (["2015-01-05", "", "1", "50", "Süd"], "column 'Straße': entity key is missing (dataset.entity)"),
    4: (["2015-01-05", "Ä", "viel", "50", "Süd"], "column 'price': not a number (dataset.targets)"),
    5: (["2015-01-05", "Ä", "nan", "50", "Süd"], "column 'price': target is NaN or infinite (dataset.targets)"),
    6: (["2015-01-05", "Ä", "inf", "50", "Süd"], "column 'price': target is NaN or infinite (dataset.targets)"),
    7: (
        ["2015-01-05", "Ä", "-3", "50", "Süd"],
        "column 'price': not above 0, as transform log needs (dataset.targets.transform)",
    ),
    8: (["2015-01-05", "Ä", "1"], "row has another number of fields than the header (dataset.source.delimiter)"),
    9: (["2015-01-05", "Ä", "1", "2", "Süd"], "column 'floor area': outside 5 to 1000 (dataset.bounds.floor area)"),
    10: (["2150-01-01", "Ä", "1", "50", "Süd"], "column 'Verkauft am': in the future (dataset.time.future)"),
    11: (
        ["2015-03-29 02:30:00", "Ä", "1", "50", "Süd"],
        "column 'Verkauft am': no such time in Europe/Berlin, where clocks were put forward (dataset.time.zone)",
    ),
    13: (
        ["2015-01-06", "Große Bleichen", "5", "50", "Süd"],
        "another row has the same entity and time: keep_first (dataset.duplicates)",
    ),
}
GOOD = {
    1: ["2015-01-05", "Große Bleichen", "100.5", "50", "Süd"],
    12: ["2015-01-06", "Große Bleichen", "110", "", "Süd"],
    14: ["2015-03-01", "大通り", "", "60", ""],
}


def write(folder: Path, rows, name="häuser 1,2.csv") -> Path:
    path = folder / "données brutes" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8", newline="") as stream:
        csv.writer(stream).writerows([HEADER, *rows])
    return path


def all_rows():
    found = {n: row for n, (row, _) in FAULTS.items()} | GOOD
    return [found[n] for n in sorted(found)]


def table(result, name) -> pl.DataFrame:
    found = pl.from_arrow(DeltaTable(result.tables[name].location).to_pyarrow_table())
    assert isinstance(found, pl.DataFrame)
    return found


def values(result) -> pl.DataFrame:
    """Observations without where they came from."""
    return table(result, "observations").drop("source_file", "source_row").sort("row_id")


@pytest.fixture
def folder(workspace):
    """A workspace with blanks and letters in its path, and with a ready MLflow store."""
    return workspace.rename(workspace.parent / "wörk späce 100%")


@pytest.fixture
def ingest(run_job, folder):
    """ingest(overrides...) runs the job on the dataset above; its YAML and source lie in the workspace."""

    def run(*overrides, dataset=DATASET):
        return run_job("ingest", dataset, folder=folder, overrides=[*TOLERANT, *overrides])

    return run


def test_every_fault_has_its_reason_its_row_and_its_text(ingest, folder):
    write(folder, all_rows())
    result = ingest("dataset.duplicates=keep_first")
    assert result.status == "done"
    rows = {k: v for k, v in result.metrics.items() if k.startswith("rows_")}
    assert rows == {"rows_in": 14, "rows_kept": 3, "rows_quarantined": 11}

    observed = table(result, "observations").sort("time")
    assert observed.select("Straße", "price", "floor_area", "Bezirk").rows() == [
        ("Große Bleichen", 100.5, 50.0, "Süd"),
        ("Große Bleichen", 110.0, None, "Süd"),
        ("大通り", None, 60.0, None),
    ]
    assert observed["time"].to_list()[0] == dt.datetime(2015, 1, 4, 23, tzinfo=dt.timezone.utc)  # midnight in Berlin
    assert observed["month"].to_list() == ["2015-01", "2015-01", "2015-02"]
    lake = Path(result.tables["observations"].location)
    assert sorted(p.name for p in lake.glob("month=*")) == ["month=2015-01", "month=2015-02"]

    bad = {row["source_row"]: row for row in table(result, "observations_quarantine").iter_rows(named=True)}
    assert {number: row["reasons"] for number, row in bad.items()} == {n: reason for n, (_, reason) in FAULTS.items()}
    assert {row["source_file"] for row in bad.values()} == {"häuser 1,2.csv"}
    for number in (2, 3, 4, 5, 6, 7, 9, 10, 11):
        assert json.loads(bad[number]["raw"]) == {k: v or None for k, v in zip(HEADER, FAULTS[number][0], strict=True)}
    assert json.loads(bad[8]["raw"]) == {"text": "2015-01-05,Ä,1"}
    assert json.loads(bad[13]["raw"])["price"] == 5.0
    assert bad[10]["time"] == dt.datetime(2149, 12, 31, 23, tzinfo=dt.timezone.utc)

    quality = {(c, m): v for c, m, v in table(result, "quality_reports").select("column", "measure", "value").rows()}
    assert quality[("", "rows_in")] == 14
    assert quality[("", FAULTS[5][1])] == 2
    assert quality[("price", "completeness")] == pytest.approx(12 / 13)  # the row of another width has no cells
    assert quality[("Straße", "completeness")] == pytest.approx(12 / 13)
    assert result.summary[0] == "14 rows in: 3 observations, 11 quarantined"
    assert f"  2 x {FAULTS[5][1]}" in result.summary

    again = ingest("dataset.duplicates=keep_first")
    assert again.status == "unchanged"
    assert again.run_id == result.run_id
    assert again.tables == result.tables
    assert list(again.summary) == list(result.summary)
    assert not (lake.parent / "_scratch").exists()


def test_parquet_gives_the_same_observations_as_csv(ingest, run_job, folder):
    good = [GOOD[n] for n in sorted(GOOD)]
    write(folder, good)
    from_csv = values(ingest())
    typed = pl.DataFrame(good, schema=HEADER, orient="row").with_columns(
        pl.col("Verkauft am").str.to_date(),
        pl.col("price", "floor area").replace("", None).cast(pl.Float64),
        pl.col("Bezirk").replace("", None).cast(pl.Categorical),
    )
    typed.write_parquet(folder / "häuser.parquet", row_group_size=2)
    dataset = {**DATASET, "source": {"path": str(folder / "häuser.parquet")}}
    result = run_job("ingest", dataset, folder=folder.parent / "other", overrides=TOLERANT)
    assert values(result).equals(from_csv)
    assert table(result, "observations_quarantine").is_empty()


def test_a_changed_file_replaces_and_a_setting_does_too(ingest, folder):
    write(folder, [GOOD[1], GOOD[12], ["2015-01-06", "Große Bleichen", "5", "50", "Süd"]])
    first = ingest()
    assert table(first, "observations")["price"].to_list() == [100.5, 5.0]
    write(folder, [GOOD[1], ["2015-02-01", "neu", "7", "50", "Süd"]])
    second = ingest()
    assert second.status == "done"
    assert second.identity != first.identity
    assert table(second, "observations").sort("time")["price"].to_list() == [100.5, 7.0]
    assert table(second, "observations_quarantine").is_empty()
    third = ingest("dataset.targets=[{name: price}]", "dataset.bounds.price=[10, 1000]")
    assert third.status == "done"
    assert table(third, "observations")["price"].to_list() == [100.5]
    assert ingest().status == "done"  # the tables are no longer those of the second run


def test_too_many_bad_rows_refuse_and_leave_the_observations_alone(run_job, folder):
    write(folder, [GOOD[1], GOOD[14]])
    before = run_job("ingest", DATASET, folder=folder)
    write(folder, [GOOD[1], FAULTS[7][0], FAULTS[4][0]])
    refused = run_job("ingest", DATASET, folder=folder)
    assert refused.status == "refused"
    told = refused.summary[0]
    assert "données brutes/häuser 1,2.csv: 2 of 3 rows (66.7%) cannot be used" in told
    assert "above ingest.max_quarantine_share=0.1; observations were left as they were" in told
    assert refused.tables["observations_quarantine"].location in told
    assert any(line == f"  1 x {FAULTS[7][1]}" for line in refused.summary)
    assert table(before, "observations").height == 2
    assert table(refused, "observations_quarantine")["source_row"].sort().to_list() == [2, 3]
    quality = table(refused, "quality_reports").filter(pl.col("run") == refused.identity)
    assert quality.filter(pl.col("measure") == "rows_quarantined")["value"].to_list() == [2]
    again = run_job("ingest", DATASET, folder=folder)
    assert (again.status, again.run_id) == ("refused", refused.run_id)
    assert again.summary == list(refused.summary)
    assert again.tables == {k: v for k, v in refused.tables.items() if k != "observations"}
    allowed = run_job("ingest", DATASET, folder=folder, overrides=TOLERANT)
    assert allowed.status == "done"
    assert allowed.tables["observations"].version > before.tables["observations"].version
    assert table(allowed, "observations").height == 1


def test_no_usable_row_refuses_whatever_the_threshold(ingest, folder):
    write(folder, [FAULTS[7][0]])
    refused = ingest("ingest.max_quarantine_share=1")
    assert refused.status == "refused"
    assert "1 of 1 rows (100.0%) cannot be used, so none is left" in refused.summary[0]
    assert "observations" not in refused.tables


def test_rows_of_the_future_come_back_when_their_time_has_come(ingest, folder, monkeypatch):
    def at(moment):
        clock = types.SimpleNamespace(now=lambda _: moment)
        monkeypatch.setattr(job, "dt", types.SimpleNamespace(datetime=clock, timezone=dt.timezone))

    write(folder, [GOOD[1], ["2015-06-01", "Ä", "1", "50", "Süd"], ["2015-07-01", "Ä", "2", "50", "Süd"]])
    at(dt.datetime(2015, 5, 1, tzinfo=dt.timezone.utc))
    first = ingest()
    assert table(first, "observations").height == 1
    at(dt.datetime(2015, 5, 20, tzinfo=dt.timezone.utc))
    assert ingest().status == "unchanged"
    at(dt.datetime(2015, 6, 2, tzinfo=dt.timezone.utc))
    second = ingest()
    assert second.status == "done"
    assert second.identity == first.identity
    assert table(second, "observations").sort("time")["price"].to_list() == [100.5, 1.0]
    assert ingest().status == "unchanged"
    kept = ingest("dataset.time.future=keep")
    assert table(kept, "observations").height == 3


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "there is no such file"),
        ("", "the file is empty (0 bytes)"),
        (",".join(HEADER) + "\n", "the file has columns but no rows"),
        ("sold,price\n1,2\n", "4 column(s) of dataset wohnungen are missing"),
    ],
)
def test_a_source_that_cannot_be_used_changes_no_table(ingest, folder, content, message):
    path = write(folder, [])
    path.unlink()
    if content is not None:
        path.write_text(content, encoding="utf-8")
    with pytest.raises(DataError) as caught:
        ingest()
    assert message in str(caught.value)
    assert list(folder.glob("lake/*/_delta_log")) == []


def test_many_files_are_one_source_whatever_their_order(ingest, run_job, folder):
    good = [GOOD[n] for n in sorted(GOOD)]
    whole = {**DATASET, "source": {"path": "données brutes"}}
    write(folder, good)
    one = values(ingest(dataset=whole))
    (folder / "données brutes" / "häuser 1,2.csv").unlink()
    for index, row in enumerate(reversed(good)):
        write(folder, [row], f"{index}.csv")
    result = ingest(dataset=whole)
    assert result.status == "done"
    assert values(result).equals(one)
