"""Consumes the outbox, produces the outbox after sending what waits: to the log, and to a webhook if it takes it."""

from __future__ import annotations

import collections
import dataclasses
import datetime as dt
import logging
import time
from collections.abc import Callable, Iterable, Sequence

from assay.config.alerts import AlertsConfig, WebhookConfig
from assay.monitoring import alerts_text as text
from assay.monitoring.alerts import Kind
from assay.monitoring.alerts_outbox import LOG, WEBHOOK, Delivery, Status, batches, message_id, waiting
from assay.monitoring.findings import Level
from assay.monitoring.webhook import Outcome, Webhook, secret

LOGGER = logging.getLogger("assay.alerts")
_SEVERITY = {Level.HIGH: logging.ERROR, Level.CRITICAL: logging.CRITICAL}  # others warn: nothing below is shown


@dataclasses.dataclass(frozen=True)
class Clock:
    """The time of day, and waiting; tests have their own."""

    now: Callable[[], dt.datetime] = lambda: dt.datetime.now(dt.timezone.utc)
    pause: Callable[[float], None] = time.sleep


def deliver(
    deliveries: Sequence[Delivery], config: AlertsConfig, *, dataset: str, target: str, clock: Clock
) -> list[Delivery]:
    """The outbox after one try at all that waits for the sinks that are configured. It raises nothing.

    In order: what a receiver does not take holds up what is newer, unless it is the message itself that is refused.
    """
    changed: list[Delivery] = []
    if LOG in config.sinks:
        changed += [_logged(one, clock.now()) for one in waiting(deliveries, LOG)]
    if WEBHOOK in config.sinks and (pending := waiting(deliveries, WEBHOOK)):
        changed += _posted(pending, config.webhook, dataset=dataset, target=target, clock=clock)
    return _merged(deliveries, changed)


def _logged(one: Delivery, moment: dt.datetime) -> Delivery:
    told = one.notification
    severity = logging.WARNING if told.kind == Kind.RECOVERED else _SEVERITY.get(told.level, logging.WARNING)
    LOGGER.log(severity, "%s", text.line(told))
    return _after(one, Outcome(True, 1), moment, told.notification_id)


def _posted(
    pending: Sequence[Delivery], config: WebhookConfig, *, dataset: str, target: str, clock: Clock
) -> list[Delivery]:
    """What waits for the webhook, after sending; without what was not tried."""
    moment = clock.now()
    if any(one.next_attempt_at is not None and one.next_attempt_at > moment for one in pending):
        return []
    try:
        address, key = secret(config.url_variable), secret(config.key_variable)
        if address is None:
            raise ValueError(f"neither {config.url_variable} nor {config.url_variable}_FILE is set")
        webhook = Webhook(address, config, now=clock.now, pause=clock.pause)
    except ValueError as error:
        return [_after(one, Outcome(False, 0, str(error)), moment) for one in pending]
    done: list[Delivery] = []
    queue = collections.deque(batches(pending, config))
    while queue:
        batch = queue.popleft()
        told, own = [one.notification for one in batch], message_id(batch)
        content = text.body(told, own, dataset=dataset, target=target)
        outcome = webhook.send(content, text.headers(content, own, key))
        after = [_after(one, outcome, clock.now(), own) for one in batch]
        done += after
        if outcome.refused and len(batch) > 1:  # one of them may be what it does not like, or they are too many
            queue.extendleft((one,) for one in reversed(after))
        elif not outcome.delivered and not outcome.refused:
            break
    return done


def _after(one: Delivery, outcome: Outcome, moment: dt.datetime, own: str | None = None) -> Delivery:
    """A delivery after an attempt. own: id of the message that it was part of."""
    tried = dataclasses.replace(
        one,
        attempts=one.attempts + outcome.attempts,
        attempted_at=moment if outcome.attempts else one.attempted_at,
        last_error=outcome.error or one.last_error,
        next_attempt_at=None,
    )
    if outcome.delivered:
        return dataclasses.replace(tried, status=Status.DELIVERED, delivered_at=moment, message_id=own)
    if outcome.pause_seconds is None:
        return tried
    return dataclasses.replace(tried, next_attempt_at=moment + dt.timedelta(seconds=outcome.pause_seconds))


def _merged(deliveries: Iterable[Delivery], changed: Iterable[Delivery]) -> list[Delivery]:
    """The outbox with what changed; of several changes of one delivery the last."""
    newest = {(one.notification.notification_id, one.sink): one for one in changed}
    return [newest.get((one.notification.notification_id, one.sink), one) for one in deliveries]
