"""Consumes sums of days, checks figures against their definitions and alarms against chance."""

from __future__ import annotations

import datetime as dt
import math

import numpy as np
import polars as pl
import pytest

from assay.monitoring.days import SUMS
from assay.monitoring.performance import (
    LEAST_DAYS,
    between,
    coverage_changed,
    error_awaited,
    error_changed,
    figures,
    matured,
)

FIRST = dt.date(2024, 1, 1)


def days(count, *, seed=0, rows=40, spread=10.0, clustered=0.0, level=0.8, known=True, start=0):
    """Sums of days whose errors are normal. clustered: share of the variance that a day's rows have in common."""
    draw = np.random.default_rng(seed)
    shared = draw.normal(0, spread * math.sqrt(clustered), (count, 1))
    errors = shared + draw.normal(0, spread * math.sqrt(1 - clustered), (count, rows))
    half = 10.0 * 1.2815515655446004 if level == 0.8 else 10.0
    sums = {name: np.zeros(count) for name in (*SUMS, "held_80", "width_80")}
    sums |= {"rows": np.full(count, float(rows)), "width_80": np.full(count, 2 * half * rows)}
    if known:
        sums |= {
            "known": np.full(count, float(rows)),
            "loss": (errors**2).sum(axis=1),
            "absolute": np.abs(errors).sum(axis=1),
            "size": np.full(count, 100.0 * rows),
            "error": errors.sum(axis=1),
            "held_80": (np.abs(errors) <= half).sum(axis=1).astype(float),
        }
    else:
        sums |= {"awaited": np.full(count, float(rows)), "awaited_width": np.full(count, 2 * half * rows)}
    dates = [FIRST + dt.timedelta(days=start + n) for n in range(count)]
    return pl.DataFrame({"day": dates, "model_version": ["m"] * count, **sums})


def test_only_days_whose_outcomes_had_time_are_compared():
    found = matured(days(10), dt.datetime(2024, 1, 9, 6, tzinfo=dt.timezone.utc) - dt.timedelta(days=2))
    assert found["day"].max() == dt.date(2024, 1, 6)  # the 7th ends on the 8th, two days later it is the 10th
    assert matured(days(10), dt.datetime(2024, 1, 9, tzinfo=dt.timezone.utc))["day"].max() == dt.date(2024, 1, 8)


def test_windows_take_whole_days():
    start, end = (dt.datetime(2024, 1, day, tzinfo=dt.timezone.utc) for day in (3, 6))
    assert between(days(10), start, end)["day"].to_list() == [dt.date(2024, 1, day) for day in (3, 4, 5)]
    assert between(days(10), None, None).height == 10


def test_the_change_of_an_error_is_that_of_its_definition():
    one, other = days(60), days(30, seed=1, spread=12.0)
    found = error_changed(one, other, rooted=True)
    before, after = (math.sqrt(part["loss"].sum() / part["known"].sum()) for part in (one, other))
    assert (found.reference, found.current) == pytest.approx((before, after))
    assert found.change == pytest.approx(after / before - 1)
    assert found.low < found.change < found.high
    assert found.low > 0.1
    assert (found.days, found.rows) == (30, 1200)
    assert error_changed(one, other, rooted=False).current == pytest.approx(after**2)
    assert error_changed(one, other, rooted=True) == found


def test_an_error_that_did_not_rise_is_called_higher_once_in_twenty():
    pairs = [[days(size, seed=start + n, clustered=0.5) for size, start in ((80, 0), (40, 9_000))] for n in range(300)]
    over = sum(error_changed(*pair, rooted=True).low > 0 for pair in pairs)
    assert 3 <= over <= 33


def test_rows_of_a_day_that_move_together_make_it_less_sure():
    wide, narrow = (
        error_changed(days(60, clustered=share), days(40, seed=1, clustered=share), rooted=True) for share in (0.8, 0.0)
    )
    assert wide.high - wide.low > 3 * (narrow.high - narrow.low)


def test_coverage_is_compared_with_its_promise():
    found = coverage_changed(days(60), 0.8, days(90, seed=3))
    assert found.change == pytest.approx(found.current - 0.8)
    assert abs(found.change) < 0.04
    assert found.low < 0 < found.high
    short = coverage_changed(days(60, spread=14.0), 0.8)
    assert short.high < 0
    assert math.isnan(short.reference)


def test_few_days_are_compared_but_nothing_is_sure():
    found = error_changed(days(60), days(LEAST_DAYS - 1, spread=30.0), rooted=True)
    assert found.change > 1
    assert math.isnan(found.low)
    none = error_changed(days(60), days(0), rooted=True)
    assert math.isnan(none.change)


def test_what_is_awaited_is_estimated_from_the_widths():
    waiting = days(10, known=False, start=90).with_columns(pl.col("awaited_width") * 1.5)
    estimate, low, high = error_awaited(days(90), waiting, 0.8)
    assert estimate == pytest.approx(1.5 * 10 * math.sqrt(2 / math.pi), rel=0.05)
    assert low < estimate < high
    assert all(map(math.isnan, error_awaited(days(3), waiting, 0.8)))
    assert all(map(math.isnan, error_awaited(days(90), days(10), 0.8)))


def test_figures_are_those_of_their_definitions():
    moved = {"moves": 20.0, "wins": 12.0}
    one = days(50).with_columns(
        pl.Series("gain", np.linspace(-1, 3, 50)), **{name: pl.lit(value) for name, value in moved.items()}
    )
    found = figures(one, [0.8], classes=False)
    assert found["rmse"] == pytest.approx(math.sqrt(one["loss"].sum() / 2000))
    assert found["mae"] == pytest.approx(one["absolute"].sum() / 2000)
    assert found["wape"] == pytest.approx(found["mae"] / 100)
    assert found["win_rate"] == pytest.approx(0.6)
    gains = np.linspace(-1, 3, 50) / 20
    assert found["sharpe"] == pytest.approx(gains.mean() / gains.std(ddof=1))
    assert found["coverage_80"] == pytest.approx(one["held_80"].sum() / 2000)
    assert found["width_80"] == pytest.approx(2 * 12.815515655446004)
    assert {"log_loss", "accuracy"} <= set(figures(one, [0.8], classes=True))


def test_nothing_known_makes_no_figure():
    found = figures(days(5, known=False), [0.8], classes=False)
    assert math.isnan(found["rmse"])
    assert (found["rows"], found["known"]) == (200.0, 0.0)
    assert figures(days(0), [0.8], classes=True)["rows"] == 0.0
