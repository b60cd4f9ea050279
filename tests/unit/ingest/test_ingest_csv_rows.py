"""Consumes CSV files of every kind of mess, checks their rows, the rows' numbers and what is said of broken ones."""

import csv
import gzip
import io

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from assay.config.dataset import SourceConfig
from assay.errors import DataError
from assay.ingest import csv_rows
from assay.ingest.csv_rows import csv_header, read_csv

PLAIN = SourceConfig(path="x")


@pytest.fixture
def read(tmp_path):
    """read(bytes) -> header, rows as {number: values}, broken rows as {number: text}."""

    def run(content, source=PLAIN, columns=("a", "b"), name="x.csv"):
        path = tmp_path / name
        path.write_bytes(content)
        header, rows, broken = csv_header(path, source), {}, {}
        for chunk in read_csv(path, source, list(columns)):
            assert chunk.frame.columns == list(columns)
            assert set(chunk.frame.dtypes) <= {pl.String}
            rows |= dict(zip(chunk.source_row.tolist(), chunk.frame.rows(), strict=True))
            broken |= dict(chunk.broken)
        return header, rows, broken

    return run


@pytest.mark.parametrize(
    ("content", "rows", "broken"),
    [
        (b"a,b\n1,2\n3,4\n", {1: ("1", "2"), 2: ("3", "4")}, {}),
        (b"a,b\n1,2\n3,4", {1: ("1", "2"), 2: ("3", "4")}, {}),
        (b"a,b\r\n1,2\r\n3\r\n4,5\r\n", {1: ("1", "2"), 3: ("4", "5")}, {2: "3"}),
        (b"\xef\xbb\xbfa,b\n1,2\n", {1: ("1", "2")}, {}),
        (b"a,b\n1\n1,2\n3\n3,4,5\n6,7\n8\n", {2: ("1", "2"), 5: ("6", "7")}, {1: "1", 3: "3", 4: "3,4,5", 6: "8"}),
        (b"a,b\n1\n2\n", {}, {1: "1", 2: "2"}),
        (b"a,b\n1,2\n\n3,4\n5\n\n6,7\n", {1: ("1", "2"), 2: ("3", "4"), 4: ("6", "7")}, {3: "5"}),
        (b'a,b\n"1\n1",2\n3\n4,5\n', {1: ("1\n1", "2"), 3: ("4", "5")}, {2: "3"}),
        (b'a,b\n1,2\n"3\n3"\n4,5\n', {1: ("1", "2"), 3: ("4", "5")}, {2: '"3\n3"'}),
        (b'a,b\n"x, ""y""",5" pipe\n', {1: ('x, "y"', '5" pipe')}, {}),
        (b'a,b\nNA,"NA"\n"",x\nnull,NULL\n', {1: (None, None), 2: (None, "x"), 3: (None, None)}, {}),
        (b"a,b\n", {}, {}),
    ],
)
def test_rows_have_the_number_that_they_have_in_the_file(read, content, rows, broken):
    header, found, wrong = read(content)
    assert header == ["a", "b"]
    assert found == rows
    assert wrong == broken


def test_columns_are_found_by_name(read):
    assert read(b"b,x,a\n1,9,2\n")[1] == {1: ("2", "1")}


def test_other_delimiters_and_null_values(read):
    source = SourceConfig(path="x", delimiter=";", null_values=("-",))
    assert read(b"a;b\n-;1,5\nNA;\n", source)[1] == {1: (None, "1,5"), 2: ("NA", "")}


def test_compressed_files(read):
    assert read(gzip.compress(b"a,b\n1,2\n3\n"), name="x.csv.gz")[1:] == ({1: ("1", "2")}, {2: "3"})


@pytest.mark.parametrize("encoding", ["latin-1", "cp1252", "utf-16"])
def test_other_encodings(read, encoding):
    source = SourceConfig(path="x", encoding=encoding)
    assert read("a,b\nSão,ß\nü\n".encode(encoding), source)[1:] == ({1: ("São", "ß")}, {2: "ü"})


