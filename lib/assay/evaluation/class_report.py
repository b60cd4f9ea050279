"""Consumes `ClassContent`, produces the report of a target of classes: one self-contained HTML page."""

from __future__ import annotations

from dataclasses import dataclass

import polars as pl

from assay.evaluation import wording
from assay.evaluation.class_content import (
    ClassContent,
    class_before_sentence,
    class_calibration_sentence,
    class_headline,
    class_skill_sentence,
    shown,
)
from assay.evaluation.report import MOST_SEGMENTS, SHOWN_SEGMENTS, environment
from assay.evaluation.rivals import RESAMPLES
from assay.evaluation.segments import BestAndWorst, best_and_worst
from assay.evaluation.story_wording import drift_sentence, rivals_sentence
from assay.pages.canvas import to_svg
from assay.pages.formats import count, day, number, percent
from assay.runtime.tables import level_label

CAPTIONS = {
    "reliability": "On the line, what was said to come in 3 of 10 cases came in 3 of 10. Above it, it came more often.",
    "confusion": "Rows are the classes that came true, columns the likeliest ones. Green is right, orange a mistake.",
    "loss": "How surprised the probabilities were by what came true. A line that rises is a market that has moved on.",
    "classes": "Sets that hold outcomes as often as promised may yet miss a rare class, unless calibrated by class.",
    "rivals": "Right of the line the model is better than the other on the same rows; a bar over it leaves doubt.",
    "over_time": "As long as the line stays in the grey band, nothing speaks against the promise.",
    "coverage": "A mark inside its grey bar keeps the promise as well as its rows can show.",
    "importance": "How much each feature helped to tell outcomes apart while training. It is no statement about cause.",
    "contributions": "Exact SHAP values on the scale of the logit; a row's add up to the logit of its probability.",
    "missing": "Of the source as it came, before any row was set aside. Trees take missing values as they are.",
}


@dataclass(frozen=True)
class ClassSegments:
    """One segment column, ready to show. rows: segment, its number of rows, and figures with their words."""

    column: str
    rows: list[tuple[str, int, list[tuple[float | None, str]]]]
    total: int
    extremes: BestAndWorst | None


def render_classes(content: ClassContent) -> str:
    """The page."""
    drawn = {name: figure for name, figure in content.figures.items() if figure is not None}
    alternatives = _alternatives(content)
    state, words = wording.gate_outcome(content)
    there = content.segments["segment_column"].unique(maintain_order=True)
    shown_columns = there if content.columns is None else [c for c in content.columns if c in there]
    columns = [c for c in shown_columns if c not in ("", content.target)]
    metrics = ["log_loss", *(["auc"] if content.two else []), "accuracy", *(["base_rate"] if content.two else [])]
    return (
        environment()
        .get_template("class_report.html.j2")
        .render(
            content=content,
            headline=class_headline(content),
            skill_sentence=class_skill_sentence(content),
            rivals_sentence=rivals_sentence(content.rivals),
            before_sentence=class_before_sentence(content),
            drift_sentences=[drift_sentence(one, "set") for one in content.over_time],
            resamples=RESAMPLES,
            calibration_sentence=class_calibration_sentence(content.calibrated) if content.calibrated else "",
            gate_state=state,
            gate_words=words,
            verdict=wording.verdict,
            quality_sentence=wording.quality_sentence(content.data),
            captions=CAPTIONS,
            figures={name: to_svg(figure, name, alternatives[name]) for name, figure in drawn.items()},
            segment_metrics=metrics,
            segment_views=[_view(content, column, metrics) for column in columns],
            shown_segments=SHOWN_SEGMENTS,
        )
    )


def _alternatives(content: ClassContent) -> dict[str, str]:
    """What each figure says, for those who do not see it."""
    metrics, classes = content.metrics, count(len(content.classes), "class", "classes")
    levels = " and ".join(percent(result.level, 0) for result in content.coverage)
    emptiest = next(iter(content.data.missing), "") if content.data else ""
    return {
        "reliability": "Share that came true against the probability that was said, in ten bins; mean distance "
        f"{percent(metrics['calibration_error'])}.",
        "confusion": f"Rows by the class that came true and the likeliest one, of {classes}; "
        f"{percent(metrics['accuracy'])} are right.",
        "loss": f"Log loss of the model and of the strongest rule from {day(content.start)} to {day(content.end)}; "
        f"over all rows {number(metrics['log_loss'])}.",
        "classes": f"Share of the rows of each class whose {levels} sets hold it, beside the range that chance allows.",
        "rivals": "How much smaller the model's log loss is than that of each simple rule and of the champion before.",
        "over_time": f"Share of outcomes in the {levels} sets over time, beside the range that chance allows.",
        "coverage": f"Share of outcomes in the {levels} sets, per segment, beside the range that chance allows.",
        "importance": "Features with the largest share of the model's gain.",
        "contributions": "What inputs add to single predictions: the range of 9 in 10 rows, and the mean for low and "
        "high values.",
        "missing": f"Share of empty cells per column; {emptiest} has most of them.",
    }


def _view(content: ClassContent, column: str, metrics: list[str]) -> ClassSegments:
    part = content.segments.filter(pl.col("segment_column") == column)
    found: dict[tuple[str, int], dict[str, float | None]] = {}
    for segment, metric, value, rows in part.select("segment", "metric", "value", "rows").iter_rows():
        found.setdefault((segment, rows), {})[metric] = value
    lines = []
    for (name, rows), figures in sorted(found.items(), key=lambda item: (-item[0][1], item[0][0])):
        told = [(figures.get(m), shown(figures.get(m), share=m != "log_loss")) for m in metrics]
        for result in content.coverage:
            label = level_label(result.level)
            value = figures.get(f"coverage_{label}")
            told.append((value, shown(value, share=True)))
        lines.append((name, rows, told))
    extremes = best_and_worst(part, "log_loss")
    return ClassSegments(column, lines[:MOST_SEGMENTS], len(lines), extremes)
