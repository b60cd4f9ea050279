"""Consumes evaluated rows of a target of numbers, produces their segments and what their report says."""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl

from assay.config.dataset import stored_name
from assay.evaluation import plots
from assay.evaluation.content import Content, Figures, ReportContent, baseline_results, coverage_results
from assay.evaluation.ensemble import COLUMN as DISAGREEMENT
from assay.evaluation.ensemble import ensemble_result, errors
from assay.evaluation.report import render
from assay.evaluation.segments import best_and_worst, segment_table
from assay.evaluation.target_job import Evaluation, Pictures, Report
from assay.evaluation.wording import gate_outcome, headline, number, percent, skill_sentence
from assay.metrics import point_metrics
from assay.runtime.tables import level_label

MIN_NAMED_ROWS = 30


class NumberEvaluation(Evaluation[ReportContent]):
    """One target's evaluation, of a number. `baseline_*` are predictions."""

    promise = "lower_"

    def told(self, names: Sequence[str]) -> list[str]:
        """Predictions, members' disagreement and the ends of intervals."""
        spread = [DISAGREEMENT] if DISAGREEMENT in names else []
        return ["prediction", *spread, *(name for name in names if name.startswith(("lower_", "upper_")))]

    @property
    def described(self) -> list[str]:
        """Entity and segments."""
        return [*(stored_name(name) for name in self.config.dataset.entity), *self.segments]

    def segment_table(self, rows: pl.DataFrame, levels: list[float]) -> pl.DataFrame:
        """See `segment_table`."""
        return segment_table(rows, self.segments, levels)

    def content(self, common: Content, rows: pl.DataFrame, levels: list[float], pictures: Pictures) -> ReportContent:
        """Everything that the report says."""
        return ReportContent(
            **vars(common),
            unit="",
            metrics=point_metrics(rows["actual"].to_numpy(), rows["prediction"].to_numpy()),
            baselines=baseline_results(rows),
            coverage=coverage_results(rows, levels, calibration_rows=self.records.calibration_rows()),
            figures=Figures(
                predicted=plots.predicted_against_actual(rows, self.target.name),
                residuals=plots.residuals_over_time(rows, self.target.name),
                fan=plots.fan(rows, stored_name(self.config.dataset.entity[0]), levels, self.target.name),
                **pictures,
            ),
            ensemble=ensemble_result(self.model.facts, rows, errors(rows, self.target.transform)),
            refit=self.records.refit(),
        )

    def report(self, content: ReportContent) -> Report:
        """Page, plots, figures and a few lines."""
        return Report(render(content), vars(content.figures), figures_of(content), summary_of(content))


def figures_of(content: ReportContent) -> dict[str, float]:
    """The figures of `--json` and of MLflow."""
    metrics = {f"test_{k}": v for k, v in content.metrics.items()}
    for result in content.coverage:
        label = level_label(result.level)
        metrics[f"coverage_{label}"] = result.metrics["coverage"]
        metrics[f"width_{label}"] = result.metrics["width"]
        metrics[f"interval_score_{label}"] = result.metrics["interval_score"]
        metrics[f"coverage_{label}_chance_low"], metrics[f"coverage_{label}_chance_high"] = result.low, result.high
    if content.strongest_baseline is not None:
        metrics["best_baseline_rmse"] = content.strongest_baseline.metrics["rmse"]
    if content.ensemble is not None and content.ensemble.disagreement is not None:
        metrics["disagreement_error_correlation"] = content.ensemble.disagreement.correlation
    if content.skill is not None:
        metrics["skill_over_best_baseline"] = content.skill
    return metrics


def summary_of(content: ReportContent) -> list[str]:
    """The result in a few lines, for the terminal."""
    lines = [headline(content), skill_sentence(content)]
    for result in content.coverage:
        lines.append(
            f"The {percent(result.level, 0)} interval held {percent(result.metrics['coverage'])} of the time "
            f"(chance allows {percent(result.low)} to {percent(result.high)}), "
            f"mean width {number(result.metrics['width'])}"
        )
    extremes = best_and_worst(content.segments, min_rows=MIN_NAMED_ROWS)
    if extremes is None:
        extremes = best_and_worst(content.segments, min_rows=5)
    if extremes is not None and extremes.segments > 1:
        for word, found in (("Best", extremes.best), ("Worst", extremes.worst)):
            lines.append(
                f"{word} segment: {found.segment_column} {found.segment}, median error {percent(found.value)} "
                f"in {found.rows:,} rows"
            )
    lines.append(gate_outcome(content)[1])
    return lines
