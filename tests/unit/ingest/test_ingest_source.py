"""Consumes folders and files as users have them, checks which are read, in what parts, and what is said of bad ones."""

import datetime as dt
import gzip
import os
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.fs
import pyarrow.parquet as pq
import pytest

from assay.config import RunConfig
from assay.config.profile import ProfileConfig
from assay.errors import DataError
from assay.ingest import files, source
from assay.ingest.files import find_source
from assay.ingest.increment import look_at, version_of
from assay.ingest.source import parts_of, raw_json, read_part

HEADER = "sold_on,flat,price,rooms,district\n"
ROW = "2015-06-30,a,100,3,north\n"


@pytest.fixture
def config(tmp_path, dataset):
    """config(path, **changes) is a run whose dataset's YAML lies in the test's folder."""

    def make(path, **changes):
        given = {"path": str(path), **changes.pop("source", {})}
        return RunConfig(dataset(source=given, **changes), ProfileConfig(), "production", tmp_path, tmp_path / "ws")

    return make


@pytest.fixture
def refused(config, tmp_path):
    """refused(file, content, **changes) is what is said of a source."""

    def run(name, content, **changes):
        path = tmp_path / name
        if isinstance(content, pa.Table):
            pq.write_table(content, path)
        else:
            path.write_bytes(content if isinstance(content, bytes) else content.encode())
        with pytest.raises(DataError) as caught:
            parts_of(find_source(config(path, **changes)), config(path, **changes))
        assert str(path) in str(caught.value)
        assert "\n" not in str(caught.value)
        return str(caught.value)

    return run


def table(**columns):
    good = {"sold_on": ["2015-06-30"], "flat": ["a"], "price": [100.0], "rooms": [3], "district": ["north"]}
    return pa.table({**good, **columns})


def test_a_source_is_looked_for_in_several_places_and_they_are_told(config, tmp_path, monkeypatch):
    shelf, here = tmp_path / "shelf", tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    monkeypatch.setenv("ASSAY_DATA", str(shelf))
    with pytest.raises(DataError) as caught:
        find_source(config("sub/flats.csv"))
    places = [tmp_path / "sub", here / "sub", tmp_path / "ws" / "raw" / "sub", shelf / "sub", shelf]
    for folder in places:
        assert str(folder / "flats.csv") in str(caught.value)
    assert "change dataset.source.path, or set ASSAY_DATA" in str(caught.value)
    for folder in reversed(places):  # each new one comes before those found so far
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "flats.csv").write_text(HEADER + ROW)
        assert [f.path for f in find_source(config("sub/flats.csv"))] == [str(folder / "flats.csv")]


def test_the_home_folder(config, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "flats.csv").write_text(HEADER)
    assert [f.path for f in find_source(config("~/flats.csv"))] == [str(tmp_path / "flats.csv")]


def test_a_folder_gives_its_data_files_and_nothing_else(config, tmp_path):
    folder = tmp_path / "données brutes"
    wanted = ["a.csv", "b/a.csv", "e.jsonl", "f.json.gz", "b/part.parquet/x.PARQUET", "c.csv.gz", "d.txt"]
    others = ["_SUCCESS", ".a.csv.crc", "_delta_log/0.checkpoint.parquet", ".cache/a.csv", "readme.md", "b/_tmp.csv"]
    for name in wanted + others:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("x")
    found = find_source(config(folder))
    assert sorted(f.name for f in found) == sorted(wanted)
    (single,) = find_source(config(folder / "b" / "a.csv"))
    assert single.name == "a.csv"


def test_an_empty_folder(config, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"the folder has no \.csv, \.txt, \.json, .* or \.pq file"):
        find_source(config("empty"))


def test_the_content_hash_knows_names_and_bytes_but_not_the_folder(config, tmp_path):
    def put(folder, **files):
        for name, text in files.items():
            path = tmp_path / folder / f"{name}.csv"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        return version_of(look_at(find_source(config(tmp_path / folder)), {}))

    same = put("one", a="1", b="2")
    assert put("two", a="1", b="2") == same
    assert len({same, put("three", a="1", c="2"), put("four", a="2", b="1"), put("five", a="12", b="")}) == 4


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_without_read_permission(config, tmp_path):
    path = tmp_path / "secret.csv"
    path.write_text(HEADER)
    path.chmod(0)
    with pytest.raises(DataError, match="cannot be read: Permission denied"):
        look_at(find_source(config(path)), {})


@pytest.mark.parametrize("name", ["flats.csv", "flats.parquet"])
def test_an_empty_file(refused, name):
    assert "the file is empty (0 bytes); change dataset.source.path" in refused(name, b"")


def test_a_header_without_rows(refused):
    assert "the file has no rows" in refused("flats.csv", HEADER.strip())
    assert "the file has columns but no rows" in refused("flats.parquet", table().slice(0, 0))


def test_a_missing_column_is_told_with_its_nearest_kin(refused):
    told = refused("flats.csv", HEADER.replace("price", "Preis").replace("district", "District") + ROW)
    assert "2 column(s) of dataset flats are missing" in told
    assert "'district' (did you mean 'District'?)" in told
    assert "'price' (did you mean 'Preis'?)" in told
    assert "correct the names in the dataset's YAML" in told


