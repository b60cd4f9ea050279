"""Consumes feature batches, a model and its calibration, produces predictions with intervals. Pure; runs anywhere."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa

from assay.conformal.calibration import Calibration, segment_labels
from assay.conformal.scores import SCORES
from assay.model.bundle import Model
from assay.runtime.tables import level_label


def score_batch(model: Model, calibration: Calibration | dict[str, Any], batch: pa.RecordBatch) -> dict[str, Any]:
    """Score one batch.

    Returns:
        prediction (n,), per level lower_* and upper_* (n,) in the target's unit (infinite where calibration had too few
        rows), the segment (n,) whose calibration was used, and, of an ensemble, its members' disagreement (n,) on the
        model's scale.
    """
    fitted = calibration if isinstance(calibration, Calibration) else Calibration.from_dict(calibration)
    scaled, spread = model.predict_with_spread(batch)
    quantiles, used = fitted.quantiles_for(np.array(labels_of(batch, fitted.segment_columns), dtype=object))
    scored: dict[str, Any] = {"prediction": model.scale.inverse(scaled, batch)}
    for position, level in enumerate(fitted.levels):
        lower, upper = SCORES[fitted.score].interval(scaled, quantiles[:, position])
        scored[f"lower_{level_label(level)}"] = model.scale.inverse(lower, batch)
        scored[f"upper_{level_label(level)}"] = model.scale.inverse(upper, batch)
    if spread is not None:
        scored["disagreement"] = spread
    scored["segment"] = used
    return scored


def labels_of(batch: pa.RecordBatch, segments: tuple[str, ...]) -> list[str]:
    """Segment label of each row."""
    columns = {s: np.array(batch.column(s).to_pylist(), dtype=object) for s in segments}
    return [str(label) for label in segment_labels(columns, rows=batch.num_rows)]
