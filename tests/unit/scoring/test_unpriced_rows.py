"""Rows that a model cannot price are left out of what calibrates, told with their ids, and change nothing else."""

from __future__ import annotations

import datetime as dt

import numpy as np
import pyarrow as pa
import pytest

from assay.conformal.class_rows import CLASS_ROWS, CLASS_ROWS_APART, PredictLabelled
from assay.conformal.conformity import (
    ERRORS_APART,
    OUTCOMES_APART,
    SCORED,
    SCORED_APART,
    ConformityScores,
    ErrorRows,
    Older,
    OutcomeRows,
)
from assay.conformal.unpriced import Unpriced, split_apart, told_apart
from assay.errors import AssayError
from assay.model.carried import Carried

START = dt.datetime(1970, 1, 1, tzinfo=dt.timezone.utc)
BAD = {17, 44, 45, 46}


def dated(batch):
    times = pa.array(np.arange(batch.num_rows) * 1_000_000, pa.timestamp("us", tz="UTC"))
    ids = pa.array(np.arange(batch.num_rows), pa.int64())
    return batch.append_column("row_id", ids).append_column("time", times)


def damaged(batch, rows):
    """The batch with a city that is no text in some rows."""
    texts = [b"\xff\xfe" if row in rows else v.encode() for row, v in enumerate(batch.column("city").to_pylist())]
    binary = pa.array(texts, pa.binary())
    city = pa.Array.from_buffers(pa.string(), len(binary), binary.buffers())
    return batch.set_column(batch.schema.get_field_index("city"), "city", city)


def collected(kernel, schema, batch):
    rows = list(kernel(iter([batch.slice(0, 40), batch.slice(40)])))
    return split_apart(pa.Table.from_batches(rows, schema))


@pytest.mark.parametrize("kind", ["numbers", "classes"])
def test_rows_without_a_price_are_told_and_all_others_are_as_they_were(priced, sold, market, kind):
    batch = dated(market(80, seed=3))
    if kind == "numbers":
        kernel, schema = ConformityScores(Carried.of(priced.model), ("city",), (0.8,), "absolute"), SCORED_APART
    else:
        kernel, schema = PredictLabelled(Carried.of(sold.model), ("city",)), CLASS_ROWS_APART
    whole, none = collected(kernel, schema, batch)
    assert (whole.num_rows, none) == (80, Unpriced())
    assert whole.schema == (SCORED if kind == "numbers" else CLASS_ROWS)
    found, lost = collected(kernel, schema, damaged(batch, BAD))
    assert lost.kinds == {"UnicodeDecodeError": 4}
    assert lost.rows == (17, 44, 45)
    assert found.equals(whole.filter(pa.array([row not in BAD for row in range(80)])))
    line = lost.line("of the test period")
    assert line.startswith("4 rows of the test period could not be priced and are left out: UnicodeDecodeError 4")
    assert line.endswith("(row_id 17, 44, 45, ...)")


def test_a_row_whose_outcome_gives_no_number_is_left_out_too(priced, market, changed):
    batch = changed(dated(market(60, seed=3)), "price", {5: -1.0, 50: float("nan")})
    kernel = ConformityScores(Carried.of(priced.model), (), (0.8,), "absolute")
    found, lost = collected(kernel, SCORED_APART, batch)
    assert lost == Unpriced(lost.kinds, (5, 50))
    assert lost.kinds == {"no_score": 2}
    assert found.num_rows == 58


def test_rows_that_teach_a_scale_are_priced_ones(priced, market):
    class Odd(ErrorRows):
        def price(self, model, batch):
            if set(batch.column("row_id").to_pylist()) & BAD:
                raise ValueError("odd")
            return super().price(model, batch)

    older = Older(1 / 3, before=START + dt.timedelta(seconds=60))
    kernel = Odd(Carried.of(priced.model), priced.model.encoding, older, 2**64 - 1)
    found, lost = collected(kernel, ERRORS_APART, dated(market(80, seed=3)))
    assert (found.num_rows, lost.kinds) == (56, {"ValueError": 4})


def test_rows_whose_outcome_is_no_number_teach_no_scale(priced, market, changed):
    batch = changed(dated(market(60, seed=3)), "price", {5: -1.0, 50: float("nan")})
    kernel = OutcomeRows(Carried.of(priced.model), priced.model.encoding, 2**64 - 1)
    found, lost = collected(kernel, OUTCOMES_APART, batch)
    assert (found.num_rows, lost.kinds, lost.rows) == (58, {"no_score": 2}, (5, 50))
    known = np.delete(np.arange(60), [5, 50])
    np.testing.assert_allclose(found.column("outcome"), priced.model.truth(batch.take(pa.array(known))))
    none, _ = collected(OutcomeRows(Carried.of(priced.model), priced.model.encoding, 0), OUTCOMES_APART, batch)
    assert none.num_rows == 0


def test_errors_of_ours_and_a_model_that_prices_nothing_still_stop(priced, market):
    batch = dated(market(1_200, seed=3))

    def ours(_):
        raise AssayError("changed")

    with pytest.raises(AssayError, match="changed"):
        list(told_apart(ours, iter([batch]), SCORED_APART, "scores"))
    kernel = ConformityScores(Carried.of(priced.model), ("city",), (0.8,), "absolute")
    with pytest.raises(AssayError, match="none of the first 1,000 rows"):
        list(kernel(iter([damaged(batch, set(range(1_200)))])))