def test_a_missing_column_without_kin_shows_what_there_is(refused):
    told = refused("flats.parquet", table().drop_columns(["rooms"]))
    assert "1 column(s) of dataset flats are missing: 'rooms'; the file has 'sold_on', 'flat', 'price'" in told


@pytest.mark.parametrize("delimiter", [";", "\t", "|"])
def test_another_delimiter_is_recognised(refused, delimiter):
    told = refused("flats.csv", (HEADER + ROW).replace(",", delimiter))
    assert f"set dataset.source.delimiter to {delimiter!r} (it is ',')" in told


def test_a_column_that_is_there_twice(refused):
    told = refused("flats.csv", HEADER.replace("rooms", "price") + ROW)
    assert "column 'price' is there 2 times; rename one in the source" in told


def test_a_column_twice_that_nobody_reads_does_no_harm(config, tmp_path):
    path = tmp_path / "flats.csv"
    path.write_text(HEADER.strip() + ",x,x\n" + ROW.strip() + ",1,2\n")
    assert [p.name for p in parts_of(find_source(config(path)), config(path))[0]] == ["flats.csv"]


def test_the_wrong_format(refused):
    assert "cannot be read as parquet" in refused("flats.parquet", HEADER + ROW)
    assert "change dataset.source.format" in refused("flats.csv", HEADER + ROW, source={"format": "parquet"})
    assert "cannot tell the format from its name; set dataset.source.format" in refused("flats.dat", HEADER + ROW)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_parquet_that_is_called_csv(refused):
    assert "or dataset.source.format where this is no CSV" in refused("flats.csv", table())


@pytest.mark.parametrize(
    ("column", "values", "kind"),
    [
        ("district", [["north"]], "list<element: string>"),
        ("flat", [{"id": 1}], "struct<id: int64>"),
        ("rooms", [dt.timedelta(1)], "duration[us]"),
    ],
)
def test_types_that_no_row_can_use(refused, column, values, kind):
    told = refused("flats.parquet", table(**{column: values}).cast(table(**{column: values}).schema))
    assert f"column {column!r} is of type {kind}, and a dataset's columns are texts, numbers" in told


def test_a_time_where_a_number_is_expected(refused):
    told = refused("flats.parquet", table(rooms=[dt.date(2015, 1, 1)]))
    assert "column 'rooms' is of type date32[day], not a number: take it out of the dataset's targets and col" in told


def test_parquet_is_cut_by_row_groups_and_rows_keep_their_numbers(config, tmp_path, monkeypatch):
    monkeypatch.setattr(source, "PART_ROWS", 250)
    path = tmp_path / "flats.parquet"
    rows = pa.table(
        {
            "sold_on": ["2015-06-30"] * 1050,
            "flat": [str(i) for i in range(1, 1051)],
            "price": np.ones(1050),
            "rooms": np.ones(1050),
            "district": pa.array(["north"] * 1050).dictionary_encode(),
        }
    )
    pq.write_table(rows, path, row_group_size=100)
    run = config(path)
    parts, total = parts_of(find_source(run), run)
    assert total == 1050
    assert [part.first_row for part in parts] == [1, 301, 601, 901]
    chunks = [c for part in parts for c in read_part(part, run.dataset.source, list(run.dataset.source_columns))]
    found = {n: flat for c in chunks for n, flat in zip(c.source_row.tolist(), c.frame["flat"], strict=True)}
    assert found == {n: str(n) for n in range(1, 1051)}


def test_a_column_name_with_a_dot_is_one_column(config, tmp_path):
    path = tmp_path / "flats.parquet"
    pq.write_table(table(**{"area.m2": [55.5]}), path)
    run = config(path, columns={"numeric": ["area.m2"]})
    part = parts_of(find_source(run), run)[0][0]
    (chunk,) = read_part(part, run.dataset.source, list(run.dataset.source_columns))
    assert chunk.frame["area.m2"].to_list() == [55.5]


def test_texts_stored_as_bytes_or_dictionaries_are_texts(config, tmp_path):
    path = tmp_path / "flats.parquet"
    pq.write_table(table(flat=["é".encode()], district=pa.array([b"north"]).dictionary_encode()), path)
    run = config(path)
    part = parts_of(find_source(run), run)[0][0]
    (chunk,) = read_part(part, run.dataset.source, list(run.dataset.source_columns))
    assert chunk.frame.select("flat", "district").rows() == [("é", "north")]
    pq.write_table(table(flat=[b"\xff"]), path)
    with pytest.raises(DataError, match="column 'flat' holds bytes that are no UTF-8 text"):
        list(read_part(part, run.dataset.source, list(run.dataset.source_columns)))


def test_csv_and_parquet_in_one_folder(config, tmp_path):
    folder = tmp_path / "raw"
    folder.mkdir()
    (folder / "a.csv").write_text(HEADER + ROW)
    pq.write_table(table(), folder / "b.parquet")
    parts, total = parts_of(find_source(config(folder)), config(folder))
    assert [(p.name, p.format) for p in parts] == [("a.csv", "csv"), ("b.parquet", "parquet")]
    assert total is None


