"""Consumes README's extensions and two shops' weekly margins, checks that jobs from tuning to monitoring go by them."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from assay import open_workspace
from assay.config import conf_root, load_run
from assay.model.registry import champion
from assay.runtime.job import JobContext
from assay.runtime.progress import Reporter
from assay.runtime.session import SparkSettings
from assay.runtime.tracking import Tracking
from assay.tuning.job import Studies
from assay.tuning.journal import COMPLETE, read

pytestmark = [pytest.mark.spark, pytest.mark.realdata]

README = (Path(__file__).resolve().parents[2] / "README.md").read_text(encoding="utf-8")
EXAMPLES = dict(re.findall(r"```python\n# (\w+\.py): .*\n(?s:(.*?))```", README))
DATASET = conf_root() / "datasets" / "orange_juice_profit.yml"
FEATURE = "profit__own__days_since_record"


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """A folder with README's files."""
    folder = tmp_path_factory.mktemp("written")
    for name, text in EXAMPLES.items():
        (folder / name).write_text(text, encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def story(run_in, real_data, written, tmp_path_factory):
    """The workspace, the settings, and what each job said."""
    folder = tmp_path_factory.mktemp("story")
    rows = pl.read_parquet(real_data / "orange_juice_profit.parquet")
    rows.filter(pl.col("store").is_in([2, 5]) & (pl.col("brand") <= 3)).write_parquet(folder / "few.parquet")
    told = {"lags": [1, 4], "windows_days": [29], "families": ["since_record"]}
    settings = [f"dataset.source.path={folder / 'few.parquet'}", "dataset.targets=[{name: profit}]"]
    settings += ["dataset.decision={}", "dataset.groups=[[brand]]", f"dataset.features={json.dumps(told)}"]
    settings += [f"runtime.extensions=[{', '.join(str(written / name) for name in EXAMPLES)}]"]
    settings += ["engine.name=extra_trees", "engine.params.n_estimators=10", "training.max_evals=4", "tuning.slots=2"]
    settings += ["conformal.score=relative", "conformal.adaptive=true", "conformal.min_segment_rows=10"]
    settings += ["training.force_production_quality=false", "training.enable_advanced_features=false"]
    settings += ["training.enable_market_features=false", "serving.learns_until=tune"]
    settings += ["monitoring.window_days=90", "monitoring.least_rows=10", "monitoring.report=false"]
    jobs = ("ingest", "build_features", "tune", "calibrate", "score", "monitor")
    said = {job: run_in(folder / "ws", job, DATASET, overrides=settings) for job in jobs}
    return folder / "ws", settings, said


def test_the_engine_is_tuned_in_its_own_space_and_trained_with_what_was_found(story):
    folder, settings, said = story
    (path,) = (folder / "studies").glob("*.jsonl")
    trials = read(path).trials
    assert [trial.state for trial in trials] == [COMPLETE] * 4
    leaves = {trial.params["min_samples_leaf"] for trial in trials if trial.params}
    assert len(leaves) >= 2
    assert all(isinstance(leaf, int) and 1 <= leaf <= 50 for leaf in leaves)
    best = min(trials, key=lambda trial: trial.loss)
    assert len({trial.loss for trial in trials}) > 2
    assert said["tune"].metrics["best_loss"] == best.loss
    tracking = Tracking(load_run(dataset=DATASET, workspace=folder, overrides=settings))
    (trained,) = tracking.client.search_runs([tracking.experiment_id], "tags.`assay.job` = 'train'")
    (loss,) = [m.value for m in tracking.client.get_metric_history(trained.info.run_id, "tune_rmse")]
    assert loss == pytest.approx(best.loss, rel=1e-9)
    assert champion(tracking, "profit").model.engine == "extra_trees"


def test_an_edited_engine_begins_a_study_anew(story, written):
    folder, settings, _ = story

    def identity():
        config = load_run(dataset=DATASET, workspace=folder, overrides=settings)
        context = JobContext(config, SparkSettings(), Reporter(quiet=True))
        try:
            return Studies(context, config.dataset.targets)._studies["profit"].identity
        finally:
            context.close()

    before, file = identity(), written / "extra_trees.py"
    text = file.read_text(encoding="utf-8")
    assert before == identity()
    file.write_text(text + "\n", encoding="utf-8")
    try:
        assert identity() != before
    finally:
        file.write_text(text, encoding="utf-8")
    assert identity() == before


def test_the_model_learned_from_the_family_and_monitoring_watches_it(story):
    folder, settings, said = story
    tracking = Tracking(load_run(dataset=DATASET, workspace=folder, overrides=settings))
    model = champion(tracking, "profit").model
    assert model.importance()[FEATURE] > 0
    tables = open_workspace(folder)
    assert tables.table("features")[FEATURE].drop_nulls().n_unique() > 10
    drift = tables.table("drift_detections").filter((pl.col("column") == FEATURE) & (pl.col("segment") == ""))
    assert drift.height == 1
    assert drift["rows_current"].item() > 20
    assert drift["median_current"].item() > drift["median_reference"].item()  # a record grows older until it is broken
    health = tables.table("health").filter(pl.col("score").is_not_null())
    assert {"error", "coverage", "features", "response"} <= set(health["part"])
    assert said["monitor"].metrics["health"] > 0


def test_the_score_makes_intervals_that_follow_their_misses(story):
    folder, _, _ = story
    tables = open_workspace(folder)
    states = tables.table("calibrations")
    assert set(states["score"]) == {"relative"}
    assert "adaptive" in set(states["kind"])
    scored = tables.table("predictions").drop_nulls("prediction")
    size = pl.col("prediction").abs().clip(lower_bound=1.0)
    share = ((pl.col("upper_80") - pl.col("prediction")) / size).alias("share")
    steps = scored.with_columns(share).group_by("segment", "time").agg(least=share.min(), greatest=share.max())
    np.testing.assert_allclose(steps["least"], steps["greatest"], rtol=1e-9)
    assert steps["least"].is_finite().all()
    by_segment = steps.group_by("segment").agg(pl.col("least").round(9).n_unique())
    assert (by_segment["least"] > 3).all()  # in time


def test_it_is_a_member_of_an_ensemble_of_a_tuned_engine_of_ours(story, run_in):
    folder, settings, _ = story
    ours = ["engine.name=xgboost", "engine.params={}", "engine.rounds=15", "training.max_evals=2"]
    members = ["training.enable_advanced_ensemble=true", "ensemble.members={xgboost: {}, extra_trees: {}}"]
    told = {"dataset": DATASET, "overrides": [*settings, *ours, *members, "ensemble.methods=[average]"]}
    run_in(folder, "tune", **told)
    tracking = Tracking(load_run(workspace=folder, **told))
    trained, _ = tracking.client.search_runs([tracking.experiment_id], "tags.`assay.job` = 'train'")
    with tracking.download(trained.info.run_id, "ensemble.json") as path:
        candidates = json.loads(path.read_text(encoding="utf-8"))["candidates"]
    assert [one["name"] for one in candidates] == ["xgboost", "extra_trees", "average"]
    assert len({round(one["chosen_rmse"], 6) for one in candidates}) == 3
    with tracking.download(trained.info.run_id, "importance.json") as path:
        assert FEATURE in path.read_text(encoding="utf-8")
