"""Consumes fitted CatBoost models, produces what is stored of them: plain bytes, and several shards as one model."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from assay.model.catboost_predictor import CONSTANT, Member, inputs, loaded, packed
from assay.model.outcome import Outcome
from assay.training.catboost_params import QUIET
from assay.training.catboost_rows import Rows

VOLATILE = ("model_guid", "train_finish_time")


def merged(shards: Sequence[Member], *, numeric: bool) -> bytes:
    """The weighted mean of the shards as one model. The weights sum to 1.

    numeric: no input is a category, and predictions are the trees' own sums. Then CatBoost sums the trees, which is the
    mean but for rounding. With categories it would merge what shards learned of each category as well, which is another
    model that nobody has tested: shards stay apart, and their predictions are averaged.
    """
    if len(shards) == 1 or not numeric:
        return packed(shards)
    import catboost

    models = [loaded(cbm) for _, cbm in shards]
    return bytes_of(catboost.sum_models(models, weights=[weight for weight, _ in shards]))


def constant(value: float | Sequence[float]) -> Any:
    """A CatBoost model that always predicts `value`: a tree that counts for nothing, and the value as bias.

    Several values, one per class or level, are kept beside it.
    """
    import catboost

    model = catboost.CatBoost({"iterations": 1, "depth": 1, "bootstrap_type": "No", "thread_count": 1, **QUIET})
    model.fit(inputs(np.array([[0.0], [1.0]], np.float32), 1), [0.0, 1.0])
    if isinstance(value, Sequence):
        model.get_metadata()[CONSTANT] = json.dumps(list(value))
    else:
        model.set_scale_and_bias(0.0, value)
    return model


def plain(rows: Rows, outcome: Outcome) -> float | list[float]:
    """What is said of every row where inputs tell nothing: the mean, shares of classes, or quantiles."""
    some = rows.total > 0
    if outcome.kind == "multiclass":
        classes = len(outcome.classes)
        counts = np.bincount(rows.label.astype(np.intp), rows.weight, classes) if some else np.ones(classes)
        return [float(share) for share in counts / counts.sum()]
    if outcome.kind == "quantiles":
        label = rows.label.astype(np.float64) if some else np.zeros(1)
        weight = rows.weight if some else None
        found = np.quantile(label, outcome.levels, method="inverted_cdf", weights=weight)
        return [float(value) for value in found]
    return rows.mean if some else 0.0


def bytes_of(model: Any) -> bytes:
    """A model as cbm. Its record of when, by whom and with how many threads is dropped: equal models, equal bytes."""
    facts = model.get_metadata()
    for name in list(facts.keys()):
        if name.endswith(VOLATILE):
            facts[name] = ""
        elif name == "params":
            params = json.loads(facts[name])
            params["system_options"]["thread_count"] = 1
            facts[name] = json.dumps({**params, "flat_params": {}, "logging_level": "Silent"}, sort_keys=True)
    with tempfile.TemporaryDirectory(prefix="assay-catboost-") as folder:
        path = Path(folder) / "model.cbm"
        model.save_model(str(path), format="cbm")
        return path.read_bytes()
