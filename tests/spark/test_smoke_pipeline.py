"""Consumes the demo's real panel, checks that every stage leaves what the next one needs."""

from __future__ import annotations

import shutil

import pytest

from assay.demo import dataset_file, write_source

pytestmark = pytest.mark.spark


def test_pipeline_on_texan_house_prices(run_job, workspace):
    write_source(workspace)
    result = run_job("pipeline", dataset_file(), overrides=["engine.rounds=60"])
    assert result.status == "done"
    assert {"observations", "features", "calibrations", "predictions", "segment_metrics"} <= set(result.tables)
    assert result.metrics["test_rmse"] < result.metrics["best_baseline_rmse"]
    again = run_job("pipeline", dataset_file(), overrides=["engine.rounds=60"])
    assert again.status == "unchanged"
    assert again.tables == result.tables
    shutil.rmtree(workspace)
