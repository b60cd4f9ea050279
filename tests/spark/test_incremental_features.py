"""Consumes sources that grow and are corrected, checks that features built month by month are those built at once."""

from __future__ import annotations

import datetime as dt

import polars as pl
import pytest
from deltalake import DeltaTable
from polars.testing import assert_frame_equal

from assay.runtime.plane import Commit

pytestmark = pytest.mark.spark

ON = ["training.enable_advanced_features=true", "training.enable_interaction_features=true"]


def with_every_family(tree):
    """A dataset that asks for the families that are off by default."""
    chosen = {
        "technical": ["price"],
        "technical_periods": [3],
        "macd": [2, 4, 2],
        "bollinger": [3, 2],
        "target_encoding": {"columns": ["kind", "city"]},
        "fourier": {"year": 2},
    }
    calendar = {"country": "US", "business": True, "market": "NYSE"}
    return {**tree, "features": {**tree["features"], **chosen}, "calendar": calendar}


def features(folder) -> pl.DataFrame:
    frame = pl.from_arrow(DeltaTable(folder / "lake" / "features").to_pyarrow_table())
    return frame.select(sorted(frame.columns)).sort("row_id")


@pytest.fixture
def files(towns, tmp_path):
    """The panel as one file per four months of 2005, and the dataset that reads their folder."""
    tree = towns(tmp_path / "whole", towns=4, months=12)
    whole = pl.read_csv(tmp_path / "whole" / "towns.csv")
    source = tmp_path / "source"
    source.mkdir()
    month = pl.col("day").str.slice(5, 2).cast(pl.Int64)
    parts = {name: whole.filter((month - 1) // 4 == index) for index, name in enumerate(("spring", "summer", "autumn"))}
    return source, parts, {**tree, "source": {"path": str(source)}}


@pytest.mark.parametrize("road", ["arrow", "spark"])
def test_new_corrected_and_late_rows_give_what_a_full_build_gives(run_in, files, tmp_path, road):
    source, parts, tree = files
    grown, overrides = tmp_path / "grown", [f"runtime.road={road}"]
    advanced = [*overrides, *ON[:1]]
    if road == "arrow":  # families know no roads, and Spark takes its time for every column
        tree, advanced = with_every_family(tree), [*overrides, *ON]

    def build(folder):
        run_in(folder, "ingest", tree, overrides=advanced)
        return run_in(folder, "build_features", tree, overrides=advanced)

    for name in ("spring", "summer"):
        parts[name].write_csv(source / f"{name}.csv")
    first = build(grown)
    assert first.metrics["rows"] == 32

    parts["autumn"].write_csv(source / "autumn.csv")
    second = build(grown)
    assert second.metrics["rows"] == 16, "only the new months are built"

    # A price of June is corrected and a town that was late brings its row of August.
    late = parts["summer"].filter(pl.col("day") == "2005-08-01").head(1).with_columns(city=pl.lit("late town"))
    changed = pl.when((pl.col("day") == "2005-06-01") & (pl.col("city") == "town 1")).then(pl.col("price") * 2)
    corrected = pl.concat([parts["summer"].with_columns(changed.otherwise(pl.col("price")).alias("price")), late])
    corrected.write_csv(source / "summer.csv")
    third = build(grown)
    assert 16 < third.metrics["rows"] <= 33
    assert build(grown).status == "unchanged"

    whole = build(tmp_path / "at once")
    assert whole.metrics["rows"] == 49
    assert_frame_equal(features(grown), features(tmp_path / "at once"), check_exact=True)


def test_a_training_run_is_certified_and_a_planted_leak_stops_it(run_in, towns, tmp_path):
    folder = tmp_path / "w"
    tree = with_every_family(towns(tmp_path / "source", towns=4, months=60))
    overrides = [*ON, "engine.rounds=20", "training.force_production_quality=false"]
    for job in ("ingest", "build_features"):
        run_in(folder, job, tree, overrides=overrides)
    trained = run_in(folder, "train", tree, overrides=overrides)
    assert trained.status == "done"
    assert trained.metrics["leaking_features"] == 0
    assert trained.metrics["certified_rows"] >= 30
    assert any("leakage certificate" in line and " 0 differences" in line for line in trained.summary)

    # The classic leak: a mean that counts the row's own month. The table claims the same honest plan.
    location = folder / "lake" / "features"
    table = DeltaTable(location)
    honest = Commit.parse(table.history(1)[0]["userMetadata"], table.version())
    frame = pl.from_arrow(table.to_pyarrow_table())
    leak = (pl.col("stock__own__mean_95d") + pl.col("price").fill_null(0.0) / 1e3).cast(pl.Float32)
    leaky = frame.with_columns(leak.alias("stock__own__mean_95d")).to_arrow().cast(pa_schema(table))
    write(location, leaky, honest)
    refused = run_in(folder, "train", tree, overrides=overrides)
    assert refused.status == "refused"
    assert refused.metrics["leaking_features"] == 1
    assert "stock__own__mean_95d" in " ".join(refused.summary)
    assert "test_rmse" not in refused.metrics, "nothing was trained"


def pa_schema(table: DeltaTable):
    return table.to_pyarrow_table().schema


def write(location, rows, commit: Commit) -> None:
    import json

    from deltalake import CommitProperties, write_deltalake

    properties = CommitProperties(custom_metadata={"userMetadata": json.dumps(commit.payload())})
    write_deltalake(location, rows, mode="overwrite", partition_by=["month"], commit_properties=properties)


def test_a_run_as_of_a_date_and_one_of_now_do_not_build_upon_each_other(run_in, files, tmp_path):
    source, parts, tree = files
    for name in ("spring", "summer"):
        parts[name].write_csv(source / f"{name}.csv")
    folder, overrides = tmp_path / "w", ["training.enable_advanced_features=true"]
    run_in(folder, "ingest", tree, overrides=overrides)
    past = run_in(folder, "build_features", tree, overrides=overrides, date="2005-04-30")
    assert past.metrics["rows"] == 16
    parts["autumn"].write_csv(source / "autumn.csv")
    run_in(folder, "ingest", tree, overrides=overrides)
    now = run_in(folder, "build_features", tree, overrides=overrides)
    assert now.metrics["rows"] == 48
    assert features(folder)["time"].max() == dt.datetime(2005, 12, 1, tzinfo=dt.timezone.utc)
