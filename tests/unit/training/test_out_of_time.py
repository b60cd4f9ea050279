"""Consumes labelled rows and fitted members, checks what reaches the choice: which rows, in which order, no others."""

from __future__ import annotations

import datetime as dt

import numpy as np
import pyarrow as pa
import pytest
from engine_harness import INPUTS, fit, labelled

from assay.model.bundle import Model
from assay.model.carried import Carried
from assay.model.ensemble import Combination, Member, packed
from assay.model.row_sample import EVERY_ROW, row_hash, sample_threshold
from assay.model.scale import TargetScale
from assay.runtime.tables import TIME
from assay.training.out_of_time import PredictMembers, out_of_time, predicted_schema

START = dt.datetime(2024, 1, 1, tzinfo=dt.timezone.utc)
NAMES = ("line", "tree")


def dated(rows=400):
    """Labelled rows, four a day."""
    batch = labelled(rows, 2)
    times = [START + dt.timedelta(days=row // 4) for row in range(rows)]
    return batch.append_column("time", pa.array(times, TIME))


@pytest.fixture(scope="module")
def model():
    members = [fit(engine, [labelled(200, 1)])[1] for engine in ("linear", "decision_tree")]
    stored = packed(
        [Member(n, m.engine, m.stored) for n, m in zip(NAMES, members, strict=True)],
        Combination("average", np.full(2, 0.5)),
    )
    return Model("ensemble", stored, INPUTS, TargetScale("y"), {}, "", {})


def predicted(model, batches, threshold=EVERY_ROW):
    return pa.Table.from_batches(PredictMembers(Carried.of(model), threshold)(iter(batches)), predicted_schema(2))


def test_each_row_has_its_outcome_and_every_members_prediction(model):
    batch = dated()
    found = predicted(model, [batch])
    np.testing.assert_array_equal(found["truth"], batch.column("y"))
    members = model.predictor.predict_members(INPUTS.matrix(batch))
    np.testing.assert_array_equal(np.stack([found["member_0"], found["member_1"]], axis=1), members)
    assert found["time"].to_pylist()[4] == int((START + dt.timedelta(days=1)).timestamp() * 1e6)


def test_neither_tasks_nor_batches_change_the_rows_or_their_order(model):
    batch = dated()
    whole = out_of_time([predicted(model, [batch])], NAMES, most=1000)
    parts = [predicted(model, [batch.slice(start, 37)]) for start in range(0, 400, 37)]
    again = out_of_time(parts[::-1], NAMES, most=1000)
    for name in ("times", "truth", "members"):
        np.testing.assert_array_equal(getattr(again, name), getattr(whole, name))
    assert (np.diff(whole.times) >= 0).all()
    assert len(whole.truth) == 400


def test_a_sample_is_the_rows_with_the_least_hashes(model):
    batch = dated()
    found = out_of_time([predicted(model, [batch], sample_threshold(400, 50))], NAMES, most=50)
    hashes = row_hash(batch.column("row_id").to_numpy())
    expected = batch.take(pa.array(np.sort(np.argsort(hashes)[:50])))
    np.testing.assert_array_equal(np.sort(found.truth), np.sort(expected.column("y").to_numpy()))
