"""Produces a small trained model with its calibration and feature rows, for the tests of what a model is."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from assay.conformal.calibration import fit, segment_labels
from assay.model.bundle import Model
from assay.model.encoding import Encoding
from assay.model.scale import TargetScale

CITIES = ("Austin", "Dallas", "Wäco")
FACTS = {"target": "price", "split": {"test": {"start": None, "end": None}}, "rounds": 12, "seed": 7}


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


def train_model(**facts):
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
    booster = xgb.train({"max_depth": 3, "nthread": 1, "seed": 7}, matrix, 12)
    plan = {"version": 1, "lags": [1], "groups": {"all": []}}
    return Model("xgboost", bytes(booster.save_raw("ubj")), encoding, scale, plan, "abc123", {**FACTS, **facts})


@pytest.fixture(scope="session", name="model")
def trained_model():
    return train_model()


@pytest.fixture(name="retrained")
def model_factory():
    return train_model


@pytest.fixture(name="rows")
def rows_factory():
    return feature_rows


@pytest.fixture(scope="session")
def calibration(model):
    """Quantiles per city of that model on later rows."""
    batch = feature_rows(500, seed=1)
    truth, prediction = model.residual_inputs(batch)
    cities = np.array(batch.column("city").to_pylist(), dtype=object)
    return fit(
        np.abs(truth - prediction),
        segment_labels({"city": cities}),
        (0.8, 0.9),
        min_segment_rows=100,
        segment_columns=("city",),
    )
