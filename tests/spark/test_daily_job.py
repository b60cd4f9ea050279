"""Consumes a source that grows by a month a day, checks what `daily` makes of it: at first, later, twice, refused."""

from __future__ import annotations

import polars as pl
import pytest
from deltalake import DeltaTable

from assay.config import load_run
from assay.errors import UserError
from assay.model.versions import versions_of
from assay.runtime.tracking import Tracking

pytestmark = pytest.mark.spark

QUICK = ("engine.rounds=20", "engine.early_stopping_rounds=0", "conformal.adaptive=false")
QUICK = (*QUICK, "conformal.min_segment_rows=20", "monitoring.window_days=200")
HOPELESS = ("retraining.schedule_days=1", "training.min_r2_threshold=1.0", "engine.rounds=21")


@pytest.fixture(scope="module")
def lab(run_in, towns, tmp_path_factory):
    """How to run the job on the months until a day, what is registered, and a table's rows."""
    folder = tmp_path_factory.mktemp("daily") / "workspace"
    dataset = towns(folder.parent / "source", towns=4, months=72)
    source = folder.parent / "source" / "towns.csv"
    whole = pl.read_csv(source)

    class Lab:
        def run(self, until, *settings, rows=None, **options):
            known = whole.filter(pl.col("day") <= until)
            newest = pl.col("day") == known["day"].max()
            known.with_columns(price=pl.when(~newest).then("price")).write_csv(source)
            if rows is not None:
                rows.write_csv(source)
            return run_in(folder, "daily", dataset, overrides=(*QUICK, *settings), **options)

        def table(self, name):
            return pl.from_arrow(DeltaTable(folder / "lake" / name).to_pyarrow_table())

        def tracking(self):
            return Tracking(load_run(dataset=folder / "dataset.yml", workspace=folder))

        def versions(self):
            return versions_of(self.tracking().client, "towns.price")

        def stages(self, result):
            """Jobs that ran below a run, in their order."""
            tracking = self.tracking()
            runs = tracking.client.search_runs(
                [tracking.experiment_id],
                f"tags.mlflow.parentRunId = '{result.run_id}'",
                order_by=["attributes.start_time ASC"],
            )
            return [run.data.tags["assay.job"] for run in runs]

    lab = Lab()
    lab.whole, lab.first = whole, lab.run("2010-09-01")
    return lab


def test_days_of_a_scheduler_need_one_command(lab):
    assert lab.first.status == "done", lab.first.summary
    assert lab.first.report is not None
    assert lab.table("segment_metrics").height > 0  # evaluated once, as the model is new
    (champion,) = lab.versions()
    assert champion.state == "serving"

    day = lab.run("2010-10-01")
    assert day.status == "done", day.summary
    assert [version.number for version in lab.versions()] == [champion.number]
    assert not {"train", "certify", "evaluate"} & set(lab.stages(day))
    assert lab.stages(day)[:3] == ["ingest", "build_features", "score"]
    predictions = lab.table("predictions")
    newest = predictions.filter(pl.col("time").dt.strftime("%F") == "2010-10-01")
    assert sorted(newest["city"]) == [f"town {n}" for n in range(4)]
    assert newest["prediction"].is_finite().all()
    assert predictions.select("city", "time").is_unique().all()
    assert lab.table("health").height > 0

    again = lab.run("2010-10-01")
    assert lab.stages(again) == ["deploy"]  # which looks at its log each time
    assert lab.table("predictions").equals(predictions)


def test_a_model_that_is_refused_leaves_the_champion_and_the_days_work(lab):
    before = [(version.number, version.state) for version in lab.versions()]
    result = lab.run("2010-11-01", *HOPELESS)
    assert result.status == "refused"
    assert lab.stages(result)[-1] == "deploy"
    assert [(version.number, version.state) for version in lab.versions()] == before
    assert (lab.table("predictions")["time"].dt.strftime("%F") == "2010-11-01").sum() == 4


def test_rows_that_are_refused_end_the_day_before_anything_is_scored(lab):
    before = lab.table("predictions")
    bad = lab.whole.filter(pl.col("day") <= "2010-12-01").with_columns(price=pl.lit("n/a"), day=pl.lit("soon"))
    result = lab.run("2010-12-01", rows=bad)
    assert result.status == "refused"
    assert lab.stages(result) == ["ingest"]
    assert lab.table("predictions").equals(before)


def test_a_slice_is_refused(lab):
    with pytest.raises(UserError, match=r"daily knows no slices, .*: leave out --where"):
        lab.run("2010-12-01", where=["city=town 1"])
