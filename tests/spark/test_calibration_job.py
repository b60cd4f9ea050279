"""Consumes the same features with every kind of conformity score, checks calibrations and what intervals hold."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from deltalake import DeltaTable

from assay.config import load_run
from assay.conformal import Calibration
from assay.conformal.calibration import parent
from assay.errors import ConfigError
from assay.model.registry import champion
from assay.runtime.tracking import Tracking

pytestmark = pytest.mark.spark

COMMON = (
    "engine.rounds=60",
    "engine.early_stopping_rounds=15",
    "training.force_production_quality=false",
    "split.calibrate=0.4",
    "conformal.min_segment_rows=60",
)
QUANTILES = "engine.quantiles=[0.05, 0.1, 0.5, 0.9, 0.95]"
KINDS = {
    "absolute": ("conformal.score=auto",),
    "signed": ("conformal.score=signed",),
    "normalised": ("conformal.score=normalised",),
    "cqr": ("conformal.score=auto", QUANTILES),
}


@pytest.fixture(scope="module")
def lake(run_in, towns, tmp_path_factory):
    """Features of 16 towns in a workspace, and its dataset's file."""
    folder = tmp_path_factory.mktemp("calibrations") / "workspace"
    dataset = towns(folder.parent / "source", towns=16, months=150) | {"segments": ["kind", "city"]}
    for job in ("ingest", "build_features"):
        run_in(folder, job, dataset)
    return folder


@pytest.fixture(scope="module", params=KINDS)
def scored(request, run_in, lake):
    """One kind of score: its name, metrics of its training, the champion and its predictions."""
    settings = COMMON + KINDS[request.param]
    trained = run_in(lake, "train", lake / "dataset.yml", overrides=settings)
    run_in(lake, "score", lake / "dataset.yml", overrides=settings)
    config = load_run(dataset=lake / "dataset.yml", workspace=lake, overrides=settings)
    return request.param, trained.metrics, champion(Tracking(config), "price"), table(lake, "predictions")


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
        assert held == pytest.approx(metrics[f"test_coverage_{level}"], abs=1e-9), "the job's own figure"
        least = level / 100 - 3 * np.sqrt(level / 100 * (1 - level / 100) / known.height) - 0.02
        assert held >= least, kind


def test_widths_differ_within_a_segment_only_where_the_score_says_so(scored):
    kind, *_, predictions = scored
    ratio = pl.col("upper_80").log() - pl.col("lower_80").log()  # of a log target all absolute widths are ratios
    spread = predictions.group_by("model_version", "segment").agg((ratio.max() - ratio.min()).alias("spread"))["spread"]
    assert (spread.max() < 1e-9) == (kind in {"absolute", "signed"})


def test_quantiles_that_the_model_did_not_learn_are_asked_for(run_in, lake):
    with pytest.raises(ConfigError, match=r"conformal.score=cqr needs the model's quantiles at 0.05, 0.1, 0.9, 0.95"):
        run_in(lake, "train", lake / "dataset.yml", overrides=(*COMMON, "conformal.score=cqr", "engine.seed=9"))


def test_a_scale_that_too_few_rows_teach_is_done_without(run_in, lake):
    few = (*COMMON, "conformal.score=normalised", "conformal.scale_share=0.05", "engine.seed=11")
    run_in(lake, "train", lake / "dataset.yml", overrides=few)
    config = load_run(dataset=lake / "dataset.yml", workspace=lake, overrides=few)
    assert champion(Tracking(config), "price").calibration["score"] == "absolute"
