"""Consumes rows good and bad, checks the reasons of bad ones, duplicates, row ids, and that no row is ever lost."""

import csv
import datetime as dt
import io
import json
from collections import Counter

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from assay.ingest.rules import ResolveDuplicates, checked_schema, typed_columns
from assay.ingest.source import SourcePart

HEADER = ["sold_on", "flat", "price", "rooms", "district"]
GOOD = ["2015-06-30", "a", "100", "3", "north"]
FIELDS = "row has another number of fields than the header (dataset.source.delimiter)"


@pytest.fixture
def write(tmp_path):
    """write(rows, name) -> a CSV with these rows below the header."""

    def run(rows, name="flats.csv", header=HEADER):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows([header, *rows])
        path.write_text(text.getvalue(), encoding="utf-8", newline="")
        return path

    return run


def good(**changes):
    return [changes.get(name, value) for name, value in zip(HEADER, GOOD, strict=True)]


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"sold_on": "soon"}, "column 'sold_on': no readable time (dataset.time.format)"),
        ({"sold_on": ""}, "column 'sold_on': no readable time (dataset.time.format)"),
        ({"sold_on": "2030-01-01"}, "column 'sold_on': in the future (dataset.time.future)"),
        ({"flat": " "}, "column 'flat': entity key is missing (dataset.entity)"),
        ({"price": "cheap"}, "column 'price': not a number (dataset.targets)"),
        ({"price": "nan"}, "column 'price': target is NaN or infinite (dataset.targets)"),
        ({"price": "-inf"}, "column 'price': target is NaN or infinite (dataset.targets)"),
        ({"price": "-5"}, "column 'price': not above 0, as transform log needs (dataset.targets.transform)"),
        ({"price": "0"}, "column 'price': not above 0, as transform log needs (dataset.targets.transform)"),
        ({"price": "2000000"}, "column 'price': outside 1 to 1e+06 (dataset.bounds.price)"),
        ({"rooms": "three"}, "column 'rooms': not a number (dataset.columns)"),
        ({"rooms": "inf"}, "column 'rooms': infinite (dataset.columns)"),
        ({"rooms": "99"}, "column 'rooms': outside 0 to 50 (dataset.bounds.rooms)"),
    ],
)
def test_one_bad_cell_and_its_reason(dataset, ingest, write, changes, reason):
    config = dataset(bounds={"price": [1, 1e6], "rooms": [0, 50]})
    row = good(**changes)
    kept, bad = ingest(config, [write([good(flat="b"), row, good(flat="c")])])
    assert sorted(kept["flat"]) == ["b", "c"]
    assert bad["source_row"].to_list() == [2]
    assert reason in bad["reasons"][0].split("; ")
    assert all(next(iter(changes)) in told for told in bad["reasons"][0].split("; "))
    assert json.loads(bad["raw"][0]) == {k: v or None for k, v in zip(HEADER, row, strict=True)}


@pytest.mark.parametrize("changes", [{"price": ""}, {"rooms": "nan"}, {"rooms": ""}, {"district": ""}])
def test_missing_values_are_no_fault(dataset, ingest, write, changes):
    kept, bad = ingest(dataset(), [write([good(**changes)])])
    assert bad.is_empty()
    (name,) = changes
    assert kept[name].to_list() == [None]


def test_values_that_mean_not_known_are_missing_and_no_fault(dataset, ingest, write):
    config = dataset(
        unknown_values={"rooms": [0, 999], "district": ["?", 0]}, bounds={"rooms": [1, 50], "price": [1, 1000]}
    )
    told = [good(flat=name, **changes) for name, changes in UNKNOWN.items()]
    kept, bad = ingest(config, [write([good(flat="x"), *told, good(flat="y", rooms="998")])])
    found = {row["flat"]: (row["rooms"], row["district"], row["price"]) for row in kept.iter_rows(named=True)}
    assert found == {
        "x": (3.0, "north", 100.0),
        "zero": (None, "north", 100.0),
        "many": (None, "north", 100.0),
        "where": (3.0, None, 100.0),
        "code": (3.0, None, 100.0),
    }
    assert bad["reasons"].to_list() == ["column 'rooms': outside 1 to 50 (dataset.bounds.rooms)"]
    everything, none = ingest(dataset(), [write(told, name="as_they_are.csv")])
    assert none.is_empty()
    assert sorted(everything["rooms"]) == [0.0, 3.0, 3.0, 999.0]


