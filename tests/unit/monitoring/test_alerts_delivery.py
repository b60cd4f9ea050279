"""Consumes an outbox and real receivers that come and go, checks that all gets there, in order, and within its time."""

from __future__ import annotations

import dataclasses
import datetime as dt
import itertools
import logging
import time

import pytest
from alert_context import day, notification
from alert_receiver import DROP, HANG, listening
from hypothesis import given, settings
from hypothesis import strategies as st

from assay.config.alerts import AlertsConfig, WebhookConfig
from assay.monitoring.alerts import Kind
from assay.monitoring.alerts_outbox import WEBHOOK, Delivery, Status, given_up, queued
from assay.monitoring.findings import Level
from assay.monitoring.sinks import Clock, deliver

QUICK = WebhookConfig(
    min_level="LOW", timeout_seconds=5.0, attempts=2, backoff_seconds=0.001, budget_seconds=10.0, digest_from=4
)
CONFIG = AlertsConfig(sinks=("webhook",), webhook=QUICK)
NOON = dt.datetime(2030, 1, 1, 12, tzinfo=dt.timezone.utc)


@pytest.fixture
def receiver(monkeypatch):
    monkeypatch.delenv("ASSAY_WEBHOOK_KEY", raising=False)
    with listening() as one:
        monkeypatch.setenv("ASSAY_WEBHOOK_URL", one.address)
        yield one


def waiting_for_webhook(count, start=0):
    return queued([], [notification(number) for number in range(start, start + count)], CONFIG)


def sent(outbox, config=CONFIG, now=NOON):
    return deliver(outbox, config, dataset="homes", target="price", clock=Clock(now=lambda: now))


def statuses(outbox):
    return [one.status for one in outbox]


def test_what_waits_is_sent_one_by_one_and_in_order(receiver):
    after = sent(waiting_for_webhook(3))
    assert statuses(after) == [Status.DELIVERED] * 3
    assert [post.ids for post in receiver.posts] == [["id-000"], ["id-001"], ["id-002"]]
    assert [post.headers["Idempotency-Key"] for post in receiver.posts] == ["id-000", "id-001", "id-002"]
    assert [(one.attempts, one.delivered_at, one.message_id, one.last_error) for one in after] == [
        (1, NOON, f"id-{number:03d}", None) for number in range(3)
    ]
    assert sent(after) == after
    assert len(receiver.posts) == 3


def test_many_that_wait_make_one_message_with_each_of_them(receiver):
    after = sent(waiting_for_webhook(9))
    assert statuses(after) == [Status.DELIVERED] * 9
    (post,) = receiver.posts
    assert post.ids == [f"id-{number:03d}" for number in range(9)]
    assert {one.message_id for one in after} == {post.tree["id"]} == {post.headers["Idempotency-Key"]}


@pytest.mark.parametrize("failure", [500, 404, 401, DROP, "closed"])
def test_what_is_not_taken_holds_up_what_is_newer_and_all_gets_there_later(receiver, failure):
    receiver.close() if failure == "closed" else receiver.says(failure)
    after = sent(waiting_for_webhook(3))
    assert statuses(after) == [Status.PENDING] * 3
    assert [one.attempts for one in after] == [1 if failure in (404, 401) else 2, 0, 0]
    assert after[0].last_error
    if failure == "closed":
        receiver.open()
    receiver.says(200)
    again = queued(after, [notification(3), notification(4)], CONFIG)
    done = sent(again)
    assert statuses(done) == [Status.DELIVERED] * 5
    assert receiver.ids == [f"id-{number:03d}" for number in range(5)]


def test_a_message_that_is_refused_itself_holds_up_no_other(receiver):
    receiver.answer = lambda post, _: 400 if "id-001" in post.ids else 200
    after = sent(waiting_for_webhook(6))
    assert [one.notification.notification_id for one in after if one.is_pending] == ["id-001"]
    assert receiver.ids == ["id-000", "id-002", "id-003", "id-004", "id-005"]
    assert (after[1].attempts, after[1].last_error) == (2, "HTTP 400")  # in the digest, and alone
    assert given_up(after, day(31), QUICK)[1].status == Status.FAILED


def test_a_digest_that_is_too_large_is_sent_one_by_one(receiver):
    receiver.answer = lambda post, _: 413 if len(post.ids) > 1 else 200
    assert statuses(sent(waiting_for_webhook(5))) == [Status.DELIVERED] * 5
    assert receiver.ids == [f"id-{number:03d}" for number in range(5)]


def test_a_receiver_that_asks_to_be_left_alone_is_until_then(receiver):
    receiver.says((429, {"Retry-After": "600"}))
    after = sent(waiting_for_webhook(2))
    assert [one.next_attempt_at for one in after] == [NOON + dt.timedelta(minutes=10), None]
    receiver.says(200)
    assert sent(after, now=NOON + dt.timedelta(minutes=9)) == after
    assert len(receiver.posts) == 1
    done = sent(after, now=NOON + dt.timedelta(minutes=10))
    assert statuses(done) == [Status.DELIVERED] * 2
    assert [one.next_attempt_at for one in done] == [None, None]


