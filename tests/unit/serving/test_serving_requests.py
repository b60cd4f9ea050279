"""Checks what is said of requests: their form, their columns, their values, and the order of rows and history."""

from __future__ import annotations

import datetime as dt
import json

import pytest

from assay.config import DatasetConfig
from assay.config.strict import check
from assay.serving.pricer import _written
from assay.serving.request import Asked, BadRequest, Limits, Reader, parsed

TREE = {
    "name": "flats",
    "source": {"path": "flats.parquet"},
    "time": {"column": "sold on"},
    "entity": ["flat", "floor"],
    "targets": [{"name": "price", "transform": "log"}],
    "columns": {"numeric": ["size"], "categorical": ["kind"], "outcomes": ["visits"]},
    "bounds": {"size": [1, 900]},
}
ROW = {"sold on": "2020-03-01", "flat": 7, "floor": 1.0, "size": 80, "kind": "new"}
PAST = {"sold on": "2020-02-01", "flat": 7, "floor": 1.0, "price": 100.0, "visits": 3}


def reader_of(**changes):
    dataset = check(DatasetConfig, {**TREE, **changes}, origin="test")
    return Reader(dataset, ("price", "visits"), Limits(rows=5, history=4))


def read(rows, history=(), **changes):
    reader = reader_of(**changes)
    (found,) = reader.read([reader.raw(rows, list(history))])
    if isinstance(found, BadRequest):
        raise found
    return found


@pytest.mark.parametrize(
    ("format_", "text"), [("%s", "1583020800"), ("epoch_ms", "1583020800250"), ("epoch_ns", "1583020800250000000")]
)
def test_an_example_of_a_time_that_is_a_number_is_read_back(format_, text):
    moment = dt.datetime(2020, 3, 1, 0, 0, 0, 250_000, dt.timezone.utc)
    dataset = check(DatasetConfig, {**TREE, "time": {"column": "sold on", "format": format_}}, origin="test")
    assert _written(moment, dataset) == text
    asked = read([{**ROW, "sold on": int(text)}], time={"column": "sold on", "format": format_})
    assert asked.rows["time"].to_list() == [moment if format_ != "%s" else moment.replace(microsecond=0)]


@pytest.mark.parametrize(
    "body",
    [
        {"rows": [ROW], "history": [PAST]},
        {"dataframe_records": [ROW], "history": [PAST]},
        {"dataframe_split": {"columns": list(ROW), "data": [list(ROW.values())]}, "history": [PAST]},
    ],
)
def test_three_forms_of_a_body_say_the_same(body):
    assert parsed(json.dumps(body).encode()) == ([ROW], [PAST])
    assert parsed(b'{"rows": [], "history": null}') == ([], [])


@pytest.mark.parametrize(
    ("body", "status", "told"),
    [
        (b"{", 400, "the body is no JSON"),
        (b"\xff\xfe{", 400, "the body is no JSON"),
        (b"[" * 100_000, 400, "the body is no JSON"),
        (b'{"rows": [{"size": NaN}]}', 400, "NaN is no JSON value, write null"),
        (b"[1]", 400, "must be an object such as"),
        (b'{"rows": [], "dataframe_records": []}', 400, "must be an object such as"),
        (b'{"rows": [], "histroy": []}', 400, "unknown key 'histroy'; did you mean history?"),
        (b'{"rows": {"size": 1}}', 422, "rows: expected a list of objects"),
        (b'{"rows": [{}, 3]}', 422, r"rows\[1\]: expected an object"),
        (b'{"dataframe_split": {"columns": ["a"], "data": [[1, 2]]}}', 422, r"data\[0\]: expected a list of 1 values"),
        (b'{"dataframe_split": [1]}', 422, "expected an object with columns and data"),
    ],
)
def test_a_body_that_is_none_is_refused_with_what_is_wrong(body, status, told):
    with pytest.raises(BadRequest, match=told) as caught:
        parsed(body)
    assert caught.value.status == status


def test_values_mean_what_they_mean_in_the_source():
    asked = read([ROW, {**ROW, "kind": None, "size": "81", "sold on": "2020-03-02T12:00"}])
    assert asked.wrong == {}
    assert asked.rows["flat"].to_list() == ["7", "7"]
    assert asked.rows["floor"].to_list() == ["1", "1"]  # as ingest writes whole numbers
    assert asked.rows["size"].to_list() == [80.0, 81.0]
    assert asked.rows["kind"].to_list() == ["new", None]
    assert [str(t)[:16] for t in asked.rows["time"]] == ["2020-03-01 00:00", "2020-03-02 12:00"]
    asked = read([{**ROW, "kind": "NA", "flat": True}], source={"path": "flats.csv"})
    assert asked.rows["kind"].to_list() == [None]  # a text that means no value there
    assert asked.rows["flat"].to_list() == ["true"]


def test_what_the_row_itself_came_to_is_not_looked_at():
    asked = read([{**ROW, "price": -5.0, "visits": "many"}])
    assert asked.wrong == {}
    assert asked.rows.select("price", "visits").row(0) == (None, None)


