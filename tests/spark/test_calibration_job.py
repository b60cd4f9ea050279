"""Consumes the same features with every kind of conformity score, checks calibrations and what intervals hold."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from deltalake import DeltaTable

from assay.config import load_run
from assay.conformal import Calibration
from assay.conformal.calibration import parent
from assay.model.registry import champion, load_trained
from assay.runtime.tracking import Tracking

pytestmark = pytest.mark.spark

COMMON = (
    "engine.rounds=60",
    "engine.early_stopping_rounds=15",
    "training.force_production_quality=false",
    "split.calibrate=0.4",
    "conformal.min_segment_rows=60",
    "conformal.folds=3",
    "conformal.adaptive=false",
)
QUANTILES = (*COMMON, "engine.quantiles=[0.05, 0.1, 0.5, 0.9, 0.95]", "conformal.folds=2")
KINDS = {
    "absolute": (*COMMON, "conformal.score=auto"),
    "normalised": (*COMMON, "conformal.score=normalised"),
    "cqr": QUANTILES,
}


@pytest.fixture(scope="module")
def lake(run_in, towns, tmp_path_factory):
    """Features of 16 towns in a workspace, a model, and the dataset's file."""
    folder = tmp_path_factory.mktemp("calibrations") / "workspace"
    dataset = towns(folder.parent / "source", towns=16, months=150) | {"segments": ["kind", "city"]}
    for job in ("ingest", "build_features", "train"):
        run_in(folder, job, dataset, overrides=COMMON)
    return folder


@pytest.fixture(scope="module", params=KINDS)
def scored(request, run_in, lake):
    """One kind of score: its name, metrics of its calibration, the champion and its predictions."""
    settings = KINDS[request.param]
    job = "train" if settings == QUANTILES else "calibrate"
    found = run_in(lake, job, lake / "dataset.yml", overrides=settings)
    run_in(lake, "score", lake / "dataset.yml", overrides=settings)
    return request.param, found.metrics, champion_of(lake, settings), table(lake, "predictions")


def champion_of(folder, settings):
    config = load_run(dataset=folder / "dataset.yml", workspace=folder, overrides=settings)
    return champion(Tracking(config), "price")


def table(folder, name):
    frame = pl.from_arrow(DeltaTable(folder / "lake" / name).to_pyarrow_table())
    assert isinstance(frame, pl.DataFrame)
    return frame


def test_the_champion_carries_the_score_that_was_asked_for(scored):
    kind, _, found, _ = scored
    for told in (found.calibration, found.tested.calibration):
        calibration = Calibration.from_dict(told)
        assert calibration.score == kind
        assert (calibration.difficulty is not None) == (kind == "normalised")


def test_every_segment_and_its_parents_are_in_the_table_with_what_serves_them(lake, scored):
    kind, _, found, _ = scored
    rows = table(lake, "calibrations").filter(pl.col("calibration_version") == found.calibration_version)
    assert set(rows["score"]) == {kind}
    segments = set(rows["segment"])
    assert segments >= {parent(segment) for segment in segments}
    assert {"", "kind=big", "kind=small"} < segments
    calibration = Calibration.from_dict(found.calibration)
    for row in rows.to_dicts():
        assert row["used"] == calibration.label_used(row["segment"])
    assert rows.select(pl.struct("segment", "level", "part").n_unique()).item() == rows.height


def test_small_segments_are_served_by_their_parents(scored):
    *_, predictions = scored
    used = set(predictions["segment"])
    assert any(segment.count("|") == 1 for segment in used) or {"kind=big", "kind=small"} <= used


def test_intervals_are_nested_finite_and_hold_what_they_promise_on_the_test_period(lake, scored):
    """The panel's walks do not change, so the promise holds up to chance: three standard errors of independent rows."""
    kind, metrics, _, predictions = scored
    ends = predictions.select("lower_90", "lower_80", "upper_80", "upper_90").to_numpy()
    assert np.isfinite(ends).all()
    assert (np.diff(ends, axis=1) >= 0).all()
    known = predictions.join(table(lake, "features").select("row_id", "price"), on="row_id").drop_nulls("price")
    assert known.height > 300
    for level in (80, 90):
        held = known.select(pl.col("price").is_between(f"lower_{level}", f"upper_{level}").mean()).item()
        own = metrics[f"test_coverage_{level}"]  # ends that have crossed hold nothing there, and are put in order here
        assert held >= own - 1e-9 if kind == "cqr" else held == pytest.approx(own, abs=1e-9)
        least = level / 100 - 3 * np.sqrt(level / 100 * (1 - level / 100) / known.height) - 0.02
        assert held >= least, kind


def test_widths_differ_within_a_segment_only_where_the_score_says_so(scored):
    kind, *_, predictions = scored
    ratio = pl.col("upper_80").log() - pl.col("lower_80").log()  # of a log target all absolute widths are ratios
    spread = predictions.group_by("model_version", "segment").agg((ratio.max() - ratio.min()).alias("spread"))["spread"]
    assert (spread.max() < 1e-9) == (kind == "absolute")


@pytest.fixture(scope="module")
def scaled(run_in, lake):
    """Calibrations of one model with normalised scores, by what taught their scale."""
    run_in(lake, "train", lake / "dataset.yml", overrides=COMMON)
    normalised = (*COMMON, "conformal.score=normalised")
    errors = (*normalised, "conformal.scale_from=errors")
    ways = {
        "outcomes": normalised,
        "errors": errors,
        "few errors": (*errors, "conformal.scale_share=0.05"),
        "best": (*COMMON, "conformal.score=best"),
    }
    found = {}
    for way, settings in ways.items():
        summary = run_in(lake, "calibrate", lake / "dataset.yml", overrides=settings).summary
        found[way] = champion_of(lake, settings), " ".join(summary)
    return found


