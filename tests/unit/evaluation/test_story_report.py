"""Consumes a whole invented story, checks that the page tells it in order, in sound HTML, with its figures."""

import dataclasses
import itertools
import re

import polars as pl
import pytest
from report_pages import parse, story_of, text_of

from assay.evaluation.number_job import figures_of, summary_of
from assay.evaluation.report import render
from assay.pages.formats import percent


@pytest.fixture(scope="module")
def content(market):
    rows = market(entities=30, times=36)
    return story_of(rows.with_columns(pl.Series("row_id", range(rows.height))))


def test_the_page_tells_the_story_in_the_order_a_reader_asks(content):
    root = parse(render(content))
    questions = ["".join(e.itertext()) for e in root.iter("h2")]
    expected = [
        "How close are the predictions?",
        "Is it surely better than what we had?",
        "Can the intervals be trusted?",
        "Where is it best, and where worst?",
        "Does it hold over time?",
        "What is at risk, and what to do?",
        "What drives the predictions?",
        "All segments",
    ]
    assert [q for q in questions if q in expected] == expected


def test_every_part_has_its_figures_and_words(content):
    page = text_of(render(content)).replace("\u00a0", " ")
    story = content.story
    bound, month = story.lower_bounds[-1], story.over_time[-1].worst_month
    for words in (
        f"errs less than {sum(r.verdict == 'better' for r in story.rivals)} of 2 simple rules",
        "There is no champion before this one.",
        "Most and least precise by predicted price",
        "Most and least precise by similar rows",
        story.slabs[-1].where,
        percent(story.slabs[-1].coverage).replace("\u202f", " "),
        f"Worst month: {month.start:%B} {month.start.year}",
        "High stakes: act where the 90 % interval is no wider than 50 % of the prediction",
        f"{bound.lower:,.0f}",
        percent(bound.below).replace("\u202f", " "),
        "Averaged over all shares kept",
        f"Sharpe ratio of {story.direction.sharpe:.2f} a day",
        "best tenth came to 0.900",
        "silhouette",
        "Interval score, 90 %",
        "Win rate",
    ):
        assert words in page, words


def test_the_page_stays_sound_small_and_readable(content):
    page = render(content)
    root = parse(page)
    assert len(page.encode()) < 3_000_000
    assert not re.search(r"@import|url\((?!#)|<script src|\bNone\b|\bnan\b", page)
    ids = [element.get("id") for element in root.iter() if element.get("id")]
    assert len(ids) == len(set(ids))
    assert {e.get("aria-labelledby") for e in root.iter() if e.get("aria-labelledby")} <= set(ids)
    levels = [int(e.tag[1]) for e in root.iter() if e.tag in {"h1", "h2", "h3"}]
    assert all(after - before <= 1 for before, after in itertools.pairwise(levels))
    pictures = [e for e in root.iter() if e.tag.endswith("}svg")]
    assert len(pictures) == 8
    assert all(len(picture.get("aria-label")) > 20 for picture in pictures)
    headings = ["".join(e.itertext()) for e in root.iter("h3")]
    assert not [h for h in headings if "decision at" in h or "\0" in h]  # they have sections of their own


def test_every_number_is_in_the_segment_table(content):
    table = content.segments
    assert not table.select("segment_column", "segment", "metric").is_duplicated().any()
    kinds = {"", "city", "price band", "similar rows", "month", "decision at 80", "decision at 90", "compared with"}
    assert kinds | {"window of 28 days", "worst slab", "share kept at 90"} <= set(table["segment_column"])
    for column in ("price band", "similar rows", "month", "decision at 90"):
        rows = table.filter((pl.col("segment_column") == column) & (pl.col("metric") == "rmse"))["rows"].sum()
        assert rows == content.rows
    slab = content.story.slabs[-1]
    told = table.filter((pl.col("segment_column") == "worst slab") & (pl.col("metric") == "coverage_90_confidence"))
    assert told.select("segment", "value", "rows").row(0) == (slab.where, slab.coverage, slab.rows)


def test_figures_and_summary_name_what_matters(content):
    found = figures_of(content)
    for name in ("worst_slab_coverage_90", "worst_month_coverage_90", "coverage_drift_90", "abstention_area_90"):
        assert name in found, name
    assert {"below_lower_90", "lower_total_90", "direction_accuracy", "win_rate", "sharpe", "pinball_90"} <= set(found)
    assert any("holds least where" in line for line in summary_of(content))


def test_a_page_of_a_sample_says_so(content):
    sampled = dataclasses.replace(content, story=dataclasses.replace(content.story, sampled=108))
    page = text_of(render(sampled)).replace("\u00a0", " ")
    assert "of a sample of 108 rows (10 %)" in page
    assert "of a sample of" not in text_of(render(content)).replace("\u00a0", " ")


def test_the_page_without_intervals_leaves_their_parts_out(market):
    rows = market().with_columns(pl.Series("row_id", range(288)))
    page = text_of(render(story_of(rows.drop("lower_80", "upper_80", "lower_90", "upper_90"), levels=())))
    assert "This run made no intervals" in page
    assert "What is at risk" not in page
    assert "Is it surely better" in page
