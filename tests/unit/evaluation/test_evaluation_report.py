"""Consumes invented runs, checks that the report is one well-formed, self-contained and accessible page."""

import dataclasses
import datetime as dt
import itertools
import math
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import polars as pl
import pytest
from report_pages import content_of, parse, text_of

import assay
from assay.evaluation import wording
from assay.evaluation.content import Refit
from assay.evaluation.report import (
    BaselineResult,
    DataFacts,
    Gate,
    ReportContent,
    baseline_results,
    coverage_results,
    headline,
    render,
)
from assay.pages import formats


def test_the_page_tells_the_story(market):
    content = content_of(market())
    page = text_of(render(content))
    for words in (
        headline(content).replace("\u202f", " ").replace("\u00a0", " "),
        "strongest simple rule (group median)",
        "Can the intervals be trusted?",
        "1,010 rows read, 1,000 kept, 10 quarantined (1.0 %)",
        "price: not a number",
        "0123abcd" * 8,
        "observations version 3",
        "Each period lies after the one before it",
        "Passed all 2 quality gates",
        "from 1 Jan 2012 to 1 Dec 2013",
    ):
        assert words in page.replace("\u00a0", " ")


def test_the_page_asks_for_nothing_from_outside(market):
    page = render(content_of(market()))
    root = parse(page)
    for element in root.iter():
        tag = element.tag.rsplit("}", 1)[-1]
        assert tag not in {"link", "iframe", "object", "embed", "base"}
        for name, value in element.attrib.items():
            if name.rsplit("}", 1)[-1] in {"src", "href", "action", "srcset"}:
                assert value.startswith(("#", "data:")), (tag, value)
    assert not re.search(r"@import|url\((?!#)", page)
    assert "default-src 'none'" in page


def test_the_page_can_be_read_without_seeing_it(market):
    root = parse(render(content_of(market())))
    assert root.get("lang") == "en"
    pictures = [e for e in root.iter() if e.tag.endswith("}svg")]
    assert len(pictures) == 5
    assert all(picture.get("role") == "img" and len(picture.get("aria-label")) > 20 for picture in pictures)
    assert all(head.get("scope") in {"col", "row"} for head in root.iter("th"))
    ids = [element.get("id") for element in root.iter() if element.get("id")]
    assert len(ids) == len(set(ids))
    referred = {e.get("aria-labelledby") for e in root.iter() if e.get("aria-labelledby")}
    referred |= {a.get("href")[1:] for a in root.iter("a")}
    assert referred <= set(ids)
    levels = [int(e.tag[1]) for e in root.iter() if e.tag in {"h1", "h2", "h3"}]
    assert levels[0] == 1
    assert all(after - before <= 1 for before, after in itertools.pairwise(levels))
    assert len(list(root.iter("main"))) == 1


def contrast(one, other):
    def luminance(colour):
        parts = (int(colour[k : k + 2], 16) / 255 for k in (1, 3, 5))
        red, green, blue = (p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts)
        return 0.2126 * red + 0.7152 * green + 0.0722 * blue

    bright, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (bright + 0.05) / (dark + 0.05)


def test_text_contrasts_with_its_ground_in_both_modes(market):
    page = render(content_of(market(), figures=False))
    modes = [
        dict(re.findall(r"--([a-z-]+): (#[0-9a-f]{6})", block)) for block in re.findall(r":root \{(.*?)\}", page, re.S)
    ]
    assert len(modes) == 2
    for colours in modes:
        pairs = [(ink, ground) for ink in ("ink", "muted", "blue") for ground in ("page", "card")]
        pairs += [("ink", "soft"), ("muted", "soft"), ("ink", "blue-soft")]
        pairs += [(name, f"{name}-soft") for name in ("blue", "orange", "green")]
        pairs += [("plot-ink", "card"), ("plot-muted", "card")]
        assert {
            pair: contrast(*(colours[n] for n in pair)) for pair in pairs if contrast(*(colours[n] for n in pair)) < 4.5
        } == {}
        for name in ("plot-blue", "plot-orange", "plot-green"):  # graphics need 3 : 1 (WCAG 1.4.11)
            assert contrast(colours[name], colours["card"]) >= 3


def test_a_thousand_segments_fold_and_stay_small(market):
    page = render(content_of(market(1000, 30)))
    assert len(page.encode()) < 3_000_000
    root = parse(page)
    (table,) = [table for table in root.iter("table") if table.get("class") == "sortable"]
    assert len(table.find("tbody").findall("tr")) == 1000
    assert "Show all 1,000 segments" in text_of(page).replace("\u00a0", " ")
    assert "nth-child(n + 31)" in page
    assert "open" not in root.find(".//details").attrib


