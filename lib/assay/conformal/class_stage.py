"""Consumes labelled rows with a model's probabilities, produces the calibration of classes and what it was worth."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pyarrow as pa

from assay.class_metrics import class_metrics, reliability
from assay.config.conformal import ConformalConfig
from assay.conformal.class_calibration import ClassCalibration, fit_classes
from assay.conformal.class_probabilities import FITS, ProbabilityMap
from assay.conformal.class_rows import ClassRows

FIGURES = ("log_loss", "brier", "calibration_error")


@dataclasses.dataclass(frozen=True)
class ClassStage:
    """What calibration of a target of classes does with rows of `CLASS_ROWS`.

    classes: how many.  drawn: whether rows were drawn into their periods, and not told apart by time.
    """

    config: ConformalConfig
    segments: tuple[str, ...]
    classes: int
    drawn: bool

    def fitted(self, found: pa.Table) -> ClassCalibration:
        """The calibration of these rows: the earlier ones teach the map of probabilities, where there is one."""
        fitted_map, rows = taught(ClassRows.of(found, self.classes), self.config, drawn=self.drawn)
        return fit_classes(
            rows.codes,
            rows.probabilities,
            rows.labels,
            rows.draws,
            self.config.levels,
            score=self.config.set_score,
            by_class=self.config.by_class,
            probability_map=fitted_map,
            min_segment_rows=self.config.min_segment_rows,
            segment_columns=self.segments,
            shrinkage_rows=self.config.shrinkage_rows,
        )

    def coverage(self, calibration: ClassCalibration, found: pa.Table) -> list[float]:
        """Per level the share of rows whose class is in their set."""
        rows = ClassRows.of(found, self.classes)
        each = calibration.sets(calibration.calibrated(rows.probabilities), rows.labels, rows.draws)
        return [float(sets[np.arange(len(rows.codes)), rows.codes].mean()) for sets in each]

    def record(self, calibration: ClassCalibration, found: pa.Table) -> dict[str, Any]:
        """What a map of probabilities was worth on rows that it has not seen; plain data.

        `method`, whether sets are `by_class`, and `before` and `after` it: figures, and `bins` of [mean probability,
        share that came true, rows]. Without a map both are the same.
        """
        rows = ClassRows.of(found, self.classes)
        stages = {"before": rows.probabilities, "after": calibration.calibrated(rows.probabilities)}
        told: dict[str, Any] = {"method": self.config.probabilities, "by_class": self.config.by_class}
        for name, each in stages.items():
            figures = class_metrics(rows.codes, each)
            _, *bins = reliability(rows.codes, each)
            told[name] = {figure: figures[figure] for figure in FIGURES}
            told[name]["bins"] = np.column_stack(bins).tolist()
        return told


def taught(rows: ClassRows, config: ConformalConfig, *, drawn: bool) -> tuple[ProbabilityMap | None, ClassRows]:
    """The map of probabilities that the earlier rows teach, None without one, and the rows that are left for sets.

    Raises:
        DataError: there are too few rows for both.
    """
    if config.probabilities == "none":
        return None, rows
    earlier, later = rows.parted(config.probabilities_share, drawn=drawn)
    return FITS[config.probabilities](earlier.codes, earlier.probabilities), later


def figures_of(record: dict[str, Any]) -> dict[str, float]:
    """`test_log_loss_uncalibrated`, `test_log_loss_calibrated` and so on of a record; none without a map."""
    if record["method"] == "none":
        return {}
    return {
        f"test_{figure}_{name}": record[key][figure]
        for key, name in (("before", "uncalibrated"), ("after", "calibrated"))
        for figure in FIGURES
    }
