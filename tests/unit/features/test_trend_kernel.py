"""Consumes irregular histories, checks smoothed levels, lines, change points and waves against SciPy and NumPy."""

from __future__ import annotations

import datetime as dt
import math

import numpy as np
import pytest
from feature_harness import past_at_each_time, utc
from feature_oracle import DAY, delay, differs, line_of, remembered, seen, shift_of, smoothed, wave_of
from hypothesis import given, settings
from hypothesis import strategies as st

START = utc("2019-12-28")
HALFLIVES, SPANS, PERIODS = (0.5, 3.0, 40.0), (2, 9, 90), (1.0, 7.0, 365.25)
moments = st.builds(lambda hours: START + dt.timedelta(hours=hours), st.integers(0, 60) | st.integers(0, 9_000))
numbers = st.one_of(
    st.none(),
    st.just(math.nan),
    st.sampled_from([1.0, 1.0, 2.0, -7.5]),
    st.floats(-1e3, 1e3).map(lambda v: round(v, 3)),
)
histories = st.lists(
    st.fixed_dictionaries({"k": st.sampled_from(["a", "a", None]), "time": moments, "v": numbers}), max_size=40
)


LIMITS = {
    "delay_days": st.sampled_from([0.0, 0.0, 1 / 24, 1 / 3, 7.5, 45.0]),
    "max_history_days": st.sampled_from([None, None, 1, 5, 60, 365]),
}


def check(rows, expected_of, *, by=("k",), delay_days=0.0, max_history_days=None, **asked) -> int:
    """Compare every figure at every time; the number of those that are known.

    expected_of: (past, its end) -> name -> (number, what rounding may take from it).
    """
    found = past_at_each_time(rows, by, delay_days=delay_days, max_history_days=max_history_days, **asked)
    known = 0
    for row in found.drop("age_days").iter_rows(named=True):
        at = row["time"]
        past = seen(rows, by=by, value="v", delay_days=delay_days, key=tuple(row[c] for c in by), at=at)
        past = remembered(past, at=at, delay_days=delay_days, max_history_days=max_history_days)
        expected = expected_of(past, at - delay(delay_days))
        assert set(expected) == set(row) - {*by, "time"}
        for name, (number, error) in expected.items():
            assert not differs(row[name], number, scale=1e7 * error), (name, row, number, error)
            known += number is not None
    return known


def lost(numbers: np.ndarray) -> float:
    """Share of a sum of squared deviations that doubles lose when it is what is left of a sum of squares."""
    spread = ((numbers - numbers.mean()) ** 2).sum() if len(numbers) else 0.0
    return float(2e-15 * (numbers**2).sum() / spread) if spread > 0 else 0.0


def smooth(past, until):
    error = 1e-13 * max((abs(v) for _, v in past), default=0.0)
    return {f"ewm_{h:g}d": (smoothed(past, h), error) for h in HALFLIVES}


def line(past, label: str):
    slope, strength = line_of(past)
    days = np.array([time.timestamp() / 86_400 for time, _ in past])
    values = np.array([v for _, v in past])
    error = strength_error = 0.0
    if slope is not None:
        spread = float(((days - days.mean()) ** 2).sum())
        of_covariance = 2e-15 * math.sqrt((days**2).sum() * (values**2).sum())
        error = abs(slope) * lost(days) + of_covariance / spread
        spread *= float(((values - values.mean()) ** 2).sum())
        strength_error = 2 * (lost(days) + lost(values)) + (2 * of_covariance / math.sqrt(spread) if spread else 0.0)
    return {f"slope_{label}": (slope, error), f"trend_strength_{label}": (strength, strength_error)}


def trend(past, until):
    found = line(past, "ever")
    for days in SPANS:
        inside = [(time, v) for time, v in past if time >= until - days * DAY]
        score = shift_of(inside, middle=until - delay(days / 2))
        found |= line(inside, f"{days}d") | {f"shift_{days}d": (score, 1e-8 * (1 + abs(score or 0.0)))}
    return found


def wave(past, until):
    error = 1e-6 + 100 * lost(np.array([v for _, v in past]))
    return {f"season_{period:g}d": (wave_of(past, period), error) for period in PERIODS}


@settings(deadline=None)
@given(rows=histories, by=st.sampled_from([("k",), ()]), **LIMITS)
def test_smoothed_levels_are_weighted_means(rows, **limits):
    check(rows, smooth, halflives_days=HALFLIVES, **limits)