@pytest.mark.parametrize(
    ("rows", "history", "told"),
    [
        ([], [], "rows: there are none"),
        ([{**ROW, "sice": 3}], [], r"rows\[0\]: unknown column 'sice'; did you mean size\?"),
        ([ROW, {**ROW, "zzzzzzz": 3}], [], r"rows\[1\]: unknown column 'zzzzzzz' \(the source has sold on, flat"),
        ([{k: v for k, v in ROW.items() if k != "kind"}], [], "rows: column 'kind' is missing from all rows"),
        ([{**ROW, "size": [3]}], [], r"rows\[0\]: column 'size': expected one value, found a list"),
        ([{**ROW, "sold on": "soon"}], [], r"rows\[0\]: column 'sold on': no readable time \(dataset.time.format\)"),
        ([{**ROW, "flat": None}], [], "column 'flat': entity key is missing"),
        ([ROW], [{**PAST, "price": -1}], r"history\[0\]: column 'price': not above 0"),
        ([ROW], [PAST, {**PAST, "sold on": "2200-01-01"}], r"history\[1\]: column 'sold on': in the future"),
        ([ROW], [{"sold on": "2020-01-01", "flat": 7, "floor": 1}], "history: column 'price' is missing"),
        ([ROW], [{**PAST, "sold on": "2020-03-01"}], "flat=7, floor=1 at 2020-03-01.* history must be earlier"),
        ([ROW], [{**PAST, "flat": 8}], "history: a row of flat=8, floor=1, of which there is no row to be priced"),
    ],
)
def test_a_request_that_cannot_be_answered_says_why(rows, history, told):
    with pytest.raises(BadRequest, match=told) as caught:
        read(rows, history)
    assert caught.value.status == 422


@pytest.mark.parametrize(("rows", "history", "what"), [([ROW] * 6, [], "rows"), ([ROW], [PAST] * 5, "history")])
def test_too_many_rows_are_refused_with_the_setting(rows, history, what):
    with pytest.raises(BadRequest, match=rf"{what}: \d rows, at most \d are taken \(--max-{what}\)") as caught:
        read(rows, history)
    assert caught.value.status == 413


def test_a_bad_row_among_good_ones_is_flagged_and_the_others_stay():
    rows = [ROW, {**ROW, "size": "big"}, {**ROW, "size": 10_000}, {**ROW, "sold on": 3}, {**ROW, "kind": 5}]
    asked = read(rows)
    assert asked.rows["place"].to_list() == [0, 4]
    assert asked.rows["kind"].to_list() == ["new", "5"]
    assert list(asked.wrong) == [1, 2, 3]
    assert "column 'size': not a number" in asked.wrong[1]
    assert "outside 1 to 900 (dataset.bounds.size)" in asked.wrong[2]
    assert "no readable time" in asked.wrong[3]


def test_the_history_of_a_bad_row_does_not_fail_the_others():
    asked = read([ROW, {**ROW, "flat": 8, "sold on": "soon"}], [PAST, {**PAST, "flat": 8}])
    assert (asked.rows.height, list(asked.wrong), asked.history.height) == (1, [1], 2)


def test_rows_to_be_priced_may_lie_in_the_future():
    assert read([{**ROW, "sold on": "2200-01-01"}]).wrong == {}


def test_history_counts_as_ingest_would_keep_it():
    past = [{**PAST, "price": 90.0}, {**PAST, "price": 95.0}, {**PAST, "sold on": "2020-01-01"}]
    assert sorted(read([ROW], past).history["price"].to_list()) == [95.0, 100.0]  # keep_last
    kept = read([ROW], past, duplicates="allow").history
    assert sorted(kept["price"].to_list()) == [90.0, 95.0, 100.0]


def test_times_of_a_dataset_with_a_frequency_are_the_starts_of_periods():
    aligned = {"time": {"column": "sold on", "align": {"frequency": "1mo", "aggregate": "mean"}}}
    past = [{**PAST, "price": 90.0}, {**PAST, "price": 110.0, "sold on": "2020-02-20"}]
    asked = read([{**ROW, "sold on": "2020-03-17"}], past, **aligned)
    assert [str(time)[:10] for time in asked.rows["time"]] == ["2020-03-01"]
    assert asked.history.select("price", "visits").rows() == [(100.0, 3.0)]
    with pytest.raises(BadRequest, match="history must be earlier"):
        read([{**ROW, "sold on": "2020-03-17"}], [{**PAST, "sold on": "2020-03-02"}], **aligned)


def test_requests_are_read_together_where_that_changes_nothing():
    reader = reader_of()
    plain, other = reader.raw([ROW], []), reader.raw([{**ROW, "kind": None, "size": 3}], [])
    assert plain.goes_with(other)
    assert other.goes_with(plain)
    for changed in ({"size": 3.5}, {"flat": "7"}, {"flat": 2**70}):
        assert not plain.goes_with(reader.raw([{**ROW, **changed}], []))
    assert not plain.goes_with(reader.raw([ROW, {**ROW, "size": "x"}], []))
    assert not plain.goes_with(reader.raw([ROW], [PAST]))
    bad = reader.raw([{**ROW, "sold on": "soon"}], [])
    found = reader.read([plain, bad, other])
    assert isinstance(found[1], BadRequest)
    assert "rows[0]" in str(found[1])
    for alone, together in zip((plain, other), (found[0], found[2]), strict=True):
        (expected,) = reader.read([alone])
        assert isinstance(together, Asked)
        assert together.rows.drop("source_row").equals(expected.rows.drop("source_row"))
