"""Consumes invented quality figures, checks what the report's section on the data says of them."""

import dataclasses

import pytest
from report_pages import content_of, parse, text_of

from assay.evaluation import plots
from assay.evaluation.content import QualityMetric, SeriesPattern
from assay.evaluation.data_facts import COLUMNS, data_facts
from assay.evaluation.report import (
    DataFacts,
    Figures,
    render,
)
from assay.pages import formats


def metric(name, score, value, status="ok", limit=None, points=0.0, at_least=True, detail=""):
    return QualityMetric(name, score, value, status, limit, at_least, points, f"meaning of {name}", detail)


def data(**changes):
    base = DataFacts(
        rows_read=1010,
        rows_kept=1000,
        quarantined={"column 'price': not a number (dataset.targets)": 10},
        scores={"overall": 96.04, "completeness": 90.0, "consistency": 99.97, "validity": 98.1},
        metrics=[
            metric("completeness", "completeness", 0.8, "warn", 0.9, 10.0),
            metric("duplicate_rows", "consistency", 0.00001, "fail", 0.0, 0.03, at_least=False),
            metric("cross_column", "consistency", None, "info", None, None, detail="dataset.quality.checks has none"),
        ],
        advice=["10 rows <are> wrong: see dataset.targets"],
        missing={"rooms": 0.25, "price": 0.0002, "kind": 0.0},
        patterns=[
            SeriesPattern("price", "all rows together", 96, 0, 0.91, 0.2, 371.0, "a strong trend"),
            SeriesPattern("price", "Oslo", 40, 3, None, None, None, "too many gaps for a decomposition"),
        ],
    )
    return dataclasses.replace(base, **changes)


def test_the_data_section_tells_scores_metrics_advice_and_patterns(market):
    facts = data()
    content = content_of(market(3), figures=False, data=facts)
    content = dataclasses.replace(content, figures=Figures(missing=plots.missing(facts.missing)))
    page = render(content)
    text = text_of(page).replace("\u00a0", " ").replace("\u202f", " ")
    assert "The data scored 96.0 of 100; 2 metrics are worth a look." in text
    assert "1,010 rows read, 1,000 kept, 10 quarantined (1.0 %)" in text
    tree = parse(page)
    rows = {row[0].text.strip(): list(row) for row in tree.iter("tr") if row[0].text and len(row) == 5}
    cells = {name: [" ".join("".join(cell.itertext()).split()) for cell in row] for name, row in rows.items()}
    assert cells["completeness"][1:] == ["80.0 %", "look at it", "≥ 90.0 %", "10.0"]
    assert cells["duplicate rows"][1:] == ["< 0.1 %", "refused", "≤ 0.0 %", "0.0"]
    assert cells["cross column"] == ["cross column dataset.quality.checks has none", "–", "not judged", "–", "–"]
    assert "10 rows <are> wrong: see dataset.targets." in text
    assert "99.9" in text  # 99.97 is no 100.0
    assert "1 year" in text
    assert "too many gaps for a decomposition" in text
    assert 'id="missing-' in page or 'aria-label="Share of empty cells per column; rooms has most of them."' in page


def test_a_report_without_quality_says_so(market):
    facts = DataFacts(96, 96)
    text = text_of(render(content_of(market(3), figures=False, data=facts)))
    assert "The quality of the data was not measured." in text
    assert "Nothing is missing, no row was set aside, and there is nothing to recommend." in text
    assert "Quality metrics" not in text


def test_facts_are_taken_from_the_rows_of_the_table():
    def row(measure, value, unit, column="", **more):
        return dict.fromkeys(COLUMNS) | {"column": column, "measure": measure, "value": value, "unit": unit} | more

    found = data_facts(
        [
            row("rows_in", 12.0, "rows"),
            row("rows_kept", 10.0, "rows"),
            row("a reason", 1.0, "quarantined rows"),
            row("another", 2.0, "quarantined rows"),
            row("score_overall", 91.5, "points", score="overall"),
            row("ordering", 0.9, "share", score="consistency", status="warn", recommendation="second", points_lost=1.0),
            row("type_validity", 0.1, "share", score="validity", status="fail", recommendation="first", weight=2.0),
            row("completeness", 0.75, "share", column="rooms", score="completeness", status="warn"),
            row("completeness", 1.0, "share", column="price", score="completeness", status="ok"),
        ],
        [
            {"target": "price", "series": "a", "moments": 30, "gaps": 0, "trend": 0.1, "season": 0.2, "words": "w"}
            | {"period_days": 7.0, "step_days": 1.0, "period_steps": 7}
        ],
    )
    assert (found.rows_read, found.rows_kept) == (12, 10)
    assert list(found.quarantined.items()) == [("another", 2), ("a reason", 1)]
    assert found.scores == {"overall": 91.5}
    assert found.advice == ["first", "second"]
    assert found.missing == {"rooms": 0.25, "price": 0.0}
    assert [m.points for m in found.metrics] == [None, None]  # neither has a weight with points
    assert found.patterns[0].series == "a"
    assert (data_facts([]).scores, data_facts([]).rows_read) == ({}, 0)


@pytest.mark.parametrize(
    ("days", "words"),
    [
        (364, "1 year"),
        (372, "1 year"),
        (7, "1 week"),
        (1 / 24, "1 hours"),
        (0.5, "12 hours"),
        (27, "27 days"),
        (None, "–"),
    ],
)
def test_periods_for_people(days, words):
    assert formats.period(days).replace("\u00a0", " ") == words


def test_missing_values_have_no_figure_where_there_are_none():
    assert plots.missing({"a": 0.0}) is None
    assert plots.missing({}) is None
    assert plots.missing({f"c{i}": 0.5 for i in range(50)}) is not None