def test_raw_rows_are_json_that_any_reader_takes():
    row = {"a": float("nan"), "b": float("-inf"), "c": "大阪", "d": dt.date(2015, 1, 1), "e": None, "f": 1.5}
    assert raw_json(row) == '{"a": "nan", "b": "-inf", "c": "大阪", "d": "2015-01-01", "e": null, "f": 1.5}'


def test_paths_may_have_any_characters(config, tmp_path):
    path = tmp_path / "straße 1,2" / "ä b#%20.csv"
    path.parent.mkdir()
    path.write_text(HEADER + ROW)
    run = config(Path("straße 1,2") / "ä b#%20.csv")
    (part,) = parts_of(find_source(run), run)[0]
    (chunk,) = read_part(part, run.dataset.source, ["flat"])
    assert chunk.frame["flat"].to_list() == ["a"]


def test_a_file_uri_is_a_path_with_its_letters_escaped(config, tmp_path):
    folder = tmp_path / "ä b#%20"
    folder.mkdir()
    (folder / "a.csv").write_text(HEADER + ROW)
    for uri in (folder.as_uri(), f"{folder.as_uri()}/a.csv", folder.as_uri().replace("file://", "file:")):
        (file,) = find_source(config(uri))
        assert (file.path, file.name) == (str(folder / "a.csv"), "a.csv")


def test_other_file_systems_are_opened_through_arrow(config, tmp_path, monkeypatch):
    """The path for `s3://` and its like, on a file system that is here: Arrow's own, below a root of its own."""
    folder = tmp_path / "bucket" / "raw"
    (folder / "b").mkdir(parents=True)
    (folder / "a.csv.gz").write_bytes(gzip.compress((HEADER + ROW).encode()))
    (folder / "b" / "b.jsonl").write_text(
        '{"sold_on": "2015-06-30", "flat": "b", "price": 1, "rooms": 2, "district": "x"}'
    )
    (folder / "_SUCCESS").write_text("")
    pq.write_table(table(flat=["c"]), folder / "c.parquet")
    here = pa.fs.SubTreeFileSystem(str(tmp_path), pa.fs.LocalFileSystem())
    monkeypatch.setattr(files, "_filesystem", lambda uri: (here, uri.removeprefix("mem://")))
    run = config("mem://bucket/raw")
    found = find_source(run)
    assert [(f.name, str(f)) for f in found] == [
        ("a.csv.gz", "mem://bucket/raw/a.csv.gz"),
        ("b/b.jsonl", "mem://bucket/raw/b/b.jsonl"),
        ("c.parquet", "mem://bucket/raw/c.parquet"),
    ]
    local = find_source(config(folder))
    assert version_of(look_at(found, {})) == version_of(look_at(local, {}))
    parts, _ = parts_of(found, run)
    flats = [c.frame["flat"].to_list() for p in parts for c in read_part(p, run.dataset.source, ["flat"])]
    assert flats == [["a"], ["b"], ["c"]]
    (single,) = find_source(config("mem://bucket/raw/c.parquet"))
    assert single.name == "c.parquet"
    with pytest.raises(
        DataError, match=r"source\.path mem://bucket/no: there is no such file; change dataset\.source\.pa"
    ):
        find_source(config("mem://bucket/no"))


@pytest.mark.parametrize("uri", ["nosuch://bucket/flats.csv", "hdfs://nowhere:1/flats.csv"])
def test_a_file_system_that_is_not_there(config, uri):
    with pytest.raises(DataError) as caught:
        find_source(config(uri))
    assert f"source.path {uri}: the file system {uri.split(':')[0]}:// cannot be opened: " in str(caught.value)
    assert "s3, gs, abfss and hdfs (which needs HADOOP_HOME and libhdfs) are known" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_json_objects_may_leave_out_what_some_object_has(config, tmp_path, refused):
    folder = tmp_path / "raw"
    folder.mkdir()
    (folder / "a.jsonl").write_text('{"sold_on": "2015-06-30", "flat": "a", "price": 1}')
    (folder / "b.json").write_text('[{"sold_on": "2015-06-30", "flat": "b", "rooms": 2, "district": "x"}]')
    assert [p.format for p in parts_of(find_source(config(folder)), config(folder))[0]] == ["json", "json"]
    (folder / "b.json").unlink()
    with pytest.raises(DataError, match=r"2 column\(s\) of dataset flats are missing: 'district', 'rooms'"):
        parts_of(find_source(config(folder)), config(folder))
    told = refused("c.json", '{"sold_on": "2015-06-30", "Flat": "a", "price": 1, "rooms": 1, "district": "x"}')
    assert "1 column(s) of dataset flats are missing: 'flat' (did you mean 'Flat'?)" in told


def test_a_format_that_is_given_leaves_out_files_of_others(config, tmp_path):
    folder = tmp_path / "raw"
    folder.mkdir()
    for name in ("a.csv", "schema.json", "c.parquet"):
        (folder / name).write_text("x")
    assert [f.name for f in find_source(config(folder, source={"format": "csv"}))] == ["a.csv"]
