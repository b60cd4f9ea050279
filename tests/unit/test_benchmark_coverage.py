"""Checks that the methods beside which intervals are measured are what they say, and so are the figures."""

from __future__ import annotations

import math

import numpy as np
import pytest

from benchmarks._intervals import OTHERS, Rows, figures, widths_needed
from benchmarks.coverage import report
from benchmarks.harness import Outcome


def rows(count, seed):
    rng = np.random.default_rng(seed)
    prediction = rng.normal(size=count)
    quantiles = np.column_stack([prediction - 1.2, prediction + 1.2])
    segments = np.array([f"part={place}" for place in rng.integers(0, 4, count)], dtype=object)
    return Rows(prediction + rng.normal(size=count), prediction, quantiles, segments)


def days(count):
    return np.datetime64("2020-01-01", "us") + np.arange(count) * np.timedelta64(1, "D")


@pytest.mark.parametrize("method", [m for m in OTHERS if m != "quantiles"])
def test_every_method_keeps_its_promise_on_exchangeable_rows(method):
    calibrate, test = rows(2_000, seed=1), rows(4_000, seed=2)
    for kind in OTHERS[method].values():
        lower, upper = kind(calibrate, test, 0.9)
        assert ((test.y >= lower) & (test.y <= upper)).mean() == pytest.approx(0.9, abs=0.025)


def test_libraries_agree_on_split_conformal():
    calibrate, test = rows(500, seed=3), rows(50, seed=4)
    expected = OTHERS["split"]["split"](calibrate, test, 0.8)
    for method in ("mapie", "crepes"):
        np.testing.assert_allclose(OTHERS[method]["split"](calibrate, test, 0.8), expected, rtol=1e-9)


def test_figures_by_hand():
    y = np.array([0.0, 1.0, 2.0, 13.0])
    bounds = (np.zeros(4), np.full(4, 10.0))
    found = figures(y, bounds, np.array(["a"] * 4, dtype=object), days(4), 0.8)
    assert (found["rows"], found["coverage"], found["mean_width"]) == (4, 0.75, 10)
    assert found["interval_score"] == pytest.approx(10 + 2 / 0.2 * 3 / 4)
    assert math.isnan(found["worst_segment"])


def test_the_worst_segment_is_the_one_farthest_from_the_promise():
    inside = np.repeat([1.0, 0.0, 1.0, 0.0], [450, 50, 590, 10])
    segments = np.array(["a"] * 500 + ["b"] * 600, dtype=object)
    times = np.repeat(days(60)[[0, 40]], [500, 600])
    bounds = (np.zeros(1_100), inside)
    found = figures(np.full(1_100, 0.5), bounds, segments, times, 0.9)
    assert found["worst_segment"] == found["worst_month"] == pytest.approx(590 / 600)


def test_what_is_far_by_chance_knows_that_rows_of_a_day_are_missed_together():
    rng = np.random.default_rng(5)
    months, each_day = 12, 50
    times = np.repeat(days(30 * months), each_day)
    together = np.repeat(rng.random(30 * months) < 0.8, each_day)
    alone = rng.random(len(times)) < 0.8
    segments = np.array(["a"] * len(times), dtype=object)
    for inside, independent in ((together, 30), (alone, 30 * each_day)):
        found = figures(np.full(len(times), 0.5), (np.zeros(len(times)), inside * 1.0), segments, times, 0.8)
        expected = 2.87 * math.sqrt(0.8 * 0.2 / independent)  # the largest of 12 standard normals, 95 %
        assert found["month_by_chance"] == pytest.approx(expected, rel=0.15)
        assert abs(found["worst_month"] - 0.8) < 1.3 * found["month_by_chance"]
        within = math.erf(0.05 / math.sqrt(2 * 0.8 * 0.2 / independent)) ** months  # all of 12 independent ones
        assert found["months_wanted"] == pytest.approx(within, abs=0.03)
        assert found["segment_by_chance"] == pytest.approx(expected * 1.96 / 2.87 / math.sqrt(months), rel=0.15)


def test_a_month_that_is_off_day_after_day_is_farther_than_by_chance():
    rng = np.random.default_rng(6)
    times = np.repeat(days(300), 50)
    late = times >= np.datetime64("2020-08-01")
    inside = rng.random(len(times)) < np.where(late & (times < np.datetime64("2020-09-01")), 0.6, 0.8)
    found = figures(
        np.full(len(times), 0.5), (np.zeros(len(times)), inside * 1.0), np.full(len(times), "a", object), times, 0.8
    )
    assert abs(found["worst_month"] - 0.8) > 1.2 * found["month_by_chance"]


def test_what_split_needs_is_the_width_that_holds_as_many_by_hand():
    residuals = np.r_[np.arange(1.0, 501.0), np.arange(1_001.0, 1_501.0)]
    test = Rows(residuals, np.zeros(1_000), np.zeros((1_000, 2)), np.repeat(["a", "b"], 500).astype(object))
    inside = np.r_[np.arange(500) < 400, np.arange(500) < 500]
    times = np.repeat(days(60)[[0, 40]], [950, 50])  # the second month is too small for a width of its own
    found = widths_needed(test, inside, times, lambda bounds: (bounds[0], bounds[1]))
    assert found["split_needs"] == 2 * 1_400  # 900 rows of 1,000
    assert found["split_needs_in_segments"] == 400 + 1_500  # 400 of a's, all of b's
    assert found["split_needs_in_months"] == 2 * (0.95 * 1_350 + 0.05 * 1_500)  # 850 of 950, 50 of 50


def test_split_that_knew_its_width_needs_no_other():
    test = rows(2_000, seed=8)
    width = np.sort(np.abs(test.y - test.prediction))[1_599]
    inside = np.abs(test.y - test.prediction) <= width
    found = widths_needed(test, inside, days(2_000), lambda bounds: (np.exp(bounds[0]), np.exp(bounds[1])))
    expected = (np.exp(test.prediction + width) - np.exp(test.prediction - width)).mean()
    assert found["split_needs"] == pytest.approx(expected, rel=1e-12)


def test_the_report_is_a_list_of_objects():
    figure = {"rows": 10.0, "coverage": 0.8, "worst_segment": math.nan, "mean_width": math.inf}
    told = {f"split|0.8|{name}": value for name, value in figure.items()}
    text, summary = report(Outcome("coverage", 0, {}, {}, {}, 0.0, {}, {}, {"kc_house:assay": told}))
    (line,) = summary["coverage"]
    assert (line["dataset"], line["method"], line["level"], line["coverage"]) == ("kc_house", "split", 0.8, 0.8)
    assert line["worst_segment"] is None
    assert line["mean_width"] is None
    assert "kc_house 80% split" in text


def test_the_report_tells_what_is_farther_off_than_chance():
    near = {
        "rows": 900.0,
        "worst_segment": 0.82,
        "segment_by_chance": 0.03,
        "worst_month": 0.76,
        "month_by_chance": 0.05,
        "months_wanted": 0.4,
    }
    far = near | {"worst_month": 0.74}
    told = {f"{m}|0.8|{name}": v for m, each in (("assay", near), ("split", far)) for name, v in each.items()}
    text, _ = report(Outcome("coverage", 0, {}, {}, {}, 0.0, {}, {}, {"kc_house:assay": told}))
    assert "\n  kc_house 80%: -, 40%\n" in text
    chance, wanted = text.split("Worst ones that are farther off than ")[1:]
    assert "\n  assay: none\n" in chance
    assert "\n  split: month of kc_house at 80%\n" in chance
    assert "\n  assay: none\n" in wanted
    assert "\n  split: month of kc_house at 80%\n" in wanted
