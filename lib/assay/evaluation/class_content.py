"""Consumes what evaluation found of classes, produces `ClassContent`: everything that their report says."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from matplotlib.figure import Figure

from assay.evaluation.class_coverage import ClassResult, ProbabilityRecord, class_coverage_figures
from assay.evaluation.content import Content, CoverageResult, EnsembleResult
from assay.evaluation.over_time import LevelOverTime
from assay.evaluation.rivals import RivalResult
from assay.evaluation.story_wording import rivals_sentence
from assay.pages.formats import NO_VALUE, count, number, percent, readable
from assay.runtime.tables import level_label


@dataclass(frozen=True, kw_only=True)
class ClassContent(Content):
    """Everything that the page of classes says.

    metrics: `class_metrics`.  baselines: rule -> mean log loss.  segments: `class_segment_table`, and
    `class_coverage_table` with the target as segment column.  figures: by name.  rivals: rules and the champion before,
    by log loss; before_why: why the latter is not among them.  bands: 95 % bands of some metrics, whole days as one
    draw.  columns: segment columns that the page shows; None shows all.  auc_error: how far AUC may be off.
    """

    classes: Sequence[str]
    metrics: Mapping[str, float]
    baselines: Mapping[str, float]
    coverage: Sequence[CoverageResult]
    figures: Mapping[str, Figure | None]
    ensemble: EnsembleResult | None = None
    by_class: Sequence[ClassResult] = ()
    probabilities: ProbabilityRecord | None = None
    rivals: Sequence[RivalResult] = ()
    before_why: str = ""
    over_time: Sequence[LevelOverTime] = ()
    bands: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    columns: Sequence[str] | None = None
    auc_error: float = 0.0

    @property
    def before(self) -> RivalResult | None:
        """The comparison with the champion before."""
        return next((one for one in self.rivals if one.name == "champion before"), None)

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
    for name, (low, high) in content.bands.items():
        found |= {f"test_{name}_low": low, f"test_{name}_high": high}
    if content.auc_error:
        found["test_auc_error"] = content.auc_error
    for each in content.over_time:
        label = level_label(each.level)
        if each.worst_month is not None:
            found[f"worst_month_coverage_{label}"] = each.worst_month.coverage
        if each.drift is not None:
            found[f"coverage_drift_{label}"] = each.drift.change
    if content.before is not None:
        one = content.before
        found |= {"champion_before_log_loss": one.rival_loss, "log_loss_over_champion_before_low": one.low}
        found |= {"log_loss_over_champion_before_high": one.high}
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
    if told := rivals_sentence(content.rivals):
        lines.append(told)
    if content.calibrated is not None:
        lines.append(class_calibration_sentence(content.calibrated))
    return lines


def class_before_sentence(content: ClassContent) -> str:
    """The model and the champion before it."""
    before = content.before
    if before is None:
        return f"{content.before_why[:1].upper()}{content.before_why[1:]}." if content.before_why else ""
    size, (low, high) = "less" if before.gain >= 0 else "more", before.gains
    return (
        f"Its log loss is {percent(abs(before.gain))} {size} than that of the champion before it on "
        f"{count(before.rows, 'row')} of {before.drawn}; 95 % band {percent(low)} to {percent(high)} "
        f"less: {before.verdict}."
    )


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
