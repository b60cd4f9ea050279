"""Consumes feature tables, checks what the job train learns, measures, records and refuses."""

from __future__ import annotations

import copy
import datetime as dt
import functools
import json
import shutil
import time

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable

from assay.config import load_run
from assay.errors import ConfigError, DataError, PreflightError
from assay.metrics import point_metrics
from assay.model.baselines import Baselines
from assay.model.registry import champion, load_trained
from assay.runtime.conditions import period_conditions
from assay.runtime.tracking import Tracking
from assay.training.split import PERIODS, forward_split
from assay.training.xgboost_params import resolve

pytestmark = pytest.mark.spark

PLAIN = ["training.enable_advanced_features=false"]
QUICK = [*PLAIN, "engine.rounds=30", "training.force_production_quality=false"]


@pytest.fixture(scope="module")
def made(run_in, tmp_path_factory):
    """made(rows) -> a lake with observations and features of so many rows, built once by the jobs; and its dataset."""

    @functools.cache
    def make(rows, columns, constant):
        folder = tmp_path_factory.mktemp("made")
        random = np.random.default_rng(5)
        x = random.normal(size=(rows, columns)).astype(np.float32)
        city, day = random.integers(0, 8, rows), np.sort(random.integers(0, 200, rows))
        y = 10 * city + 3 * x[:, 0] + random.normal(size=rows) if constant is None else np.full(rows, constant)
        days = np.datetime64("2019-01-01") + day
        values = {"city": [f"city {n}" for n in city], "day": days.astype(str), "price": y}
        table = pa.table(values | {f"x{n}": x[:, n] for n in range(columns)})
        pq.write_table(table, folder / "made.parquet")
        dataset = {
            "name": "made",
            "source": {"path": str(folder / "made.parquet"), "format": "parquet"},
            "time": {"column": "day"},
            "entity": ["city"],
            "targets": [{"name": "price"}],
            "columns": {"categorical": ["city"], "numeric": [f"x{n}" for n in range(columns)]},
            "segments": ["city"],
            "duplicates": "allow",
        }
        for job in ("ingest", "build_features"):
            run_in(folder / "workspace", job, dataset, overrides=PLAIN)
        return folder / "workspace" / "lake", dataset

    return make


@pytest.fixture
def features(made, workspace):
    """Have such features in the test's workspace: features(rows) -> dataset tree."""

    def use(rows, *, columns=4, constant=None):
        lake, dataset = made(rows, columns, constant)
        shutil.copytree(lake, workspace / "lake")
        return dataset

    return use


def table_of(workspace, name):
    return pl.from_arrow(DeltaTable(workspace / "lake" / name).to_pyarrow_table())


def run_named(tracking, job):
    (run,) = tracking.client.search_runs([tracking.experiment_id], f"tags.`assay.job` = '{job}'")
    return run


@pytest.fixture(scope="module")
def trained(finished):
    """The finished pipeline's training run: MLflow's record and the model."""
    tracking = finished.tracking()
    run = run_named(tracking, "train")
    return run, load_trained(tracking, run.info.run_id).model


def inside(features, period):
    rows = features.filter(pl.col("price").is_not_null())
    for condition in period_conditions(period):
        rows = rows.filter(
            pl.col("time") >= condition.value if condition.op == ">=" else pl.col("time") < condition.value
        )
    return rows


def test_the_split_on_record_is_the_forward_split_of_the_labelled_rows(finished, trained):
    _, model = trained
    counts = finished.table("features").drop_nulls("price").group_by("time").len().sort("time")
    expected = forward_split(
        counts["time"].to_list(), counts["len"].to_list(), finished.config.profile.split, label_delay_days=0
    )
    assert model.facts["split"] == expected.to_dict()
    with finished.tracking().download(trained[0].info.run_id, "split.json") as path:
        assert json.loads(path.read_text(encoding="utf-8")) == expected.to_dict()
    for name in PERIODS:
        assert inside(finished.table("features"), model.facts["split"][name]).height == getattr(expected, name).rows


