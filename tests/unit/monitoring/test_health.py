"""Consumes days and detections, checks what takes health away, and that chance does not."""

from __future__ import annotations

import pytest
from test_performance import days

from assay.config.monitoring import MonitoringConfig
from assay.monitoring.health import (
    DRIFTED,
    WEIGHTS,
    Part,
    coverage_part,
    error_part,
    features_part,
    health_of,
    quality_part,
    response_part,
    score_of,
    volume_part,
)

CONFIG = MonitoringConfig()


def error(current, awaiting=None, classes=False):
    waiting = awaiting if awaiting is not None else days(0)
    return error_part(days(120), current, waiting, 0.8, CONFIG, classes=classes)


def test_scores_fall_in_a_straight_line():
    assert [score_of(harm, 0.1) for harm in (-1, 0, 0.05, 0.1, 0.15, 0.2, 9)] == pytest.approx(
        [100, 100, 75, 50, 25, 0, 0]
    )


def test_the_whole_is_the_mean_by_weight_of_what_is_known():
    whole, *_ = health_of([Part("error", 40.0, 0.3), Part("coverage", None, 0.25), Part("volume", 100.0, 0.1)])
    assert whole.score == pytest.approx((40 * 0.3 + 100 * 0.1) / 0.4)
    assert whole.detail == "without coverage"
    assert health_of([Part("coverage", None, 0.25)])[0].score is None
    assert sum(WEIGHTS.values()) == pytest.approx(1)


def test_an_error_that_rose_takes_health_and_one_by_chance_does_not():
    same, worse = error(days(40, seed=5)), error(days(40, seed=5, spread=13.0))
    assert same.score > 90
    assert worse.change == pytest.approx(0.3, abs=0.06)
    assert worse.score < 10
    assert worse.low < worse.change < worse.high
    few = error(days(3, seed=5, spread=13.0))
    assert (few.score, few.low) == (100.0, None)  # nothing is sure of three days
    assert few.change > 0.1


def test_what_is_awaited_is_told():
    told = error(days(40, seed=5), awaiting=days(7, known=False, start=200))
    assert "280 outcomes awaited, whose widths promise a mean absolute error of" in told.detail
    nothing = error(days(0))
    assert (nothing.score, nothing.detail) == (None, "no outcome of the current window is known yet")


def test_the_level_that_holds_least_of_its_promise_counts():
    held = coverage_part(days(120), days(40, seed=3), [0.8], CONFIG)
    short = coverage_part(days(120), days(40, seed=3, spread=14.0), [0.8], CONFIG)
    assert held.score == 100.0
    assert short.score < 40
    assert short.reference == 0.8
    assert short.value == pytest.approx(0.8 + short.change)
    assert coverage_part(days(120), days(0), [0.8], CONFIG).score is None


def drifted(**columns):
    return [{"column": name, "kind": "number", "drifted": it} for name, it in columns.items()]


def test_inputs_that_matter_weigh_more():
    rows = drifted(size=True, age=False)
    assert features_part(rows, {"size": 0.9, "age": 0.1}).value == pytest.approx(0.9)
    little = features_part(rows, {"size": 0.1, "age": 0.9})
    assert little.score == score_of(0.1, DRIFTED)
    assert features_part(rows, {}).value == 0.5
    assert features_part([{"column": "prediction", "kind": "prediction", "drifted": True}], {}).score is None
    assert "1 of 2 inputs drifted; size" in little.detail


def test_bad_rows_and_missing_ones_are_seen():
    bad = days(30).with_columns(bad=days(30)["rows"] * 0.05)
    assert quality_part(days(60), bad).score == pytest.approx(50)
    assert quality_part(bad, bad).score == 100.0
    assert quality_part(days(60), days(0)).score is None
    assert volume_part(days(60), days(30, rows=20)).score == pytest.approx(50)
    assert volume_part(days(60, rows=20), days(30)).score == pytest.approx(50)
    assert volume_part(days(60), days(0)).score == 0.0
    assert volume_part(days(0), days(9)).score is None


def test_slow_answers_are_seen():
    assert [response_part(ms, 5_000.0).score for ms in (10.0, 5_000.0, 10_000.0, 90_000.0)] == [100, 100, 50, 0]
