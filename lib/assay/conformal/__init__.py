"""Conformity scores in, prediction intervals with a promised coverage out: split, weighted by age, and adaptive."""

from assay.conformal.adaptive import Adaptation, ScoredRows, adapt
from assay.conformal.calibration import ALL_ROWS, Calibration, SegmentQuantiles, fit, segment_labels
from assay.conformal.quantiles import (
    conformal_quantile,
    conformal_quantiles,
    conformal_rank,
    grouped_quantiles,
    minimum_rows,
)
from assay.conformal.scores import SCORES, AbsoluteResidual, ConformalScore, Forecast, nested, score_named
from assay.conformal.timeline import Timeline
from assay.conformal.tree import nested_groups
from assay.conformal.weighted import exponential_weights, grouped_weighted_quantiles, weighted_quantiles

__all__ = [
    "ALL_ROWS",
    "SCORES",
    "AbsoluteResidual",
    "Adaptation",
    "Calibration",
    "ConformalScore",
    "Forecast",
    "ScoredRows",
    "SegmentQuantiles",
    "Timeline",
    "adapt",
    "conformal_quantile",
    "conformal_quantiles",
    "conformal_rank",
    "exponential_weights",
    "fit",
    "grouped_quantiles",
    "grouped_weighted_quantiles",
    "minimum_rows",
    "nested",
    "nested_groups",
    "score_named",
    "segment_labels",
    "weighted_quantiles",
]
