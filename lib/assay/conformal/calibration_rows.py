"""Consumes a calibration, produces its rows of `calibrations` and the names of its figures."""

from __future__ import annotations

import pyarrow as pa

from assay.conformal.calibration import Calibration
from assay.conformal.class_calibration import ClassCalibration
from assay.model.bundle import Model
from assay.runtime.tables import CALIBRATIONS, FITTED, level_label


def quantile_names(calibration: Calibration) -> list[str]:
    """Metric names of a segment's quantiles: quantile_80, or, where each end has its own, quantile_80_0 and _1."""
    parts = calibration.parts
    alone = len(parts) == len(calibration.levels)
    return [
        f"quantile_{level_label(calibration.levels[part.level])}" + ("" if alone else f"_{part.column}")
        for part in parts
    ]


def rows_of(calibration: Calibration, model: Model, target: str) -> pa.Table:
    """The calibration as rows of `calibrations`."""
    lines = [(label, calibration.label_used(label), found) for label, found in calibration.quantiles.items()]
    if isinstance(calibration, ClassCalibration):
        lines += calibration.lines_by_class(model.outcome.classes, target)
    rows = [
        {
            "segment": label,
            "used": used,
            "level": calibration.levels[part.level],
            "part": part.column,
            "score": calibration.score,
            "quantile": quantile,
            "rows": found.rows,
            "model_version": model.version,
            "calibration_version": calibration.version,
            "target": target,
            "kind": FITTED,
        }
        for label, used, found in lines
        for part, quantile in zip(calibration.parts, found.quantiles, strict=True)
    ]
    return pa.Table.from_pylist(rows, schema=CALIBRATIONS.schema())
