"""Consumes an invented panel, checks that several learners train, serve, score and explain as one model."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable

from assay.config import load_run
from assay.model.ensemble import unpacked
from assay.model.registry import load_trained
from assay.model.versions import CHAMPION
from assay.runtime.tracking import Tracking

pytestmark = pytest.mark.spark

ON = [
    "training.enable_advanced_features=false",
    "training.force_production_quality=false",
    "training.enable_advanced_ensemble=true",
    "engine.rounds=12",
    "engine.early_stopping_rounds=5",
]
BOTH = [*ON, "split.embargo_days=3", "ensemble.folds=1"]
SOLD = {"name": "sold", "task": "binary", "positive": "Yes", "negative": "No"}
BOTH.append("ensemble.members={line: {name: linear}, steps: {name: xgboost, params: {max_depth: 2, eta: 0.3}}}")


@pytest.fixture(scope="module")
def built(run_in, tmp_path_factory):
    """Features of prices and of odds that are half a line, half a step: a line and a few small trees know half each."""
    folder = tmp_path_factory.mktemp("ensemble")
    random = np.random.default_rng(8)
    rows = 3000
    x = random.normal(size=(rows, 2))
    day = np.datetime64("2020-01-01") + np.sort(random.integers(0, 300, rows))
    price = 50 + 4 * x[:, 0] + np.where(x[:, 1] > 0, 5, -5) + random.normal(0, 0.5, rows)
    odds = 3 * x[:, 0] + np.where(x[:, 1] > 0, 3, -3) + np.random.default_rng(9).logistic(size=rows)
    city = [f"city {n}" for n in random.integers(0, 4, rows)]
    values = {"city": city, "day": day.astype(str), "price": price, "x0": x[:, 0], "x1": x[:, 1]}
    values["sold"] = np.where(odds > 0, "Yes", "No")
    pq.write_table(pa.table(values), folder / "made.parquet")
    dataset = {
        "name": "made",
        "source": {"path": str(folder / "made.parquet"), "format": "parquet"},
        "time": {"column": "day"},
        "entity": ["city"],
        "targets": [{"name": "price"}, SOLD],
        "columns": {"categorical": ["city"], "numeric": ["x0", "x1"]},
        "segments": ["city"],
        "duplicates": "allow",
    }
    for job in ("ingest", "build_features"):
        run_in(folder / "ws", job, dataset, overrides=ON)
    return folder / "ws", {**dataset, "targets": [{"name": "price"}]}


@pytest.fixture
def train(run_job, built, workspace):
    """train(settings) in the test's own workspace -> result, its models, tracking."""
    shutil.copytree(built[0] / "lake", workspace / "lake")

    def run(settings, dataset=built[1]):
        result = run_job("train", dataset, overrides=settings)
        tracking = Tracking(load_run(dataset=workspace / "dataset.yml", workspace=workspace))
        return result, load_trained(tracking, result.run_id), tracking

    return run


def scored_rows(folder):
    """Predictions beside their features, by row; and the rows as one batch."""
    frames = [pl.from_arrow(DeltaTable(folder / "lake" / n).to_pyarrow_table()) for n in ("predictions", "features")]
    scored = frames[0].drop("time", "month", "city").join(frames[1], on="row_id", how="left").sort("row_id")
    return scored, scored.to_arrow().combine_chunks().to_batches()[0]


def test_an_ensemble_is_one_model_from_training_to_the_report(train, run_job, built, workspace):
    result, trained, tracking = train(BOTH)
    model = trained.model
    record = model.facts["ensemble"]
    errors = {c["name"]: c["chosen_rmse"] for c in record["candidates"]}
    assert model.engine == "ensemble"
    assert errors[record["chosen"]] < 0.9 * min(errors["line"], errors["steps"])
    assert result.metrics[f"choose_rmse_{record['chosen']}"] == errors[record["chosen"]]
    assert any(f"ensemble: {record['chosen']} of line" in line for line in result.summary)
    split = model.facts["split"]
    assert split["train"]["first"] < record["fitted_on"]["first"] < record["fitted_on"]["last"]
    assert record["fitted_on"]["last"] < record["chosen_on"]["first"]
    assert record["chosen_on"]["last"] == split["tune"]["last"]
    with tracking.download(result.run_id, "ensemble.json") as path:
        assert json.loads(path.read_text()) == record
    assert tracking.client.get_run(result.run_id).data.metrics["line_tune_rmse"] > 0
    members, combination = unpacked(model.stored)
    assert [(m.name, m.engine) for m in members] == [("line", "linear"), ("steps", "xgboost")]
    assert combination.method == record["chosen"]
    for other in (trained.held_back, trained.served):  # learned from other rows, combined alike
        assert other.version != model.version
        assert other.facts["ensemble"] == record
        np.testing.assert_array_equal(unpacked(other.stored)[1].weights, combination.weights)

    run_job("score", built[1], overrides=BOTH)
    scored, batch = scored_rows(workspace)
    np.testing.assert_array_equal(scored["prediction"], model.predict(batch))
    np.testing.assert_array_equal(scored["disagreement"], model.disagreement(batch))
    assert scored["disagreement"].min() >= 0
    assert scored["disagreement"].max() > 1
    served = tracking.mlflow.pyfunc.load_model(f"models:/made.price@{CHAMPION}")
    found = served.predict(scored.select(model.input_columns).to_pandas())
    assert list(found.columns) == ["prediction", "lower_80", "upper_80", "lower_90", "upper_90", "disagreement"]
    np.testing.assert_array_equal(found["prediction"], trained.served.predict(batch))
    np.testing.assert_array_equal(found["disagreement"], trained.served.disagreement(batch))

    evaluated = run_job("evaluate", built[1], overrides=BOTH)
    assert -1 <= evaluated.metrics["disagreement_error_correlation"] <= 1
    assert "Who predicts?" in Path(evaluated.report).read_text(encoding="utf-8")
    explained = pl.from_arrow(DeltaTable(workspace / "lake" / "explanations").to_pyarrow_table())
    sums = explained.group_by("row_id").agg(pl.col("contribution").sum()).join(scored, on="row_id")
    assert sums.height > 100
    np.testing.assert_allclose(sums["contribution"], sums["prediction"], rtol=1e-4)

    assert run_job("train", built[1], overrides=BOTH).status == "unchanged"


