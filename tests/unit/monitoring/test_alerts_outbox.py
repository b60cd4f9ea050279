"""Consumes notifications, checks what waits for which sink, what a digest has, and when a webhook counts as dead."""

from __future__ import annotations

import dataclasses

import pytest
from alert_context import day, found, notification
from hypothesis import given
from hypothesis import strategies as st

from assay.config.alerts import AlertsConfig, LogConfig, WebhookConfig
from assay.monitoring.alerts import Kind, step
from assay.monitoring.alerts_outbox import (
    LOG,
    WEBHOOK,
    Delivery,
    Status,
    batches,
    dead_webhook,
    given_up,
    merged,
    message_id,
    queued,
    unqueued,
    waiting,
)
from assay.monitoring.findings import Examined, Level

BOTH = AlertsConfig(
    sinks=("log", "webhook"), webhook=WebhookConfig(min_level="HIGH"), log=LogConfig(min_level="MEDIUM")
)


def of_webhook(number, **changes):
    return Delivery(notification(number), WEBHOOK, **changes)


def test_each_sink_gets_what_is_bad_enough_for_it_once():
    told = [notification(n, level) for n, level in enumerate(Level)]
    outbox = queued([], told, BOTH)
    assert [(one.notification.level.name, one.sink) for one in outbox] == [
        ("MEDIUM", LOG),
        ("HIGH", LOG),
        ("HIGH", WEBHOOK),
        ("CRITICAL", LOG),
        ("CRITICAL", WEBHOOK),
    ]
    assert all(one.is_pending for one in outbox)
    done = [dataclasses.replace(one, status=Status.DELIVERED) for one in outbox]
    assert queued(done, told, BOTH) == done
    assert queued([], told, AlertsConfig(sinks=())) == []


def test_a_webhook_does_not_hear_of_itself():
    outbox = queued([], [notification(0, Level.CRITICAL, rule=WEBHOOK)], BOTH)
    assert [one.sink for one in outbox] == [LOG]


def test_what_waits_comes_the_oldest_first_and_of_one_run_the_worst_first():
    told = [
        notification(3, Level.CRITICAL),
        notification(1, Level.HIGH, raised_at=day(2), rule="b"),
        notification(2, Level.HIGH, rule="a"),
        notification(4, Level.CRITICAL, raised_at=day(2)),
    ]
    outbox = queued([], told, BOTH)
    assert [one.notification.notification_id for one in waiting(outbox, WEBHOOK)] == [
        "id-004",
        "id-002",
        "id-001",
        "id-003",
    ]


@given(st.integers(0, 40), st.integers(2, 6), st.integers(2, 9))
def test_messages_have_everything_that_waits_once_and_in_order(count, digest_from, most):
    pending = [of_webhook(number) for number in range(count)]
    made = list(batches(pending, WebhookConfig(digest_from=digest_from, digest_most=most)))
    assert [one for batch in made for one in batch] == pending
    assert max(map(len, made), default=0) <= (most if count >= digest_from else 1)
    assert len(made) == (-(-count // most) if count >= digest_from else count)


def test_a_message_of_the_same_notifications_has_the_same_key():
    one, two, three = (of_webhook(number) for number in range(3))
    assert message_id((one,)) == "id-000"
    keys = {message_id(batch) for batch in ((one, two), (one, two, three), (two, one), (one,))}
    assert len(keys) == 4
    assert message_id((one, two)) == message_id((dataclasses.replace(one, attempts=3), two))


def test_what_a_run_decided_and_did_not_queue_before_it_died_is_found_again():
    config = AlertsConfig(sinks=("log",))
    findings = [found(Level.HIGH), found(Level.LOW, "health", "")]
    stepped = step((), findings, Examined(), day(0), config, dataset="homes", target="price")
    assert unqueued(stepped.alerts, [], day(0)) == list(stepped.notifications)
    outbox = queued([], stepped.notifications[:1], config)
    assert unqueued(stepped.alerts, outbox, day(0)) == list(stepped.notifications[1:])
    assert unqueued(stepped.alerts, [], day(1)) == []  # a sink that is new hears nothing of the past
    assert unqueued(stepped.alerts, [], None) == []


def test_what_waited_too_long_is_given_up_for_good():
    outbox = [of_webhook(0), of_webhook(1), of_webhook(0, status=Status.DELIVERED), Delivery(notification(0), LOG)]
    after = given_up(outbox, day(30.5), WebhookConfig(give_up_days=30))
    assert [one.status for one in after] == [Status.FAILED, Status.PENDING, Status.DELIVERED, Status.PENDING]


class TestDeadWebhook:
    def test_it_is_one_once_something_has_waited_so_long(self):
        outbox = [of_webhook(0, last_error="HTTP 503"), of_webhook(1)]
        assert dead_webhook(outbox, day(1.9), BOTH) is None
        finding = dead_webhook(outbox, day(5), BOTH)
        assert (finding.rule, finding.subject, finding.level) == ("webhook", "", Level.HIGH)
        assert (finding.value, finding.limit) == (5.0, 2.0)
        assert finding.message == (
            "the webhook took nothing that was raised 5.0 days ago; 2 notifications wait (HTTP 503)"
        )

    def test_it_is_alive_when_all_was_taken_and_nobody_asks_where_it_is_no_sink(self):
        assert dead_webhook([of_webhook(0, status=Status.DELIVERED, delivered_at=day(9))], day(9), BOTH) is None
        assert dead_webhook([Delivery(notification(0), LOG)], day(9), BOTH) is None
        assert dead_webhook([of_webhook(0)], day(9), AlertsConfig(sinks=("log",))) is None

    @pytest.mark.parametrize(("taken_at", "dead"), [(None, True), (day(30), True), (day(41), False)])
    def test_what_was_given_up_counts_until_something_gets_through(self, taken_at, dead):
        outbox = [of_webhook(0, status=Status.FAILED, attempted_at=day(40))]
        if taken_at is not None:
            outbox.append(of_webhook(1, status=Status.DELIVERED, delivered_at=taken_at))
        assert (dead_webhook(outbox, day(45), BOTH) is not None) == dead


def test_the_outbox_of_two_runs_at_once_has_what_both_did():
    sent = of_webhook(0, status=Status.DELIVERED, attempts=1, delivered_at=day(0))
    theirs = [sent, of_webhook(1, attempts=1), of_webhook(2)]
    ours = [of_webhook(0, attempts=2), of_webhook(1, attempts=3), of_webhook(3)]
    assert (
        merged(theirs, ours) == merged(ours, theirs) == [sent, of_webhook(1, attempts=3), of_webhook(2), of_webhook(3)]
    )
    assert merged(theirs, theirs) == theirs


def test_a_recovery_goes_to_whom_the_alert_was_told():
    config = AlertsConfig(sinks=("webhook",), recovery_runs=1, webhook=WebhookConfig(min_level="HIGH"))
    alerts = ()
    heard = []
    for number, findings in enumerate([[found(Level.LOW)], [found(Level.HIGH)], [found(Level.LOW)], []]):
        stepped = step(alerts, findings, Examined.of(["drift.psi"]), day(number), config, dataset="h", target="p")
        alerts = stepped.alerts
        heard += [one.notification.kind for one in queued([], stepped.notifications, config)]
    assert heard == [Kind.ESCALATED, Kind.RECOVERED]
