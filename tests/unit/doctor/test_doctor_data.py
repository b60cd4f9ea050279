"""Consumes sources, good and bad ones, checks what a doctor says of them before any job reads them."""

import pytest

from assay.config import load_run
from assay.doctor import data


@pytest.fixture
def look(flats, tmp_path):
    """look("a,b\\n1,2\\n", "dataset.x=...") -> findings by check, of flats.csv with this text; None for no file."""

    def call(text, *overrides):
        if text is not None:
            (tmp_path / "flats.csv").write_text(text, encoding="utf-8")
        config = load_run(dataset=flats, workspace=tmp_path / "workspace", overrides=overrides)
        return {one.check: one for one in data.source(config, None)}

    return call


def csv(rows=200, kind="ab", **changes):
    lines = ["flat,sold_on,price,kind"]
    for n in range(rows):
        row = {"flat": n % 20, "sold_on": f"2020-{n % 12 + 1:02d}-03", "price": 100 + n, "kind": kind[n % len(kind)]}
        lines.append(",".join(str(value) for value in {**row, **(changes if n % 4 == 0 else {})}.values()))
    return "\n".join(lines) + "\n"


KIND = "dataset.columns.categorical=[kind]"


def test_a_source_that_will_do(look):
    found = look(csv(), KIND)
    assert {one.status for one in found.values()} == {"ok"}
    assert found["source"].told.endswith("4 columns as the dataset names them")
    assert found["rows"].told == "the first 200 of flats.csv can be used"
    assert found["categories"].told == "distinct values of the first rows: kind 2"


def test_no_such_file(look):
    found = look(None)["source"]
    assert (found.status, "there is no such file" in found.told) == ("fail", True)
    assert found.todo == "change dataset.source.path, or set ASSAY_DATA to the folder that holds it"


@pytest.mark.parametrize(
    ("text", "told", "todo"),
    [
        ("", "the file is empty", "change dataset.source.path"),
        ("flt,sold_on,price\n1,2020-01-01,5\n", "did you mean 'flt'?", "correct the names in the dataset's YAML"),
        ("flat;sold_on;price\n1;2020-01-01;5\n", "set dataset.source.delimiter to ';'", "correct `source`"),
    ],
)
def test_a_source_that_ingest_would_refuse(look, text, told, todo):
    found = look(text)["source"]
    assert found.status == "fail"
    assert told in found.told
    assert found.todo.startswith(todo)


def test_rows_that_the_quarantine_would_get(look):
    found = look(csv(price="dear"))["rows"]
    assert (found.status, found.told.startswith("50 of the first 200 of flats.csv cannot be used (50 x ")) == (
        "warn",
        True,
    )
    assert "column 'price': not a number" in found.told
    assert "ingest.max_quarantine_share" in found.todo
    assert look(csv(price="dear"), "ingest.max_quarantine_share=0.5")["rows"].status == "ok"


def test_a_category_that_tells_rows_apart(look):
    found = look(csv(kind=[f"k{n}" for n in range(200)]), KIND)["categories"]
    assert (found.status, "'kind' has 200 values in 200 rows" in found.told) == ("warn", True)


def test_a_category_that_the_dataset_does_not_allow(look):
    allowed = "dataset.quality.categories={kind: [a]}"
    found = look(csv(), KIND, allowed)["categories"]
    assert (found.status, found.told) == ("warn", "column 'kind' has 1 value(s) that are not allowed: 'b'")
    assert "dataset.quality.categories.kind" in found.todo


def test_a_table_is_left_alone_without_spark(look):
    overrides = ("dataset.source.format=table", "dataset.source.path=main.lake.flats")
    assert "was not looked at" in look(None, *overrides)["source"].told