def test_a_member_that_serves_alone_is_what_its_engine_trains_by_itself(train, run_job, built, workspace):
    twins = [*ON, "ensemble.members={one: {name: linear}, two: {name: linear}}", "ensemble.folds=1"]
    twins += ["ensemble.methods=[average, voting]", "serving.learns_until=tune"]
    result, trained, tracking = train(twins)
    model = trained.model
    assert model.facts["ensemble"]["chosen"] == "one"  # a tie, which a single member wins
    assert model.engine == "linear"
    run_job("score", built[1], overrides=twins)
    scored, batch = scored_rows(workspace)
    assert scored["disagreement"].null_count() == scored.height
    assert run_job("train", built[1], overrides=[*twins, "ensemble.folds=0"]).status == "done"  # another run
    single = ["training.enable_advanced_ensemble=false", "engine.name=linear", "serving.learns_until=tune"]
    alone = run_job("train", built[1], overrides=[*ON, *single])
    plain = load_trained(tracking, alone.run_id).model
    assert alone.run_id != result.run_id
    assert "ensemble" not in plain.facts
    np.testing.assert_allclose(model.predict(batch), plain.predict(batch), rtol=1e-9)  # fitted again on the same rows


def test_an_ensemble_of_classes_is_one_model_of_probabilities_with_sets(train, run_job, built, workspace):
    dataset = {**built[1], "targets": [SOLD]}
    settings = [*BOTH, "serving.learns_until=tune"]
    result, trained, tracking = train(settings, dataset)
    model = trained.model
    record = model.facts["ensemble"]
    losses = {c["name"]: c["chosen_log_loss"] for c in record["candidates"]}
    assert model.engine == "ensemble"
    assert {"average", "voting", "weighted", "stacking", "dynamic_log_loss"} < set(losses)
    assert losses[record["chosen"]] < 0.95 * min(losses["line"], losses["steps"])
    assert result.metrics[f"choose_log_loss_{record['chosen']}"] == losses[record["chosen"]]
    assert any(f"ensemble: {record['chosen']} of line" in line and "log loss" in line for line in result.summary)
    members, combination = unpacked(model.stored)
    assert [(m.name, m.engine) for m in members] == [("line", "linear"), ("steps", "xgboost")]
    assert (combination.method, combination.kind) == (record["chosen"], "binary")
    assert result.metrics["skill_over_best_baseline"] > 0.3

    run_job("score", dataset, overrides=settings)
    scored, batch = scored_rows(workspace)
    np.testing.assert_array_equal(scored["prediction"], model.predict(batch))
    np.testing.assert_array_equal(scored["disagreement"], model.disagreement(batch))
    np.testing.assert_array_equal(np.array(scored["probabilities"].to_list()), model.probabilities(batch))
    assert 0 <= scored["disagreement"].min() < scored["disagreement"].max() < 1
    kept = scored.drop_nulls("sold")
    held = [["No", "Yes"][int(code)] in names for code, names in kept.select("sold", "set_90").rows()]
    assert np.mean(held) == pytest.approx(0.9, abs=0.1)
    served = tracking.mlflow.pyfunc.load_model(f"models:/made.sold@{CHAMPION}")
    found = served.predict(scored.select(model.input_columns).to_pandas())
    assert list(found.columns[-1:]) == ["disagreement"]
    np.testing.assert_array_equal(found["disagreement"], model.disagreement(batch))

    evaluated = run_job("evaluate", dataset, overrides=settings)
    assert -1 <= evaluated.metrics["disagreement_error_correlation"] <= 1
    assert "Who predicts?" in Path(evaluated.report).read_text(encoding="utf-8")


def test_an_ensemble_of_quantiles_is_one_model_whose_quantiles_rise(train, run_job, built, workspace):
    members = "{deep: {params: {max_depth: 6, eta: 0.3}}, flat: {params: {max_depth: 2, eta: 0.3}}}"
    quick = ["engine.quantiles=[0.1, 0.5, 0.9]", "serving.learns_until=tune", "engine.rounds=30"]
    settings = [*ON, *quick, f"ensemble.members={members}", "ensemble.folds=1", "ensemble.choose_share=0.6"]
    result, trained, _ = train(settings)
    model = trained.model
    record = model.facts["ensemble"]
    losses = {c["name"]: c["chosen_pinball"] for c in record["candidates"]}
    assert set(losses) == {"deep", "flat", "average", "voting", "weighted"}
    assert losses[record["chosen"]] == min(losses.values())
    assert model.engine == "ensemble"
    assert any("pinball loss" in line for line in result.summary)
    run_job("score", built[1], overrides=settings)
    scored, batch = scored_rows(workspace)
    found = model.predict_quantiles(batch)
    assert (np.diff(found, axis=1) >= 0).all()
    np.testing.assert_array_equal(scored["prediction"], found[:, 1])
    np.testing.assert_array_equal(scored["disagreement"], model.disagreement(batch))
    assert scored["disagreement"].max() > 0
    assert result.metrics["test_below_10"] == pytest.approx(0.1, abs=0.1)
    assert result.metrics["test_below_90"] == pytest.approx(0.9, abs=0.1)
