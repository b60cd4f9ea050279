"""Consumes real Delta tables of two targets and days, checks what a step of monitoring reads, replaces and plans."""

from __future__ import annotations

import dataclasses
import datetime as dt

import pyarrow as pa
import pytest
from alert_context import Outside

from assay.config.target import TargetConfig
from assay.errors import DataError
from assay.model.registry import Champion
from assay.monitoring.watching import Watching
from assay.runtime.conditions import Condition
from assay.runtime.job import Done, identity_of
from assay.runtime.monitoring_tables import HEALTH, PERFORMANCE
from small_models import train_model


@pytest.fixture(scope="module")
def champion():
    return Champion(train_model(), {}, "calibration", number="1", run_id="run")


@pytest.fixture
def watching(tmp_path, champion):
    def of(target="price", day=1, where=()):
        outside = Outside(tmp_path)
        outside.config = dataclasses.replace(
            outside.config, as_of=dt.datetime(2024, 1, day, tzinfo=dt.timezone.utc), where=where
        )
        return Watching(outside, TargetConfig(target), champion, features=3, predictions=4)

    return of


def health(one, **scores):
    rows = [{"part": part, "score": score, **one.dated} for part, score in scores.items()]
    return pa.Table.from_pylist(rows, HEALTH.schema())


def found(one, *where):
    version = one.context.plane.version(HEALTH.name)
    return {row["part"]: row["score"] for row in one.rows(HEALTH, version, *where).to_pylist()}


def test_rows_of_the_same_target_and_day_alone_are_replaced(watching):
    first, later, other = watching(), watching(day=2), watching("rent")
    for number, one in enumerate((first, later, other, first)):
        written = one.write(HEALTH, health(one, all=10.0 * number, error=1.0), "health", f"run {number}")
        assert [done.table for done in written] == [HEALTH.name]
    assert found(first, first.of_date) == {"all": 30.0, "error": 1.0}
    assert found(later, later.of_date) == {"all": 10.0, "error": 1.0}
    assert found(other) == {"all": 20.0, "error": 1.0}
    assert found(first, first.of_date, Condition("part", "==", "error")) == {"error": 1.0}
    runs = [first.context.plane.last_commit(HEALTH.name, target).identity for target in ("price", "rent")]
    assert runs == ["run 3", "run 2"]


def test_a_table_can_be_made_anew_with_other_columns(watching):
    one = watching()
    for level in ("80", "90"):
        schema = PERFORMANCE.schema([pa.field(f"coverage_{level}", pa.float64())])
        rows = pa.Table.from_pylist([{"role": "champion", "target": "price"}], schema)
        one.write(PERFORMANCE, rows, "performance", level, owns={})
        assert one.context.plane.schema(PERFORMANCE.name).names == schema.names
    assert one.rows(PERFORMANCE, one.versions(PERFORMANCE)[PERFORMANCE.name]).num_rows == 1


def test_a_table_that_no_step_made_is_told(watching):
    with pytest.raises(DataError, match=r"table health does not exist in .* run the job monitor first"):
        watching().versions(HEALTH)


def test_a_plan_changes_with_everything_that_can_change_its_outcome(watching):
    def identity(one, inputs=None, **more):
        plan = one.plan("health", inputs or {"performance": 1}, HEALTH, lambda _: Done({}, []), **more)
        assert plan.slots == [(HEALTH.name, one.target.name)]
        return identity_of(plan, one.context.config)

    one = watching()
    others = [
        watching("rent"),
        watching(day=2),
        watching(where=(("city", "Austin"),)),
        dataclasses.replace(one, champion=dataclasses.replace(one.champion, calibration_version="newer")),
        dataclasses.replace(one, champion=dataclasses.replace(one.champion, model=train_model(rounds=13))),
    ]
    told = [*map(identity, (one, *others)), identity(one, {"performance": 2}), identity(one, also=("alerts",))]
    assert len(set(told)) == len(told)
    assert identity(watching()) == identity(one)


def test_history_is_looked_up_once_for_all_steps(watching, monkeypatch):
    one, asked = watching(), []
    kept = one.context.plane.last_commit
    monkeypatch.setattr(one.context.plane, "last_commit", lambda *told: asked.append(told) or kept(*told))
    plans = [one.plan(job, {}, HEALTH, lambda _: Done({}, [])) for job in ("drift", "performance", "health", "alerts")]
    assert asked == [("predictions", "price")]
    assert {plan.extra["calibration"] for plan in plans} == {"calibration"}
