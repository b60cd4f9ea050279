"""Consumes models of classes and the calibration period, produces the maps that their probabilities are served with.

What a gate judges is what would be served. `calibrate` fits the same map to the same rows again when the gates let the
model pass.
"""

from __future__ import annotations

from assay.conformal.class_probabilities import ProbabilityMap
from assay.conformal.class_rows import CLASS_ROWS_APART, ClassRows, PredictLabelled
from assay.conformal.class_stage import taught
from assay.conformal.unpriced import split_apart
from assay.model.bundle import Model
from assay.model.carried import Carried
from assay.model.row_sample import ROW
from assay.training.rows import LabelledRows
from assay.training.split import Period


def served_map(rows: LabelledRows, model: Model, calibrate: Period) -> ProbabilityMap | None:
    """The map of probabilities that a training run's model gets; None of numbers, or where none is asked for.

    model: the one that has not learned from the period `calibrate`. 8 K + 32 bytes a row come to the driver.

    Raises:
        DataError: the period has too few rows for a map and for sets.
    """
    config = rows.context.config.profile.conformal
    if not model.outcome.decides or config.probabilities == "none":
        return None
    columns = list(dict.fromkeys([ROW, "time", *model.input_columns, rows.column]))
    kernel = PredictLabelled(Carried.of(model), ())
    found, _ = split_apart(rows.read(columns, calibrate).map(kernel, CLASS_ROWS_APART).collect())
    return taught(ClassRows.of(found, len(model.outcome.classes)), config, drawn=model.drawn)[0]
