"""Consumes rows of monitoring over dates, checks what speaks for a retraining, and in which words."""

from __future__ import annotations

import datetime as dt

import pytest
from hypothesis import given
from hypothesis import strategies as st

from assay.config.retraining import RetrainingConfig
from assay.deployment.retrain_triggers import often, triggers_of

CONFIG = RetrainingConfig()
TODAY = dt.date(2024, 1, 9)


def date(number):
    return f"2024-01-{number:02d}"


def part(name, number, **figures):
    row = dict.fromkeys(("score", "value", "reference", "change", "low", "high"))
    return {**row, "part": name, "as_of": date(number), **figures}


def error(number, change, low=0.01):
    return part("error", number, value=10 * (1 + change), reference=10.0, change=change, low=low)


def coverage(number, change, high=-0.01):
    return part("coverage", number, value=0.8 + change, reference=0.8, change=change, high=high)


def features(number, share):
    return part("features", number, value=share, reference=0.0, change=share)


def kinds(health, config=CONFIG, drift=(), learned=None):
    return [t.kind for t in triggers_of(health, drift, learned=learned, today=TODAY, config=config)]


@given(st.lists(st.booleans(), max_size=8), st.integers(1, 6), st.integers(1, 6))
def test_often_is_n_of_the_last_m_and_the_newest(flags, at_least, of_last):
    last = list(reversed(flags))[:of_last]
    wanted = bool(last) and last[0] and len([flag for flag in last if flag]) >= at_least
    assert often(flags, at_least=at_least, of_last=of_last) == wanted


@pytest.mark.parametrize(
    ("changes", "found"),
    [
        ([0.2], []),  # one date is not two
        ([0.2, 0.2], ["performance"]),
        ([0.2, 0.0, 0.2], ["performance"]),
        ([0.2, 0.2, 0.0], []),  # the newest is well
        ([0.2, 0.0, 0.0, 0.2], []),  # too long ago
        ([0.1, 0.1, 0.1], []),  # the limit itself is not above it
        ([None, 0.2, 0.2], ["performance"]),
        ([0.2, 0.2, None], []),  # nobody knows how it is now
        ([0.2, None, None, 0.2], []),  # dates that could not be told are dates
    ],
)
def test_two_of_the_last_three_dates_and_the_newest_speak_for_a_retraining(changes, found):
    rows = [part("error", n + 1) if change is None else error(n + 1, change) for n, change in enumerate(changes)]
    assert kinds(rows) == found
    assert kinds(list(reversed(rows))) == found


def test_what_chance_may_explain_speaks_for_nothing():
    assert kinds([error(n, 0.5, low=low) for n, low in enumerate((0.1, -0.01), 1)]) == []
    assert kinds([error(n, 0.5, low=None) for n in (1, 2, 3)]) == []
    assert kinds([coverage(n, -0.2, high=0.01) for n in (1, 2, 3)]) == []
    assert kinds([coverage(n, -0.2, high=None) for n in (1, 2, 3)]) == []


def test_each_trigger_has_its_own_limit_and_can_be_switched_off():
    rows = [make(n, x) for n in (1, 2) for make, x in ((error, 0.3), (coverage, -0.08), (features, 0.4))]
    assert kinds(rows) == ["performance", "coverage", "drift"]
    for off in ("performance", "coverage", "drift"):
        assert kinds(rows, RetrainingConfig(**{off: 0})) == [k for k in kinds(rows) if k != off]
    assert kinds(rows, RetrainingConfig(performance=0.4, coverage=0.09, drift=0.5)) == []
    assert kinds([coverage(n, 0.2, high=0.3) for n in (1, 2)]) == []  # intervals that hold too much


def test_a_schedule_needs_no_second_date():
    config = RetrainingConfig(schedule_days=30)
    assert kinds([], config, learned=TODAY - dt.timedelta(days=30)) == ["schedule"]
    assert kinds([], config, learned=TODAY - dt.timedelta(days=29)) == []
    assert kinds([], config, learned=None) == []
    assert kinds([], CONFIG, learned=TODAY - dt.timedelta(days=3000)) == []


def test_reasons_name_figures_settings_dates_and_the_inputs_that_drifted_most():
    detections = [
        {"column": name, "kind": kind, "segment": segment, "drifted": drifted, "psi": psi}
        for name, kind, segment, drifted, psi in (
            ("rooms", "number", "", True, 0.3),
            ("city", "category", "", True, 0.9),
            ("prediction", "prediction", "", True, 9.0),
            ("stock", "number", "city=a", True, 5.0),
            ("age", "number", "", False, 0.2),
        )
    ]
    rows = [make(n, x) for n in (4, 6) for make, x in ((error, 0.25), (coverage, -0.08), (features, 0.4))]
    config = RetrainingConfig(schedule_days=5)
    found = triggers_of(rows, detections, learned=dt.date(2024, 1, 1), today=TODAY, config=config)
    assert [trigger.reason for trigger in found] == [
        "the error was 12.5, +25.0% against 10 (retraining.performance 10%) on 2024-01-06, on 2 of the last 2 dates",
        "72.0% of outcomes were inside, 8.0% fewer than promised (retraining.coverage 5%) on 2024-01-06, on 2 of the "
        "last 2 dates",
        "40% of what the champion goes by had drifted (retraining.drift 25%): city, rooms on 2024-01-06, on 2 of the "
        "last 2 dates",
        "8 days since 2024-01-01 (retraining.schedule_days 5)",
    ]