def test_training_metrics_has_the_figures_and_rounds_that_mlflow_has(finished, trained):
    run, model = trained
    client, rows = finished.tracking().client, finished.table("training_metrics")
    assert set(rows["run_id"]) == {run.info.run_id}
    assert set(rows["training"]) == {run.data.tags["assay.identity"]}
    assert set(rows["model_version"]) == {model.version}
    assert (set(rows["refused"]), set(rows["engine"]), set(rows["target"])) == ({False}, {"xgboost"}, {"price"})
    assert all(len(gates) == 0 for gates in rows["failed_gates"])
    whole = rows.filter(pl.col("round").is_null())
    by_round = rows.drop_nulls("round").sort("metric", "round")
    found = dict(whole.select("metric", "value").iter_rows())
    assert {"test_rmse", "skill_over_best_baseline", "slope_used"} <= set(found)
    rounds = {
        name: [one.value for one in client.get_metric_history(run.info.run_id, name)] for name in run.data.metrics
    }
    assert found | {name: values[-1] for name, values in rounds.items() if len(values) > 1} == run.data.metrics
    for (name,), part in by_round.partition_by("metric", as_dict=True).items():
        assert part["value"].to_list() == rounds[name]
        assert part["round"].to_list() == list(range(1, len(rounds[name]) + 1))
    assert by_round["metric"].n_unique() >= 2
    assert rows.select("target", "training", "metric", "round").is_unique().all()


def test_figures_are_those_of_the_model_and_of_pandas_on_the_test_period(finished, trained):
    run, model = trained
    features = finished.table("features")
    split = model.facts["split"]
    seen = inside(features, {"start": None, "end": split["test"]["start"]}).to_pandas()  # the calibration period too
    later = inside(features, split["test"])
    actual = later["price"].to_numpy()
    batch = pa.Table.from_batches(later.to_arrow().to_batches()).combine_chunks().to_batches()[0]
    expected = {f"test_{k}": v for k, v in point_metrics(actual, model.predict(batch)).items()}
    medians = seen.groupby("kind")["price"].median()
    last = later["price__own__lag_1"].cast(pl.Float64).to_numpy()
    kinds = later["kind"].to_pandas()
    group = kinds.map(medians).to_numpy()
    trend = np.empty(len(actual))
    for kind, rows in seen.groupby("kind"):
        line = np.polynomial.Polynomial.fit(rows["time"].map(dt.datetime.timestamp), np.log(rows["price"]), 1)
        trend[kinds == kind] = np.exp(line(np.array([t.timestamp() for t in later["time"]])))[kinds == kind]
    slow = {
        "global_median": np.full(len(actual), seen["price"].median()),
        "group_median": group,
        "temporal_trend": trend,
        "last_value": np.where(np.isfinite(last), last, group),
    }
    found = Baselines.from_dict(model.facts["baselines"]).predict(batch)
    assert [*found] == [
        *("global_median", "group_median", "temporal_trend", "seasonal"),
        *("last_value", "age_adjusted", "market_trend", "combined"),
    ]
    for name, prediction in {**found, **slow}.items():
        np.testing.assert_allclose(found[name], prediction, rtol=1e-9, err_msg=name)
        expected[f"baseline_{name}_rmse"] = float(np.sqrt(np.mean((actual - prediction) ** 2)))
    expected["best_baseline_rmse"] = min(v for k, v in expected.items() if k.startswith("baseline_"))
    for name, value in expected.items():
        assert run.data.metrics[name] == pytest.approx(value, rel=1e-9), name
    assert run.data.metrics["test_rmse"] < run.data.metrics["best_baseline_rmse"]


def test_the_vocabulary_is_that_of_what_was_learned_from(finished, trained):
    _, model = trained
    features = finished.table("features")
    seen = inside(features, {"start": None, "end": model.facts["split"]["test"]["start"]})
    assert model.encoding.categories == {c: tuple(sorted(seen[c].unique())) for c in ("city", "kind")}
    assert list(model.encoding.numeric) == [n for n, kind in features.schema.items() if kind == pl.Float32]


