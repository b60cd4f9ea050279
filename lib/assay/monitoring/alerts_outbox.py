"""Consumes notifications, produces what waits for which sink, in which order, and what has waited for too long.

The outbox holds a notification once per sink from the moment it is raised until it is delivered, over any number of
runs, and for good after that. Nothing here sends.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import hashlib
from collections.abc import Iterable, Iterator, Sequence

from assay.config.alerts import AlertsConfig, WebhookConfig
from assay.monitoring.alerts import DAY, Alert, Notification
from assay.monitoring.findings import Finding, Level
from assay.text_enum import StrEnum

LOG, WEBHOOK = "log", "webhook"  # sinks; the second is also the rule of a finding about it


class Status(StrEnum):
    """Where a delivery stands."""

    PENDING = "pending"
    DELIVERED = "delivered"
    FAILED = "failed_for_good"


@dataclasses.dataclass(frozen=True)
class Delivery:
    """One notification to one sink. Times are the clock's, UTC; see the table `alert_deliveries`."""

    notification: Notification
    sink: str
    status: Status = Status.PENDING
    attempts: int = 0
    last_error: str | None = None
    attempted_at: dt.datetime | None = None
    next_attempt_at: dt.datetime | None = None
    delivered_at: dt.datetime | None = None
    message_id: str | None = None

    @property
    def is_pending(self) -> bool:
        """Whether it is still to be sent."""
        return self.status == Status.PENDING

    def age_days(self, now: dt.datetime) -> float:
        """Days between the run that raised it and the one at `now`."""
        return (now - self.notification.raised_at) / DAY


Batch = tuple[Delivery, ...]  # what is sent as one message


def unqueued(
    alerts: Iterable[Alert], deliveries: Iterable[Delivery], last_run: dt.datetime | None
) -> list[Notification]:
    """Notifications that the run at `last_run` raised and that are in no outbox, as it died in between.

    An alert has at most one notification of a run, and its row is all that this is made of. Older ones are not looked
    for: a sink that is new hears nothing of the past.
    """
    known = {one.notification.notification_id for one in deliveries}
    raised = (Notification.newest(alert) for alert in alerts if alert.notice_at == last_run)
    return [one for one in raised if one is not None and one.notification_id not in known]


def queued(
    deliveries: Sequence[Delivery], notifications: Iterable[Notification], config: AlertsConfig
) -> list[Delivery]:
    """The outbox with notifications added for each sink that is to hear of them and does not have them yet."""
    known = {(one.notification.notification_id, one.sink) for one in deliveries}
    new = [
        Delivery(notification, sink)
        for notification in notifications
        for sink in dict.fromkeys(config.sinks)
        if _hears(sink, notification, config) and (notification.notification_id, sink) not in known
    ]
    return sorted([*deliveries, *new], key=lambda one: (one.notification.order, one.sink))


def _hears(sink: str, notification: Notification, config: AlertsConfig) -> bool:
    """A webhook is not told of itself: it would hear of it when that is over."""
    least = config.webhook.min_level if sink == WEBHOOK else config.log.min_level
    return notification.level >= Level[least] and not (sink == WEBHOOK and notification.rule == WEBHOOK)


def waiting(deliveries: Iterable[Delivery], sink: str) -> list[Delivery]:
    """What a sink is to get, in order."""
    return sorted((d for d in deliveries if d.sink == sink and d.is_pending), key=lambda one: one.notification.order)


def batches(pending: Sequence[Delivery], config: WebhookConfig) -> Iterator[Batch]:
    """Messages that pending deliveries make, in order: one each, or digests where there are many."""
    size = 1 if len(pending) < config.digest_from else config.digest_most
    for start in range(0, len(pending), size):
        yield tuple(pending[start : start + size])


def message_id(batch: Batch) -> str:
    """Idempotency key of a message: of one notification its own, of a digest a hash of all of them."""
    ids = [one.notification.notification_id for one in batch]
    return ids[0] if len(ids) == 1 else hashlib.sha256(",".join(ids).encode()).hexdigest()[:32]


def given_up(deliveries: Iterable[Delivery], now: dt.datetime, config: WebhookConfig) -> list[Delivery]:
    """The outbox in which what a webhook did not take in `give_up_days` is sent no more."""
    return [
        dataclasses.replace(one, status=Status.FAILED)
        if one.sink == WEBHOOK and one.is_pending and one.age_days(now) >= config.give_up_days
        else one
        for one in deliveries
    ]


def dead_webhook(deliveries: Iterable[Delivery], now: dt.datetime, config: AlertsConfig) -> Finding | None:
    """The finding that a webhook is dead: something has waited for `dead_days`, or was given up and nothing got
    through since.
    """
    if WEBHOOK not in config.sinks:
        return None
    of_webhook = [one for one in deliveries if one.sink == WEBHOOK]
    through = max((one.delivered_at for one in of_webhook if one.delivered_at is not None), default=None)
    stuck = [
        one
        for one in of_webhook
        if (one.is_pending and one.age_days(now) >= config.webhook.dead_days)
        or (one.status == Status.FAILED and (through is None or one.attempted_at is None or one.attempted_at > through))
    ]
    if not stuck:
        return None
    oldest = min(stuck, key=lambda one: one.notification.order)
    pending, days = sum(one.is_pending for one in of_webhook), oldest.age_days(now)
    errors = [one.last_error for one in sorted(stuck, key=lambda one: one.notification.order) if one.last_error]
    message = (
        f"the webhook took nothing that was raised {days:.1f} days ago; {pending:,} notifications wait "
        f"({errors[0] if errors else 'none was tried'})"
    )
    return Finding(WEBHOOK, "", Level.HIGH, days, config.webhook.dead_days, message)


def merged(theirs: Iterable[Delivery], ours: Iterable[Delivery]) -> list[Delivery]:
    """The outbox of two runs at once: all of both, each as far as one of them got."""
    found: dict[tuple[str, str], Delivery] = {}
    for one in (*theirs, *ours):
        key = (one.notification.notification_id, one.sink)
        found[key] = max(
            found.get(key, one), one, key=lambda d: (d.status == Status.DELIVERED, not d.is_pending, d.attempts)
        )
    return sorted(found.values(), key=lambda one: (one.notification.order, one.sink))
