"""Consumes raw columns of classes, checks their codes and the reasons why others are set aside."""

from __future__ import annotations

import json

import polars as pl
import pytest

from assay.config import TargetConfig
from assay.ingest.labels import as_class, as_code, code_rule
from assay.ingest.quality_increment import restored

YES = TargetConfig("churn", task="binary", positive="Yes")
BOTH = TargetConfig("churn", task="binary", positive="Yes", negative="No")
FLAG = TargetConfig("flag", task="binary")
GRADE = TargetConfig("grade", column="mark", task="multiclass", classes=("low", 2, 3))


@pytest.mark.parametrize(
    ("target", "raw", "codes", "bad"),
    [
        (YES, [" Yes", "No", "yes", "", None], [1, 0, 0, None, None], []),
        (BOTH, ["Yes", "No", "yes", None], [1, 0, None, None], [2]),
        (FLAG, ["1", "0", "2", "x", "", None], [1, 0, None, None, None, None], [2, 3]),
        (FLAG, [1.0, 0.0, 0.5, float("nan"), None], [1, 0, None, None, None], [2]),
        (FLAG, [1, 0, 7, None], [1, 0, None, None], [2]),
        (FLAG, [True, False, None], [1, 0, None], []),
        (TargetConfig("left", task="binary", positive=True, negative=False), [True, False, None], [1, 0, None], []),
        (GRADE, ["low", "3", "4", None], [0, 2, None, None], [2]),
        (GRADE, [2, 3, 4, None], [1, 2, None, None], [2]),
        (GRADE, [2.0, 3.0, 2.5, None], [1, 2, None, None], [2]),
    ],
)
def test_codes(target, raw, codes, bad):
    found, wrong = as_code(pl.Series("raw", raw), target)
    assert found.dtype == pl.Float64
    assert found.to_list() == codes
    assert wrong.fill_null(False).arg_true().to_list() == bad
    rules = code_rule(wrong, target)
    assert [rule.is_not_null().arg_true().to_list() for rule in rules] == ([bad] if bad else [])
    told = [reason for rule in rules for reason in rule.drop_nulls()]
    assert all("dataset.targets." in reason and target.source_column in reason for reason in told)


def test_classes_come_back_as_they_were():
    codes = pl.Series("grade", [0.0, 2.0, None])
    assert as_class(codes, GRADE).to_list() == ["low", "3", None]
    again, _ = as_code(as_class(codes, GRADE), GRADE)
    assert again.to_list() == codes.to_list()
    again, bad = as_code(as_class(pl.Series([0.0, 1.0]), YES), YES)
    assert again.to_list() == [0, 1]
    assert not bad.any()


def test_a_double_shows_the_class_that_it_was_and_comes_back_from_it(dataset, ingest, tmp_path):
    target = {"name": "left", "column": "gone", "task": "binary", "positive": "Yes", "negative": "No"}
    chosen = dataset(targets=[target], columns={})
    path = tmp_path / "flats.csv"
    path.write_text("flat,sold_on,gone\na,2019-01-01,Yes\na,2019-01-01,No\nb,2019-01-01,Perhaps\nc,2019-01-02,\n")
    rows, bad = ingest(chosen, [path])
    assert dict(rows.select("flat", "left").iter_rows()) == {"a": 0.0, "c": None}
    told = {reason.split(":")[0]: json.loads(raw)["gone"] for reason, raw in bad.select("reasons", "raw").iter_rows()}
    assert told == {"another row has the same entity and time": "Yes", "column 'gone'": "Perhaps"}
    again = restored(bad.with_columns(row_id=pl.lit(None, pl.Int64), left=pl.lit(None, pl.Float64)), chosen)
    assert dict(again.select("flat", "left").iter_rows()) == {"a": 1.0, "b": None}


def test_periods_take_the_last_class_whatever_numbers_become(dataset, ingest, tmp_path):
    flag = {"name": "flag", "task": "binary"}
    time = {"column": "sold_on", "align": {"frequency": "1mo", "aggregate": "mean"}}
    chosen = dataset(targets=[flag], time=time, columns={"numeric": ["rooms"]})
    path = tmp_path / "flats.csv"
    path.write_text("flat,sold_on,rooms,flag\na,2019-01-01,2,1\na,2019-01-05,4,1\na,2019-01-09,6,0\n")
    rows, _ = ingest(chosen, [path])
    assert rows.select("rooms", "flag").row(0) == (4.0, 0.0)
