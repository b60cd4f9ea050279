"""Produces a small trained model with its calibration and feature rows, for the tests of what a model is."""

from __future__ import annotations

import pytest

from small_models import SmallRegistry, calibrate_model, feature_rows, train_model


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
    return calibrate_model(model)


@pytest.fixture
def registry(workspace, model):
    """A workspace of its own to register models in."""
    return SmallRegistry(workspace, model)
