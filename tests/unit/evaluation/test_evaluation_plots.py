"""Consumes an invented market, checks what the figures draw and that their SVG fits into a page."""

import datetime as dt
import math
import re
import sys
import xml.etree.ElementTree as ET

import matplotlib
import numpy as np
import polars as pl
import pytest
from matplotlib.collections import PathCollection, PolyCollection
from matplotlib.figure import Figure

from assay.evaluation import plots
from assay.evaluation.segments import segment_table
from assay.pages.canvas import THEME, compact, plain, short, to_png, to_svg

LEVELS = (0.8, 0.9)


def words(figure):
    """All text of a figure, as a reader of its SVG finds it."""
    return [text.text for text in ET.fromstring(to_svg(figure, "f", "alt")).iter() if text.tag.endswith("text")]


def test_no_global_state(market):
    before = dict(matplotlib.rcParams)
    figure = plots.predicted_against_actual(market())
    to_svg(figure, "a")
    assert dict(matplotlib.rcParams) == before
    assert isinstance(figure, Figure)
    assert "matplotlib.pyplot" not in sys.modules or not sys.modules["matplotlib.pyplot"].get_fignums()


def test_few_rows_are_dots_and_many_are_hexagons(market):
    few = plots.predicted_against_actual(market(), "price", "USD").axes[0]
    dots = [c for c in few.collections if isinstance(c, PathCollection)]
    assert len(dots[0].get_offsets()) == 12 * 24
    many = plots.predicted_against_actual(market(200)).axes[0]
    assert not [c for c in many.collections if isinstance(c, PathCollection)]
    hexagons = [c for c in many.collections if isinstance(c, PolyCollection)][-1]
    assert len(hexagons.get_facecolors()) > 50
    assert hexagons.get_facecolors()[:, 3].min() > 0.1  # single rows stay visible


def test_scale_is_logarithmic_only_where_it_can_and_should_be(market):
    rows = market()
    assert plots.predicted_against_actual(rows).axes[0].get_xscale() == "linear"
    spread = rows.with_columns(actual=pl.Series(np.geomspace(1, 1e5, rows.height)))
    assert plots.predicted_against_actual(spread).axes[0].get_xscale() == "log"
    assert plots.predicted_against_actual(pl.concat([spread] * 10)).axes[0].get_yscale() == "log"
    with_zero = spread.with_columns(actual=pl.col("actual") - 1)
    assert plots.predicted_against_actual(with_zero).axes[0].get_xscale() == "linear"


def test_rows_outside_the_frame_are_counted(market):
    rows = market(200)
    rows = rows.with_columns(actual=pl.when(pl.int_range(pl.len()) == 7).then(1e12).otherwise("actual"))
    assert any("outside the frame" in text for text in words(plots.predicted_against_actual(rows)))


@pytest.mark.parametrize("value", [0.0, 5.0, -3.0])
def test_one_row_is_drawn(market, value):
    rows = market(1, 1).with_columns(actual=pl.lit(value), prediction=pl.lit(value))
    for figure in (plots.predicted_against_actual(rows), plots.residuals_over_time(rows)):
        assert to_png(figure).startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("days", "word"), [(1.5, "hour"), (40, "day"), (300, "week"), (900, "month"), (3000, "quarter"), (30_000, "year")]
)
def test_error_is_bucketed_by_the_finest_period_that_reads_well(market, days, word):
    start = dt.datetime(1930, 1, 1, tzinfo=dt.timezone.utc)
    rows = market(10, 12)
    moments = [start + dt.timedelta(days=days * k / rows.height) for k in range(rows.height)]
    rows = rows.with_columns(time=pl.Series(moments, dtype=pl.Datetime("us", "UTC")))
    assert f"Error per {word}: price" in words(plots.residuals_over_time(rows, "price"))


def test_error_is_in_percent_only_of_positive_outcomes(market):
    rows = market()
    median = plots.residuals_over_time(rows.with_columns(prediction=pl.col("actual") * 1.1)).axes[0].lines[1]
    assert median.get_ydata() == pytest.approx([10.0] * 24)
    shifted = rows.with_columns(actual=pl.lit(-5.0), prediction=pl.lit(-2.0))
    figure = plots.residuals_over_time(shifted, "profit", "EUR")
    assert figure.axes[0].lines[1].get_ydata() == pytest.approx([3.0] * 24)
    assert "EUR; band: 8 of 10 rows" in words(figure)


def test_coverage_shows_the_largest_segments_and_says_so(market):
    table = segment_table(market(80), ["city"], LEVELS)
    figure = plots.coverage_per_segment(table, LEVELS)
    assert len(figure.axes) == 2
    for axes in figure.axes:
        assert sum(len(c.get_offsets()) for c in axes.collections) == 30
        assert len(axes.patches) == 30
    assert any("the 30 largest of 80 segments" in text for text in words(figure))


