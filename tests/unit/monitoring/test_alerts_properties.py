"""Consumes invented runs of every kind, checks what holds of alerts whatever monitoring finds and when."""

from __future__ import annotations

import dataclasses
import datetime as dt
import itertools
import math
from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from assay.config.alerts import AlertsConfig, CooldownConfig
from assay.monitoring.alerts import EARLY, Kind, Notification, step
from assay.monitoring.findings import Examined, Finding, Level

START = dt.datetime(2024, 1, 1, tzinfo=dt.timezone.utc)
DAY = dt.timedelta(days=1)
KEYS = [("drift.psi", "rooms"), ("drift.psi", ""), ("health", "")]
SKIPPED, ABSENT = "skipped", "absent"  # not looked for, and looked for in vain; else a level

configs = st.builds(
    AlertsConfig,
    cooldown_days=st.builds(
        CooldownConfig, **dict.fromkeys(("low", "medium", "high", "critical"), st.sampled_from([0, 1, 2.5, 7]))
    ),
    recovery_runs=st.integers(1, 3),
    raise_after_days=st.sampled_from([None, None, 2.0]),
)
steady = configs.map(lambda config: dataclasses.replace(config, raise_after_days=None))
states = st.sampled_from([SKIPPED, ABSENT, ABSENT, *Level])
runs = st.lists(
    st.tuples(st.sampled_from([1, 12, 23, 24, 25, 60]), st.tuples(*[states] * len(KEYS))), min_size=1, max_size=25
)


def told_of(key, state):
    return Finding(*key, state, 1.0, 0.5, "told")


def moments(plan):
    """(time, states of the keys) of each run."""
    hours = itertools.accumulate(gap for gap, _ in plan)
    return [(START + dt.timedelta(hours=hour), states) for hour, (_, states) in zip(hours, plan, strict=True)]


def one_step(alerts, now, state, config):
    findings = [told_of(key, one) for key, one in zip(KEYS, state, strict=True) if isinstance(one, Level)]
    looked = Examined.of(keys=[key for key, one in zip(KEYS, state, strict=True) if one != SKIPPED])
    return step(alerts, findings, looked, now, config, dataset="homes", target="price")


def played(plan, config):
    """Yield (time, states, alerts before, what the run made of them)."""
    alerts = ()
    for now, state in moments(plan):
        stepped = one_step(alerts, now, state, config)
        yield now, state, alerts, stepped
        alerts = stepped.alerts


def words(plan, config, key):
    """All that is told of a key."""
    return [
        one for *_, stepped in played(plan, config) for one in stepped.notifications if (one.rule, one.subject) == key
    ]


def cooldown(config, level):
    return getattr(config.cooldown_days, level.name.lower()) * DAY * (1 - EARLY)


@given(runs, configs)
def test_a_run_again_changes_nothing_and_tells_nothing(plan, config):
    for now, state, _, stepped in played(plan, config):
        again = one_step(stepped.alerts, now, state, config)
        assert again.alerts == stepped.alerts
        assert again.notifications == ()


@given(runs, configs, st.randoms(use_true_random=False))
def test_the_order_of_findings_and_alerts_does_not_matter(plan, config, random):
    for now, state, before, stepped in played(plan, config):
        findings = [told_of(key, one) for key, one in zip(KEYS, state, strict=True) if isinstance(one, Level)]
        findings += [dataclasses.replace(one, level=Level.LOW, message="less") for one in findings]
        shuffled, mixed = list(before), list(findings)
        random.shuffle(shuffled), random.shuffle(mixed)
        looked = Examined.of(keys=[key for key, one in zip(KEYS, state, strict=True) if one != SKIPPED])
        assert step(shuffled, mixed, looked, now, config, dataset="homes", target="price") == stepped


@given(runs, steady)
def test_no_finding_is_lost_each_was_told_at_its_level_within_its_cooldown(plan, config):
    told = {key: [] for key in KEYS}
    for now, state, _, stepped in played(plan, config):
        for one in stepped.notifications:
            told[one.rule, one.subject].append(one)
        for key, level in zip(KEYS, state, strict=True):
            if isinstance(level, Level):
                heard = [one for one in told[key] if one.kind != Kind.RECOVERED and one.level >= level]
                assert heard
                newest = heard[-1].raised_at
                assert newest == now or now - newest < cooldown(config, level)


