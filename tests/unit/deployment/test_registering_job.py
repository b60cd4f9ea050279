"""Consumes a feature table and a trained model, checks what the job `calibrate` registers and writes: without Spark."""

from __future__ import annotations

import dataclasses
import datetime as dt
from functools import cached_property

import numpy as np
import pyarrow as pa
import pytest

from assay.config import load_run
from assay.conformal import job as conformal
from assay.model.versions import versions_of
from assay.runtime.job import JobContext, run_stage
from assay.runtime.progress import Reporter
from assay.runtime.session import SparkSettings
from assay.runtime.tables import FEATURES
from small_models import feature_rows

DAY = dt.datetime(2021, 1, 1, tzinfo=dt.timezone.utc)


class WithoutSpark(JobContext):
    """A context whose tasks run here."""

    lab = None

    def spark(self):
        return None

    @cached_property
    def plane(self):
        return self.lab.plane


def part(start, days):
    first, last = DAY + dt.timedelta(days=start), DAY + dt.timedelta(days=start + days - 1)
    told = {"start": first, "end": last + dt.timedelta(days=1), "first": first, "last": last}
    return {**{key: value.isoformat() for key, value in told.items()}, "rows": days}


@pytest.fixture
def calibrated(lab, model):
    """Train on what came before 2021; 200 days calibrate, 100 days test. calibrated(*overrides) runs the job."""
    batch, days = feature_rows(300, seed=4), np.arange(300)
    times = [DAY + dt.timedelta(days=int(day)) for day in days]
    rows = pa.Table.from_batches([batch]).append_column("row_id", pa.array(days))
    rows = rows.append_column("time", pa.array(times, pa.timestamp("us", tz="UTC")))
    rows = rows.append_column("month", pa.array([f"{time:%Y-%m}" for time in times]))
    schema = FEATURES.schema(list(batch.schema))
    lab.write(FEATURES, rows.select(schema.names).to_pylist(), schema, plan_hash="abc123", observations=6)
    split = {"tune": part(-20, 10), "calibrate": part(0, 200), "test": part(200, 100), "train": part(-400, 300)}
    facts = {**model.facts, "split": split, "learned_until": part(-20, 10)["last"]}
    trained = lab.train(dataclasses.replace(model, facts=facts))
    lab.client.log_dict(trained.run_id, {}, "gates.json")

    def run(*overrides):
        config = load_run(dataset=lab.dataset, workspace=lab.workspace, profile="development", overrides=overrides)
        context = WithoutSpark(config, SparkSettings(), Reporter(quiet=True))
        context.lab = lab
        (target,) = config.dataset.targets
        return run_stage(context, conformal.plan(context, target, trained.run_id))

    return run


def test_calibrating_registers_writes_the_table_and_says_the_semantic_version(lab, calibrated):
    result = calibrated()
    assert any("registered towns.price version 1 (1.0.0), now champion" in line for line in result.summary)
    (row,) = lab.table("model_registry")
    assert (row["number"], row["state"], row["semantic_version"], row["change"]) == (1, "serving", "1.0.0", "first")
    assert row["levels"] == [0.8, 0.9]
    held = [result.metrics["test_coverage_80"], result.metrics["test_coverage_90"]]
    assert row["test_coverage"] == held
    assert "model_registry" not in result.tables  # an unchanged run names the tables that are its own, and so does this
    (version,) = versions_of(lab.client, lab.name)
    assert version.tag("calibration_features_version") == str(lab.plane.version("features"))
    again = calibrated()
    assert (again.status, again.tables) == ("unchanged", result.tables)
    assert len(lab.table("model_registry")) == 1


def test_calibrating_with_other_levels_is_a_major_version_of_the_same_model(lab, calibrated):
    calibrated()
    calibrated("conformal.levels=[0.5,0.8,0.9]")
    first, second = lab.table("model_registry")
    assert (first["state"], second["state"], second["change"], second["parent"]) == ("previous", "serving", "major", 1)
    assert first["model_version"] == second["model_version"]
    assert second["levels"] == [0.5, 0.8, 0.9]
