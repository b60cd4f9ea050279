"""Consumes what evaluation found of classes, produces `ClassContent`: everything that their report says."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import polars as pl
from matplotlib.figure import Figure

from assay.class_metrics import set_metrics
from assay.evaluation.class_coverage import ClassResult, ProbabilityRecord, class_coverage_figures
from assay.evaluation.class_segments import sets_of
from assay.evaluation.content import Content, CoverageResult, EnsembleResult
from assay.evaluation.wording import NO_VALUE, count, number, percent, readable
from assay.metrics import binomial_band
from assay.runtime.tables import level_label


@dataclass(frozen=True, kw_only=True)
class ClassContent(Content):
    """Everything that the page of classes says.

    metrics: `class_metrics`.  baselines: rule -> mean log loss.  segments: `class_segment_table`, and
    `class_coverage_table` with the target as segment column.  figures: by name.
    """

    classes: Sequence[str]
    metrics: Mapping[str, float]
    baselines: Mapping[str, float]
    coverage: Sequence[CoverageResult]
    figures: Mapping[str, Figure | None]
    ensemble: EnsembleResult | None = None
    by_class: Sequence[ClassResult] = ()
    probabilities: ProbabilityRecord | None = None

    @property
    def calibrated(self) -> ProbabilityRecord | None:
        """What a map of probabilities was worth; None without one."""
        return self.probabilities if self.probabilities is not None and self.probabilities.method != "none" else None

    @property
    def strongest(self) -> str | None:
        """The baseline with the lowest log loss."""
        return min(self.baselines, key=lambda name: self.baselines[name], default=None)

    @property
    def skill(self) -> float | None:
        """1 - log loss of the model / that of the strongest baseline; below 0 the simple rule is better."""
        best = self.baselines[self.strongest] if self.strongest is not None else 0.0
        return 1 - self.metrics["log_loss"] / best if best > 0 else None

    @property
    def two(self) -> bool:
        """Whether there are two classes."""
        return len(self.classes) == 2


def set_results(
    rows: pl.DataFrame, levels: Sequence[float], classes: Sequence[str], calibration_rows: int | None
) -> list[CoverageResult]:
    """Set metrics of each level over all rows, with `binomial_band`; see there for calibration_rows."""
    found = []
    for level in sorted(levels):
        metrics = set_metrics(rows["actual"].to_numpy(), sets_of(rows, level, classes))
        band = binomial_band(level, rows.height, calibration_rows=calibration_rows)
        found.append(CoverageResult(level, metrics, *band))
    return found


def class_headline(content: ClassContent) -> str:
    """The result in one sentence."""
    metrics = content.metrics
    said = f"The likeliest class came true in {percent(metrics['accuracy'])} of {count(content.rows, 'row')}"
    if content.two and metrics["auc"] == metrics["auc"]:
        said += f"; of two rows of different classes, {percent(metrics['auc'])} are told apart (AUC)"
    return f"{said}."


def class_skill_sentence(content: ClassContent) -> str:
    """How the model compares with the strongest baseline."""
    if content.strongest is None or content.skill is None:
        return "No baseline was evaluated, so nothing says how hard these outcomes are to predict."
    size = "smaller" if content.skill >= 0 else "larger"
    rule = f"the strongest simple rule ({readable(content.strongest)})"
    ending = "." if content.skill >= 0 else ": the simple rule does better."
    return f"The model's log loss is {percent(abs(content.skill))} {size} than that of {rule}{ending}"


def class_figures(content: ClassContent) -> dict[str, float]:
    """The figures of `--json` and of MLflow."""
    found = {f"test_{name}": value for name, value in content.metrics.items()}
    for result in content.coverage:
        label = level_label(result.level)
        found |= {f"coverage_{label}": result.metrics["coverage"], f"set_size_{label}": result.metrics["set_size"]}
        found |= {f"coverage_{label}_chance_low": result.low, f"coverage_{label}_chance_high": result.high}
    if content.strongest is not None:
        found["best_baseline_log_loss"] = content.baselines[content.strongest]
    if content.ensemble is not None and content.ensemble.disagreement is not None:
        found["disagreement_error_correlation"] = content.ensemble.disagreement.correlation
    if content.skill is not None:
        found["skill_over_best_baseline"] = content.skill
    if content.calibrated is not None:
        found |= {f"test_{name}_uncalibrated": value for name, value in content.calibrated.before.items()}
    return found | class_coverage_figures(content.by_class)


def class_summary(content: ClassContent) -> list[str]:
    """The result in a few lines, for the terminal."""
    metrics = content.metrics
    lines = [class_headline(content), class_skill_sentence(content)]
    lines.append(
        f"Log loss {number(metrics['log_loss'])}, Brier score {number(metrics['brier'])}, "
        f"calibration error {percent(metrics['calibration_error'])}"
    )
    for result in content.coverage:
        found = result.metrics
        lines.append(
            f"The {percent(result.level, 0)} sets held {percent(found['coverage'])} of the classes (chance allows "
            f"{percent(result.low)} to {percent(result.high)}), with {found['set_size']:.2f} of "
            f"{len(content.classes)} classes on average"
        )
    if content.calibrated is not None:
        lines.append(class_calibration_sentence(content.calibrated))
    return lines


def class_calibration_sentence(record: ProbabilityRecord) -> str:
    """What calibrating the probabilities was worth in the test period."""
    before, after = record.before, record.after
    return (
        f"Probabilities are calibrated ({readable(record.method)}): in the test period that made the calibration error "
        f"{percent(after['calibration_error'])} from {percent(before['calibration_error'])}, the log loss "
        f"{number(after['log_loss'])} from {number(before['log_loss'])}"
    )


def shown(value: float | None, *, share: bool = False) -> str:
    """A figure of the segment table."""
    if value is None:
        return NO_VALUE
    return percent(value) if share else number(value)
