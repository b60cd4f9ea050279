"""Produces a small trained model with its calibration and feature rows, and a real registry with versions of it."""

from __future__ import annotations

import dataclasses
from functools import cached_property

import numpy as np
import pyarrow as pa
import yaml

from assay.config import load_run
from assay.conformal.calibration import fit, segment_labels
from assay.conformal.job import PYFUNC
from assay.model.bundle import Model
from assay.model.encoding import Encoding
from assay.model.lineage import LEARNED_ROWS, OBSERVATIONS
from assay.model.registry import Calibrated, TrainedRun, record_models, register, registered_name
from assay.model.scale import TargetScale
from assay.runtime.tracking import Tracking

CITIES = ("Austin", "Dallas", "Wäco")
FACTS = {
    "target": "price",
    "split": {"tune": {"last": "2020-01-01T00:00:00+00:00"}, "test": {"start": None, "end": None}},
    "rounds": 12,
    "seed": 7,
}
DATASET = {
    "name": "towns",
    "source": {"path": "towns.csv"},
    "time": {"column": "day"},
    "entity": ["city"],
    "targets": [{"name": "price"}],
}
TEST = {"test_rmse": 12.5, "test_r2": 0.9, "test_median_ape": 0.05, "test_within_20pct": 95.0}


def feature_rows(rows, seed=0):
    """Feature rows of an invented market, some of their values missing."""
    random = np.random.default_rng(seed)
    last = np.exp(random.normal(5, 0.3, rows)).astype(np.float32)
    city = np.where(random.random(rows) < 0.1, None, random.choice([*CITIES, "Lufkin"], rows))
    return pa.record_batch(
        {
            "size": pa.array(np.where(random.random(rows) < 0.1, np.nan, random.normal(size=rows)), pa.float32()),
            "price__own__lag_1": pa.array(np.where(random.random(rows) < 0.1, np.nan, last), pa.float32()),
            "city": pa.array(city.tolist(), pa.string()),
            "price": pa.array(last * np.exp(random.normal(0.01, 0.05, rows)), pa.float64()),
        }
    )


def train_model(*, rounds=12, **facts):
    """A booster on logs relative to the last value, with everything that belongs to a model."""
    import xgboost as xgb

    encoding = Encoding(("size", "price__own__lag_1"), {"city": CITIES})
    scale = TargetScale("price", "log", "price__own__lag_1", 150.0)
    batch = feature_rows(400)
    matrix = xgb.QuantileDMatrix(
        encoding.matrix(batch),
        scale.forward(batch.column("price").to_numpy(), batch),
        feature_types=encoding.feature_types,
        enable_categorical=True,
    )
    booster = xgb.train({"max_depth": 3, "nthread": 1, "seed": 7}, matrix, rounds)
    plan = {"version": 1, "lags": [1], "groups": {"all": []}}
    return Model("xgboost", bytes(booster.save_raw("ubj")), encoding, scale, plan, "abc123", {**FACTS, **facts})


def calibrate_model(model, levels=(0.8, 0.9), seed=1):
    """Quantiles per city of that model on later rows."""
    batch = feature_rows(500, seed=seed)
    truth, prediction = model.residual_inputs(batch)
    cities = np.array(batch.column("city").to_pylist(), dtype=object)
    labels = segment_labels({"city": cities})
    return fit(np.abs(truth - prediction), labels, levels, min_segment_rows=100, segment_columns=("city",))


class SmallRegistry:
    """A workspace with an MLflow store, in which models are registered as the jobs do it, from files to tags."""

    def __init__(self, workspace, model, *, overrides=(), **dataset):
        self.workspace, self.model, self.runs = workspace, model, 0
        self.dataset = workspace / "towns.yml"
        self.dataset.write_text(yaml.safe_dump({**DATASET, **dataset}), encoding="utf-8")
        (workspace / "assay.json").write_text('{"dataset": "towns"}', encoding="utf-8")
        self.tracking = Tracking(load_run(dataset=self.dataset, workspace=workspace, overrides=overrides))

    @property
    def client(self):
        return self.tracking.client

    @cached_property
    def name(self):
        return registered_name("towns", "price")

    def changed(self, **changes):
        """The model with another content; without changes one that learned anew: its plan and inputs are the same."""
        self.runs += 1
        facts = {**self.model.facts, "again": self.runs}
        return dataclasses.replace(self.model, **{"facts": facts, **changes})

    def train(self, model=None, *, served=None, features=4, target="price", **tags):
        """A finished training run of a model."""
        with self.tracking.run("train", f"t{id(model)}{self.runs}") as run_id:
            location = str(self.workspace / "lake" / "features")
            self.tracking.input_table("features", location, features)
            model = model or self.changed()
            record_models(self.tracking, {"model": model, "served": served})
            told = {"assay.target": target, LEARNED_ROWS: "400", OBSERVATIONS: "2", **tags}
            self.tracking.tags(told)
            self.tracking.metrics(TEST)
            self.tracking.finish("done")
        return TrainedRun(run_id, target, model, registered_name("towns", target), served)

    def register(self, trained, *, calibration=None, features=5, **told):
        """Register what was trained with its calibration, as the job `calibrate`; returns its number."""
        calibration = calibration or calibrate_model(trained.serves)
        tested = None
        if trained.served is not None:
            held = calibrate_model(trained.model)
            tested = Calibrated(trained.model, held.to_dict(), held.version)
        with self.tracking.run("calibrate", f"c{self.runs}"):
            self.tracking.input_table("features", str(self.workspace / "lake" / "features"), features)
            return register(
                *(self.tracking, trained, calibration.to_dict(), calibration.version, PYFUNC), tested=tested, **told
            )

    def add(self, **told):
        """Train and register a model that learned anew; returns its number."""
        return self.register(self.train(), **told)

    def tags(self, number):
        """Tags of a version."""
        return self.client.get_model_version(self.name, number).tags
