"""Consumes what monitoring knows of a target, checks the page that people read: well-formed, alone, and true."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET

import pytest
from health_pages import alert, days, part, view

from assay.monitoring import health_plots
from assay.monitoring.health_report import figures_of, headline, page


def shown(of):
    text = page(of, figures_of(of))
    root = ET.fromstring(text.replace("<!DOCTYPE html>", ""))
    return text, " ".join(" ".join(root.itertext()).split())


def test_the_page_is_well_formed_alone_and_says_what_there_is():
    text, words = shown(view())
    assert not re.findall(r'(?:src|href)="(?!#)', text)
    assert "<script" not in text
    assert "price is at 62 of 100, mostly for its error" in words
    assert "1,200 outcomes <b>" in words  # escaped
    assert "the error is 12.5 & rising" in words
    assert "version 3 (1.0.2)" in words
    assert "price-2-to-3 rolled back 0" in words
    assert "distribution, new categories" in words
    assert text.count("<figure") == 3


def test_a_target_without_a_past_has_a_page_too():
    empty = view(parts=[], history=[], days=days(1), alerts=[])
    text, words = shown(empty)
    assert "How price does is not known yet" in words
    assert "There was none." in words
    assert "<figure" not in text


@pytest.mark.parametrize(
    ("parts", "said"),
    [
        ([part("all", 100.0), part("error", 100.0)], "price is at 100 of 100: all is as it was tested"),
        ([part("all", 80.0), part("coverage", 40.0)], "price is at 80 of 100, mostly for its coverage"),
    ],
)
def test_the_headline_names_the_worst_part(parts, said):
    assert headline(view(parts=parts)) == said


def test_long_tables_end_with_how_many_more_there_are():
    _, words = shown(view(alerts=[alert()] * 27))
    assert "7 more alerts in the table alerts" in words


def test_rolling_figures_are_means_by_rows_and_not_by_days():
    rows = days(30, ("champion",))
    found = health_plots._rolled(rows, "mse", 7).to_dicts()
    last = rows.tail(7)
    assert found[-1]["rolled"] == pytest.approx((last["mse"] * last["known"]).sum() / last["known"].sum())
    assert len(found) == 30
