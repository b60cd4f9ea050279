"""Conformity scores in, prediction intervals with a promised coverage out: split conformal, overall and per segment."""

from assay.conformal.calibration import ALL_ROWS, Calibration, SegmentQuantiles, fit, segment_labels
from assay.conformal.quantiles import (
    conformal_quantile,
    conformal_quantiles,
    conformal_rank,
    grouped_quantiles,
    minimum_rows,
)
from assay.conformal.scores import SCORES, AbsoluteResidual, ConformalScore, Forecast, nested, score_named, tail_levels

__all__ = [
    "ALL_ROWS",
    "SCORES",
    "AbsoluteResidual",
    "Calibration",
    "ConformalScore",
    "Forecast",
    "SegmentQuantiles",
    "conformal_quantile",
    "conformal_quantiles",
    "conformal_rank",
    "fit",
    "grouped_quantiles",
    "minimum_rows",
    "nested",
    "score_named",
    "segment_labels",
    "tail_levels",
]
