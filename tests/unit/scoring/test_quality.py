"""What is said of a row's inputs, by what training rows had."""

from __future__ import annotations

import dataclasses

import numpy as np
import pyarrow as pa
import pytest

from assay.config.profile import ScoringConfig
from assay.model.encoding import Encoding, Seen
from assay.scoring.quality import Findings, InputChecks, counted


@pytest.fixture
def checks(priced):
    return InputChecks.of(priced.model, ScoringConfig())


def said(checks, batch):
    found = checks.find(batch)
    return list(zip(found.quality().to_pylist(), found.lists().to_pylist(), strict=True))


def test_rows_like_those_of_training_are_ok(checks, market):
    assert set(map(str, said(checks, market(50)))) == {"('ok', None)"}
    assert said(checks, market(0)) == []


@pytest.mark.parametrize(
    ("column", "value", "reason"),
    [
        ("size", 99.0, "above_range:size"),
        ("size", float("inf"), "above_range:size"),
        ("size", -99.0, "below_range:size"),
        ("size", None, "missing_input:size"),
        ("size", float("nan"), "missing_input:size"),
        ("city", "Lufkin", "unseen_category:city"),
        ("city", None, "missing_input:city"),
    ],
)
def test_each_reason_names_its_column_and_its_row_alone(checks, market, changed, column, value, reason):
    found = said(checks, changed(market(5), column, {2: value}))
    assert found == [("ok", None)] * 2 + [("warn", [reason])] + [("ok", None)] * 2


def test_what_the_model_never_looks_at_is_no_reason(checks, market, changed):
    """The column noise has one value in training, so that no tree can cut it."""
    assert said(checks, changed(market(2), "noise", {0: 7.0, 1: None})) == [("ok", None)] * 2


def test_only_important_inputs_have_a_range_unless_nobody_says_which_are(priced, market, changed):
    """The last price, from which the model learned changes alone, has a few thousandths of the importance."""
    far = changed(market(1), "price__own__lag_1", {0: 1e9})
    assert said(InputChecks.of(priced.model, ScoringConfig()), far) == [("ok", None)]
    reason = [("warn", ["above_range:price__own__lag_1"])]
    assert said(InputChecks.of(priced.model, ScoringConfig(important_share=0.001)), far) == reason
    model = dataclasses.replace(priced.model)
    model.__dict__["predictor"] = type("Silent", (), {"importance": lambda _: {}})()
    assert said(InputChecks.of(model, ScoringConfig()), far) == reason


def test_a_row_without_most_of_its_inputs_is_bad(checks, market, changed):
    batch = market(3)
    for column in ("size", "price__own__lag_1", "city"):
        batch = changed(batch, column, {1: None})
    quality, reasons = said(checks, batch)[1]
    assert quality == "bad"
    assert reasons[-1] == "many_missing_inputs"
    assert "missing_input:size" in reasons
    strict = dataclasses.replace(checks, missing_share=0.9)
    assert said(strict, batch)[1][0] == "warn"


def test_inputs_that_training_rows_often_lacked_may_be_missing(priced, market, changed):
    encoding = dataclasses.replace(priced.model.encoding, seen={"size": Seen(0.5, 1.0, 9.0)})
    checks = InputChecks.of(dataclasses.replace(priced.model, encoding=encoding), ScoringConfig())
    assert said(checks, changed(market(2), "size", {0: None})) == [("ok", None)] * 2
    assert said(checks, changed(market(2), "size", {0: 99.0}))[0] == ("warn", ["above_range:size"])


def test_a_model_without_ranges_still_knows_its_categories(price_model, market, changed):
    model = price_model(with_seen=False).model
    assert "seen" not in model.encoding.to_dict()
    checks = InputChecks.of(model, ScoringConfig())
    assert said(checks, changed(market(1), "size", {0: 99.0})) == [("ok", None)]
    assert said(checks, changed(market(1), "city", {0: "Lufkin"})) == [("warn", ["unseen_category:city"])]


def test_several_reasons_of_many_rows_stay_with_their_rows():
    found = Findings(4)
    found.add("a", np.array([True, False, True, False]))
    found.add("nobody", np.zeros(4, bool))
    found.add("b", np.array([False, False, True, True]), bad=True)
    assert found.lists().to_pylist() == [["a"], None, ["a", "b"], ["b"]]
    assert found.quality().to_pylist() == ["warn", "ok", "bad", "bad"]
    assert counted(found.quality(), found.lists()) == {
        "quality_ok": 1, "quality_warn": 1, "quality_bad": 2, "a": 2, "b": 2,
    }  # fmt: skip
    assert counted(pa.array(["ok"]), pa.nulls(1, pa.list_(pa.string()))) == {"quality_ok": 1}


def test_ranges_travel_with_the_encoding_and_older_ones_load_without():
    encoding = Encoding(("size",), {"city": ("Waco",)}, seen={"size": Seen(0.75, -1.5, 2.0), "city": Seen(1.0)})
    assert Encoding.from_dict(encoding.to_dict()) == encoding
    old = {"numeric": ["size"], "categories": [["city", ["Waco"]]]}
    assert Encoding.from_dict(old).seen == {}
    assert Encoding.from_dict(old).to_dict() == old