@settings(deadline=None)
@given(rows=histories, by=st.sampled_from([("k",), ()]), **LIMITS)
def test_lines_and_change_points_are_those_of_scipy(rows, **limits):
    check(rows, trend, trend_days=SPANS, **limits)


@settings(deadline=None)
@given(rows=histories, by=st.sampled_from([("k",), ()]), **LIMITS)
def test_seasonality_is_the_share_of_a_fitted_wave(rows, **limits):
    check(rows, wave, seasonality_days=PERIODS, **limits)


@pytest.mark.parametrize("hours", [1, 24, 24 * 7])
@pytest.mark.parametrize("max_history_days", [None, 30, 200])
def test_long_histories_have_all_of_it(hours, max_history_days):
    """Enough rows that figures are known nearly everywhere."""
    random = np.random.default_rng(hours)
    times = [START + int(step) * dt.timedelta(hours=hours) for step in np.sort(random.integers(0, 60, 80))]
    values = (100 + np.cumsum(random.normal(0, 3, 80))).tolist()
    rows = [{"k": "a", "time": time, "v": v} for time, v in zip(times, values, strict=True)]
    limits = {"delay_days": hours / 24, "max_history_days": max_history_days}
    assert check(rows, smooth, halflives_days=HALFLIVES, **limits) >= 3 * 20
    assert check(rows, trend, trend_days=SPANS, **limits) >= 20 + (hours < 100) * 100
    assert check(rows, wave, seasonality_days=PERIODS, **limits) >= 0


def test_as_long_as_nothing_new_is_known_nothing_fades():
    times, values = (0, 3, 4, 4_000), (10.0, 40.0, None, None)
    rows = [{"k": "a", "time": START + t * DAY, "v": v} for t, v in zip(times, values, strict=True)]
    found = past_at_each_time(rows, ["k"], halflives_days=(3.0,))["ewm_3d"].to_list()
    assert found[:2] == [None, 10.0]
    assert found[2:] == pytest.approx([30.0, 30.0], rel=1e-6)


def test_a_wave_is_seen_and_noise_is_not():
    random = np.random.default_rng(4)
    days = np.arange(120)
    series = {"wave": 5 + np.sin(2 * np.pi * days / 7), "noise": random.normal(0, 1, 120)}
    rows = [{"k": k, "time": START + d * DAY, "v": float(v[d])} for k, v in series.items() for d in days.tolist()]
    found = past_at_each_time(rows, ["k"], seasonality_days=(7.0, 30.0))
    last = {row["k"]: row for row in found.filter(found["time"] == START + 119 * DAY).iter_rows(named=True)}
    assert last["wave"]["season_7d"] == pytest.approx(1.0, abs=1e-6)
    assert last["wave"]["season_30d"] < 0.01
    assert last["noise"]["season_7d"] < 0.1
    # Before a whole period is known, nothing is said of it.
    assert found.filter(found["time"] <= START + 7 * DAY)["season_7d"].is_null().all()
    assert found.filter(found["time"] == START + 8 * DAY)["season_7d"].is_not_null().all()


def test_five_values_are_the_fewest_that_tell_a_wave():
    rows = [{"k": "a", "time": START + d * DAY, "v": float(d % 4)} for d in range(0, 30, 3)]
    found = past_at_each_time(rows, ["k"], seasonality_days=(7.0,))["season_7d"]
    assert found.is_null().to_list() == [True] * 5 + [False] * 5


def test_a_straight_line_has_its_slope_and_a_step_stands_out():
    series = {"line": lambda d: 2.0 * d, "step": lambda d: d % 2 + 100.0 * (d >= 20)}
    rows = [{"k": k, "time": START + d * DAY, "v": v(d)} for k, v in series.items() for d in range(41)]
    found = past_at_each_time(rows, ["k"], trend_days=(20,)).partition_by("k", as_dict=True)
    line, step = found["line",], found["step",]
    assert line["slope_20d"].to_list() == [None, None, *[pytest.approx(2.0, rel=1e-6)] * 39]
    assert line["trend_strength_ever"].to_list() == [None, None, None, *[pytest.approx(1.0, abs=1e-6)] * 38]
    assert step["shift_20d"].arg_max() == 30  # ten days after it, when it lies in the middle
    assert step["shift_20d"][30] > 100