@pytest.mark.parametrize(
    "content", ["ã,b\n1,2\n", "a,b\nSão,2\n", "a,b\n" + "x,2\n" * 50 + "São,2\n", "a,b\n" + "x,2\n" * 50 + "São\n"]
)
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_text_in_another_encoding_says_which_setting_to_change(read, content, monkeypatch):
    monkeypatch.setattr(csv_rows, "BLOCK_BYTES", 64)
    with pytest.raises(DataError, match=r"the text is not utf-8 .* set dataset\.source\.encoding"):
        read(content.encode("latin-1"))


@pytest.mark.parametrize("content", [b"a,b", b"\n", b"\n\n"])
def test_a_header_alone_has_no_rows(read, content):
    with pytest.raises(DataError, match="the file has no rows"):
        read(content)


@pytest.mark.parametrize(
    ("content", "line", "lines"),
    [
        (b'a,b\n1,2\n"3,4\n5,6\n7,8\n', 3, 3),
        (b'a,b\n1,2\n3,"4\n5,6\n7,8\n', 3, 3),
        (b'a,b\n"1\n1",2\n3,"4\n5,6\n', 4, 2),
        (b'a,b,c\n1,2,"x\n5,6,y\n', 2, 2),  # in a column that nobody asked for
    ],
)
def test_a_quote_never_closed_does_not_hide_the_rows_after_it(read, content, line, lines):
    with pytest.raises(DataError, match=rf"a quote in line {line} is never closed, so {lines} lines would"):
        read(content)


@pytest.mark.parametrize("content", [b'a,b\n1,5" pipe\n3,4\n\n', b'a,b\n"1\n1",5" pipe\n3,4\n', b'a,b\n1,"\n2"\n3,4\n'])
def test_other_odd_quotes_are_fine(read, content):
    assert len(read(content)[1]) == 2


def test_a_broken_row_is_quoted_in_part_when_it_is_endless(read):
    assert len(read(b"a,b\n" + b"x" * 50_000 + b"\n1,2\n")[2][1]) == csv_rows.LONGEST_TEXT


CELL = st.text(st.characters(blacklist_categories=["Cs"], blacklist_characters="\0\r"), max_size=5)
ROWS = st.lists(st.lists(CELL, min_size=1, max_size=4), max_size=30)


@settings(max_examples=150, deadline=None)
@given(ROWS, st.sampled_from([",", ";", "|"]))
def test_every_row_arrives_once_under_its_number(tmp_path_factory, rows, delimiter):
    path = tmp_path_factory.getbasetemp() / "arbitrary.csv"
    text = io.StringIO()
    csv.writer(text, delimiter=delimiter, lineterminator="\n", quoting=csv.QUOTE_ALL).writerows([["a", "b"], *rows])
    path.write_text(text.getvalue(), encoding="utf-8", newline="")
    source = SourceConfig(path="x", delimiter=delimiter, null_values=())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(csv_rows, "BLOCK_BYTES", 256)  # a few rows
        chunks = list(read_csv(path, source, ["a", "b"]))
    whole = {n: row for c in chunks for n, row in zip(c.source_row.tolist(), c.frame.rows(), strict=True)}
    broken = {n for c in chunks for n, _ in c.broken}
    assert whole == {n: tuple(row) for n, row in enumerate(rows, start=1) if len(row) == 2}
    assert broken == {n for n, row in enumerate(rows, start=1) if len(row) != 2}


def test_numbers_hold_over_many_blocks(read, monkeypatch):
    monkeypatch.setattr(csv_rows, "BLOCK_BYTES", 512)
    lines = [f"{i},x" if i % 37 else f"{i}" for i in range(1, 3001)]
    _, rows, broken = read(("a,b\n" + "\n".join(lines) + "\n").encode())
    assert len(rows) + len(broken) == 3000
    assert all(int(values[0]) == number for number, values in rows.items())
    assert all(int(text) == number for number, text in broken.items())
