"""Produces invented rows of classes, and models of them, for the contract of the tasks."""

from __future__ import annotations

import dataclasses

import numpy as np
import pyarrow as pa
from engine_harness import changed, fit, labelled

from assay.class_metrics import class_metrics
from assay.model.outcome import Outcome

BINARY = Outcome("binary", ("no", "yes"))
THREE = Outcome("multiclass", ("low", "middle", "high"))
QUANTILES = Outcome("quantiles", levels=(0.1, 0.5, 0.9))


def classes(rows, outcome, seed=0, *, first=0):
    """Rows of `labelled` whose outcome is a class, drawn with a logistic law around the number that they had."""
    batch = labelled(rows, seed, noise=0.0, first=first)
    level = (batch.column("y").to_numpy() - 21.5) / 2 + np.random.default_rng(seed + 100).logistic(size=rows)
    cuts = [0.0] if len(outcome.classes) == 2 else [-1.0, 1.0]
    return changed(batch, y=np.searchsorted(cuts, level).astype(float))


def learn(engine, train, outcome, **options):
    """What the engine says, and the model of this outcome."""
    result, model = fit(engine, train, outcome=outcome, **options)
    return result, dataclasses.replace(model, outcome=outcome)


def measured(model, batch):
    """Figures of a model of classes on labelled rows."""
    return class_metrics(model.truth(batch), model.probabilities(batch))


def of_class(batch, code):
    """The rows with one class alone."""
    return changed(batch, y=pa.array([float(code)] * batch.num_rows))
