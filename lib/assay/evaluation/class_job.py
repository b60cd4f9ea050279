"""Consumes evaluated rows of a target of classes, produces their segments and what their report says."""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl
import pyarrow as pa

from assay.class_metrics import log_losses
from assay.conformal.job import PROBABILITIES
from assay.evaluation import class_plots, plots, story_plots
from assay.evaluation.class_content import ClassContent, class_figures, class_summary
from assay.evaluation.class_coverage import ProbabilityRecord, class_coverage_table, class_results, set_results
from assay.evaluation.class_report import render_classes
from assay.evaluation.class_segments import (
    BANDED,
    class_figures_of,
    class_segment_table,
    confusion_of,
    day_band,
    ranking_error,
    reliability_of,
)
from assay.evaluation.class_tally import OF_SETS, ClassSpec, ClassTally, probabilities_of
from assay.evaluation.content import BASELINE_PREFIX, Content
from assay.evaluation.ensemble import COLUMN as DISAGREEMENT
from assay.evaluation.ensemble import ensemble_result
from assay.evaluation.evaluated import BEFORE, CLUSTER, MONTH, PROBABILITY_BAND, JudgeClasses
from assay.evaluation.over_time import coverage_over_time, time_lines
from assay.evaluation.parts import TallySpec
from assay.evaluation.rivals import compared, rival_lines
from assay.evaluation.tallied_job import TalliedEvaluation
from assay.evaluation.target_job import Pictures, Report
from assay.evaluation.wording import gate_outcome
from assay.runtime.plane import Kernel


class ClassEvaluation(TalliedEvaluation[ClassContent, ClassTally, ClassSpec]):
    """One target's evaluation, of classes. `baseline_*` are log losses."""

    promise = "set_"
    band = PROBABILITY_BAND

    def told(self, names: Sequence[str]) -> list[str]:
        """Predictions, probabilities, members' disagreement and sets."""
        spread = [DISAGREEMENT] if DISAGREEMENT in names else []
        return ["prediction", "probabilities", *spread, *(name for name in names if name.startswith(self.promise))]

    def spec_of(self, given: TallySpec, levels: Sequence[float]) -> ClassSpec:
        """With the classes."""
        return ClassSpec(**vars(given), classes=self.model.outcome.classes)

    def kernel(self, levels: Sequence[float]) -> Kernel:
        """See `JudgeClasses`."""
        return JudgeClasses(self.spec, self.past.bands, self.dated)

    def merged(self, parts: pa.Table) -> ClassTally | None:
        """See `ClassTally`."""
        return ClassTally.unpacked(parts, self.spec)

    def segment_table(self, rows: pl.DataFrame, levels: list[float]) -> pl.DataFrame:
        """See `class_segment_table`, and `class_coverage_table` of the target; rivals, and coverage over time."""
        config, seed = self.settings, self.config.profile.engine.seed
        self.rivals = compared(self.tally, seed=seed, root=False, dated=self.dated)
        rate = config.false_discovery_rate
        self.over_time = (
            coverage_over_time(self.tally, levels, window_days=config.window_days, false_discovery_rate=rate)
            if self.dated
            else []
        )
        by_class = class_coverage_table(class_results(self.tally, self.spec), self.target.name)
        lines = [rival_lines(self.rivals, "log_loss"), time_lines(self.over_time)]
        return pl.concat([class_segment_table(self.tally, self.spec), by_class, *lines])

    def content(self, common: Content, rows: pl.DataFrame, levels: list[float], pictures: Pictures) -> ClassContent:
        """Everything that the report says."""
        classes, tally, spec = self.model.outcome.classes, self.tally, self.spec
        told = self.records.artifact(PROBABILITIES)
        record = ProbabilityRecord.of(told) if told is not None else None
        of_sets = {f"{name}_{label}" for name in OF_SETS for label in spec.labels}
        metrics = {name: v for name, v in class_figures_of(tally, spec, "")[""].items() if name not in of_sets}
        losses = log_losses(rows["actual"].to_numpy(), probabilities_of(rows, len(classes)))
        means = tally.days.group_by("rival").agg((pl.col("other").sum() / pl.col("rows").sum()).alias("loss"))
        drawn = rows.drop(BEFORE, strict=False)
        cut = [name for name in (PROBABILITY_BAND, CLUSTER, MONTH) if name in spec.segment_columns]
        return ClassContent(
            **vars(common),
            classes=classes,
            metrics=metrics,
            baselines={
                name.removeprefix(BASELINE_PREFIX): loss for name, loss in sorted(means.iter_rows()) if name != BEFORE
            },
            coverage=set_results(tally, spec, self.records.calibration_rows()),
            ensemble=ensemble_result(self.model.facts, rows, losses),
            by_class=class_results(tally, spec),
            probabilities=record,
            rivals=self.rivals,
            before_why=self.before_why,
            over_time=self.over_time,
            bands={name: band for name in BANDED if (band := day_band(tally, name)) is not None},
            columns=[*self.named, *cut],
            auc_error=ranking_error(tally, spec),
            figures={
                "reliability": class_plots.reliability_plot(reliability_of(tally), classes, record),
                "confusion": class_plots.confusion_plot(confusion_of(tally, spec), classes),
                "classes": plots.coverage_per_segment(common.segments, levels, self.target.name) if levels else None,
                "loss": class_plots.loss_over_time(drawn, classes, self.target.name),
                "rivals": story_plots.rivals(self.rivals, "log loss"),
                "over_time": story_plots.coverage_over_time(self.over_time, "sets"),
                **pictures,
            },
        )

    def report(self, content: ClassContent) -> Report:
        """Page, plots, figures and a few lines."""
        summary = [*class_summary(content), gate_outcome(content)[1]]
        return Report(render_classes(content), content.figures, class_figures(content), summary)
