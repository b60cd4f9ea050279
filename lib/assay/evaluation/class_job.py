"""Consumes evaluated rows of a target of classes, produces their segments and what their report says."""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl

from assay.class_metrics import class_metrics, log_losses
from assay.evaluation import class_plots
from assay.evaluation.class_content import ClassContent, class_figures, class_summary, set_results
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
        """See `class_segment_table`."""
        return class_segment_table(rows, self.segments, levels, self.model.outcome.classes)

    def content(self, common: Content, rows: pl.DataFrame, levels: list[float], pictures: Pictures) -> ClassContent:
        """Everything that the report says."""
        classes = self.model.outcome.classes
        actual, each = rows["actual"].to_numpy(), probabilities_of(rows, len(classes))
        rules = [name for name in rows.columns if name.startswith(BASELINE_PREFIX)]
        return ClassContent(
            **vars(common),
            classes=classes,
            metrics=class_metrics(actual, each),
            baselines={name.removeprefix(BASELINE_PREFIX): float(rows[name].to_numpy().mean()) for name in rules},
            coverage=set_results(rows, levels, classes, self.records.calibration_rows()),
            ensemble=ensemble_result(self.model.facts, rows, log_losses(actual, each)),
            figures={
                "reliability": class_plots.reliability_plot(rows, classes),
                "confusion": class_plots.confusion_plot(rows, classes),
                "loss": class_plots.loss_over_time(rows, classes, self.target.name),
                **pictures,
            },
        )

    def report(self, content: ClassContent) -> Report:
        """Page, plots, figures and a few lines."""
        summary = [*class_summary(content), gate_outcome(content)[1]]
        return Report(render_classes(content), content.figures, class_figures(content), summary)
