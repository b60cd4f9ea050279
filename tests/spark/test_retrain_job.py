"""Consumes a monitored workspace of two targets, checks that `retrain` does what `train` does, once, on either road."""

from __future__ import annotations

import polars as pl
import pytest
from deltalake import DeltaTable

from assay.config import load_run
from assay.model.versions import versions_of
from assay.runtime.tracking import Tracking

pytestmark = pytest.mark.spark

QUICK = ("engine.early_stopping_rounds=0", "conformal.adaptive=false", "conformal.min_segment_rows=20")
QUICK = (*QUICK, "training.force_production_quality=false", "monitoring.window_days=200")
BEFORE, AFTER = (*QUICK, "engine.rounds=10"), (*QUICK, "engine.rounds=12")
OFTEN, LATER = "retraining.schedule_days=20", {"date": "2011-01-15"}
TARGETS = ["price", "stock"]


@pytest.fixture(scope="module")
def monitored(run_in, towns, tmp_path_factory):
    """A folder in which all jobs up to `monitor` ran; the dataset; how to read a table."""
    folder = tmp_path_factory.mktemp("retrained") / "workspace"
    dataset = towns(folder.parent / "source", towns=4, months=72)
    dataset["targets"].append({"name": "stock", "relative_to": "last_value"})
    del dataset["columns"]["outcomes"]
    for job in ("ingest", "build_features", "train", "score", "monitor"):
        run_in(folder, job, dataset, overrides=BEFORE)

    def table(name):
        return pl.from_arrow(DeltaTable(folder / "lake" / name).to_pyarrow_table())

    return folder, dataset, table


def versions(folder):
    tracking = Tracking(load_run(dataset=folder / "dataset.yml", workspace=folder))
    return {target: versions_of(tracking.client, f"towns.{target}") for target in TARGETS}


def test_retraining_is_training_of_each_target_once_on_record_and_resumable(monitored, run_in):
    folder, dataset, table = monitored
    idle = run_in(folder, "retrain", dataset, overrides=AFTER)
    assert idle.metrics["retrain_done"] == 0
    assert run_in(folder, "retrain", dataset, overrides=AFTER).status == "unchanged"

    result = run_in(folder, "retrain", dataset, overrides=(*AFTER, OFTEN), **LATER)
    assert (result.status, result.metrics["retrain_done"]) == ("done", 2), result.summary
    jobs = table("retrain_queue").filter("is_last")
    assert sorted(jobs["target"]) == TARGETS
    assert set(jobs["state"]) == {"done"}
    found = versions(folder)
    for row in jobs.to_dicts():
        old, new = found[row["target"]]
        assert (old.state, new.state, new.trained_run_id) == ("previous", "serving", row["run_id"])
        assert (row["champion"], str(new.semantic)) == (old.tag("model_version"), "1.0.1")
        assert f"version {new.label}, serving" in row["detail"]
        assert row["until"] is None
    calibrated = table("calibrations").group_by("target").agg(pl.col("model_version").unique())
    assert len(calibrated) == 2
    for row in calibrated.to_dicts():
        assert found[row["target"]][1].tag("model_version") in row["model_version"]

    # The same configuration and features: nothing is left to learn, for `retrain` and `train` alike.
    assert run_in(folder, "retrain", dataset, overrides=(*AFTER, OFTEN), **LATER).status == "unchanged"
    again = run_in(folder, "train", dataset, overrides=AFTER)
    assert again.run_id == found["price"][1].trained_run_id
    assert {target: len(known) for target, known in versions(folder).items()} == {"price": 2, "stock": 2}

    tracking = Tracking(load_run(dataset=folder / "dataset.yml", workspace=folder))
    trained = tracking.client.get_run(jobs["run_id"][0]).data.tags
    outer = tracking.client.get_run(trained["mlflow.parentRunId"]).data.tags
    assert outer["assay.job"] == "retrain"
    assert outer["assay.retraining"] in set(jobs["job_id"])


def test_the_other_road_keeps_the_same_queue(monitored, run_in):
    folder, dataset, table = monitored
    settings = (*AFTER, OFTEN, "runtime.road=spark")
    result = run_in(folder, "retrain", dataset, overrides=settings, date="2011-06-01")
    assert result.metrics["retrain_done"] == 2, result.summary
    jobs = table("retrain_queue").filter("is_last")
    assert jobs.height == 4
    newest = jobs.filter(pl.col("as_of") == pl.col("as_of").max())
    assert all(detail.startswith("nothing new to learn from") for detail in newest["detail"])
    without = tuple(one for one in settings if "road" not in one)
    assert run_in(folder, "retrain", dataset, overrides=without, date="2011-06-01").status == "unchanged"
