"""Rows without a time: ingested, split by row and not by time, trained, scored and evaluated by the real jobs."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from deltalake import DeltaTable

from assay.config import load_run
from assay.errors import ConfigError
from assay.model.registry import champion, load_trained
from assay.runtime.conditions import period_conditions
from assay.runtime.tracking import Tracking
from assay.training.split import PERIODS

pytestmark = pytest.mark.spark

SETTINGS = ["engine.rounds=120", "training.enable_advanced_features=true", "validation={method: kfold, folds: 2}"]


@pytest.fixture(scope="module")
def undated(run_in, tmp_path_factory):
    """A pipeline on 3,000 things, of which a tenth have no price yet; returns (folder, dataset, result)."""
    folder = tmp_path_factory.mktemp("undated")
    random = np.random.default_rng(3)
    size, kind = random.uniform(1, 9, 3000), random.integers(0, 3, 3000)
    price = 10 * kind + 5 * size + random.normal(0, 1, 3000)
    frame = pl.DataFrame(
        {
            "thing": [f"thing {n}" for n in range(3000)],
            "size": size,
            "kind": [f"kind {n}" for n in kind],
            "price": [None if n % 10 == 0 else float(p) for n, p in enumerate(price)],
        }
    )
    frame.write_csv(folder / "things.csv")
    dataset = {
        "name": "things",
        "source": {"path": str(folder / "things.csv")},
        "entity": ["thing"],
        "targets": [{"name": "price"}],
        "columns": {"numeric": ["size"], "categorical": ["kind"]},
        "segments": ["kind"],
    }
    return folder / "ws", dataset, run_in(folder / "ws", "pipeline", dataset, overrides=SETTINGS)


def rows_of(folder, name):
    frame = pl.from_arrow(DeltaTable(folder / "lake" / name).to_pyarrow_table())
    assert isinstance(frame, pl.DataFrame)
    return frame


def test_parts_are_drawn_and_what_is_scored_was_not_learned_from(undated):
    folder, _, result = undated
    assert result.status == "done"
    assert result.metrics["test_r2"] > 0.9
    assert result.metrics["cv_folds"] == 2
    assert result.metrics["cv_rmse"] == pytest.approx(result.metrics["test_rmse"], rel=0.3)
    features = rows_of(folder, "features")
    assert set(features.columns) == {"row_id", "time", "month", "thing", "kind", "size", "price"}  # nothing of any past
    tracking = Tracking(load_run(dataset=folder / "dataset.yml", workspace=folder))
    found = champion(tracking, "price")
    parts = {}
    for name in PERIODS:
        bounds = [c for every in period_conditions(found.model.facts["split"][name])[0].value for c in every]
        ids = pl.col("row_id")
        keep = pl.all_horizontal([ids >= c.value if c.op == ">=" else ids < c.value for c in bounds])
        parts[name] = set(features.filter(keep & pl.col("price").is_not_null())["row_id"])
    assert sum(map(len, parts.values())) == len(set.union(*parts.values())) == 2700
    assert len(parts["test"]) == pytest.approx(540, abs=3)
    predictions = rows_of(folder, "predictions")
    unknown = set(features.filter(pl.col("price").is_null())["row_id"])
    assert set(predictions["row_id"]) == parts["test"] | unknown
    by = {version: set(rows["row_id"]) for (version,), rows in predictions.group_by("model_version")}
    assert by == {found.tested.model.version: parts["test"], found.model.version: unknown}


def test_the_same_rows_are_drawn_again_and_another_target_value_moves_none(undated, run_in):
    folder, dataset, result = undated
    tracking = Tracking(load_run(dataset=folder / "dataset.yml", workspace=folder))
    again = run_in(folder, "train", dataset, overrides=[*SETTINGS, "engine.seed=8"])
    (first, second) = (
        load_trained(tracking, run.info.run_id).model.facts["split"]
        for run in tracking.client.search_runs([tracking.experiment_id], "tags.`assay.job` = 'train'")[:2]
    )
    assert first == second
    assert again.metrics["test_rmse"] == pytest.approx(result.metrics["test_rmse"], rel=0.2)


def test_a_day_has_no_windows_and_versions_are_compared_in_their_place(undated, run_in):
    """Last but one: it scores again by the champion of the test above."""
    folder, dataset, _ = undated
    day = run_in(folder, "daily", dataset, overrides=SETTINGS)
    assert day.status == "done", day.summary
    assert {"observations", "features", "predictions"} <= set(day.tables)
    assert not (folder / "lake" / "drift_detections").exists()
    with pytest.raises(ConfigError, match=r"rows of things have no time, .*: set monitoring\.reference_version and "):
        run_in(folder, "monitor", dataset, overrides=SETTINGS)
    newest = DeltaTable(folder / "lake" / "features").version()
    versions = [f"monitoring.{which}_version={newest}" for which in ("reference", "current")]
    same = run_in(folder, "monitor", dataset, overrides=[*SETTINGS, *versions])
    assert same.status == "done"
    found = rows_of(folder, "drift_detections")
    assert set(found["column"]) == {"size", "kind"}
    assert not found["drifted"].any()


def test_what_needs_a_time_is_refused_where_there_is_none(undated, run_in, tmp_path):
    _, dataset, _ = undated
    for change, told in (
        ({"targets": [{"name": "price", "relative_to": "last_value"}]}, "relative to its last value"),
        (
            {"columns": {"outcomes": ["size"], "categorical": ["kind"]}},
            r"columns\.outcomes are used through",
        ),
        ({"time": {"format": "%Y"}}, r"time\.format is set, but no time\.column"),
    ):
        with pytest.raises(ConfigError, match=told):
            run_in(tmp_path / "ws", "ingest", {**dataset, **change})
