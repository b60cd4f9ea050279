"""Consumes `ReportContent`, produces the evaluation report: one self-contained HTML page that people read.

The page makes no request, needs no script (one sorts tables), and is well-formed XML as well as HTML.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import polars as pl
from jinja2 import Environment

from assay.evaluation import story_wording, wording
from assay.evaluation.content import (
    BaselineResult,
    CoverageResult,
    DataFacts,
    Figures,
    Gate,
    ReportContent,
    Split,
    baseline_results,
    coverage_results,
)
from assay.evaluation.measures import measures
from assay.evaluation.rivals import RESAMPLES
from assay.evaluation.segments import BestAndWorst, best_and_worst
from assay.evaluation.wording import headline
from assay.pages.canvas import to_svg
from assay.pages.templates import templates
from assay.runtime.tables import level_label

__all__ = [
    "BaselineResult",
    "CoverageResult",
    "DataFacts",
    "Figures",
    "Gate",
    "ReportContent",
    "Split",
    "baseline_results",
    "coverage_results",
    "headline",
    "render",
]

SHOWN_SEGMENTS = 30  # rows of a segment table before it folds
RANKED = 5  # segments named at either end of a ranking
MOST_SEGMENTS = 1_000  # rows of a segment table in the page; the table segment_metrics has them all


@dataclass(frozen=True)
class SegmentCoverage:
    """Coverage of one level in one segment, and what it means. None: no interval was given.

    low, high: where the true share lies.  certain: whether it is off its promise, many segments being looked at.
    """

    value: float | None
    verdict: str
    low: float | None = None
    high: float | None = None
    certain: bool = False


@dataclass(frozen=True)
class SegmentRow:
    """A line of a segment table. Units as in `metrics.py`; mark: `best`, `worst` or empty."""

    name: str
    rows: int
    median_ape: float | None
    within_20pct: float | None
    coverage: tuple[SegmentCoverage, ...]
    width: float | None
    infinite_share: float
    mark: str


@dataclass(frozen=True)
class SegmentView:
    """One segment column, ready to show: its largest segments, how many there are, and the two ends.

    ranking: the most and the least precise segments with enough rows, best first; a None between the two groups stands
    for the segments left out.  outside: segments whose coverage at the highest level is outside what chance allows.
    certain: those of them where that is no accident of looking at many.  heading: the column in words.
    """

    column: str
    heading: str
    rows: tuple[SegmentRow, ...]
    ranking: tuple[SegmentRow | None, ...]
    total: int
    outside: int
    certain: int
    extremes: BestAndWorst | None


def environment() -> Environment:
    """What templates are read and filled by."""
    return templates("assay.evaluation", [wording.status])


def render(content: ReportContent) -> str:
    """The page. Its size is bound: MOST_SEGMENTS rows per segment table, and figures that do not grow with the rows."""
    texts = wording.picture_texts(content)
    return (
        environment()
        .get_template("report.html.j2")
        .render(
            content=content,
            headline=headline(content),
            skill_sentence=wording.skill_sentence(content),
            refit_sentence=wording.refit_sentence(content),
            gate_state=wording.gate_outcome(content)[0],
            gate_words=wording.gate_outcome(content)[1],
            verdict=wording.verdict,
            quality_sentence=wording.quality_sentence(content.data),
            captions={name: caption for name, (_, caption) in texts.items()},
            figures=_figures(content, {name: alt for name, (alt, _) in texts.items()}),
            strips=[_strip(result) for result in content.coverage],
            segment_views=_segment_views(content),
            shown_segments=SHOWN_SEGMENTS,
            story=content.story,
            words=_words(content),
            resamples=RESAMPLES,
            more_metrics=measures(content),
            sample_sentence=story_wording.sample_sentence(content.story, content.rows) if content.story else "",
        )
    )


def _words(content: ReportContent) -> dict[str, Any]:
    """Sentences of the story, by where they stand; none without one."""
    story = content.story
    if story is None:
        return {"drift": []}
    return {
        "rivals": story_wording.rivals_sentence(story.rivals),
        "before": story_wording.before_sentence(story),
        "slabs": [story_wording.slab_sentence(one) for one in story.slabs],
        "drift": [story_wording.drift_sentence(one) for one in story.over_time],
        "lower": [story_wording.lower_sentence(one, content.unit) for one in story.lower_bounds],
        "kept": [story_wording.kept_sentence(one) for one in story.abstentions[-1:]],
        "rules": [story_wording.rule_sentence(one) for one in story.decided],
        "direction": story_wording.direction_sentence(story.direction),
        "decisions": story_wording.decisions_sentence(story.decisions) if story.decisions is not None else "",
    }


def _figures(content: ReportContent, alternatives: Mapping[str, str]) -> dict[str, str]:
    drawn = {name: getattr(content.figures, name) for name in alternatives}
    return {name: to_svg(figure, name, alternatives[name]) for name, figure in drawn.items() if figure is not None}


def _strip(result: CoverageResult) -> dict[str, float] | None:
    """Places of promise, band and observed share on a strip, in percent of its width."""
    seen = [result.level, result.low, result.high, result.metrics["coverage"]]
    if any(math.isnan(place) for place in seen):  # NaN: no interval was given
        return None
    # Room on both sides, and never so close up that a tenth of a point looks like a gulf.
    margin = max(0.15 * (max(seen) - min(seen)), 0.005)
    start, length = min(seen) - margin, max(seen) - min(seen) + 2 * margin
    names = ("promise", "low", "high", "observed")
    return {name: round(100 * (place - start) / length, 2) for name, place in zip(names, seen, strict=True)}


def _segment_views(content: ReportContent) -> list[SegmentView]:
    columns = content.segments["segment_column"].unique(maintain_order=True).to_list()
    if content.story is not None:
        columns = [column for column in (*content.story.columns, *content.story.cut) if column in columns]
    return [_segment_view(content, column) for column in columns if column]


def _segment_view(content: ReportContent, column: str) -> SegmentView:
    part = content.segments.filter(pl.col("segment_column") == column)
    extremes = best_and_worst(part, min_rows=content.min_segment_rows)
    marks = {extremes.best.segment: "best", extremes.worst.segment: "worst"} if extremes else {}
    found: dict[tuple[str, int], dict[str, tuple[float | None, float | None, float | None]]] = {}
    for segment, metric, value, low, high, rows in part.select(
        "segment", "metric", "value", "low", "high", "rows"
    ).iter_rows():
        found.setdefault((segment, rows), {})[metric] = (value, low, high)
    lines = [
        _segment_row(name, rows, metrics, content, marks.get(name, ""))
        for (name, rows), metrics in sorted(found.items(), key=lambda item: (-item[0][1], item[0][0]))
    ]
    outside = sum(line.coverage[-1].verdict.startswith("too") for line in lines if line.coverage)
    return SegmentView(
        column=column,
        heading=wording.heading(column, content.target),
        rows=tuple(lines[:MOST_SEGMENTS]),
        ranking=_ranking(lines, content.min_segment_rows),
        total=len(lines),
        outside=outside,
        certain=sum(line.coverage[-1].certain for line in lines if line.coverage),
        extremes=extremes,
    )


def _ranking(lines: list[SegmentRow], min_rows: int) -> tuple[SegmentRow | None, ...]:
    known = [line for line in lines if line.median_ape is not None and line.rows >= min_rows]
    ranked = sorted(known, key=lambda line: line.median_ape or 0.0)
    return tuple(ranked) if len(ranked) <= 2 * RANKED else (*ranked[:RANKED], None, *ranked[-RANKED:])


def _segment_row(name: str, rows: int, metrics: Mapping[str, Any], content: ReportContent, mark: str) -> SegmentRow:
    labels = [level_label(result.level) for result in content.coverage]
    nothing = (None, None, None)
    last = labels[-1] if labels else ""
    rate = content.story.false_discovery_rate if content.story is not None else 0.0
    coverage = []
    for label in labels:
        found = metrics.get(f"coverage_{label}", nothing)
        _, low, high = metrics.get(f"coverage_{label}_confidence", nothing)
        adjusted = metrics.get(f"coverage_{label}_adjusted_p", nothing)[0]
        coverage.append(
            SegmentCoverage(found[0], wording.verdict(*found), low, high, adjusted is not None and adjusted <= rate)
        )
    return SegmentRow(
        name=name,
        rows=rows,
        median_ape=metrics.get("median_ape", nothing)[0],
        within_20pct=metrics.get("within_20pct", nothing)[0],
        coverage=tuple(coverage),
        width=metrics.get(f"width_{last}", nothing)[0],
        infinite_share=metrics.get(f"infinite_share_{last}", nothing)[0] or 0.0,
        mark=mark,
    )
