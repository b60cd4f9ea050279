"""Consumes evaluated rows of a target of classes, produces their segments and what their report says."""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl

from assay.class_metrics import class_metrics, log_losses
from assay.conformal.job import PROBABILITIES
from assay.evaluation import class_plots, plots
from assay.evaluation.class_content import ClassContent, class_figures, class_summary, set_results
from assay.evaluation.class_coverage import ProbabilityRecord, class_coverage_table, class_results
from assay.evaluation.class_report import render_classes
from assay.evaluation.class_segments import class_segment_table, probabilities_of
from assay.evaluation.content import BASELINE_PREFIX, Content
from assay.evaluation.ensemble import COLUMN as DISAGREEMENT
from assay.evaluation.ensemble import ensemble_result
from assay.evaluation.target_job import Evaluation, Pictures, Report
from assay.evaluation.wording import gate_outcome


class ClassEvaluation(Evaluation[ClassContent]):
    """One target's evaluation, of classes. `baseline_*` are log losses."""

    promise = "set_"

    def told(self, names: Sequence[str]) -> list[str]:
        """Probabilities, members' disagreement and sets."""
        spread = [DISAGREEMENT] if DISAGREEMENT in names else []
        return ["probabilities", *spread, *(name for name in names if name.startswith(self.promise))]

    def segment_table(self, rows: pl.DataFrame, levels: list[float]) -> pl.DataFrame:
        """See `class_segment_table`, and `class_coverage_table` of the target."""
        classes = self.model.outcome.classes
        table = class_segment_table(rows, self.segments, levels, classes)
        return pl.concat([table, class_coverage_table(class_results(rows, levels, classes), self.target.name)])

    def content(self, common: Content, rows: pl.DataFrame, levels: list[float], pictures: Pictures) -> ClassContent:
        """Everything that the report says."""
        classes = self.model.outcome.classes
        actual, each = rows["actual"].to_numpy(), probabilities_of(rows, len(classes))
        rules = [name for name in rows.columns if name.startswith(BASELINE_PREFIX)]
        told = self.records.artifact(PROBABILITIES)
        record = ProbabilityRecord.of(told) if told is not None else None
        return ClassContent(
            **vars(common),
            classes=classes,
            metrics=class_metrics(actual, each),
            baselines={name.removeprefix(BASELINE_PREFIX): float(rows[name].to_numpy().mean()) for name in rules},
            coverage=set_results(rows, levels, classes, self.records.calibration_rows()),
            ensemble=ensemble_result(self.model.facts, rows, log_losses(actual, each)),
            by_class=class_results(rows, levels, classes),
            probabilities=record,
            figures={
                "reliability": class_plots.reliability_plot(rows, classes, record),
                "confusion": class_plots.confusion_plot(rows, classes),
                "classes": plots.coverage_per_segment(common.segments, levels, self.target.name) if levels else None,
                "loss": class_plots.loss_over_time(rows, classes, self.target.name),
                **pictures,
            },
        )

    def report(self, content: ClassContent) -> Report:
        """Page, plots, figures and a few lines."""
        summary = [*class_summary(content), gate_outcome(content)[1]]
        return Report(render_classes(content), content.figures, class_figures(content), summary)
