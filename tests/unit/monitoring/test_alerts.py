"""Consumes findings run by run, checks what becomes of alerts and what is told of them."""

from __future__ import annotations

import dataclasses
import datetime as dt

import pytest

from assay.config.alerts import AlertsConfig, CooldownConfig
from assay.monitoring.alerts import Kind, step
from assay.monitoring.findings import Examined, Finding, Level

START = dt.datetime(2024, 1, 1, 6, tzinfo=dt.timezone.utc)
LOW, MEDIUM, HIGH, CRITICAL = Level
CONFIG = AlertsConfig(cooldown_days=CooldownConfig(low=14, medium=7, high=3, critical=1), recovery_runs=2)
PSI = ("drift.psi", "rooms")
LOOKED = Examined.of(keys=[PSI])


def found(level, key=PSI, value=0.3):
    return Finding(*key, level, value, 0.2, f"{key[0]} {value}")


class Runs:
    """Runs of one target, one after the other."""

    def __init__(self, config=CONFIG):
        self.config, self.alerts, self.told = config, (), []

    def run(self, day, *findings, examined=LOOKED):
        """The run on that day after the start; what it told, as (kind, level)."""
        now = START + dt.timedelta(days=day)
        stepped = step(self.alerts, findings, examined, now, self.config, dataset="homes", target="price")
        self.alerts = stepped.alerts
        self.told += [(day, one.kind, one.level) for one in stepped.notifications]
        return [(one.kind, one.level) for one in stepped.notifications]

    @property
    def alert(self):
        (alert,) = self.alerts
        return alert


@pytest.fixture
def runs():
    return Runs()


def test_a_first_finding_opens_an_alert_and_tells_of_it(runs):
    assert runs.run(0, found(HIGH)) == [(Kind.OPENED, HIGH)]
    alert = runs.alert
    assert (alert.rule, alert.subject, alert.level, alert.value, alert.limit) == ("drift.psi", "rooms", HIGH, 0.3, 0.2)
    assert alert.opened_at == alert.seen_at == alert.notified_at == START
    assert (alert.seen, alert.notifications, alert.is_open) == (1, 1, True)


def test_the_same_finding_is_counted_within_its_cooldown_and_told_again_after_it(runs):
    for day in range(8):
        runs.run(day, found(HIGH))
    assert runs.told == [(0, Kind.OPENED, HIGH), (3, Kind.CONTINUES, HIGH), (6, Kind.CONTINUES, HIGH)]
    assert (runs.alert.seen, runs.alert.opened_at) == (8, START)


@pytest.mark.parametrize(("day", "told"), [(0.95, []), (0.97, [(Kind.CONTINUES, CRITICAL)])])
def test_a_run_that_comes_some_minutes_early_ends_a_cooldown(runs, day, told):
    runs.run(0, found(CRITICAL))
    assert runs.run(day, found(CRITICAL)) == told


def test_a_higher_level_is_told_at_once_and_a_lower_one_is_not(runs):
    assert runs.run(0, found(LOW)) == [(Kind.OPENED, LOW)]
    assert runs.run(1, found(HIGH)) == [(Kind.ESCALATED, HIGH)]
    assert runs.run(2, found(MEDIUM)) == []
    assert runs.run(3, found(HIGH)) == []  # of which was told two days ago
    assert runs.run(3.5, found(CRITICAL)) == [(Kind.ESCALATED, CRITICAL)]
    assert runs.alert.escalated_at == START + dt.timedelta(days=3.5)
    assert runs.alert.level == CRITICAL


def test_the_level_of_an_alert_falls_with_its_finding(runs):
    runs.run(0, found(CRITICAL))
    runs.run(1, found(LOW, value=0.21))
    assert (runs.alert.level, runs.alert.value, runs.alert.notified_level) == (LOW, 0.21, CRITICAL)
    assert runs.run(15, found(LOW)) == [(Kind.CONTINUES, LOW)]


def test_recovery_is_told_once_after_so_many_runs_that_looked_in_vain(runs):
    runs.run(0, found(HIGH))
    assert runs.run(1) == []
    assert runs.alert.is_open
    assert runs.run(2) == [(Kind.RECOVERED, HIGH)]
    assert runs.alert.recovered_at == START + dt.timedelta(days=2)
    assert [runs.run(day) for day in (3, 4, 5)] == [[], [], []]
    assert runs.alert.notifications == 2


def test_a_run_that_did_not_look_is_no_recovery(runs):
    runs.run(0, found(HIGH))
    for day in range(1, 6):
        assert runs.run(day, examined=Examined.of(["drift.ks"], [("drift.psi", "floors")])) == []
    assert (runs.alert.absent_runs, runs.alert.is_open) == (0, True)
    runs.run(6)
    runs.run(7, examined=Examined())
    assert runs.run(8, examined=Examined.of(["drift.psi"])) == [(Kind.RECOVERED, HIGH)]