def test_segments_beyond_the_page_are_pointed_to(market, monkeypatch):
    monkeypatch.setattr("assay.evaluation.report.MOST_SEGMENTS", 40)
    page = text_of(render(content_of(market(45, 6), figures=False))).replace("\u00a0", " ")
    assert "Show the largest 40 segments" in page
    assert "segment_metrics has the other 5." in page


def test_best_and_worst_are_named_and_marked(market):
    rows = market(3, 40)
    rows = rows.with_columns(
        prediction=pl.when(pl.col("city") == "city 0001").then(1.5 * pl.col("actual")).otherwise("prediction")
    )
    page = render(content_of(rows, figures=False))
    assert re.search(r'city 0001 <span class="tag worst">worst</span>', page)
    assert "Worst: city 0001, 50.0 % on 40 rows." in text_of(page).replace("\u00a0", " ")


def test_few_rows_make_no_best_and_worst(market):
    page = text_of(render(content_of(market(3, 10), figures=False))).replace("\u00a0", " ")
    assert "No best and worst: that takes two segments of 30 rows or more" in page


def test_bare_runs_look_right(market):
    rows = market(2, 4)
    bare = content_of(rows, (), (), figures=False, baselines=[], gates=[], splits=[], tables={}, description="")
    page = render(bare)
    parse(page)
    text = text_of(page)
    for words in ("names no segments", "made no intervals", "No baseline was evaluated", "No quality gate was set"):
        assert words in text
    assert "nan" not in text.lower()
    assert "None" not in text


def test_infinite_missing_and_zero_are_said_in_words(market):
    rows = market(3, 40).with_columns(lower_90=pl.lit(-math.inf), upper_90=pl.lit(math.inf))
    rows = rows.with_columns(pl.lit(None, dtype=pl.Float64).alias(f"{end}_80") for end in ("lower", "upper"))
    rows = rows.with_columns(actual=pl.when(pl.int_range(pl.len()) == 0).then(0.0).otherwise("actual"))
    page = text_of(render(content_of(rows))).replace("\u00a0", " ")
    for words in (
        "no bound",
        "too wide",
        "no intervals",
        "100.0 % of the intervals have no bound",
        "1 outcome of exactly 0 is",
    ):
        assert words in page
    assert not re.search(r"\b(nan|inf)\b", page.lower())


def test_names_are_text_and_never_markup(market):
    evil = "<script>alert(1)</script> & \"ünï\" $x$ 'q'"
    rows = market(2, 40).with_columns(pl.lit(evil).alias(evil))
    content = content_of(rows, (evil,), title=evil, target=evil, run={evil: evil}, unit=evil)
    content = dataclasses.replace(content, data=DataFacts(1, 0, {evil: 1}), description=evil)
    page = render(content)
    assert len(list(parse(page).iter("script"))) == 1
    assert evil in text_of(page).replace("\u00a0", " ")


def test_refused_and_unenforced_gates(market):
    failed = [Gate("R²", 0.5, 0.75, False), Gate("Within 20 %", 80.0, 70.0, True, "%")]
    content = content_of(market(2), figures=False, gates=failed)
    assert wording.gate_outcome(content) == ("refused", "Refused: missed 1 of 2\u00a0quality gates")
    assert 'class="badge refused"' in render(content)
    relaxed = dataclasses.replace(content, gates_enforced=False)
    assert wording.gate_outcome(relaxed)[0] == "open"
    assert "does not enforce gates" in text_of(render(relaxed))


def test_splits_out_of_order_make_no_claim(market):
    content = content_of(market(2), figures=False)
    assert "nothing here was learned from the future" in text_of(render(content))
    swapped = dataclasses.replace(content, splits=content.splits[::-1])
    assert "nothing here was learned from the future" not in text_of(render(swapped))


def test_headline():
    def made(**metrics):
        base = {"median_ape": 0.031, "mae": 1234.5, "rmse": 2.0}
        return ReportContent(
            **{field.name: None for field in dataclasses.fields(ReportContent)}
            | {"metrics": base | metrics, "coverage": [], "unit": "USD"}
        )

    assert headline(made()) == "Half of all predictions were within 3.1\u202f% of the outcome."
    assert headline(made(median_ape=math.nan)) == "On average, predictions missed by 1,234\u00a0USD."


def test_headline_names_the_highest_level(market):
    found = headline(content_of(market(), figures=False))
    assert re.fullmatch(
        r"Half of all predictions were within \d+\.\d\u202f% of the outcome; "
        r"the 90\u202f% interval held \d\d\.\d\u202f% of the time\.",
        found,
    )


