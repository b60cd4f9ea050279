"""Consumes feature batches, a model and its calibration, produces predictions with intervals, or with sets of classes.

Pure; runs anywhere.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from assay.conformal.calibration import ALL_ROWS, Calibration, segment_labels
from assay.conformal.class_calibration import ClassCalibration, read_calibration
from assay.conformal.class_sets import draws_of
from assay.conformal.difficulty import Difficulty
from assay.conformal.following import Following, Times
from assay.conformal.scores import Floats, Forecast, nested, score_named
from assay.model.bundle import Model
from assay.runtime.tables import level_label


def score_batch(
    model: Model, calibration: Calibration | dict[str, Any], batch: pa.RecordBatch, following: Following | None = None
) -> dict[str, Any]:
    """Score one batch.

    following: quantiles by step, of a calibration that follows its misses; the batch's column `time` says which step.

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
        return score_classes(model, whole, batch, following)
    forecast, spread = forecast_of(model, batch, fitted.difficulty)
    quantiles, used = quantiles_of(fitted, batch) if following is None else quantiles_at(following, fitted, batch)
    scored: dict[str, Any] = {"prediction": model.scale.inverse(forecast.centre, batch)}
    bounds = score_named(fitted.score).interval(forecast, quantiles, fitted.levels)
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
    scale = difficulty.of(batch, model.encoding) if difficulty is not None else None
    if model.outcome.kind == "quantiles":
        found, spread = model.scaled_quantiles(batch)
        return Forecast(found[:, model.outcome.middle], scale, found, model.outcome.levels), spread
    centre, spread = model.predict_with_spread(batch)
    return Forecast(centre, scale), spread


def score_classes(
    model: Model, fitted: ClassCalibration, batch: pa.RecordBatch, following: Following | None = None
) -> dict[str, Any]:
    """Score one batch of classes. following: see `score_batch`.

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
    if following is None:
        labels = np.array(labels_of(batch, fitted.segment_columns), dtype=object)
        quantiles, used = fitted.class_quantiles(labels, found.shape[1]), fitted.quantiles_for(labels)[1]
    else:
        quantiles, used = class_quantiles_at(following, fitted, batch, found.shape[1])
    scored: dict[str, Any] = {
        "prediction": found[:, 1] if model.outcome.kind == "binary" else found.max(axis=1, initial=0.0),
        "predicted_class": pa.array(classes[found.argmax(axis=1)], pa.string()),
        "probabilities": pa.FixedSizeListArray.from_arrays(found.ravel(), found.shape[1]).cast(pa.list_(pa.float64())),
    }
    draws = draws_of(batch) if fitted.set_score.drawn else None
    for level, chosen in zip(fitted.levels, fitted.sets_within(found, quantiles, draws), strict=True):
        offsets = np.concatenate([[0], np.cumsum(chosen.sum(axis=1))]).astype(np.int32)
        members = pa.array(classes[np.nonzero(chosen)[1]], pa.string())
        scored[f"set_{level_label(level)}"] = pa.ListArray.from_arrays(pa.array(offsets), members)
    if spread is not None:
        scored["disagreement"] = spread
    scored["segment"] = used
    return scored


def quantiles_of(fitted: Calibration, batch: pa.RecordBatch) -> tuple[Floats, pa.Array]:
    """Quantiles (n, P) of each row's segment, and the segment (n,) that they come from."""
    labels, rows = distinct_labels(batch, fitted.segment_columns)
    quantiles, used = fitted.quantiles_for(labels)
    return quantiles[rows], pa.array(used, pa.string()).take(pa.array(rows))


def quantiles_at(following: Following, fitted: Calibration, batch: pa.RecordBatch) -> tuple[Floats, pa.Array]:
    """The same, each at the step of its row's `time`."""
    at = _places(fitted, batch)
    quantiles, used = following.quantiles_for(*at)
    return quantiles, pa.array(following.labels, pa.string()).take(pa.array(used))


def class_quantiles_at(
    following: Following, fitted: Calibration, batch: pa.RecordBatch, classes: int
) -> tuple[Floats, pa.Array]:
    """The same by class, (n, K, L); the segment is that of all classes together."""
    at = _places(fitted, batch)
    used = following.quantiles_for(*at)[1]
    return following.class_quantiles(*at, classes), pa.array(following.labels, pa.string()).take(pa.array(used))


def _places(fitted: Calibration, batch: pa.RecordBatch) -> tuple[list[str], npt.NDArray[np.int64], Times]:
    """Distinct labels, which of them each row has, and each row's time."""
    labels, rows = distinct_labels(batch, fitted.segment_columns)
    times = batch.column("time").to_numpy(zero_copy_only=False).astype("datetime64[us]")
    return labels.tolist(), rows, times


def distinct_labels(
    batch: pa.RecordBatch, segments: Sequence[str]
) -> tuple[npt.NDArray[np.object_], npt.NDArray[np.int64]]:
    """Segment labels in the batch (D,), and which of them each row has (n,).

    Labels are made of distinct values alone: texts of every row would take longer than many a model.
    """
    if not segments:
        return np.array([ALL_ROWS], dtype=object), np.zeros(batch.num_rows, dtype=np.int64)
    code, known = np.zeros(batch.num_rows, dtype=np.int64), []
    for name in segments:
        encoded = batch.column(name).dictionary_encode(null_encoding="encode")
        known.append(np.array(encoded.dictionary.to_pylist(), dtype=object))
        code = code * max(len(known[-1]), 1) + encoded.indices.to_numpy()
    distinct, rows = np.unique(code, return_inverse=True)
    columns, rest = {}, distinct
    for name, values in zip(reversed(segments), reversed(known), strict=True):
        rest, position = np.divmod(rest, max(len(values), 1))
        columns[name] = values[position]
    return segment_labels({name: columns[name] for name in segments}), rows


def labels_of(batch: pa.RecordBatch, segments: Sequence[str]) -> pa.Array:
    """Segment label of each row, (n,) texts."""
    labels, rows = distinct_labels(batch, segments)
    return pa.array(labels, pa.string()).take(pa.array(rows))