def test_coverage_marks_segments_outside_their_band(market):
    rows = market(3).with_columns(
        lower_80=pl.when(pl.col("city") == "city 0001").then(pl.col("actual") + 1).otherwise(-math.inf),
        upper_80=pl.when(pl.col("city") == "city 0001").then(pl.col("actual") + 2).otherwise(math.inf),
    )
    axes = plots.coverage_per_segment(segment_table(rows, ["city"], [0.8]), [0.8]).axes[0]
    holds, too_few, more = (len(c.get_offsets()) for c in axes.collections)
    assert (holds, too_few, more) == (0, 1, 2)


def test_coverage_without_segments_or_intervals(market):
    rows = market(2)
    assert "all rows" in words(plots.coverage_per_segment(segment_table(rows, [], LEVELS), LEVELS))
    nothing = rows.with_columns(pl.lit(None, dtype=pl.Float64).alias(f"{e}_80") for e in ("lower", "upper"))
    assert to_svg(plots.coverage_per_segment(segment_table(nothing, ["city"], [0.8]), [0.8]), "c")
    assert len(plots.coverage_per_segment(segment_table(rows, ["city"], LEVELS), [0.9]).axes) == 1


def test_importance_shows_the_top_and_what_is_left():
    figure = plots.importance([f"f{i}" for i in range(30)], list(range(30)))
    assert [bar.get_width() for bar in figure.axes[0].patches][-1] == pytest.approx(100 * 29 / 435)
    assert len(figure.axes[0].patches) == 20
    assert "share of the total gain; 10 more features share 10.3 %" in words(figure)
    assert "the model names no features" in words(plots.importance([], []))
    assert to_svg(plots.importance(["constant"], [0.0]), "i")


def test_fan_runs_from_most_to_least_precise(market):
    rows = market(9)
    rows = rows.with_columns(actual=pl.col("prediction") * (1 + 0.01 * pl.col("city").str.slice(-1).cast(pl.Int64)))
    figure = plots.fan(rows, "city", LEVELS)
    assert figure is not None
    titles = [text for text in words(figure) if "% off" in text]
    assert [float(title.split(": ")[1].split()[0]) for title in titles] == pytest.approx([0.0, 2.9, 4.8, 7.4], abs=0.11)


def test_fan_with_infinite_and_missing_bounds_stays_in_frame(market):
    rows = market(2).with_columns(
        lower_90=-math.inf, upper_90=math.inf, lower_80=pl.lit(None, dtype=pl.Float64), upper_80=pl.lit(math.nan)
    )
    figure = plots.fan(rows, "city", LEVELS)
    assert figure is not None
    assert np.isfinite([axes.get_ylim() for axes in figure.axes]).all()
    assert "nan" not in to_svg(figure, "fan").lower()


def test_fan_needs_an_entity_with_a_history(market):
    assert plots.fan(market(5, 5), "city", LEVELS) is None
    assert plots.fan(market(1, 6), "city", LEVELS) is not None


def test_svg_fits_into_a_page(market):
    svg = to_svg(plots.predicted_against_actual(market(), "price"), "predicted", 'says "what" <it> shows & more')
    root = ET.fromstring(svg)
    assert root.get("aria-label") == 'says "what" <it> shows & more'
    assert root.get("width") is None  # scales with the page
    assert root.get("viewBox")
    ids = re.findall(r' id="([^"]*)"', svg)
    assert ids
    assert all(name.startswith("predicted-") for name in ids)
    assert len(ids) == len(set(ids))
    assert set(re.findall(r'url\(#([^)]*)\)|href="#([^"]*)"', svg)) <= {
        pair for n in ids for pair in ((n, ""), ("", n))
    }
    assert "<style" not in svg
    assert "metadata" not in svg
    assert set(re.findall(r"https?://[^\"]*", svg)) == {"http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"}
    left = {colour for colour in re.findall(r"#[0-9a-f]{6}", svg) if f", {colour})" not in svg}
    assert not left, f"colours that a dark page cannot change: {left}"
    assert all(
        f"var(--plot-{THEME[colour]}, {colour})" in svg for colour in set(re.findall(r", (#[0-9a-f]{6})\)", svg))
    )


def test_svg_is_the_same_each_time(market):
    first, again = (to_svg(plots.residuals_over_time(market()), "r") for _ in range(2))
    assert first == again
    assert 'aria-hidden="true"' in first


@pytest.mark.parametrize("name", ["$x^2$ & $", "東京 <b>", "a\x00b\nc", "x" * 200, "_under$score", "\\frac"])
def test_names_are_drawn_as_they_are(market, name):
    rows = market(2).with_columns(city=pl.lit(name))
    table = segment_table(rows, ["city"], LEVELS)
    figure = plots.coverage_per_segment(table, LEVELS)
    shown = words(figure)
    assert short(name).replace(r"\$", "$") in shown
    assert to_png(figure, 40)


def test_numbers_and_names_for_axes():
    assert [compact(v) for v in (0, 950, 9_500, 12_500, 1.25e6, -3e9, 0.25)] == [
        *("0", "950", "9,500", "12.5k", "1.25M", "−3B", "0.25")
    ]
    assert plain("$5") == r"\$5"
    assert len(short("abcdefghij" * 5)) == 22
    assert short("Bryan") == "Bryan"
