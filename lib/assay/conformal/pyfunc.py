"""Consumes a pandas frame of feature rows, produces predictions with intervals: the MLflow face of a model.

MLflow loads this file as code; nothing of the model is pickled.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import mlflow
import pandas as pd
import pyarrow as pa


class AssayModel(mlflow.pyfunc.PythonModel):  # type: ignore[misc]
    """A model bundle and its calibration."""

    def load_context(self, context: Any) -> None:
        """Verify every file beside this one, then load the bundle."""
        from assay.conformal.class_calibration import read_calibration
        from assay.model.bundle import Model
        from assay.model.files import check, name_of
        from assay.model.logged import CALIBRATION
        from assay.model.registry import load_calibration

        folder, root, recorded = Path(__file__).parent, Path(context.artifacts["bundle"]), context.model_config
        name = name_of(folder)
        check(folder, name)
        self.model = Model.load(root, sha256=recorded["model_sha256"], name=name, beside=(CALIBRATION,))
        calibration = load_calibration(root, sha256=recorded["calibration_sha256"], name=name)
        self.calibration = read_calibration(calibration, classes=self.model.outcome.decides)

    def predict(self, context: Any, model_input: pd.DataFrame, params: dict[str, Any] | None = None) -> pd.DataFrame:
        """Columns prediction, lower_80, upper_80, ... in the target's unit, one row per input row.

        Of classes: prediction, predicted_class, probabilities, set_80, ... An ensemble adds disagreement, of numbers on
        the model's scale. With the column `row_id` adaptive sets are those of the job `score`; without it they are
        larger, and hold these.
        """
        from assay.conformal.intervals import score_batch
        from assay.model.row_sample import ROW

        texts = [*self.model.encoding.categories, *self.calibration.segment_columns]
        kinds = {c: pa.string() if c in texts else pa.float64() for c in [*self.model.input_columns, *texts]}
        kinds |= {ROW: pa.int64()} if ROW in model_input.columns else {}
        batch = pa.RecordBatch.from_pydict(
            {c: pa.array(model_input[c], kind, from_pandas=True) for c, kind in kinds.items()}
        )
        scored = score_batch(self.model, self.calibration, batch)
        columns = {k: v.to_pylist() if isinstance(v, pa.Array) else v for k, v in scored.items()}
        return pd.DataFrame({k: v for k, v in columns.items() if k != "segment"})


mlflow.models.set_model(AssayModel())
