"""Adaptive sets and calibrated probabilities of a model are alike in jobs, UDFs and MLflow, without Spark."""

from __future__ import annotations

import dataclasses

import numpy as np
import pyarrow as pa
import pytest
import yaml

from assay.config import load_run
from assay.config.conformal import ConformalConfig
from assay.config.profile import ScoringConfig
from assay.conformal.class_calibration import ClassCalibration
from assay.conformal.class_rows import CLASS_ROWS_APART, ClassRows, PredictLabelled
from assay.conformal.class_stage import ClassStage
from assay.conformal.intervals import score_batch
from assay.conformal.job import PYFUNC
from assay.conformal.unpriced import split_apart
from assay.model.carried import Carried
from assay.model.registry import Calibrated, TrainedRun, champion, register
from assay.runtime.tracking import Tracking
from assay.scoring.scorer import Scorer
from assay.scoring.udf import _scored

SETS = ("set_80", "set_90")
WAYS = [("aps", "venn_abers", True), ("aps", "isotonic", False), ("lac", "temperature", True)]


def dated(batch, seed):
    """The batch with ids and times."""
    ids = np.random.default_rng(seed).integers(-(2**63), 2**63 - 1, batch.num_rows)
    times = pa.array(np.arange(batch.num_rows) * 1_000_000, pa.timestamp("us", tz="UTC"))
    return batch.append_column("row_id", pa.array(ids)).append_column("time", times)


@pytest.fixture(params=WAYS, ids=["-".join(map(str, way)) for way in WAYS])
def calibrated(request, sold, market):
    """The model of two classes with a calibration of later rows, as the job makes it."""
    score, probabilities, by_class = request.param
    stage = ClassStage(
        ConformalConfig(set_score=score, probabilities=probabilities, by_class=by_class), ("city",), 2, drawn=False
    )
    batches = [dated(market(500, seed=20 + part), part) for part in range(4)]
    rows = list(PredictLabelled(Carried.of(sold.model), ("city",))(iter(batches)))
    found = stage.fitted(split_apart(pa.Table.from_batches(rows, CLASS_ROWS_APART))[0])
    return Calibrated(sold.model, found.to_dict(), found.version)


def same(found, expected, rows):
    for level in SETS:
        assert [list(one) for one in found[level]] == [list(one) for one in expected[level].take(rows).to_pylist()]
    each = np.array([list(p) for p in found["probabilities"]])
    np.testing.assert_array_equal(each, np.array(expected["probabilities"].take(rows).to_pylist()))
    assert list(found["predicted_class"]) == expected["predicted_class"].take(rows).to_pylist()


def test_labelled_rows_are_those_of_the_model(sold, market):
    batch = dated(market(30, seed=2), 0)
    (rows,) = PredictLabelled(Carried.of(sold.model), ("city",))(iter([batch]))
    found = ClassRows.of(split_apart(pa.Table.from_batches([rows], CLASS_ROWS_APART))[0], 2)
    np.testing.assert_array_equal(found.probabilities, sold.model.probabilities(batch))
    np.testing.assert_array_equal(found.codes, batch.column("sold").to_numpy())
    np.testing.assert_array_equal(found.row_ids, batch.column("row_id").to_numpy())
    assert found.times.tolist() == [second * 1_000_000 for second in range(30)]
    assert found.labels.tolist() == [f"city={city}" for city in batch.column("city").to_pylist()]


def test_any_cut_and_order_of_rows_gives_the_same_sets(calibrated, market):
    batch = dated(market(300, seed=3), 7)
    expected = score_batch(calibrated.model, calibrated.calibration, batch)
    scorer, order = Scorer.of(calibrated, ScoringConfig()), np.random.default_rng(0).permutation(300)
    same(scorer(batch).to_pydict(), expected, np.arange(300))
    for rows in (order[:90], order[90:]):
        same(scorer(batch.take(pa.array(rows))).to_pydict(), expected, rows)
        same(_scored(scorer, batch.take(pa.array(rows)).to_pandas()), expected, rows)


def test_probabilities_are_calibrated_and_the_prediction_goes_with_them(calibrated, market):
    batch = dated(market(300, seed=3), 7)
    found = score_batch(calibrated.model, calibrated.calibration, batch)
    fitted = ClassCalibration.from_dict(calibrated.calibration)
    each = fitted.probabilities(calibrated.model.probabilities(batch))
    np.testing.assert_array_equal(np.array(found["probabilities"].to_pylist()), each)
    np.testing.assert_array_equal(found["prediction"], each[:, 1])
    assert np.abs(each - calibrated.model.probabilities(batch)).max() > 0.02


def test_mlflow_serves_these_sets_and_larger_ones_of_rows_it_does_not_know(calibrated, market, workspace):
    path = workspace / "shop.yml"
    dataset = {"name": "shop", "source": {"path": "x.csv"}, "time": {"column": "day"}, "entity": ["city"]}
    target = {"name": "sold", "task": "binary", "positive": "yes", "negative": "no"}
    path.write_text(yaml.safe_dump({**dataset, "targets": [target]}), encoding="utf-8")
    tracking = Tracking(load_run(dataset=path, workspace=workspace))
    with tracking.run("train", "t") as run_id:
        tracking.finish("done")
    drawn = calibrated.calibration["score"] == "aps"
    with tracking.run("calibrate", "c"):
        trained = TrainedRun(run_id, "sold", calibrated.model, "shop.sold")
        register(tracking, trained, calibrated.calibration, calibrated.calibration_version, PYFUNC, row_ids=drawn)
    assert champion(tracking, "sold").calibration == calibrated.calibration
    served = tracking.mlflow.pyfunc.load_model("models:/shop.sold@champion")
    optional = [one.name for one in served.metadata.signature.inputs.inputs if not one.required]
    assert optional == (["row_id"] if drawn else [])
    batch = dated(market(300, seed=3), 7)
    expected = score_batch(calibrated.model, calibrated.calibration, batch)
    frame = batch.to_pandas().drop(columns="time")
    same(served.predict(frame), expected, np.arange(300))
    unknown, larger = served.predict(frame.drop(columns="row_id")), 0
    for level in SETS:
        for blind, own in zip(unknown[level], expected[level].to_pylist(), strict=True):
            assert set(own) <= set(blind)
            larger += len(blind) > len(own)
    assert (larger > 0) == drawn


def test_a_plain_calibration_of_sets_still_scores(sold, market):
    batch = market(50, seed=4)
    plain = {name: value for name, value in sold.calibration.items() if name != "classes"}
    found = score_batch(sold.model, plain, batch)
    again = score_batch(sold.model, ClassCalibration.from_dict(plain), batch)
    assert found["set_80"].to_pylist() == again["set_80"].to_pylist()
    each = sold.model.probabilities(batch)
    np.testing.assert_array_equal(np.array(found["probabilities"].to_pylist()), each)
    limit = dataclasses.replace(ClassCalibration.from_dict(plain)).quantiles_for(
        np.array([f"city={city}" for city in batch.column("city").to_pylist()], dtype=object)
    )[0][:, 0]
    expected = [
        [name for k, name in enumerate(("no", "yes")) if 1 - p[k] <= q] for p, q in zip(each, limit, strict=True)
    ]
    assert found["set_80"].to_pylist() == expected
