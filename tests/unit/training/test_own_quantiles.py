"""Consumes an engine of an extension that learns quantiles, checks that it is judged by the pinball loss."""

from __future__ import annotations

import io

import numpy as np
import pytest
from class_harness import QUANTILES, learn
from engine_harness import labelled

from assay import extensions
from assay.metrics import pinball_losses
from assay.training.losses import losses_of


class Same:
    """Says the same quantiles of every row."""

    def __init__(self, quantiles):
        self.quantiles = quantiles

    def store(self):
        file = io.BytesIO()
        np.save(file, self.quantiles, allow_pickle=False)
        return file.getvalue()

    def predict(self, matrix):
        return np.tile(self.quantiles, (len(matrix), 1))


class Own:
    name, kinds = "own", ("quantiles",)

    def learn(self, rows, encoding, params, *, seed, threads, outcome):
        return Same(np.quantile(rows.target, outcome.levels))

    def load(self, stored, threads):
        return Same(np.load(io.BytesIO(stored), allow_pickle=False))


def test_quantiles_of_an_extension_are_judged_as_quantiles_are(monkeypatch):
    own = {("engine", "own"): extensions.Extension("engine", "own", Own(), "my_module", "0")}
    monkeypatch.setattr(extensions, "_found", own)
    train, tune = labelled(900), labelled(300, seed=9)
    result, model = learn("own", [train], QUANTILES, tune=[tune])
    expected = np.quantile(train.column("y").to_numpy(), QUANTILES.levels)
    np.testing.assert_allclose(model.predict_quantiles(tune)[0], expected)
    truth = tune.column("y").to_numpy()
    pinball = pinball_losses(truth, np.tile(expected, (300, 1)), QUANTILES.levels).mean()
    assert result.history == {"tune_pinball": [pytest.approx(pinball)]}


def test_a_row_of_quantiles_has_one_loss():
    found = losses_of(QUANTILES, np.array([1.0, 5.0]), np.array([[0.0, 1.0, 2.0], [1.0, 2.0, 3.0]]))
    np.testing.assert_allclose(found, [(0.1 * 1 + 0 + 0.1 * 1) / 3, (0.1 * 4 + 0.5 * 3 + 0.9 * 2) / 3])
