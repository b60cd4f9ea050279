"""Consumes a pandas frame of raw rows, produces their prices: the MLflow face of a pricer, for `mlflow models serve`.

MLflow loads this file as code; nothing of the model is pickled.
"""

from __future__ import annotations

import datetime as dt
import json
import math
from pathlib import Path
from typing import Any

import mlflow
import pandas as pd


class AssayServed(mlflow.pyfunc.PythonModel):  # type: ignore[misc]
    """A pricer, and what it knew when it was written."""

    def load_context(self, context: Any) -> None:
        """Load and verify it."""
        from assay.serving.packed import load

        self.pricer = load(Path(context.artifacts["pricer"]), sha256=context.model_config["sha256"])

    def predict(self, context: Any, model_input: pd.DataFrame, params: dict[str, Any] | None = None) -> pd.DataFrame:
        """One row per raw row and target: row, target, prediction, lower_80, ..., and error where it has none.

        params: `history` is the JSON text of a list of raw rows, each an object.
        """
        from assay.serving.request import BadRequest, parsed

        rows = [{str(k): _plain(v) for k, v in row.items()} for row in model_input.to_dict(orient="records")]
        try:
            history = json.loads((params or {}).get("history") or "[]")
        except ValueError as error:
            raise mlflow.MlflowException.invalid_parameter_value(f"params.history is no JSON: {error}") from None
        try:
            answers = self.pricer.price(*parsed(json.dumps({"rows": rows, "history": history}).encode())).answers
        except BadRequest as error:
            raise mlflow.MlflowException.invalid_parameter_value(str(error)) from None
        return pd.DataFrame(list(answers))


def _plain(value: Any) -> Any:
    """A value as JSON has it: NaN, NaT and NA are no value."""
    if isinstance(value, dt.date):
        return None if value is pd.NaT else value.isoformat()
    plain = value.item() if hasattr(value, "item") else value
    missing = plain is pd.NA or (isinstance(plain, float) and math.isnan(plain))
    return None if missing else plain


mlflow.models.set_model(AssayServed())