UNKNOWN = {"zero": {"rooms": "0"}, "many": {"rooms": "999.0"}, "where": {"district": " ? "}, "code": {"district": "0"}}


def test_a_row_with_several_faults_has_all_reasons(dataset, ingest, write):
    _, bad = ingest(dataset(), [write([["soon", "", "-5", "three", "north"]])])
    assert bad["reasons"][0].split("; ") == [
        "column 'sold_on': no readable time (dataset.time.format)",
        "column 'flat': entity key is missing (dataset.entity)",
        "column 'rooms': not a number (dataset.columns)",
        "column 'price': not above 0, as transform log needs (dataset.targets.transform)",
    ]


def test_broken_rows_keep_their_text_and_shift_no_number(dataset, ingest, write):
    rows = [["one"], good(), [*good(flat="b"), "more"], good(flat="c", price="x"), good(flat="d")]
    kept, bad = ingest(dataset(), [write(rows)])
    assert dict(kept.select("flat", "source_row").rows()) == {"a": 2, "d": 5}
    found = {row["source_row"]: row for row in bad.iter_rows(named=True)}
    assert found[1]["reasons"] == found[3]["reasons"] == FIELDS
    assert json.loads(found[1]["raw"]) == {"text": "one"}
    assert json.loads(found[3]["raw"]) == {"text": "2015-06-30,b,100,3,north,more"}
    assert json.loads(found[4]["raw"])["price"] == "x"


def test_names_with_blanks_and_unicode(dataset, ingest, write):
    header = ["Verkauft am", "Straße", "prix (€)", "area.m2", "区"]
    config = dataset(
        time={"column": "Verkauft am"},
        entity=["Straße"],
        targets=[{"name": "prix (€)"}],
        columns={"numeric": ["area.m2"], "categorical": ["区"]},
    )
    rows = [["2015-06-30", "Große Bleichen", "100", "55.5", "北"], ["2015-06-30", "Große Bleichen", "x", "1", "北"]]
    kept, bad = ingest(config, [write(rows, header=header)])
    assert kept.select("Straße", "prix__€_", "area_m2", "区").rows() == [("Große Bleichen", 100.0, 55.5, "北")]
    assert json.loads(bad["raw"][0]) == dict(zip(header, rows[1], strict=True))
    assert bad["reasons"][0] == "column 'prix (€)': not a number (dataset.targets)"


@pytest.mark.parametrize(
    ("rule", "kept_row", "others"), [("keep_first", 1, [3, 4]), ("keep_last", 4, [1, 3]), ("allow", None, [])]
)
def test_duplicates(dataset, ingest, write, rule, kept_row, others):
    rows = [good(price="1"), good(flat="b"), good(price="2"), good(price="3"), good(price="cheap")]
    kept, bad = ingest(dataset(duplicates=rule), [write(rows)])
    assert kept["row_id"].n_unique() == kept.height
    doubles = bad.filter(pl.col("source_row") != 5)
    assert sorted(doubles["source_row"]) == others
    assert set(doubles["reasons"]) <= {f"another row has the same entity and time: {rule} (dataset.duplicates)"}
    expected = [1, 2, 3, 4] if kept_row is None else sorted([kept_row, 2])
    assert sorted(kept["source_row"]) == expected


def test_a_double_shows_the_row_that_it_was(dataset, ingest, write):
    _, bad = ingest(dataset(duplicates="keep_first"), [write([good(), good(price="7", district="")])])
    raw = json.loads(bad["raw"][0])
    assert raw.pop("sold_on").startswith("2015-06-30")
    assert raw == {"flat": "a", "price": 7.0, "rooms": 3.0, "district": None}


