"""Consumes feature batches, a model and its calibration, produces predictions with intervals, or with sets of classes.

Pure; runs anywhere.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa

from assay.conformal.calibration import Calibration, segment_labels
from assay.conformal.class_calibration import ClassCalibration, read_calibration
from assay.conformal.class_sets import draws_of
from assay.conformal.difficulty import Difficulty
from assay.conformal.scores import SCORES, Floats, Forecast, nested
from assay.model.bundle import Model
from assay.runtime.tables import level_label


def score_batch(model: Model, calibration: Calibration | dict[str, Any], batch: pa.RecordBatch) -> dict[str, Any]:
    """Score one batch.

    Returns:
        prediction (n,), per level lower_* and upper_* (n,) in the target's unit (infinite where calibration had too few
        rows), the segment (n,) whose calibration was used, and, of an ensemble, its members' disagreement (n,) on the
        model's scale. Of classes see `score_classes`.
    """
    fitted = calibration
    if not isinstance(fitted, Calibration):
        fitted = read_calibration(fitted, classes=model.outcome.decides)
    if model.outcome.decides:
        whole = fitted if isinstance(fitted, ClassCalibration) else ClassCalibration.from_dict(fitted.to_dict())
        return score_classes(model, whole, batch)
    forecast, spread = forecast_of(model, batch, fitted.difficulty)
    quantiles, used = fitted.quantiles_for(np.array(labels_of(batch, fitted.segment_columns), dtype=object))
    scored: dict[str, Any] = {"prediction": model.scale.inverse(forecast.centre, batch)}
    bounds = SCORES[fitted.score].interval(forecast, quantiles, fitted.levels)
    lower, upper = nested(*bounds, fitted.levels)
    for position, level in enumerate(fitted.levels):
        scored[f"lower_{level_label(level)}"] = model.scale.inverse(lower[:, position], batch)
        scored[f"upper_{level_label(level)}"] = model.scale.inverse(upper[:, position], batch)
    if spread is not None:
        scored["disagreement"] = spread
    scored["segment"] = used
    return scored


def forecast_of(model: Model, batch: pa.RecordBatch, difficulty: Difficulty | None) -> tuple[Forecast, Floats | None]:
    """Feature batch -> what the model says of it, on its scale, and the disagreement (n,) of an ensemble's members."""
    scale = difficulty.scale(model.encoding.matrix(batch)) if difficulty is not None else None
    if model.outcome.kind == "quantiles":
        found, spread = model.scaled_quantiles(batch)
        return Forecast(found[:, model.outcome.middle], scale, found, model.outcome.levels), spread
    centre, spread = model.predict_with_spread(batch)
    return Forecast(centre, scale), spread


def score_classes(model: Model, fitted: ClassCalibration, batch: pa.RecordBatch) -> dict[str, Any]:
    """Score one batch of classes.

    Returns:
        prediction (n,), which is the calibrated probability of the positive class, or of the likeliest of several;
        predicted_class (n,), the likeliest; probabilities, n lists in the order of the classes; per level set_*, n
        lists of the classes that the promise needs (all of them where calibration had too few rows); the segment (n,);
        and, of an ensemble, its members' disagreement (n,), from 0 to 1.

    Sets of a score that takes draws are those of the rows' `row_id`; of a batch without one they hold the classes of
    every draw, so that they keep the promise and are larger.
    """
    classes = np.array(model.outcome.classes, dtype=object)
    each, spread = model.probabilities_with_spread(batch)
    found = fitted.calibrated(each)
    labels = np.array(labels_of(batch, fitted.segment_columns), dtype=object)
    scored: dict[str, Any] = {
        "prediction": found[:, 1] if model.outcome.kind == "binary" else found.max(axis=1, initial=0.0),
        "predicted_class": pa.array(classes[found.argmax(axis=1)], pa.string()),
        "probabilities": pa.FixedSizeListArray.from_arrays(found.ravel(), found.shape[1]).cast(pa.list_(pa.float64())),
    }
    draws = draws_of(batch) if fitted.set_score.drawn else None
    for level, chosen in zip(fitted.levels, fitted.sets(found, labels, draws), strict=True):
        offsets = np.concatenate([[0], np.cumsum(chosen.sum(axis=1))]).astype(np.int32)
        members = pa.array(classes[np.nonzero(chosen)[1]], pa.string())
        scored[f"set_{level_label(level)}"] = pa.ListArray.from_arrays(pa.array(offsets), members)
    if spread is not None:
        scored["disagreement"] = spread
    scored["segment"] = fitted.quantiles_for(labels)[1]
    return scored


def labels_of(batch: pa.RecordBatch, segments: tuple[str, ...]) -> list[str]:
    """Segment label of each row."""
    columns = {s: np.array(batch.column(s).to_pylist(), dtype=object) for s in segments}
    return [str(label) for label in segment_labels(columns, rows=batch.num_rows)]