def test_a_scale_of_outcomes_is_learned_from_older_rows_and_takes_none_of_those_that_calibrate(lake, scaled):
    served, _ = scaled["outcomes"]
    calibration = Calibration.from_dict(served.tested.calibration)
    split = served.judged.facts["split"]
    known = sum(split[period]["rows"] for period in ("train", "tune"))
    assert calibration.difficulty.rows == known
    assert calibration.quantiles[""].rows == split["calibrate"]["rows"]
    assert calibration.difficulty.power == 0.5


def test_a_scale_of_errors_takes_the_oldest_of_them(scaled):
    served, _ = scaled["errors"]
    calibration, rows = (
        Calibration.from_dict(served.tested.calibration),
        served.judged.facts["split"]["calibrate"]["rows"],
    )
    assert calibration.difficulty.power is None
    assert 0 < calibration.difficulty.rows <= rows / 3
    assert calibration.quantiles[""].rows == rows - calibration.difficulty.rows


def test_a_scale_that_too_few_rows_teach_is_done_without(scaled):
    assert scaled["few errors"][0].calibration["score"] == "absolute"


def test_what_a_scale_was_believed_for_is_told(scaled):
    served, told = scaled["best"]
    power = served.calibration.get("difficulty", {}).get("power")
    assert (served.calibration["score"] == "absolute") == (power is None)
    assert "a scale per row changes the interval score by" in told


# --- intervals that follow their misses -------------------------------------------------------------------------------

FOLLOW = (*COMMON, "conformal.score=signed", "conformal.adaptive=true", "conformal.step_days=31")


@pytest.fixture(scope="module")
def adaptive(run_in, lake):
    """Metrics of scoring with intervals that follow, the champion, predictions and the states of each step."""
    run_in(lake, "train", lake / "dataset.yml", overrides=COMMON)
    run_in(lake, "calibrate", lake / "dataset.yml", overrides=FOLLOW)
    found = run_in(lake, "score", lake / "dataset.yml", overrides=FOLLOW)
    states = table(lake, "calibrations").filter(pl.col("kind") == "adaptive")
    return found.metrics, champion_of(lake, FOLLOW), table(lake, "predictions"), states


def test_every_row_has_the_interval_of_its_own_step_and_segment(lake, adaptive):
    metrics, found, predictions, states = adaptive
    assert set(states["calibration_version"]) == {found.calibration_version}
    assert states["valid_from"].n_unique() == metrics["adaptive_steps"] > 20
    wide = states.filter(pl.col("level") == 0.9).pivot("part", index=["segment", "valid_from"], values="quantile")
    rows = predictions.sort("time").join_asof(
        wide.sort("valid_from"), left_on="time", right_on="valid_from", by="segment", strategy="backward"
    )
    prediction = rows["prediction"].log()  # on the model's scale quantiles are distances from the prediction
    np.testing.assert_allclose(prediction - rows["lower_90"].log(), rows["0"], rtol=0, atol=1e-9)
    np.testing.assert_allclose(rows["upper_90"].log() - prediction, rows["1"], rtol=0, atol=1e-9)
    assert states["miscoverage"].n_unique() > 20


def test_scores_behind_the_calibration_are_on_record(lake, adaptive):
    _, found, _, _ = adaptive
    scores = table(lake, "conformity_scores")
    assert set(scores["calibration_version"]) == {found.calibration_version}
    assert scores["row_id"].n_unique() == scores.height
    split = found.model.facts["split"]
    for period in ("calibrate", "test"):
        assert scores.filter(pl.col("period") == period).height == split[period]["rows"]
    assert scores.filter(pl.col("learned_until") >= pl.col("time")).is_empty()


def test_each_block_of_the_calibration_period_is_scored_by_a_model_of_its_own_that_knew_all_before_it(lake, adaptive):
    _, found, _, _ = adaptive
    config = load_run(dataset=lake / "dataset.yml", workspace=lake, overrides=FOLLOW)
    trained = load_trained(Tracking(config), found.run_id, blocks=True)
    features = table(lake, "features").drop_nulls("price")
    scores = table(lake, "conformity_scores").filter(pl.col("period") == "calibrate")
    for number, model in enumerate([trained.held_back, *trained.blocks], start=1):
        own = scores.filter(pl.col("block") == number).sort("row_id")
        assert set(own["model_version"]) == {model.version}
        rows = features.join(own, on="row_id", how="semi").sort("row_id")
        before = features.filter(pl.col("time") < rows["time"].min())["time"].max()
        assert set(own["learned_until"]) == {before}
        error = np.subtract(*model.residual_inputs(rows.to_arrow().combine_chunks().to_batches()[0]))
        np.testing.assert_allclose(own["scores"].to_list(), np.column_stack([-error, error]), rtol=0, atol=1e-9)
    assert scores["block"].n_unique() == 3


def test_a_run_that_is_repeated_ends_with_the_same_states(run_in, lake, adaptive):
    *_, predictions, states = adaptive
    run_in(lake, "score", lake / "dataset.yml", overrides=(*FOLLOW, "conformal.min_segment_rows=60"))
    kept = table(lake, "calibrations").filter(pl.col("kind") == "adaptive")
    order = ["segment", "valid_from", "level", "part"]
    assert kept.sort(order).equals(states.sort(order))
    assert table(lake, "predictions").sort("row_id").equals(predictions.sort("row_id"))