def test_duplicates_are_told_by_entity_and_moment_alone(dataset, ingest, write):
    rows = [good(), good(sold_on="2015-06-30T02:00:00+02:00", price="5"), good(sold_on="2015-06-30 00:00:01")]
    kept, bad = ingest(dataset(), [write(rows)])
    assert sorted(kept["source_row"]) == [2, 3]
    assert bad["source_row"].to_list() == [1]


def test_files_are_told_apart_by_their_place_in_the_folder(dataset, ingest, write):
    paths = [write([good(price="1")], "a/x.csv"), write([good(price="2")], "b/x.csv")]
    parts = [SourcePart(str(p), f"{p.parent.name}/x.csv", "csv") for p in paths]
    kept, bad = ingest(dataset(duplicates="keep_first"), parts)
    assert kept["source_file"].to_list() == ["a/x.csv"]
    assert bad["source_file"].to_list() == ["b/x.csv"]


@pytest.mark.parametrize("name", ["index", "occurrence", "time", "row_id", "reasons", "len", "literal", "own"])
def test_an_entity_may_have_any_name(dataset, ingest, write, name):
    config = dataset(entity=[name])
    header = [name if h == "flat" else h for h in HEADER]
    rows = [good(), good(flat="b"), good(price="x")]
    kept, bad = ingest(config, [write(rows, header=header)])
    assert kept["row_id"].n_unique() == kept.height == 2
    assert bad.height == 1
    doubles = [good(), good(price="5")]
    assert [part.height for part in ingest(config, [write(doubles, header=header)])] == [1, 1]


def test_rows_are_the_same_from_csv_and_from_parquet(dataset, ingest, write, tmp_path):
    rows = [good(), good(flat="b", price="2.5"), good(flat="c", rooms="")]
    typed = pa.table(
        {
            "sold_on": ["2015-06-30"] * 3,
            "flat": ["a", "b", "c"],
            "price": [100.0, 2.5, 100.0],
            "rooms": [3, 3, None],
            "district": ["north"] * 3,
        }
    )
    pq.write_table(typed, tmp_path / "flats.parquet")
    parquet = SourcePart(str(tmp_path / "flats.parquet"), "flats.csv", "parquet", 1, (0,))
    (one, none), (other, _) = ingest(dataset(), [write(rows)]), ingest(dataset(), [parquet])
    assert none.is_empty()
    assert one.equals(other)


def test_parquet_keeps_what_it_cannot_use_in_the_quarantine(dataset, ingest, tmp_path):
    typed = pa.table(
        {
            "sold_on": ["2015-06-30", None, "2015-06-30"],
            "flat": ["a", "b", "c"],
            "price": [float("inf"), 5.0, 5.0],
            "rooms": [3.0, 3.0, float("-inf")],
            "district": ["north"] * 3,
        }
    )
    pq.write_table(typed, tmp_path / "flats.parquet")
    kept, bad = ingest(dataset(), [SourcePart(str(tmp_path / "flats.parquet"), "flats.parquet", "parquet", 1, (0,))])
    assert kept.is_empty()
    found = {row["source_row"]: json.loads(row["raw"]) for row in bad.iter_rows(named=True)}
    assert found[1]["price"] == "inf"
    assert found[2]["sold_on"] is None
    assert found[3]["rooms"] == "-inf"


def test_typed_columns_have_the_names_and_types_of_the_table(dataset):
    config = dataset()
    raw = pl.DataFrame([GOOD], schema=HEADER, orient="row")
    columns, rules = typed_columns(raw, config, dt.datetime.now(dt.timezone.utc))
    schema = checked_schema(config)
    assert {c.name for c in columns} == set(schema.names) - {
        *("row_id", "month", "source_file", "source_row", "reasons", "raw")
    }
    assert rules == []


def test_nothing_in_nothing_out(dataset):
    for rule in ("keep_first", "keep_last", "allow"):
        assert list(ResolveDuplicates(dataset(duplicates=rule))(iter([]))) == []


