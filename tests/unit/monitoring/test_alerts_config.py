"""Consumes settings of alerts, checks their defaults and the one line that a wrong one gets."""

from __future__ import annotations

import dataclasses

import pytest
from alert_context import DATASET

from assay.config import ProfileConfig, load_run
from assay.errors import ConfigError


def alerts(tmp_path, *overrides):
    return load_run(dataset=DATASET, workspace=tmp_path, overrides=overrides).profile.alerts


def test_without_a_word_the_log_is_told_and_worse_alerts_are_told_again_sooner():
    found = ProfileConfig().alerts
    assert found.sinks == ("log",)
    days = list(dataclasses.asdict(found.cooldown_days).values())
    assert days == sorted(days, reverse=True)
    assert found.raise_after_days is None


def test_settings_are_set_one_by_one(tmp_path):
    found = alerts(
        tmp_path, "alerts.sinks=[webhook]", "alerts.cooldown_days.high=5", "alerts.webhook.min_level=CRITICAL"
    )
    assert (found.sinks, found.cooldown_days.high, found.cooldown_days.low) == (("webhook",), 5, 14)
    assert found.webhook.min_level == "CRITICAL"


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("alerts.sinks=[log, pager]", "alerts.sinks"),
        ("alerts.sinks=[log, log]", "alerts.sinks"),
        ("alerts.cooldown_days.urgent=1", "unknown key"),
        ("alerts.cooldown_days.high=-1", "alerts.cooldown_days.high"),
        ("alerts.recovery_runs=0", "alerts.recovery_runs"),
        ("alerts.webhook.min_level=high", "alerts.webhook.min_level"),
        ("alerts.webhook.url_variable=https://hooks/x", "alerts.webhook.url_variable"),
        ("alerts.webhook.budget_seconds=0", "alerts.webhook.budget_seconds"),
        ("alerts.webhook.url=https://hooks/x", "unknown key"),
    ],
)
def test_a_wrong_setting_is_refused_by_its_name(tmp_path, override, message):
    with pytest.raises(ConfigError, match=message.replace(".", r"\.")):
        alerts(tmp_path, override)
