"""Produces small trained models, of a price and of classes, with what training saw and a calibration."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
import xgboost as xgb

from assay.conformal.calibration import fit, segment_labels
from assay.conformal.intervals import labels_of
from assay.model.bundle import Model
from assay.model.encoding import Encoding
from assay.model.outcome import Outcome
from assay.model.registry import Calibrated
from assay.model.scale import TargetScale
from assay.training.seen_values import VALUES, seen, seen_values

CITIES = ("Austin", "Waco")
FACTS = {"target": "price", "split": {"tune": {"last": "2020-01-01T00:00:00+00:00"}, "test": {}}}
INPUTS = ["size", "price__own__lag_1", "noise", "city"]


def market(rows, seed=0):
    """Rows of an invented market with every input, all of them known."""
    random = np.random.default_rng(seed)
    size, last = random.uniform(1, 9, rows), np.exp(random.normal(5, 0.3, rows))
    city = random.choice(CITIES, rows)
    effect = 0.2 * size + np.where(city == "Waco", 0.5, 0.0)
    return pa.record_batch(
        {
            "size": pa.array(size, pa.float32()),
            "price__own__lag_1": pa.array(last, pa.float32()),
            "noise": pa.array(np.zeros(rows), pa.float32()),
            "city": pa.array(city.tolist(), pa.string()),
            "price": pa.array(last * np.exp(effect + random.normal(0, 0.05, rows)), pa.float64()),
            "sold": pa.array((effect + random.normal(0, 0.4, rows) > 1.2).astype(np.float64)),
        }
    )


def _encoding(batch, *, with_seen):
    found = pa.Table.from_batches(list(seen_values(iter([batch.select(INPUTS)]))), VALUES)
    return Encoding(tuple(INPUTS[:3]), {"city": CITIES}, seen=seen(found) if with_seen else {})


def _booster(encoding, batch, label, objective):
    matrix = xgb.QuantileDMatrix(
        encoding.matrix(batch), label, feature_types=encoding.feature_types, enable_categorical=True
    )
    settings = {"objective": objective, "max_depth": 4, "eta": 0.3, "nthread": 1, "seed": 7}
    return bytes(xgb.train(settings, matrix, 30).save_raw("ubj"))


def calibrated(model, batch, score, values, levels=(0.8, 0.9), least=20):
    found = fit(
        values, segment_labels({"city": np.array(batch.column("city").to_pylist(), dtype=object)}), levels,
        min_segment_rows=least, segment_columns=("city",), score=score,
    )  # fmt: skip
    assert labels_of(batch, ("city",))
    return Calibrated(model, found.to_dict(), found.version)


def price_model(*, with_seen=True, levels=(0.8, 0.9), calibration_rows=300):
    batch, later = market(600), market(calibration_rows, seed=1)
    encoding, scale = _encoding(batch, with_seen=with_seen), TargetScale("price", "log", "price__own__lag_1", 150.0)
    label = scale.forward(batch.column("price").to_numpy(), batch)
    stored = _booster(encoding, batch, label, "reg:squarederror")
    model = Model("xgboost", stored, encoding, scale, {}, "abc", FACTS)
    truth, prediction = model.residual_inputs(later)
    return calibrated(model, later, "absolute", np.abs(truth - prediction), levels)


@pytest.fixture(scope="session")
def priced():
    return price_model()


@pytest.fixture(scope="session")
def sold():
    """Of two classes."""
    batch, later = market(600), market(300, seed=1)
    encoding, outcome = _encoding(batch, with_seen=True), Outcome("binary", ("no", "yes"))
    stored = _booster(encoding, batch, batch.column("sold").to_numpy(), "binary:logistic")
    model = Model("xgboost", stored, encoding, TargetScale("sold"), {}, "abc", FACTS, outcome=outcome)
    p = model.probabilities(later)
    came = later.column("sold").to_numpy().astype(int)
    return calibrated(model, later, "lac", 1 - p[np.arange(len(p)), came])


@pytest.fixture(name="market")
def market_factory():
    return market


@pytest.fixture(name="price_model")
def price_model_factory():
    return price_model


@pytest.fixture
def changed():
    """changed(batch, column, {row: value}) -> the batch with these values."""

    def change(batch, column, values):
        found = batch.column(column).to_pylist()
        for row, value in values.items():
            found[row] = value
        array = pa.array(found, batch.column(column).type)
        return batch.set_column(batch.schema.get_field_index(column), column, array)

    return change