def test_the_model_that_serves_learned_from_all_outcomes_and_the_tested_one_from_those_before_its_test(finished):
    """Inputs, parameters and rounds are those of the first fit; each later one knows more rows."""
    tracking, features = finished.tracking(), finished.table("features")
    run = run_named(tracking, "train")
    found = load_trained(tracking, run.info.run_id)
    split = found.model.facts["split"]
    known = inside(features, {"start": None, "end": split["test"]["start"]})
    newest = features.drop_nulls("price")["time"].max()
    assert [dt.datetime.fromisoformat(m.learned_until) for m in (found.held_back, found.model, found.served)] == [
        dt.datetime.fromisoformat(split["tune"]["last"]),
        known["time"].max(),
        newest,
    ]
    assert len({m.version for m in (found.held_back, found.model, found.served)}) == 3
    assert len({m.facts["rounds"] for m in (found.held_back, found.model, found.served)}) == 1
    rows = inside(features, split["test"])
    batch = rows.to_arrow().combine_chunks().to_batches()[0]
    errors = {name: getattr(found, name).predict(batch) - rows["price"].to_numpy() for name in ("held_back", "model")}
    rmse = {name: float(np.sqrt(np.mean(error**2))) for name, error in errors.items()}
    assert run.data.metrics["test_rmse"] == pytest.approx(rmse["model"], rel=1e-9)
    assert run.data.metrics["test_rmse_without_refit"] == pytest.approx(rmse["held_back"], rel=1e-9)
    assert np.mean(np.abs(found.served.predict(batch) - rows["price"].to_numpy())) < np.mean(np.abs(errors["model"]))


def test_where_the_tested_model_serves_there_is_one_model(run_job, features, workspace):
    dataset = features(1000)
    result = run_job("train", dataset, overrides=[*QUICK, "serving.learns_until=tune"])
    assert "test_rmse_without_refit" not in result.metrics
    tracking = Tracking(load_run(dataset=workspace / "dataset.yml", workspace=workspace))
    found = load_trained(tracking, run_named(tracking, "train").info.run_id)
    assert (found.served, found.held_back) == (None, None)
    assert champion(tracking, "price").tested is None
    assert champion(tracking, "price").model.version == found.model.version


def test_everything_about_a_training_is_on_record(finished, trained):
    run, model = trained
    tracking = finished.tracking()
    assert run.data.tags["assay.model_version"] == model.version
    assert run.data.tags["assay.ranks"] == "1"
    assert run.data.tags["mlflow.parentRunId"] == run_named(tracking, "pipeline").info.run_id
    (dataset,) = run.inputs.dataset_inputs
    assert json.loads(dataset.dataset.source)["delta_table_version"] == finished.result.tables["features"].version
    with tracking.download(run.info.run_id, "gates.json") as path:
        gates = json.loads(path.read_text(encoding="utf-8"))
    assert [gate["passed"] for gate in gates] == [True, True, True]
    with tracking.download(run.info.run_id, "coverage_gate.json") as path:
        (gate,) = json.loads(path.read_text(encoding="utf-8"))
    assert (gate["gate"], gate["passed"]) == ("coverage", True)
    with tracking.download(run.info.run_id, "importance.json") as path:
        assert json.loads(path.read_text(encoding="utf-8")) == model.importance()
    history = tracking.client.get_metric_history(run.info.run_id, "tune_rmse")
    assert len(history) >= model.facts["rounds"] > 1


def test_the_same_training_elsewhere_gives_the_same_model(finished, trained, run_in, tmp_path):
    for job in ("ingest", "build_features", "train"):
        run_in(tmp_path / "other", job, finished.dataset, overrides=[*finished.settings, "conformal.levels=[0.5]"])
    config = load_run(dataset=tmp_path / "other" / "dataset.yml", workspace=tmp_path / "other")
    assert run_named(Tracking(config), "train").data.tags["assay.model_version"] == trained[1].version


