"""Consumes a champion and features, checks that predictions are what the model and its calibration say."""

from __future__ import annotations

import json

import numpy as np
import polars as pl
import pytest
import xgboost as xgb
import yaml

from assay.errors import AssayError, DataError
from assay.model.registry import champion
from assay.model.versions import CHAMPION
from assay.pipeline import build_features
from assay.runtime.job import JobContext
from assay.runtime.progress import Reporter
from assay.runtime.session import SparkSettings

pytestmark = pytest.mark.spark

ENDS = ["lower_80", "upper_80", "lower_90", "upper_90"]


@pytest.fixture(scope="module")
def scored(finished):
    """Predictions beside the feature rows that they were made from, by row."""
    predictions = finished.table("predictions").drop("time", "month", "city")
    joined = predictions.join(finished.table("features"), on="row_id", how="left", maintain_order="left").sort("row_id")
    assert joined["time"].null_count() == 0
    return joined


def test_predictions_are_those_of_the_stored_booster_and_the_calibrations_table(finished, scored):
    """Computed again from the files alone: booster, description and table, with none of assay's own code."""
    learned = scored["price"].is_not_null().to_numpy()  # the model that serves has learned from these
    for name, rows in (("tested", scored.filter(learned)), ("bundle", scored.filter(~learned))):
        assert rows.height
        (folder,) = (finished.folder / "mlartifacts").rglob(f"models/*/artifacts/artifacts/{name}")
        check_predictions(finished, rows, folder)


def check_predictions(finished, scored, folder):
    description = json.loads((folder / "model.json").read_text(encoding="utf-8"))
    booster = xgb.Booster()
    booster.load_model(folder / "booster.ubj")
    columns = [scored[name].cast(pl.Float32).to_numpy() for name in description["encoding"]["numeric"]]
    for name, known in description["encoding"]["categories"]:
        codes = {value: code for code, value in enumerate(known)}
        columns.append(np.array([codes.get(value, np.nan) for value in scored[name]], dtype=np.float32))
    matrix = xgb.DMatrix(
        np.column_stack(columns),
        feature_types=["q"] * len(description["encoding"]["numeric"])
        + ["c"] * len(description["encoding"]["categories"]),
        enable_categorical=True,
    )
    change = booster.predict(matrix).astype(np.float64)
    anchor = scored["price__own__lag_1"].cast(pl.Float64).to_numpy()
    level = np.log(np.where(np.isfinite(anchor), anchor, description["scale"]["typical"])) + change
    np.testing.assert_allclose(scored["prediction"], np.exp(level), rtol=1e-12)
    (calibration,) = set(scored["calibration_version"])
    rows = finished.table("calibrations").filter(pl.col("calibration_version") == calibration)
    quantiles = {(r["segment"], r["level"]): r["quantile"] for r in rows.to_dicts()}
    for share in (0.8, 0.9):
        half = np.array([quantiles[segment, share] for segment in scored["segment"]])
        np.testing.assert_allclose(scored[f"lower_{share * 100:.0f}"], np.exp(level - half), rtol=1e-12)
        np.testing.assert_allclose(scored[f"upper_{share * 100:.0f}"], np.exp(level + half), rtol=1e-12)


def test_every_later_row_is_scored_once_also_where_the_outcome_is_not_known(finished, scored):
    start = champion(finished.tracking(), "price").model.facts["split"]["test"]["start"]
    later = finished.table("features").filter(pl.col("time") >= pl.lit(start).str.to_datetime(time_zone="UTC"))
    assert scored["row_id"].to_list() == later["row_id"].sort().to_list()
    assert scored["price"].null_count() == 6  # one a town
    assert scored["prediction"].is_finite().all()


def test_intervals_are_nested_around_the_prediction(scored):
    found = scored.select("lower_90", "lower_80", "prediction", "upper_80", "upper_90").to_numpy()
    assert np.all(np.diff(found, axis=1) >= 0)
    assert np.all(found > 0)


def test_each_row_says_which_model_calibration_and_segment_made_it(finished, scored):
    found = champion(finished.tracking(), "price")
    learned, later = scored.filter(pl.col("price").is_not_null()), scored.filter(pl.col("price").is_null())
    for rows, by in ((learned, found.tested), (later, found)):
        assert set(rows["model_version"]) == {by.model.version}
        assert set(rows["calibration_version"]) == {by.calibration_version}
    assert set(scored["target"]) == {"price"}
    assert scored["segment"].to_list() == [f"kind={kind}" for kind in scored["kind"]]
    calibrations = finished.table("calibrations")
    assert set(calibrations["segment"]) == {"", "kind=big", "kind=small"}
    assert set(calibrations["model_version"]) == {found.model.version, found.tested.model.version}


def test_the_registered_model_gives_the_numbers_of_the_table(finished, scored):
    tracking = finished.tracking()
    served = tracking.mlflow.pyfunc.load_model(f"models:/towns.price@{CHAMPION}")
    scored = scored.filter(pl.col("price").is_null())  # what it has not learned from
    found = served.predict(scored.select(champion(tracking, "price").model.input_columns).to_pandas())
    for name in ["prediction", *ENDS]:
        np.testing.assert_allclose(found[name], scored[name], rtol=1e-12)
    info = tracking.mlflow.models.get_model_info(f"models:/towns.price@{CHAMPION}")
    assert info.signature.outputs.input_names() == ["prediction", *ENDS]
    assert info.saved_input_example_info is not None


