"""All that is said of a row: numbers as `score_batch` has them, and rows that no model can take set apart."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from assay.config.profile import ScoringConfig
from assay.conformal.intervals import score_batch
from assay.errors import AssayError, DataError
from assay.scoring.kernel import NOTE, ScoreAll, ScoreRows, merged_counts, prediction_schema
from assay.scoring.scorer import Scorer
from assay.scoring.udf import _scored

BAD_TEXT = pa.Array.from_buffers(
    pa.string(), 1, [None, pa.py_buffer(np.array([0, 2], np.int32)), pa.py_buffer(b"\xff\xfe")]
)  # no UTF-8: what a damaged file may hold


def poisoned(batch, row):
    city = pa.concat_arrays([batch.column("city").slice(0, row), BAD_TEXT, batch.column("city").slice(row + 1)])
    return batch.set_column(batch.schema.get_field_index("city"), "city", city)


@pytest.fixture
def scorer(priced):
    return Scorer.of(priced, ScoringConfig())


def test_numbers_are_those_of_the_model_and_widths_those_of_the_bounds(priced, scorer, market):
    batch = market(40, seed=3)
    found, expected = scorer(batch), score_batch(priced.model, priced.calibration, batch)
    assert found.column("segment").equals(expected.pop("segment"))
    for name, values in expected.items():
        np.testing.assert_array_equal(found.column(name), values)
    frame = found.to_pandas()
    assert (frame.width_90 == frame.upper_90 - frame.lower_90).all()
    assert np.allclose(frame.risk, 1 - frame.lower_90 / frame.prediction)
    whole = priced.calibration["quantiles"][""]["quantiles"][1]
    typical = 2 * whole / (2 * whole + np.log(frame.upper_90 / frame.lower_90))
    assert np.allclose(frame.confidence, typical)
    assert frame.confidence.between(0, 1).all()
    assert set(frame.quality) == {"ok"}


def test_of_classes_the_width_counts_the_set_and_there_are_no_bounds(sold, market):
    frame = Scorer.of(sold, ScoringConfig())(market(60, seed=3)).to_pandas()
    assert not [name for name in frame.columns if name.startswith(("lower", "upper"))]
    assert (frame.width_90 == frame.set_90.map(len)).all()
    likeliest = frame.probabilities.map(max)
    assert np.allclose(frame.risk, 1 - likeliest)
    assert np.allclose(frame.confidence, (2 * likeliest - 1) / frame.set_90.map(lambda s: len(s) or 2))
    assert frame.confidence.nunique() > 2


def test_a_poison_row_has_no_numbers_and_leaves_those_of_others_alone(scorer, market):
    batch = market(33, seed=3)
    with pytest.raises(UnicodeDecodeError):
        scorer._scored(poisoned(batch, 7).select(list(scorer.inputs)))
    clean, found = scorer(batch).to_pylist(), scorer(poisoned(batch, 7)).to_pylist()
    assert found[:7] + found[8:] == clean[:7] + clean[8:]
    told = {name: value for name, value in found[7].items() if value is not None}
    assert told == {"quality": "bad", "quality_reasons": ["not_scored:UnicodeDecodeError"]}


def test_text_among_numbers_of_a_frame_is_one_rows_matter(scorer, market):
    frame = market(9, seed=3).to_pandas()
    expected = _scored(scorer, frame)
    frame["size"] = frame["size"].map(repr)
    frame.loc[4, "size"] = "large"
    found = _scored(scorer, frame)
    assert found.quality_reasons[4].tolist() == ["not_scored:ArrowInvalid"]
    pd.testing.assert_frame_equal(found.drop(index=4), expected.drop(index=4))
    with pytest.raises(DataError, match="lacks 1 of the model's 4 columns, 'size' among them"):
        _scored(scorer, frame.drop(columns="size"))


def test_a_prediction_that_is_no_number_is_bad(priced, scorer, market):
    class Overflows:
        def predict(self, matrix):
            return np.where(np.arange(len(matrix)) == 1, np.inf, 0.0)

    model = dataclasses.replace(priced.model)
    model.__dict__["predictor"] = Overflows()
    scorer.__dict__["model"] = model
    found = scorer(market(3)).to_pylist()
    assert [row["quality"] for row in found] == ["ok", "bad", "ok"]
    assert found[1]["quality_reasons"][0] == "no_prediction"
    assert found[1]["lower_80"] is None


def test_intervals_without_an_end_are_said_so(price_model, market):
    """Five calibration rows promise 80 %, and nothing above that."""
    some = Scorer.of(price_model(calibration_rows=5), ScoringConfig())(market(2)).to_pylist()
    for row in some:
        assert row["quality_reasons"] == ["infinite_interval:90"]
        assert (row["quality"], row["width_90"], row["confidence"]) == ("warn", math.inf, None)
        assert row["risk"] == 1.0
        assert math.isfinite(row["width_80"])
    none = Scorer.of(price_model(calibration_rows=2), ScoringConfig())(market(1)).to_pylist()
    assert none[0]["quality"] == "bad"
    assert none[0]["quality_reasons"] == ["infinite_interval:80", "infinite_interval:90"]


def test_doubles_and_whole_numbers_are_taken_as_the_features_have_them(scorer, market):
    batch = market(8, seed=3)
    whole = batch.set_column(0, "size", pa.array([3] * 8, pa.int64()))
    floats = batch.set_column(0, "size", pa.array([3.0] * 8, pa.float32()))
    assert scorer(whole).equals(scorer(floats))
    assert scorer(batch.cast(pa.schema([(f.name, pa.float64() if f.name == "size" else f.type) for f in batch.schema])))


def kernel_rows(batch):
    rows = batch.num_rows
    times = pa.array(np.arange(rows) * 86_400_000_000, pa.timestamp("us", "UTC"))
    keys = {"row_id": pa.array(range(rows), pa.int64()), "time": times, "month": pa.array(["1970-01"] * rows)}
    return pa.record_batch({**keys, **{name: batch.column(name) for name in batch.schema.names}})


def scored_by(scorer, batches, batch_rows, **model):
    schema = prediction_schema((0.8, 0.9), ("city",), shadow=True).append(pa.field(NOTE, pa.string()))
    kernel = ScoreAll((ScoreRows(scorer, "price", ("city",), **model),), schema, batch_rows)
    table = pa.Table.from_batches(list(kernel(iter(batches))), schema)
    noted = table.column(NOTE).is_valid()
    return table.filter(pa.compute.invert(noted)).drop([NOTE]), merged_counts(table.filter(noted))


@pytest.mark.parametrize("batch_rows", [1, 7, 1000])
def test_neither_batches_nor_their_size_change_a_number(scorer, market, batch_rows):
    batch = kernel_rows(market(30, seed=3))
    expected, _ = scored_by(scorer, [batch], 65_536)
    found, counts = scored_by(scorer, [batch.slice(0, 11), batch.slice(11)], batch_rows)
    assert found.sort_by("row_id").to_pylist() == expected.to_pylist()
    assert counts == {"": {"quality_ok": 30}}


def test_counts_tell_of_rows_that_could_not_be_scored(scorer, market):
    batch = poisoned(kernel_rows(market(30, seed=3)), 9)
    kernel = ScoreRows(scorer, "price", ())
    (rows,) = kernel.scored(batch, prediction_schema((0.8, 0.9), ()))
    assert rows.column("row_id").to_pylist() == list(range(30))
    assert rows.column("prediction").null_count == 1
    assert rows.column("model_version").null_count == 0


def test_a_model_that_no_row_suits_is_an_error(scorer, market):
    text = market(1000).set_column(0, "size", pa.array(["large"] * 1000))
    with pytest.raises(AssayError, match="could score none of the first 1,000 rows: ArrowInvalid"):
        scorer(text)