def test_skill_is_measured_against_the_strongest_complete_baseline(market):
    rows = market(4)
    rows = rows.with_columns(
        baseline_last_value=pl.when(pl.int_range(pl.len()) > 3).then(pl.col("actual")),  # perfect, but not for all rows
        baseline_never=pl.lit(None, dtype=pl.Float64),
    )
    results = baseline_results(rows)
    assert [(r.name, r.rows) for r in results] == [("global_median", 96), ("group_median", 96), ("last_value", 92)]
    content = content_of(rows, figures=False)
    assert content.strongest_baseline is not None
    assert content.strongest_baseline.name == "group_median"
    assert content.skill == pytest.approx(1 - content.metrics["rmse"] / results[1].metrics["rmse"])
    worse = dataclasses.replace(content, baselines=[BaselineResult("easy", {"rmse": content.metrics["rmse"] / 2}, 96)])
    assert "100.0\u202f% larger" in wording.skill_sentence(worse)
    perfect = dataclasses.replace(content, baselines=[BaselineResult("oracle", {"rmse": 0.0}, 96)])
    assert perfect.skill is None
    assert "nothing to add" in wording.skill_sentence(perfect)


def test_what_learning_again_was_worth_is_told_either_way(market):
    content = content_of(market(4), figures=False)
    assert wording.refit_sentence(content) == ""
    until = dt.datetime(2015, 7, 1, tzinfo=dt.timezone.utc)
    better, worse = (dataclasses.replace(content, refit=Refit(until, rmse, 200.0)) for rmse in (190.0, 210.0))
    assert "5.0\u202f% smaller (RMSE 190\u00a0USD, without 200\u00a0USD)" in render(better)
    assert "has learned until 1\u00a0Jul\u00a02015" in render(better)
    assert "5.0\u202f% larger (RMSE 210\u00a0USD, without 200\u00a0USD)" in render(worse)


def test_coverage_results_know_the_calibration(market):
    rows = market(20)
    (plain,) = coverage_results(rows, [0.9])
    (wider,) = coverage_results(rows, [0.9], calibration_rows=200)
    assert wider.low < plain.low < plain.high < wider.high
    assert [result.level for result in coverage_results(rows, [0.9, 0.8])] == [0.8, 0.9]


@pytest.mark.parametrize(
    ("share", "low", "high", "words"),
    [
        *((0.9, 0.88, 0.92, "holds"), (0.88, 0.88, 0.92, "holds"), (0.879, 0.88, 0.92, "too narrow")),
        *((1.0, 0.88, 0.92, "too wide"), (math.nan, 0.0, 1.0, "no intervals"), (None, None, None, "no intervals")),
    ],
)
def test_verdicts(share, low, high, words):
    assert wording.verdict(share, low, high) == words


@pytest.mark.parametrize(
    ("value", "text"),
    [
        *((1234.5, "1,234"), (99.96, "100"), (0.75, "0.750"), (12.345, "12.3"), (-0.5493, "−0.549"), (0, "0")),
        *((0.00001, "1.00·10⁻⁵"), (math.nan, "–"), (None, "–"), (math.inf, "no bound"), (1e9, "1,000,000,000")),
    ],
)
def test_numbers_for_people(value, text):
    assert formats.number(value) == text


def test_shares_and_counts_for_people():
    assert formats.percent(0.0312) == "3.1\u202f%"
    assert [formats.percent(level, 0) for level in (0.9, 0.975)] == ["90\u202f%", "97.5\u202f%"]
    assert formats.percent(None) == formats.percent(math.nan) == "–"
    assert formats.count(1, "row") == "1\u00a0row"
    assert formats.count(1234, "entity", "entities") == "1,234\u00a0entities"


def test_the_template_is_found_inside_a_zip(tmp_path):
    package = Path(assay.__file__).parent
    archive = tmp_path / "assay.zip"
    with zipfile.ZipFile(archive, "w") as packed:
        for path in package.rglob("*"):
            if path.suffix in {".py", ".j2"}:
                packed.write(path, path.relative_to(package.parent))
    code = (
        "import assay, jinja2; assert '.zip' in assay.__file__, assay.__file__\n"
        "text = jinja2.PackageLoader('assay.evaluation', '.').get_source(jinja2.Environment(), 'report.html.j2')[0]\n"
        "assert '<!DOCTYPE html>' in text"
    )
    subprocess.run([sys.executable, "-c", code], check=True, env={"PYTHONPATH": str(archive)}, cwd=tmp_path, timeout=60)