def test_no_artifact_of_the_whole_run_is_a_pickle(finished):
    files = [path for path in (finished.folder / "mlartifacts").rglob("*") if path.is_file()]
    assert files
    assert not [p for p in files if p.suffix in {".pkl", ".pickle", ".joblib"} or p.read_bytes()[:1] == b"\x80"]


def test_scoring_again_changes_nothing(finished, run_in):
    before = finished.table("predictions")
    again = run_in(finished.folder, "score", finished.dataset, overrides=finished.settings)
    assert again.status == "unchanged"
    assert again.tables["predictions"] == finished.result.tables["predictions"]
    assert finished.table("predictions").equals(before)


@pytest.mark.parametrize("name", ["booster.ubj", "calibration.json"])
def test_a_tampered_artifact_is_refused(finished, run_in, name):
    (path,) = (finished.folder / "mlartifacts").rglob(f"models/*/artifacts/artifacts/bundle/{name}")
    original = path.read_bytes()
    path.write_bytes(original.replace(b"1", b"2", 1))
    try:
        with pytest.raises(AssayError, match="refusing to load it"):
            run_in(finished.folder, "score", finished.dataset, overrides=finished.settings)
    finally:
        path.write_bytes(original)


@pytest.fixture(scope="module")
def small(run_in, towns, tmp_path_factory):
    """A workspace that tests may change, in which a quick model scored; returns (folder, dataset, settings)."""
    root = tmp_path_factory.mktemp("small")
    folder, dataset = root / "ws", towns(root / "source", towns=3, months=72)
    settings = ["engine.rounds=15", "training.force_production_quality=false"]
    for job in ("ingest", "build_features", "train", "score"):
        run_in(folder, job, dataset, overrides=settings)
    return folder, dataset, settings


def rows_of(folder, name):
    from deltalake import DeltaTable

    frame = pl.from_arrow(DeltaTable(folder / "lake" / name).to_pyarrow_table())
    return frame.select(sorted(frame.columns)).sort(sorted(frame.columns))


def test_features_of_another_plan_are_refused_and_the_champions_plan_brings_them_back(run_in, small):
    from assay.config import load_run

    folder, dataset, settings = small
    run_in(folder, "score", dataset, overrides=settings)
    features, predictions = rows_of(folder, "features"), rows_of(folder, "predictions")
    other = [*settings, "dataset.features.lags=[1,3]"]
    run_in(folder, "build_features", dataset, overrides=other)
    with pytest.raises(DataError, match="run `build_features --plan champion`, or train again") as caught:
        run_in(folder, "score", dataset, overrides=other)
    assert caught.value.exit_code == 2
    context = JobContext(
        load_run(dataset=folder / "dataset.yml", workspace=folder, overrides=other),
        SparkSettings(),
        Reporter(quiet=True),
    )
    assert build_features(context, plan="champion").status == "done"
    assert build_features(context, plan="champion").status == "unchanged"
    context.close()
    assert rows_of(folder, "features").equals(features)
    assert run_in(folder, "score", dataset, overrides=other).status == "done"
    assert rows_of(folder, "predictions").equals(predictions)


def test_a_slice_is_scored_alone(run_in, small):
    folder, dataset, settings = small
    run_in(folder, "score", dataset, overrides=settings, where=["city=town 1"])
    assert set(rows_of(folder, "predictions")["city"]) == {"town 1"}


def test_other_levels_bring_other_columns(run_in, small):
    folder, dataset, settings = small
    result = run_in(folder, "pipeline", dataset, overrides=[*settings, "conformal.levels=[0.5]"])
    ends = {name for name in rows_of(folder, "predictions").columns if name.startswith(("lower", "upper"))}
    assert ends == {"lower_50", "upper_50"}
    assert {"coverage_50", "width_50"} <= set(result.metrics)
    assert "coverage_80" not in result.metrics


def test_two_targets_have_models_and_predictions_of_their_own(run_in, towns, tmp_path):
    folder, dataset = tmp_path / "ws", towns(tmp_path / "source", towns=3, months=72)
    dataset = yaml.safe_load(yaml.safe_dump(dataset))
    dataset["columns"]["outcomes"] = []
    dataset["targets"].append({"name": "stock"})
    settings = ["engine.rounds=15", "training.force_production_quality=false"]
    result = run_in(folder, "pipeline", dataset, overrides=settings)
    predictions = rows_of(folder, "predictions")
    assert set(predictions["target"]) == {"price", "stock"}
    assert predictions.n_unique(["row_id", "target"]) == predictions.height
    assert {"test_rmse", "stock.test_rmse", "coverage_80", "stock.coverage_80"} <= set(result.metrics)
    assert set(rows_of(folder, "segment_metrics")["target"]) == {"price", "stock"}
    assert sorted(path.name for path in (folder / "reports").iterdir()) == [
        "evaluation-price.html",
        "evaluation-stock.html",
    ]
    before = predictions.filter(pl.col("target") == "price")
    run_in(folder, "train", dataset, overrides=[*settings, "engine.seed=8"])
    run_in(folder, "score", dataset, overrides=[*settings, "engine.seed=8"], where=["city=town 1"])
    after = rows_of(folder, "predictions")
    assert set(after["city"]) == {"town 1"}
    assert before.height > after.filter(pl.col("target") == "price").height
