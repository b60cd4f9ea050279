"""Consumes labelled rows with a model's probabilities, produces the calibration of classes and what it was worth."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from assay.class_metrics import class_metrics, reliability
from assay.config.conformal import ConformalConfig
from assay.conformal.calibration import factorise
from assay.conformal.class_calibration import ClassCalibration, fit_classes, of_class
from assay.conformal.class_probabilities import FITS, ProbabilityMap
from assay.conformal.class_rows import ClassRows
from assay.conformal.conformity import SCORED
from assay.conformal.following import Following

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

    def scores(
        self, periods: Mapping[str, pa.Table], calibration: ClassCalibration, own: Sequence[str]
    ) -> dict[str, pa.Table]:
        """Rows of `CLASS_ROWS` by period -> rows of `SCORED` of those whose scores make the sets; see `class_scores`.

        One map of probabilities makes all of them, the one that the first period's earlier rows teach: scores that are
        to follow one another must be of one kind, and of rows that the map has not seen.
        """
        found = {}
        for place, (period, table) in enumerate(periods.items()):
            rows = ClassRows.of(table, self.classes)
            rows = shared_out(rows, self.config, drawn=self.drawn)[1] if place == 0 else rows
            found[period] = class_scores(rows, calibration, own)
        return found

    def coverage(self, calibration: ClassCalibration, found: pa.Table, follows: Following | None = None) -> list[float]:
        """Per level the share of rows whose class is in their set. follows: quantiles in time, where they follow."""
        rows = ClassRows.of(found, self.classes)
        p = calibration.calibrated(rows.probabilities)
        if follows is None:
            each = calibration.sets(p, rows.labels, rows.draws)
        else:
            place, distinct = factorise(rows.labels)
            times = rows.times.astype("datetime64[us]")
            quantiles = follows.class_quantiles(distinct, place, times, self.classes)
            each = calibration.sets_within(p, quantiles, rows.draws)
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


def class_scores(rows: ClassRows, calibration: ClassCalibration, own: Sequence[str]) -> pa.Table:
    """Rows of `SCORED`: scores of what came true by a calibration's map and kind of score.

    own: labels of the classes, with which those of rows begin where sets are calibrated by class; else none.
    """
    p = calibration.calibrated(rows.probabilities)
    scores = calibration.set_score.score(rows.codes, p, rows.draws)
    labels = rows.labels.tolist()
    if own:
        labels = [of_class(own[code], label) for code, label in zip(rows.codes.tolist(), labels, strict=True)]
    lists = pa.FixedSizeListArray.from_arrays(pa.array(scores, pa.float64()), 1)
    columns = [
        pa.array(rows.row_ids, pa.int64()),
        pa.array(rows.times, pa.timestamp("us")).cast(SCORED.field("time").type),
        pa.array(labels, pa.string()),
        lists.cast(SCORED.field("scores").type),
        pa.array(np.zeros(len(scores))),
        pa.array(np.ones(len(scores))),
    ]
    return pa.table(columns, schema=SCORED)


def taught(rows: ClassRows, config: ConformalConfig, *, drawn: bool) -> tuple[ProbabilityMap | None, ClassRows]:
    """The map of probabilities that the earlier rows teach, None without one, and the rows that are left for sets.

    Raises:
        DataError: there are too few rows for both.
    """
    earlier, later = shared_out(rows, config, drawn=drawn)
    if earlier is None:
        return None, later
    order = np.argsort(earlier.row_ids, kind="stable")  # tasks bring rows in any order, which would show in last bits
    return FITS[config.probabilities](earlier.codes[order], earlier.probabilities[order]), later


def shared_out(rows: ClassRows, config: ConformalConfig, *, drawn: bool) -> tuple[ClassRows | None, ClassRows]:
    """The earlier rows, which teach a map of probabilities, None without one, and those that are left for sets.

    Raises:
        DataError: there are too few rows for both.
    """
    if config.probabilities == "none":
        return None, rows
    return rows.parted(config.probabilities_share, drawn=drawn)


def figures_of(record: dict[str, Any]) -> dict[str, float]:
    """`test_log_loss_uncalibrated`, `test_log_loss_calibrated` and so on of a record; none without a map."""
    if record["method"] == "none":
        return {}
    return {
        f"test_{figure}_{name}": record[key][figure]
        for key, name in (("before", "uncalibrated"), ("after", "calibrated"))
        for figure in FIGURES
    }