@given(runs, configs)
def test_a_word_comes_for_a_higher_level_or_after_a_cooldown_alone(plan, config):
    for key in KEYS:
        there = [one for one in words(plan, config, key) if one.kind != Kind.RECOVERED]
        for earlier, later in itertools.pairwise(there):
            quiet = later.raised_at - earlier.raised_at
            assert later.level > earlier.level or quiet >= cooldown(config, later.level)


@given(runs, steady, st.sampled_from(list(Level)))
def test_at_one_level_words_are_bounded_by_the_cooldown_however_the_alert_comes_and_goes(plan, config, level):
    same = [(gap, tuple(level if isinstance(one, Level) else one for one in state)) for gap, state in plan]
    span = sum(gap for gap, _ in same) * dt.timedelta(hours=1)
    quiet = cooldown(config, level)
    for key in KEYS:
        kinds = Counter(one.kind for one in words(same, config, key))
        there = sum(count for kind, count in kinds.items() if kind != Kind.RECOVERED)
        assert there <= (1 + math.floor(span / quiet) if quiet else len(plan))
        assert kinds[Kind.ESCALATED] == 0


@given(runs, configs)
def test_each_recovery_follows_a_word_that_the_alert_is_there(plan, config):
    for key in KEYS:
        recovered = [one.kind == Kind.RECOVERED for one in words(plan, config, key)]
        assert not any(a and b for a, b in itertools.pairwise([True, *recovered]))


@given(runs, configs)
def test_an_alert_is_open_until_it_was_looked_for_in_vain_so_often_in_a_row(plan, config):
    is_open, misses = dict.fromkeys(KEYS, False), dict.fromkeys(KEYS, 0)
    for _, state, _, stepped in played(plan, config):
        for key, one in zip(KEYS, state, strict=True):
            if isinstance(one, Level):
                is_open[key], misses[key] = True, 0
            elif one == ABSENT and is_open[key]:
                misses[key] += 1
                is_open[key] = misses[key] < config.recovery_runs
        assert {one.key for one in stepped.alerts if one.is_open} == {key for key in KEYS if is_open[key]}
        assert max(Counter(one.key for one in stepped.alerts if one.is_open).values(), default=0) <= 1


@given(runs, configs)
def test_escalation_goes_up_only_and_a_level_is_never_below_its_finding(plan, config):
    for key in KEYS:
        of_key = [one for one in words(plan, config, key) if one.kind != Kind.RECOVERED]
        for earlier, later in itertools.pairwise(of_key):
            assert later.kind != Kind.ESCALATED or later.level > earlier.level
    for now, state, _, stepped in played(plan, config):
        seen = {one.key: one for one in stepped.alerts if one.is_open and one.seen_at == now}
        for key, level in zip(KEYS, state, strict=True):
            assert not isinstance(level, Level) or level <= seen[key].level <= Level.CRITICAL


@given(st.lists(st.sampled_from([1, 12, 24, 60]), min_size=2, max_size=20), st.sampled_from(list(Level)), configs)
def test_the_level_of_a_finding_that_stays_never_falls(gaps, level, config):
    plan = [(gap, (level, ABSENT, ABSENT)) for gap in gaps]
    levels = [stepped.alerts[0].level for *_, stepped in played(plan, config)]
    assert levels == sorted(levels)


@given(runs, configs)
def test_alerts_that_nobody_looked_for_and_those_of_the_past_stay_as_they_are(plan, config):
    for _, state, before, stepped in played(plan, config):
        after = {one.alert_id: one for one in stepped.alerts}
        skipped = {key for key, one in zip(KEYS, state, strict=True) if one == SKIPPED}
        newest = {one.key: one.alert_id for one in before}
        for one in before:
            if one.key in skipped or newest[one.key] != one.alert_id:
                assert after[one.alert_id] == one
        assert len(after) >= len(before)


@given(runs, configs)
def test_what_a_run_told_can_be_made_again_from_its_alerts(plan, config):
    for now, *_, stepped in played(plan, config):
        made = {Notification.newest(one) for one in stepped.alerts if one.notice_at == now}
        assert made == set(stepped.notifications)
        assert len({one.notification_id for one in made}) == len(made)


@given(runs, configs)
def test_no_two_notifications_have_the_same_id(plan, config):
    ids = [one.notification_id for *_, stepped in played(plan, config) for one in stepped.notifications]
    assert len(set(ids)) == len(ids)