def test_a_model_that_is_worse_than_the_champion_is_refused(run_job, towns, tmp_path, workspace):
    dataset, settings = towns(tmp_path / "source", towns=4), ["engine.rounds=60", "engine.early_stopping_rounds=0"]
    for job in ("ingest", "build_features"):
        run_job(job, dataset, overrides=settings)
    first = run_job("train", dataset, overrides=settings)
    assert "champion_rmse" not in first.metrics
    weak = ["engine.rounds=4", "engine.early_stopping_rounds=0"]
    refused = run_job("train", dataset, overrides=weak)
    assert refused.status == "refused"
    assert any("champion, version 1 (1.0.0)," in line and "confidence it is worse" in line for line in refused.summary)
    metrics = refused.metrics
    assert metrics["champion_rmse"] == pytest.approx(first.metrics["test_rmse"], rel=1e-9)
    assert 0 < metrics["rmse_over_champion_low"] < metrics["test_rmse"] - metrics["champion_rmse"]
    alone = run_job("train", dataset, overrides=[*weak, "gates.champion=false"])
    assert "champion_rmse" not in alone.metrics
    assert alone.metrics["test_rmse"] == metrics["test_rmse"]
    another = run_job("train", dataset, overrides=[*settings, "engine.seed=8"])
    assert another.status == "done"
    assert another.metrics["champion_rmse"] == metrics["champion_rmse"]


def test_a_refused_model_is_on_record_with_its_reasons_and_nobody_scores_with_it(run_job, features, workspace):
    dataset = features(1000)
    strict = [*PLAIN, "engine.rounds=30", "training.min_r2_threshold=0.99999"]
    refused = run_job("train", dataset, overrides=strict)
    assert refused.status == "refused"
    assert any("training.min_r2_threshold" in line for line in refused.summary)
    assert "calibrations" not in refused.tables
    tracking = Tracking(load_run(dataset=workspace / "dataset.yml", workspace=workspace))
    run = tracking.client.get_run(refused.run_id)
    assert (run.info.status, run.data.tags["assay.status"]) == ("FINISHED", "refused")
    assert "R² on the test period" in run.data.tags["assay.refused"]
    assert load_trained(tracking, refused.run_id).model.version == run.data.tags["assay.model_version"]
    assert tracking.client.search_registered_models() == []
    with pytest.raises(DataError, match="a refused model is not registered") as caught:
        run_job("score", dataset)
    assert caught.value.exit_code == 2
    again = run_job("train", dataset, overrides=strict)
    assert (again.status, again.run_id) == ("refused", refused.run_id)
    assert again.tables == refused.tables
    assert "training_metrics" in again.tables
    lenient = run_job("train", dataset, overrides=[*strict, "training.force_production_quality=false"])
    assert lenient.status == "done"
    assert any(line.startswith("below threshold, not enforced") for line in lenient.summary)
    assert len(tracking.client.search_registered_models()) == 1
    rows = table_of(workspace, "training_metrics").group_by("training", "run_id", "refused", "failed_gates").len()
    told = {run_id: (refuses, list(gates)) for _, run_id, refuses, gates, _ in rows.iter_rows()}
    assert {run_id: refuses for run_id, (refuses, _) in told.items()} == {refused.run_id: True, lenient.run_id: False}
    assert all("training.min_r2_threshold" in gates[0] for _, gates in told.values())


def test_a_thousand_rows_take_seconds(run_job, features):
    dataset = features(1000)
    run_job("train", dataset, overrides=[*QUICK, "engine.rounds=1"])  # workers warm up
    started = time.monotonic()
    result = run_job("train", dataset, overrides=[*QUICK, "engine.rounds=600"])
    assert time.monotonic() - started < 30
    assert result.metrics["test_r2"] > 0.95


def test_a_hundred_thousand_rows(run_job, features):
    dataset = features(100_000, columns=20)
    result = run_job("train", dataset, overrides=[*PLAIN, "engine.rounds=60", "engine.ranks=2"])
    assert result.status == "done"
    assert result.metrics["test_r2"] > 0.95
    assert result.metrics["calibration_rows"] == pytest.approx(35_000, abs=1000)  # calibrate and test