def test_a_receiver_that_hangs_costs_a_run_its_budget_and_no_more(receiver):
    receiver.says(HANG)
    config = dataclasses.replace(CONFIG, webhook=dataclasses.replace(QUICK, budget_seconds=0.3))
    started = time.monotonic()
    after = sent(waiting_for_webhook(3), config)
    assert time.monotonic() - started < 3.0
    assert statuses(after) == [Status.PENDING] * 3
    assert after[0].last_error.startswith("no answer within")


def test_a_slow_receiver_gets_as_much_as_the_budget_allows(receiver):
    def slow(post, number):
        time.sleep(0.2)
        return 200

    receiver.answer = slow
    webhook = dataclasses.replace(QUICK, budget_seconds=1.2, digest_from=100)
    started = time.monotonic()
    after = sent(waiting_for_webhook(30), dataclasses.replace(CONFIG, webhook=webhook))
    assert time.monotonic() - started < 4.0  # and not 30 times 0.2 s
    done = [one.status == Status.DELIVERED for one in after]
    assert 1 <= sum(done) < 30
    assert done == sorted(done, reverse=True)


@pytest.mark.parametrize("address", [None, "", "not an address", "ftp://x/y"])
def test_without_a_usable_address_all_waits_and_it_is_told_why(monkeypatch, address):
    monkeypatch.delenv("ASSAY_WEBHOOK_URL", raising=False)
    if address is not None:
        monkeypatch.setenv("ASSAY_WEBHOOK_URL", address)
    after = sent(waiting_for_webhook(2))
    assert statuses(after) == [Status.PENDING] * 2
    assert [(one.attempts, one.attempted_at) for one in after] == [(0, None)] * 2
    assert all("ASSAY_WEBHOOK_URL" in one.last_error for one in after)


def test_a_key_that_cannot_be_read_lets_nothing_go_unsigned(receiver, monkeypatch, tmp_path):
    monkeypatch.setenv("ASSAY_WEBHOOK_KEY_FILE", str(tmp_path / "none"))
    (after,) = sent(waiting_for_webhook(1))
    assert after.last_error == "the file that ASSAY_WEBHOOK_KEY_FILE names cannot be read (FileNotFoundError)"
    assert receiver.posts == []


def test_the_log_gets_a_line_for_each_at_a_severity_of_its_level(caplog):
    config = AlertsConfig(sinks=("log",))
    told = [notification(number, level) for number, level in enumerate(Level)]
    told.append(notification(9, Level.CRITICAL, kind=Kind.RECOVERED))
    after = sent(queued([], told, config), config)
    assert statuses(after) == [Status.DELIVERED] * 5
    assert [record.levelno for record in caplog.records] == [
        logging.WARNING,
        logging.WARNING,
        logging.ERROR,
        logging.CRITICAL,
        logging.WARNING,
    ]
    assert {record.name for record in caplog.records} == {"assay.alerts"}
    assert caplog.records[2].getMessage() == "HIGH opened: drift.psi of column 2 (price, 2024-01-03): PSI 0.3 > 0.2"
    caplog.clear()
    assert sent(after, config) == after
    assert caplog.records == []


def test_a_sink_that_is_taken_away_keeps_what_waited_for_it(receiver):
    outbox = waiting_for_webhook(1)
    assert sent(outbox, AlertsConfig(sinks=("log",))) == outbox
    assert receiver.posts == []


# What a receiver may do with a message: take it, fail, close, or take it and then drop the connection.
DAYS = st.lists(st.tuples(st.integers(0, 3), st.sampled_from([200, 500, 404, 400, DROP, "taken"])), max_size=12)


@settings(max_examples=40)
@given(DAYS)
def test_whatever_a_receiver_does_for_days_nothing_is_lost_and_the_order_stays(days):
    with listening() as receiver, pytest.MonkeyPatch.context() as patch:
        patch.setenv("ASSAY_WEBHOOK_URL", receiver.address)
        patch.delenv("ASSAY_WEBHOOK_KEY", raising=False)

        def answered(behaviour):
            def answer(post, number):
                if behaviour == "taken":
                    receiver.taken.append(post)
                    return DROP
                return behaviour

            return answer

        outbox: list[Delivery] = []
        numbers = itertools.count()
        for new, behaviour in [*days, (1, 200)]:
            outbox = queued(outbox, [notification(next(numbers)) for _ in range(new)], CONFIG)
            receiver.answer = answered(behaviour)
            outbox = sent(outbox)
        assert statuses(outbox) == [Status.DELIVERED] * len(outbox)
        assert receiver.ids == [one.notification.notification_id for one in outbox if one.sink == WEBHOOK]
