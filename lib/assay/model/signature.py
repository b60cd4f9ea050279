"""Consumes a calibrated model, produces what it takes and gives: columns by name, and MLflow's signature of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from assay.model.bundle import Model
from assay.model.row_sample import ROW
from assay.runtime.tables import level_label


def input_kinds(model: Model, calibration: Mapping[str, Any]) -> dict[str, str]:
    """Columns that predicting reads -> `number` or `text`: the model's inputs and those of its segments."""
    texts = dict.fromkeys([*model.encoding.categories, *calibration["segment_columns"]], "text")
    return {**{name: "number" for name in model.input_columns if name not in texts}, **texts}


def output_example(model: Model, calibration: Mapping[str, Any]) -> dict[str, Any]:
    """Columns of a prediction -> a value such as they have."""
    spread = {"disagreement": 1.0} if model.engine == "ensemble" else {}
    labels = [level_label(level) for level in calibration["levels"]]
    if model.outcome.decides:
        classes = {"prediction": 1.0, "predicted_class": "a", "probabilities": [1.0, 0.0]}
        return {**classes, **{f"set_{label}": ["a"] for label in labels}, **spread}
    ends = {f"{end}_{label}": 1.0 for label in labels for end in ("lower", "upper")}
    return {"prediction": 1.0, **ends, **spread}


def signature_of(model: Model, calibration: Mapping[str, Any], *, row_ids: bool) -> dict[str, Any]:
    """Signature and input example: one row of everything missing, which the model takes too.

    row_ids: whether it takes the column `row_id` as well, which it can do without.
    """
    import pandas as pd
    from mlflow.models import ModelSignature, infer_signature
    from mlflow.types import ColSpec, Schema

    kinds = input_kinds(model, calibration)
    example = pd.DataFrame({name: pd.Series([1.0 if kind == "number" else "a"]) for name, kind in kinds.items()})
    outcome = pd.DataFrame({name: [value] for name, value in output_example(model, calibration).items()})
    signature = infer_signature(example, outcome)
    if row_ids:
        optional = ColSpec("long", ROW, required=False)
        signature = ModelSignature(Schema([*signature.inputs.inputs, optional]), signature.outputs)
    return {"signature": signature, "input_example": example}