@pytest.mark.parametrize("rule", ["keep_first", "allow"])
def test_a_month_of_bad_rows_alone(dataset, ingest, write, rule):
    kept, bad = ingest(dataset(duplicates=rule), [write([good(price="x"), ["z"], good(sold_on="?")])])
    assert kept.is_empty()
    assert sorted(bad["source_row"]) == [1, 2, 3]


TIMES = st.sampled_from(
    ["2015-06-30", "2015-06-30T00:00:00Z", "2015-07-01 12:00", "2030-01-01", "0001-01-01", "soon", "", "2015-02-30"]
)
NUMBERS = st.sampled_from(["1", "2.5", "-3", "0", "1e400", "nan", "inf", "x", "", " 7 ", "1,5", "NA"])
TEXTS = st.sampled_from(["a", "b", "", " ", "São", "a;b", '"', "NA"]) | st.text(
    st.characters(blacklist_categories=["Cs"], blacklist_characters="\0\r"), max_size=4
)
ROW = st.tuples(TIMES, TEXTS, NUMBERS, NUMBERS, TEXTS).map(list)
BROKEN = st.lists(TEXTS, min_size=1, max_size=7).filter(lambda row: len(row) != len(HEADER))


def put(folder, rows, name="arbitrary.csv"):
    path = folder / name
    text = io.StringIO()
    csv.writer(text, lineterminator="\n", quoting=csv.QUOTE_ALL).writerows([HEADER, *rows])
    path.write_text(text.getvalue(), encoding="utf-8", newline="")
    return path


@settings(max_examples=150, deadline=None)
@given(st.lists(ROW | BROKEN, min_size=1, max_size=40), st.sampled_from(["keep_first", "keep_last", "allow"]))
@example([[""], GOOD, GOOD], "keep_last")
def test_rows_in_are_observations_plus_quarantine(tmp_path_factory, dataset, ingest, rows, rule):
    path = put(tmp_path_factory.getbasetemp(), rows)
    kept, bad = ingest(dataset(duplicates=rule), [path])
    assert sorted([*kept["source_row"], *bad["source_row"]]) == list(range(1, len(rows) + 1))
    assert kept["row_id"].n_unique() == kept.height
    assert kept["row_id"].null_count() == kept["time"].null_count() == kept["flat"].null_count() == 0
    assert kept["month"].to_list() == kept["time"].dt.strftime("%Y-%m").to_list()
    assert kept["price"].is_finite().fill_null(True).all()
    assert (kept["price"] > 0).fill_null(True).all()
    if rule != "allow":
        assert kept.select("flat", "time").is_unique().all()
    for row in bad.iter_rows(named=True):
        found = json.loads(row["raw"])
        assert row["reasons"]
        assert set(found) == ({"text"} if row["reasons"] == FIELDS else set(HEADER))
    for number, cells in enumerate(rows, start=1):
        assert len(cells) == len(HEADER) or number in set(bad["source_row"])


@settings(max_examples=80, deadline=None)
@given(
    st.lists(ROW, min_size=1, max_size=25),
    st.randoms(use_true_random=False),
    st.integers(0, 25),
    st.sampled_from(["keep_last", "allow"]),
)
def test_row_ids_do_not_depend_on_the_order_of_rows_or_on_files(
    tmp_path_factory, dataset, ingest, rows, random, cut, rule
):
    folder = tmp_path_factory.getbasetemp()
    shuffled = rows.copy()
    random.shuffle(shuffled)
    config = dataset(duplicates=rule)
    one, _ = ingest(config, [put(folder, rows, "whole.csv")])
    parts = [put(folder, shuffled[:cut], "first.csv"), put(folder, shuffled[cut:], "second.csv")]
    two, _ = ingest(config, parts)
    key = (
        ["row_id", "flat", "time"] if rule == "keep_last" else ["row_id", "flat", "time", "price", "rooms", "district"]
    )
    assert Counter(one.select(key).rows()) == Counter(two.select(key).rows())
