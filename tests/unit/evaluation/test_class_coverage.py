"""Consumes invented rows of classes, checks what is said of the rows of each class and of calibrated probabilities."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from class_pages import THREE, TWO, content_of, rows_of, tallied
from report_pages import parse, text_of

from assay.class_metrics import log_losses
from assay.evaluation import class_plots
from assay.evaluation.class_content import class_figures, class_summary
from assay.evaluation.class_coverage import ProbabilityRecord, class_coverage_table, class_results
from assay.evaluation.class_report import render_classes
from assay.evaluation.class_segments import SCHEMA, reliability_of
from assay.evaluation.class_tally import probabilities_of, sets_of
from assay.metrics import binomial_band

RECORD = {
    "method": "venn_abers",
    "by_class": True,
    "before": {"log_loss": 0.7, "brier": 0.3, "calibration_error": 0.125, "bins": [[0.2, 0.3, 40.0], [0.9, 0.7, 60.0]]},
    "after": {"log_loss": 0.6, "brier": 0.2, "calibration_error": 0.025, "bins": [[0.5, 0.5, 100.0]]},
}


@pytest.mark.parametrize("classes", [TWO, THREE])
def test_every_class_is_measured_on_its_own_rows(classes):
    rows = rows_of(classes)
    actual, each = rows["actual"].to_numpy().astype(int), probabilities_of(rows, len(classes))
    found = class_results(*tallied(rows, classes))
    assert [result.name for result in found] == list(classes)
    for code, result in enumerate(found):
        own = actual == code
        assert result.rows == own.sum()
        assert result.metrics["recall"] == pytest.approx((each[own].argmax(axis=1) == code).mean())
        assert result.metrics["log_loss"] == pytest.approx(log_losses(actual[own], each[own]).mean())
        for one in result.coverage:
            sets = sets_of(rows, one.level, classes)[own]
            assert one.metrics["coverage"] == pytest.approx(sets[:, code].mean())
            assert one.metrics["set_size"] == pytest.approx(sets.sum(axis=1).mean())
            assert one.metrics["empty_share"] == pytest.approx((sets.sum(axis=1) == 0).mean())
            assert one.metrics["full_share"] == pytest.approx(sets.all(axis=1).mean())
            assert (one.low, one.high) == binomial_band(one.level, own.sum())


def test_the_table_has_a_class_as_a_segment_of_the_target():
    rows = rows_of(THREE)
    results = class_results(*tallied(rows, THREE))
    table = class_coverage_table(results, "mood")
    assert dict(table.schema) == SCHEMA
    assert set(table["segment_column"]) == {"mood"}
    lines = {(segment, metric): rest for _, segment, metric, *rest in table.iter_rows()}
    assert len(lines) == table.height == 3 * (2 + 2 * 5)
    for result in results:
        one = result.coverage[0]
        assert lines[result.name, "coverage_80"] == [one.metrics["coverage"], one.low, one.high, result.rows]
        assert lines[result.name, "full_share_90"][1:3] == [None, None]


def test_a_class_that_never_came_has_no_line():
    rows = rows_of(THREE).filter(np.array(rows_of(THREE)["actual"]) != 1)
    assert [result.name for result in class_results(*tallied(rows, THREE))] == [THREE[0], THREE[2]]


def content(**changes):
    return dataclasses.replace(content_of(THREE), by_class=class_results(*tallied(rows_of(THREE), THREE)), **changes)


def test_the_page_says_how_every_class_is_covered():
    page = render_classes(content())
    lines = [["".join(cell.itertext()) for cell in line] for line in parse(page).iter("tr")]
    for result in content().by_class:
        told = [line for line in lines if line[0] == result.name and len(line) == 10]
        assert [line[3].replace("\u202f", " ") for line in told] == ["80 %", "90 %"]
        assert told[0][7] == f"{result.coverage[0].metrics['set_size']:.2f}"
    assert "conformal.by_class" in text_of(page)
    assert "Before and after calibration" not in text_of(page)
    assert "Is every class covered?" not in text_of(render_classes(content_of(THREE)))


def test_the_page_says_what_calibrating_probabilities_was_worth():
    record = ProbabilityRecord.of(RECORD)
    page = render_classes(content(probabilities=record))
    words = text_of(page).replace("\u202f", " ")
    assert "Sets were calibrated by class" in words
    assert "calibration error 2.5 % from 12.5 %" in words
    assert "Before and after calibration" in words
    assert any("(venn abers)" in line for line in class_summary(content(probabilities=record)))
    none = ProbabilityRecord.of({**RECORD, "method": "none"})
    assert "Before and after" not in text_of(render_classes(content(probabilities=none)))


def test_the_figures_tell_of_each_class_and_of_probabilities_before():
    found = class_figures(content(probabilities=ProbabilityRecord.of(RECORD)))
    held = {r.name: r.coverage[0].metrics["coverage"] for r in content().by_class}
    assert {name: found[f"coverage_80_of_{name}"] for name in THREE} == held
    assert found["coverage_80_least_class"] == min(held.values())
    assert found["test_calibration_error_uncalibrated"] == 0.125
    assert "test_calibration_error_uncalibrated" not in class_figures(content())


def test_the_diagram_shows_probabilities_before_and_after():
    bins = reliability_of(tallied(rows_of(TWO), TWO)[0])
    (axes,) = class_plots.reliability_plot(bins, TWO, ProbabilityRecord.of(RECORD)).axes
    dots = [collection.get_offsets().tolist() for collection in axes.collections]
    assert [[0.2, 0.3], [0.9, 0.7]] in dots
    assert len(dots) == 2
    for record in (None, ProbabilityRecord.of({**RECORD, "method": "none"})):
        (axes,) = class_plots.reliability_plot(bins, TWO, record).axes
        assert len(axes.collections) == 1
