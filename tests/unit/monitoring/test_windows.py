"""Consumes settings and a test period, checks which rows the two windows have."""

from __future__ import annotations

import datetime as dt

import pytest

from assay.config.monitoring import MonitoringConfig
from assay.errors import ConfigError
from assay.monitoring.windows import windows_of
from assay.runtime.conditions import Condition

NEWEST = dt.datetime(2024, 6, 30, 12, tzinfo=dt.timezone.utc)
TEST = {"start": "2024-01-01T00:00:00+00:00", "end": "2024-05-01T00:00:00+00:00"}


def at(text):
    return dt.datetime.fromisoformat(text).replace(tzinfo=dt.timezone.utc)


def windows(test=TEST, step_days=1.0, **settings):
    return windows_of(MonitoringConfig(**settings), test, version=7, newest=NEWEST, step_days=lambda: step_days)


@pytest.mark.parametrize(("step", "days"), [(1, 28), (3.5, 28), (7, 56), (28, 90.75), (90, 90.75)])
def test_a_length_that_is_not_given_has_eight_dates_and_leaves_half_to_the_reference(step, days):
    reference, current = windows(step_days=step)
    assert (current.end - current.start) / dt.timedelta(days=1) == pytest.approx(days, abs=1e-6)
    assert reference.end <= current.start
    assert windows(step_days=step, window_days=7)[1].start == NEWEST - dt.timedelta(days=7, microseconds=-1)


def test_where_the_reference_has_no_start_a_length_is_not_bounded():
    _, current = windows({}, step_days=30)
    assert current.end - current.start == dt.timedelta(days=240)


def test_the_newest_days_are_compared_with_the_test_period():
    reference, current = windows(window_days=30)
    assert (reference.version, reference.start, reference.end) == (7, at("2024-01-01"), at("2024-05-01"))
    assert current.end == NEWEST + dt.timedelta(microseconds=1)
    assert current.end - current.start == dt.timedelta(days=30)
    assert current.conditions == [Condition("time", ">=", current.start), Condition("time", "<", current.end)]


def test_the_reference_ends_where_the_current_window_begins():
    reference, current = windows(window_days=90)
    assert reference.end == current.start < at("2024-05-01")
    assert windows({"start": TEST["start"]}, window_days=10)[0].end == NEWEST - dt.timedelta(days=10, microseconds=-1)


def test_days_may_be_given():
    reference, _ = windows(reference_from="2023-01-01", reference_until="2024-01-01")
    assert (reference.start, reference.end) == (at("2023-01-01"), at("2024-01-01"))
    assert windows(reference_until="2024-01-01")[0].conditions == [Condition("time", "<", at("2024-01-01"))]


def test_versions_are_compared_as_a_whole():
    reference, current = windows(reference_version=3, current_version=0)
    assert [(one.version, one.conditions) for one in (reference, current)] == [(3, []), (0, [])]
    with pytest.raises(ConfigError, match=r"monitoring\.reference_version and monitoring\.current_version go together"):
        windows(reference_version=3)


def test_a_test_that_was_drawn_keeps_its_rows():
    drawn = [[["row_id", "<", 5]], [["row_id", ">=", 90]]]
    reference, current = windows({"drawn": drawn})
    assert [one.op for one in reference.conditions] == ["<", "any"]
    assert [one.op for one in current.conditions] == [">=", "<"]


def test_windows_that_meet_are_refused():
    with pytest.raises(ConfigError, match=r"begins on 2024-01-01, .* shorten monitoring\.window_days"):
        windows(window_days=200)
