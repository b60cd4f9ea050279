"""Consumes JSON files of every kind of mess, checks their rows, the rows' numbers and what is said of broken ones."""

import gzip
import json

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from assay.config.dataset import SourceConfig
from assay.errors import DataError
from assay.ingest import json_rows
from assay.ingest.json_rows import json_names, read_json

PLAIN = SourceConfig(path="x")


@pytest.fixture
def read(tmp_path):
    """read(bytes) -> keys, rows as {number: values}, broken rows as {number: text}."""

    def run(content, source=PLAIN, columns=("a", "b"), name="x.json"):
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        rows, broken = {}, {}
        for chunk in read_json(path, source, list(columns)):
            assert chunk.frame.columns == list(columns)
            rows |= dict(zip(chunk.source_row.tolist(), chunk.frame.rows(), strict=True))
            broken |= dict(chunk.broken)
        return json_names(path, source), rows, broken

    return run


@pytest.mark.parametrize(
    ("content", "rows", "broken"),
    [
        ('{"a": 1, "b": "x"}\n{"b": null}\n', {1: ("1", "x"), 2: (None, None)}, {}),
        ('{"a": 1}\r\n\n  \n{"a": 2}', {1: ("1", None), 4: ("2", None)}, {}),
        ('{"a": 1}\n{"a": \n[1]\n7\nnull\n{"a": 2}x\n{"a": 3}\n', {1: ("1", None), 7: ("3", None)}, "2 3 4 5 6"),
        ("broken\n", {}, "1"),
        ('\ufeff{"a": 1}\n', {1: ("1", None)}, {}),
        (' [ {"a": 1}, {"a": 2,\n "b": "x"} ]\n', {1: ("1", None), 2: ("2", "x")}, {}),
        ('[{"a": 1}, 17, "x", [2], {"a": 3}]', {1: ("1", None), 5: ("3", None)}, {2: "17", 3: '"x"', 4: "[2]"}),
        ("[]", {}, {}),
        ("[17]", {}, {1: "17"}),
        ("", {}, {}),
        (" \n", {}, {}),
    ],
)
@pytest.mark.parametrize("block", [1, 5, 1 << 20])
def test_rows_have_the_number_of_their_line_or_place(read, monkeypatch, block, content, rows, broken):
    monkeypatch.setattr(json_rows, "READ_CHARACTERS", block)
    _, found, wrong = read(content)
    assert found == rows
    if isinstance(broken, str):
        lines = content.splitlines()
        broken = {int(n): lines[int(n) - 1] for n in broken.split()}
    assert wrong == broken


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ('"x"', "x"),
        ("1", "1"),
        ("1.0", "1"),
        ("-2.5e3", "-2500"),
        ("0.1", "0.1"),
        ("1e300", "1e+300"),
        ("12345678901234567890", "12345678901234567890"),
        ("NaN", "NaN"),
        ("[1, {}]", "[1, {}]"),
        ('"NA"', None),
        ('""', None),
        ('"\\ud800"', "\\ud800"),
        ('"\\u00e9"', "é"),
    ],
)
def test_values_are_the_text_that_csv_would_have(read, value, text):
    assert read(f'{{"a": {value}, "b": true}}\n{{"a": "z", "b": 1}}\n')[1] == {1: (text, "true"), 2: ("z", "1")}


def test_booleans_alone_are_booleans(tmp_path):
    path = tmp_path / "x.json"
    path.write_text('{"a": true, "b": null}\n{"a": null}\n')
    (chunk,) = read_json(path, PLAIN, ["a", "b"])
    assert chunk.frame.schema == {"a": pl.Boolean, "b": pl.String}


def test_names_are_those_of_all_first_objects(read):
    assert read('{"a": 1}\n{"b": 1, "a": 2}\n"x"\n{"c": 1}\n')[0] == ["a", "b", "c"]


def test_compressed_files_and_other_encodings(read):
    assert read(gzip.compress(b'{"a": 1}\n'), name="x.jsonl.gz")[1] == {1: ("1", None)}
    for encoding in ("latin-1", "utf-16"):
        source = SourceConfig(path="x", encoding=encoding)
        assert read('{"a": "São"}\n{"a": "ß"}\n'.encode(encoding), source)[1] == {1: ("São", None), 2: ("ß", None)}
    with pytest.raises(DataError, match=r"the text is not utf-8 .* set dataset\.source\.encoding"):
        read('{"a": "São"}\n'.encode("latin-1"))
    with pytest.raises(DataError, match="cannot be read as json"):
        read(b"no gzip at all", name="x.json.gz")


@pytest.mark.parametrize(
    ("content", "rows", "why"),
    [
        ('[{"a": 1}', 1, "it is never closed"),
        ('[{"a": 1}, {"a": 2', 1, "Expecting"),
        ('[{"a": 1}, {"a" 2}]', 1, "Expecting"),
        ('[{"a": 1}] {"a": 2}', 1, "there is more text after its end"),
        ("[", 0, "it is never closed"),
    ],
)
def test_a_broken_array_stops_the_run_and_says_where(read, content, rows, why):
    with pytest.raises(DataError, match=rf"the JSON array is broken after its row {rows} \({why}.*\); correct it"):
        read(content)


def test_broken_text_is_quoted_in_part_when_it_is_endless(read):
    assert len(read("x" * 50_000 + "\n")[2][1]) == json_rows.LONGEST_TEXT


CELL = (
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=4)
)
ROW = st.dictionaries(st.sampled_from(["a", "b", "c"]), CELL, max_size=3)


@settings(max_examples=80, deadline=None)
@given(st.lists(ROW, max_size=20), st.booleans())
def test_every_row_arrives_once_under_its_number(tmp_path_factory, rows, lines):
    path = tmp_path_factory.getbasetemp() / "arbitrary.json"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows) if lines else json.dumps(rows, indent=1))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(json_rows, "CHUNK_ROWS", 3)
        patch.setattr(json_rows, "READ_CHARACTERS", 7)
        chunks = list(read_json(path, SourceConfig(path="x", null_values=()), ["a", "b"]))
    assert np.concatenate([[], *(c.source_row for c in chunks)]).tolist() == list(range(1, len(rows) + 1))
    assert not any(c.broken for c in chunks)
    found = [value for c in chunks for value in c.frame["a"].to_list()]
    for value, row in zip(found, rows, strict=True):
        given_ = row.get("a")
        if isinstance(given_, int | float) and not isinstance(given_, bool):
            assert float(value) == float(given_)
        elif isinstance(given_, bool):
            assert value in {given_, str(given_).lower()}
        elif given_ is None:
            assert value is None