def test_a_single_run_without_the_finding_is_forgotten_when_it_is_back(runs):
    for day in range(0, 8, 2):
        runs.run(day, found(LOW))
        runs.run(day + 1)
    assert runs.told == [(0, Kind.OPENED, LOW)]
    assert (runs.alert.seen, runs.alert.absent_runs, runs.alert.reopened) == (4, 1, 0)


def test_an_alert_that_is_back_within_its_cooldown_is_the_same_one_and_silent_until_its_end(runs):
    runs.run(0, found(MEDIUM))
    runs.run(1), runs.run(2)
    assert runs.run(3, found(MEDIUM)) == []
    assert (runs.alert.is_open, runs.alert.reopened, runs.alert.seen, runs.alert.opened_at) == (True, 1, 2, START)
    runs.run(4)
    assert runs.run(5) == []  # nobody was told that it is back
    assert runs.run(7, found(MEDIUM)) == [(Kind.REOPENED, MEDIUM)]
    runs.run(8)
    assert runs.run(9) == [(Kind.RECOVERED, MEDIUM)]


def test_an_alert_that_is_back_and_worse_is_told_at_once(runs):
    runs.run(0, found(MEDIUM))
    runs.run(1), runs.run(2)
    assert runs.run(3, found(HIGH)) == [(Kind.ESCALATED, HIGH)]
    assert runs.alert.reopened == 1


def test_an_alert_that_is_back_after_its_cooldown_is_a_new_one(runs):
    runs.run(0, found(HIGH))
    runs.run(1), runs.run(2)
    assert runs.run(5, found(HIGH)) == [(Kind.OPENED, HIGH)]
    old, new = runs.alerts
    assert (old.is_open, new.is_open, new.seen) == (False, True, 1)
    assert old.alert_id != new.alert_id


def test_a_recovery_is_told_at_the_worst_level_that_was_told(runs):
    runs.run(0, found(HIGH))
    assert runs.run(14, found(LOW)) == [(Kind.CONTINUES, LOW)]
    runs.run(15)
    assert runs.run(16) == [(Kind.RECOVERED, HIGH)]


def test_an_alert_that_stays_rises_where_that_is_asked_for():
    runs = Runs(dataclasses.replace(CONFIG, raise_after_days=2))
    for day in range(9):
        runs.run(day, found(LOW))
    assert [one for one in runs.told if one[1] == Kind.ESCALATED] == [
        (2, Kind.ESCALATED, MEDIUM),
        (4, Kind.ESCALATED, HIGH),
        (6, Kind.ESCALATED, CRITICAL),
    ]
    assert runs.alert.level == CRITICAL
    runs.run(9), runs.run(10)
    runs.run(11, found(LOW))
    assert runs.alert.level == LOW


def test_of_findings_of_one_subject_the_worst_counts(runs):
    assert runs.run(0, found(HIGH, value=0.3), found(CRITICAL, value=0.9), found(LOW, value=0.1)) == [
        (Kind.OPENED, CRITICAL)
    ]
    assert runs.alert.value == 0.9


def test_a_run_again_with_a_worse_finding_tells_of_it_and_counts_it_once(runs):
    runs.run(0, found(LOW))
    assert runs.run(0, found(CRITICAL)) == [(Kind.ESCALATED, CRITICAL)]
    assert runs.run(0) == []
    assert (runs.alert.seen, runs.alert.absent_runs, runs.alert.level) == (1, 0, CRITICAL)


def test_a_run_again_without_a_cooldown_tells_nothing_twice():
    runs = Runs(AlertsConfig(cooldown_days=CooldownConfig(low=0, medium=0, high=0, critical=0), recovery_runs=1))
    assert runs.run(0, found(LOW)) == [(Kind.OPENED, LOW)]
    assert runs.run(0, found(LOW)) == []
    assert runs.run(1, found(LOW)) == [(Kind.CONTINUES, LOW)]
    assert runs.run(2) == [(Kind.RECOVERED, LOW)]
    assert runs.run(2) == []


def test_what_is_told_comes_the_worst_first_and_has_an_id_of_its_own(runs):
    keys = [("b", ""), ("a", "y"), ("a", "x"), ("c", "")]
    findings = [found(level, key) for key, level in zip(keys, (LOW, HIGH, HIGH, CRITICAL), strict=True)]
    stepped = step((), findings, Examined(), START, CONFIG, dataset="homes", target="price")
    assert [(one.rule, one.subject) for one in stepped.notifications] == [("c", ""), ("a", "x"), ("a", "y"), ("b", "")]
    other = step((), findings, Examined(), START, CONFIG, dataset="flats", target="price")
    ids = {one.notification_id for one in (*stepped.notifications, *other.notifications)}
    assert len(ids) == 8


def test_time_goes_forward_and_has_a_zone(runs):
    runs.run(1, found(LOW))
    with pytest.raises(ValueError, match="were examined after"):
        runs.run(0, found(LOW))
    with pytest.raises(ValueError, match="no time zone"):
        step((), [], Examined(), dt.datetime(2024, 1, 1), CONFIG, dataset="homes", target="price")


def test_a_finding_has_a_rule():
    with pytest.raises(ValueError, match="needs a rule"):
        Finding("", "rooms", LOW, None, None, "something")
