"""Consumes files that are odd or cannot be read, checks the YAML that `assay init` writes, and its errors."""

import json

import polars as pl
import pytest
import yaml

from assay.config.yaml_text import parse_yaml
from assay.describing.writing import comment, scalar

ODD = ["yes", "a: b", "1e8", "010", "größe # 3", "x, [y]", "it's", 'say "so"', "null", "~", "{z}", "-", "日本", " pad"]


@pytest.mark.parametrize("value", [*ODD, "\x07", "two\nlines", True, 7, 0.5, ""])
def test_a_scalar_is_read_back_as_it_was(value):
    assert parse_yaml(f"key: [{scalar(value)}]") == {"key": [value]}
    assert parse_yaml(f"key: {scalar(value)}") == {"key": value}
    assert yaml.safe_load(f"key: {scalar(value)}") == {"key": value} or value == "1e8"


def test_a_comment_stays_one_whatever_it_holds():
    told = comment("a\nb: c\r\u2028 # d " + "long " * 60, 4)
    assert all(line.startswith("    # ") and len(line) <= 112 for line in told.split("\n"))
    assert parse_yaml(f"x: 1\n{told}\ny: 2") == {"x": 1, "y": 2}


def test_odd_names_of_columns_survive(init, shops, tmp_path):
    names = dict(zip(shops.columns, ODD, strict=False))
    shops.rename(names).write_csv(tmp_path / "odd names.csv", separator=";")
    code, _, dataset, _ = init(tmp_path / "odd names.csv", "--target", names["sales"])
    assert code == 0
    assert (dataset.name, dataset.source.delimiter) == ("odd_names", ";")
    assert (dataset.entity, dataset.time.column) == ((names["shop"],), names["day"])
    assert set(dataset.columns.numeric) == {names["floor_area"], names["market_index"]}


def test_columns_without_a_name_or_with_the_name_of_another_are_left_out(init, tmp_path):
    lines = [f"{n},{n % 7},k{n},{n * 1.5},{n * 2.5},x{n % 3}" for n in range(200)]
    (tmp_path / "twice.csv").write_text("\n".join([",a b,key,price,price2,a_b", *lines]), encoding="utf-8")
    code, found, dataset, _ = init(tmp_path / "twice.csv", "--target", "price", "--entity", "key")
    assert code == 0
    assert found["left_out"][""] == "has no name"
    assert found["left_out"]["a_b"] == "would be stored under the name of 'a b'"
    assert "a_b" not in dataset.source_columns


def test_text_in_another_encoding_is_read_and_said(init, shops, tmp_path):
    text = shops.with_columns(region=pl.lit("südwest")).write_csv()
    (tmp_path / "shops.csv").write_bytes(text.encode("latin-1"))
    code, _, dataset, _ = init(tmp_path / "shops.csv", "--target", "sales")
    assert (code, dataset.source.encoding) == (0, "latin-1")


def test_a_path_beside_the_yaml_is_relative_to_it(init, shops, tmp_path, monkeypatch):
    (tmp_path / "raw").mkdir()
    shops.write_csv(tmp_path / "raw" / "shops.csv")
    monkeypatch.chdir(tmp_path)
    _, _, dataset, _ = init("raw/shops.csv", "--target", "sales", out=tmp_path / "conf" / "x.yml")
    assert dataset.source.path == "../raw/shops.csv"
    _, _, dataset, _ = init(tmp_path / "raw", "--target", "sales", "--force", out=tmp_path / "conf" / "x.yml")
    assert dataset.source.path == str(tmp_path / "raw")


def test_a_file_that_is_there_is_kept(init, shops, tmp_path):
    shops.write_csv(tmp_path / "shops.csv")
    out = tmp_path / "mine.yml"
    out.write_text("mine", encoding="utf-8")
    code, found, _, err = init(tmp_path / "shops.csv", out=out)
    assert (code, found["status"], out.read_text()) == (2, "failed", "mine")
    assert err == [f"assay init: --out {out}: there is such a file already; --force writes over it"]
    assert init(tmp_path / "shops.csv", "--force", out=out)[0] == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mine.yml", "shops.csv"]


@pytest.mark.parametrize(
    ("name", "content", "arguments", "told"),
    [
        ("gone.csv", None, [], "there is no such file or folder"),
        ("empty.csv", b"", [], "the file is empty (0 bytes)"),
        ("header.csv", b"a,b\n", [], "the source has no rows"),
        ("noise.parquet", b"PAR1 and nothing else", [], "cannot be read as parquet"),
        ("noise.bin", b"\x00\x01\x02\x03" * 9, [], "this is no text and no Parquet file"),
        ("broken.json", b"[1, 2", [], "the JSON array is broken"),
        ("key.csv", b"a,b\n1.5,2.5\n2.5,2.5\n3.5,1.5\n", [], "no column names what is observed"),
        ("text.csv", b"key\nk1\nk2\nk3\n", [], "no column can be a target"),
        ("x.csv", b"key,price\nk1,2.5\nk2,3.5\nk3,1.5\n", ["--target", "prise"], "no such column; did you mean price?"),
        ("x.csv", b"key,price\nk1,2.5\nk2,3.5\nk3,1.5\n", ["--time", "price"], "holds no times that can be read"),
        (
            "x.csv",
            b"key,price\nk1,2.5\nk2,3.5\nk3,1.5\n",
            ["--target", "key", "--entity", "key"],
            "the time or names the entity",
        ),
        (
            "x.csv",
            b"key,price\nk1,2.5\nk2,3.5\nk3,1.5\n",
            ["--name", "a b"],
            "--name a b: expected letters, digits, _ and -",
        ),
    ],
)
def test_what_cannot_be_done_is_one_line_and_exit_code_2(init, tmp_path, name, content, arguments, told):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    code, found, _, err = init(tmp_path / name, *arguments)
    assert (code, found["status"], len(err)) == (2, "failed", 1)
    assert told in err[0]
    assert not list(tmp_path.glob("*.yml"))


def test_one_series_without_a_name_says_what_to_add(init, tmp_path):
    days = pl.date_range(pl.date(2023, 1, 1), pl.date(2023, 6, 30), eager=True)
    pl.DataFrame({"day": days, "load": [float(n % 17) + n / 7 for n in range(len(days))]}).write_csv(tmp_path / "s.csv")
    code, _, _, err = init(tmp_path / "s.csv")
    assert code == 2
    assert "add a column with one value to the source" in err[0]


def test_people_are_told_what_to_look_at_and_what_to_type_next(shops, tmp_path, capsys):
    from assay import cli

    shops.write_csv(tmp_path / "shops.csv")
    with pytest.raises(SystemExit) as ended:
        cli.main(["init", str(tmp_path / "shops.csv"), "--out", str(tmp_path / "x.yml"), "--target", "sales"])
    out = capsys.readouterr().out
    assert ended.value.code == 0
    assert "all 6,000 rows were looked at" in out
    assert "look at leaks: 'log_sales'" in out
    assert "lines of a document" not in out
    assert out.splitlines()[-1] == f"next: assay pipeline --dataset {tmp_path / 'x.yml'} --profile development"
    text = (tmp_path / "x.yml").read_text(encoding="utf-8")
    assert "# - 'log_sales': a leak. another writing of the target: rank correlation 1.0000" in text
    assert json.dumps(parse_yaml(text)["entity"]) == '["shop"]'