def test_a_constant_target_trains_and_is_known_exactly(run_job, features):
    dataset = features(1000, constant=42.0)
    result = run_job("train", dataset, overrides=QUICK)
    assert result.metrics["test_rmse"] == 0.0
    assert result.metrics["quantile_90"] == 0.0
    strict = run_job("train", dataset, overrides=[*PLAIN, "engine.rounds=30"])
    assert strict.status == "refused"  # R² is not a number, and no baseline is beaten


def test_recent_rows_count_more_where_a_half_life_is_set(run_job, features):
    """Both roads bring the time along; what is learned is another model with another identity."""
    dataset = features(1000)
    settings = [[], ["engine.weight_halflife_days=20"], ["engine.weight_halflife_days=20", "runtime.road=spark"]]
    plain, weighted, by_spark = (run_job("train", dataset, overrides=[*QUICK, "engine.ranks=1", *s]) for s in settings)
    assert len({plain.identity, weighted.identity}) == 2
    assert weighted.metrics["test_rmse"] != plain.metrics["test_rmse"]
    assert weighted.metrics["test_r2"] > 0.7
    assert by_spark.metrics["test_rmse"] == pytest.approx(weighted.metrics["test_rmse"], rel=0.02)


def test_a_monotone_input_is_named_as_in_the_data_and_a_typo_is_told(run_job, features):
    dataset = features(1000)
    job = functools.partial(run_job, "train", dataset)
    with pytest.raises(ConfigError, match=r"engine\.monotone\.x00: .*; did you mean x0\?"):
        job(overrides=[*QUICK, "engine.monotone.x00=1"])
    assert job(overrides=[*QUICK, "engine.monotone.x0=1"]).metrics["test_r2"] > 0.7
    best = ["preparation.selection.method=importance", "preparation.selection.max_features=1"]
    falling = job(overrides=[*QUICK, "engine.monotone.x0=-1", *best])
    assert falling.status == "done"  # x0 is left out: nothing to hold down


def test_what_is_fitted_again_has_the_bins_of_the_first_fit(run_job, features, monkeypatch):
    seen = []

    def noted(*args, **kwargs):
        seen.append((kwargs["rounds"], resolve(*args, **kwargs)["max_bin"]))
        return resolve(*args, **kwargs)

    monkeypatch.setattr("assay.training.xgboost_engine.resolve", noted)
    # The 1,280 bins of its 5 inputs are above 1.5 for each row of train, and below for all rows.
    run_job("train", features(1_000), overrides=QUICK)
    (first, *again) = seen
    assert first == (30, 64)
    assert again
    assert {bins for _, bins in again} == {64}


def test_a_slice_learns_from_its_rows_alone(run_job, features):
    dataset = features(4000)
    result = run_job("train", dataset, overrides=QUICK, where=["city=city 3"])
    assert result.metrics["calibration_rows"] == pytest.approx(175, abs=40)
    with pytest.raises(DataError, match=r"no row has a known target 'price' where city=Atlantis \(--where\)"):
        run_job("train", dataset, overrides=QUICK, where=["city=Atlantis"])


def test_too_many_ranks_are_refused_before_any_task(run_job, features):
    dataset = features(1000)
    with pytest.raises(PreflightError, match=r"engine.ranks=3 needs 3 free task slots at once, the cluster has 2"):
        run_job("train", dataset, overrides=[*PLAIN, "engine.ranks=3"])


def test_features_without_a_column_that_the_dataset_names_are_refused(run_job, features):
    dataset = copy.deepcopy(features(1000))
    dataset["columns"]["categorical"] = ["city", "kind"]
    with pytest.raises(DataError, match="no column 'kind', which dataset made names: run build_features again"):
        run_job("train", dataset, overrides=QUICK)


def test_without_features_the_error_names_the_job_that_makes_them(run_job, towns, tmp_path):
    dataset = towns(tmp_path)
    with pytest.raises(DataError, match="run the job build_features first"):
        run_job("train", dataset)
