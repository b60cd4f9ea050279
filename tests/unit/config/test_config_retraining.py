"""Consumes settings of `retraining`, checks the promised defaults and what is refused."""

import pytest

from assay.config import ProfileConfig
from assay.errors import ConfigError


def test_what_retraining_promises_without_a_word_about_it():
    found = ProfileConfig().retraining
    assert (found.performance, found.drift, found.coverage, found.schedule_days) == (0.10, 0.25, 0.05, 0)
    assert (found.at_least, found.of_last, found.cooldown_days) == (2, 3, 7)
    assert (found.concurrency, found.lease_minutes, found.retries) == (5, 30, 2)
    assert (found.prune_at_least, found.prune_of_last, found.prune_days) == (3, 4, 7)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["retraining.at_least=4"], "retraining.at_least 4 is above retraining.of_last 3"),
        (["retraining.prune_of_last=2"], "retraining.prune_at_least 3 is above retraining.prune_of_last 2"),
        (["retraining.concurrency=0"], "retraining.concurrency"),
        (["retraining.lease_minutes=0"], "retraining.lease_minutes"),
        (["retraining.backoff_factor=0.5"], "retraining.backoff_factor"),
        (["retraining.scheduled_days=30"], "did you mean retraining.schedule_days?"),
    ],
)
def test_what_is_refused_and_the_setting_that_is_named(tree, load, overrides, message):
    with pytest.raises(ConfigError) as caught:
        load(tree, *overrides)
    assert message in str(caught.value)


def test_settings_of_retraining_train_nothing_anew(tree, load):
    one, other = load(tree), load(tree, "retraining.schedule_days=30")
    assert other.profile.retraining.schedule_days == 30
    assert one.hash_of("dataset", "training", "monitoring") == other.hash_of("dataset", "training", "monitoring")
