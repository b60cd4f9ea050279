"""Consumes plans and configurations, checks that an identity changes with everything that can change an outcome."""

from __future__ import annotations

import dataclasses
import json
import math

import pytest
import yaml

from assay.config import load_run
from assay.runtime import job
from assay.runtime.job import Plan, Result, TableState, identity_of

DATASET = {
    "name": "towns",
    "source": {"path": "towns.csv"},
    "time": {"column": "day"},
    "entity": ["city"],
    "targets": [{"name": "price"}],
}
PLAN = Plan(
    job="train",
    inputs={"features": 3},
    sections=("dataset", "training", "as_of", "where"),
    slots=[("calibrations", "price")],
    execute=lambda _: None,
    extra={"target": "price"},
)


@pytest.fixture
def config(tmp_path):
    def load(*overrides, folder="a", dataset=None, **options):
        path = tmp_path / folder / "towns.yml"
        path.parent.mkdir(exist_ok=True)
        path.write_text(yaml.safe_dump(dataset or DATASET), encoding="utf-8")
        return load_run(dataset=path, workspace=tmp_path / folder / "ws", overrides=overrides, **options)

    return load


def test_equal_inputs_have_one_identity_in_any_folder(config):
    first = identity_of(PLAN, config())
    assert len(first) == 16
    assert identity_of(PLAN, config(folder="b")) == first
    reordered = dict(reversed(DATASET.items()))
    assert identity_of(PLAN, config(folder="c", dataset=reordered)) == first
    assert identity_of(dataclasses.replace(PLAN, slots=[], execute=lambda _: None), config()) == first


@pytest.mark.parametrize(
    "changes",
    [
        {"job": "score"},
        {"inputs": {"features": 4}},
        {"inputs": {"features": 3, "predictions": 1}},
        {"sections": ("dataset",)},
        {"extra": {"target": "rent"}},
    ],
    ids=lambda value: next(iter(value)),
)
def test_another_plan_has_another_identity(config, changes):
    assert identity_of(dataclasses.replace(PLAN, **changes), config()) != identity_of(PLAN, config())


@pytest.mark.parametrize(
    "options",
    [
        {"overrides": ["training.min_r2_threshold=0.5"]},
        {"overrides": ["dataset.features.lags=[1]"]},
        {"date": "2020-01-31"},
        {"where": ["city=Waco"]},
    ],
    ids=["flag", "dataset", "as-of date", "slice"],
)
def test_a_setting_of_a_section_that_counts_changes_it(config, options):
    overrides = options.pop("overrides", [])
    assert identity_of(PLAN, config(*overrides, **options)) != identity_of(PLAN, config())


@pytest.mark.parametrize("override", ["engine.rounds=5", "conformal.levels=[0.5]", "runtime.rows_per_task=10"])
def test_a_setting_of_another_section_does_not(config, override):
    assert identity_of(PLAN, config(override)) == identity_of(PLAN, config())


def test_other_code_has_another_identity(config, monkeypatch):
    before = identity_of(PLAN, config())
    monkeypatch.setattr(job, "__version__", "99.0.0")
    assert identity_of(PLAN, config()) != before


def test_a_result_is_json_even_with_figures_that_json_has_no_number_for():
    state = {"features": TableState("/lake/features", 4)}
    result = Result("train", "done", "r1", "i1", {"rmse": 2.5, "width_90": math.inf, "r2": math.nan}, state)
    found = json.loads(json.dumps(result.as_dict(), allow_nan=False))
    assert found == {
        "job": "train",
        "status": "done",
        "run_id": "r1",
        "identity": "i1",
        "metrics": {"rmse": 2.5, "width_90": None, "r2": None},
        "tables": {"features": {"location": "/lake/features", "version": 4}},
    }
    assert dataclasses.replace(result, report="/r.html").as_dict()["report"] == "/r.html"
