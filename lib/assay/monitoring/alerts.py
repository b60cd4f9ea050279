"""Consumes the alerts so far and the findings of one run, produces the alerts after it and what is to be told of them.

A pure function of its arguments. Repeated with the same ones on its own result, it changes nothing and tells nothing:
a run that died, or is run again, tells nobody twice. Per alert, with a cooldown of `c` days at its level:

- It opens at its first finding, and that is told.
- The same finding within `c` of the last word is counted, not told; after `c` it is told again.
- A level above the last one told is told at once.
- Looked for in vain `recovery_runs` times in a row, it has recovered, which is told if its opening was.
- Found again within `c` of that, it is the same alert, open again, and told no sooner than if it had stayed; later than
  that, it is a new one.

So of a rule and a subject that stay at a level, a word comes once in `c` days at most, and after each word a recovery
at most, however the alert comes and goes.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import hashlib
from collections.abc import Iterable, Sequence

from assay.config import canonical_json
from assay.config.alerts import AlertsConfig
from assay.monitoring.findings import Examined, Finding, Key, Level
from assay.text_enum import StrEnum

EARLY = 1 / 24  # of a cooldown: how early a run may come that is meant for its end
DAY = dt.timedelta(days=1)


class Kind(StrEnum):
    """Why a notification is sent."""

    OPENED = "opened"
    ESCALATED = "escalated"
    CONTINUES = "continues"
    REOPENED = "reopened"
    RECOVERED = "recovered"


@dataclasses.dataclass(frozen=True)
class Alert:
    """One alert of a target, from its opening to its recovery. Times are as-of times of runs, UTC.

    level, value, limit, message: of its newest finding; the level with what it rose by staying.
    open_since: its opening, or the last time that it opened again.  seen_at: its newest finding.
    examined_at: when it was last looked for.  seen: runs that found it.  absent_runs: in a row, that did not.
    reopened: times that it came back.  escalated_at: when a higher level than before was last told.
    notified_at, notified_level: the last word that it is there.  told_level: the worst one told since `open_since`.
    notice, notice_at: the newest notification of any kind.  notifications: how many there were.
    """

    alert_id: str
    target: str
    rule: str
    subject: str
    level: Level
    value: float | None
    limit: float | None
    message: str
    opened_at: dt.datetime
    open_since: dt.datetime
    seen_at: dt.datetime
    examined_at: dt.datetime
    seen: int = 0
    absent_runs: int = 0
    reopened: int = 0
    escalated_at: dt.datetime | None = None
    recovered_at: dt.datetime | None = None
    notified_at: dt.datetime | None = None
    notified_level: Level | None = None
    told_level: Level | None = None
    notice: Kind | None = None
    notice_at: dt.datetime | None = None
    notifications: int = 0

    @property
    def key(self) -> Key:
        """Rule and subject."""
        return self.rule, self.subject

    @property
    def is_open(self) -> bool:
        """Whether it has not recovered."""
        return self.recovered_at is None


@dataclasses.dataclass(frozen=True)
class Notification:
    """What is told of an alert once. level: of a recovery the worst one told since the alert opened.

    raised_at: as-of time of the run.  seen: runs that had found the alert by then.
    """

    notification_id: str
    alert_id: str
    target: str
    kind: Kind
    rule: str
    subject: str
    level: Level
    value: float | None
    limit: float | None
    message: str
    opened_at: dt.datetime
    raised_at: dt.datetime
    seen: int

    @classmethod
    def newest(cls, alert: Alert) -> Notification | None:
        """The newest notification of an alert, as the run that raised it made it; None where none was made yet.

        Its id is a hash of what happened, so that it is the same one however often it is made.
        """
        if alert.notice is None or alert.notice_at is None:
            return None
        level = (alert.told_level or alert.level) if alert.notice == Kind.RECOVERED else alert.level
        return cls(
            notification_id=_hash([alert.alert_id, alert.notice, level.name, alert.notice_at.isoformat()], 32),
            alert_id=alert.alert_id,
            target=alert.target,
            kind=alert.notice,
            rule=alert.rule,
            subject=alert.subject,
            level=level,
            value=alert.value,
            limit=alert.limit,
            message=alert.message,
            opened_at=alert.opened_at,
            raised_at=alert.notice_at,
            seen=alert.seen,
        )

    @property
    def order(self) -> tuple[dt.datetime, int, str, str, str]:
        """Oldest first, and of one run the worst first."""
        return self.raised_at, -self.level, self.rule, self.subject, self.notification_id


@dataclasses.dataclass(frozen=True)
class Stepped:
    """Alerts after a run, the oldest first, and what is to be told, the worst first."""

    alerts: tuple[Alert, ...]
    notifications: tuple[Notification, ...]


def step(
    alerts: Sequence[Alert],
    findings: Iterable[Finding],
    examined: Examined,
    now: dt.datetime,
    config: AlertsConfig,
    *,
    dataset: str,
    target: str,
) -> Stepped:
    """Alerts of a target after a run at `now`. The order of alerts and findings does not matter.

    Of findings with the same rule and subject the worst counts; what is found counts as examined.

    Raises:
        ValueError: `now` has no zone, or an alert was examined later than that: time goes forward only.
    """
    if now.tzinfo is None:
        raise ValueError(f"alerts: {now} has no time zone")
    if later := [alert for alert in alerts if alert.examined_at > now]:
        raise ValueError(f"alerts: {len(later)} were examined after {now}, such as {later[0].key}")
    newest: dict[Key, Alert] = {}
    for alert in sorted(alerts, key=_age):
        newest[alert.key] = alert
    after, rules = {alert.alert_id: alert for alert in alerts}, Rules(config)
    told = []
    found = _worst(findings)
    for key in newest.keys() | found.keys():
        before = newest.get(key)
        if key in found:
            alert = _found(before, found[key], now, rules, dataset=dataset, target=target)
        elif before is not None and key in examined:
            alert = _absent(before, now, rules)
        else:
            continue
        after[alert.alert_id] = alert
        same = before is not None and before.alert_id == alert.alert_id
        if alert.notifications > (before.notifications if before is not None and same else 0):
            told.append(Notification.newest(alert))
    stepped = tuple(sorted(after.values(), key=_age))
    return Stepped(stepped, tuple(sorted((one for one in told if one is not None), key=lambda one: one.order)))


@dataclasses.dataclass(frozen=True)
class Rules:
    """The settings, as questions."""

    config: AlertsConfig

    def cooldown(self, level: Level) -> dt.timedelta:
        """How long an alert of this level is quiet after a word."""
        return float(getattr(self.config.cooldown_days, level.name.lower())) * DAY

    def is_over(self, since: dt.datetime, level: Level, now: dt.datetime) -> bool:
        """Whether the cooldown that began with an earlier run is over. Within one run it never is."""
        return since < now and now - since >= self.cooldown(level) * (1 - EARLY)

    def raised(self, level: Level, stayed: dt.timedelta) -> Level:
        """The level of an alert that has stayed so long."""
        days = self.config.raise_after_days
        return level if days is None else Level(min(Level.CRITICAL, level + int(stayed / (days * DAY))))


def _found(
    before: Alert | None, finding: Finding, now: dt.datetime, rules: Rules, *, dataset: str, target: str
) -> Alert:
    alert = before
    if alert is not None and alert.recovered_at is not None:
        if rules.is_over(alert.recovered_at, finding.level, now):
            alert = None
        else:
            back = alert.reopened + 1
            alert = dataclasses.replace(alert, recovered_at=None, open_since=now, told_level=None, reopened=back)
    if alert is None:
        alert = _new(finding, now, dataset=dataset, target=target)
    counted = alert.seen + (alert.seen_at < now or alert.seen == 0)
    alert = dataclasses.replace(
        alert,
        level=rules.raised(finding.level, now - alert.open_since),
        value=finding.value,
        limit=finding.limit,
        message=finding.message,
        seen=counted,
        seen_at=now,
        examined_at=now,
        absent_runs=0,
    )
    kind = _reason(alert, now, rules)
    return alert if kind is None else _told(alert, kind, now)


def _new(finding: Finding, now: dt.datetime, *, dataset: str, target: str) -> Alert:
    return Alert(
        alert_id=_hash([dataset, target, finding.rule, finding.subject, now.isoformat()], 16),
        target=target,
        rule=finding.rule,
        subject=finding.subject,
        level=finding.level,
        value=finding.value,
        limit=finding.limit,
        message=finding.message,
        opened_at=now,
        open_since=now,
        seen_at=now,
        examined_at=now,
    )


def _reason(alert: Alert, now: dt.datetime, rules: Rules) -> Kind | None:
    """Why an alert that was found is told of now; None where it is not."""
    if alert.notified_at is None or alert.notified_level is None:
        return Kind.OPENED
    if alert.level > alert.notified_level:
        return Kind.ESCALATED
    if rules.is_over(alert.notified_at, alert.level, now):
        return Kind.REOPENED if alert.told_level is None else Kind.CONTINUES
    return None


def _told(alert: Alert, kind: Kind, now: dt.datetime) -> Alert:
    return dataclasses.replace(
        alert,
        escalated_at=now if kind == Kind.ESCALATED else alert.escalated_at,
        notified_at=now,
        notified_level=alert.level,
        told_level=max(alert.told_level or alert.level, alert.level),
        notice=kind,
        notice_at=now,
        notifications=alert.notifications + 1,
    )


def _absent(alert: Alert, now: dt.datetime, rules: Rules) -> Alert:
    if not alert.is_open or alert.examined_at == now:
        return alert
    alert = dataclasses.replace(alert, absent_runs=alert.absent_runs + 1, examined_at=now)
    if alert.absent_runs < rules.config.recovery_runs:
        return alert
    alert = dataclasses.replace(alert, recovered_at=now)
    if alert.told_level is None:
        return alert
    return dataclasses.replace(alert, notice=Kind.RECOVERED, notice_at=now, notifications=alert.notifications + 1)


def _worst(findings: Iterable[Finding]) -> dict[Key, Finding]:
    """The worst finding per rule and subject; of equally bad ones the last by message and figures."""
    found: dict[Key, Finding] = {}
    for one in sorted(findings, key=lambda one: (one.level, one.message, repr(one.value), repr(one.limit))):
        found[one.key] = one
    return found


def _age(alert: Alert) -> tuple[dt.datetime, str, str]:
    return alert.opened_at, alert.rule, alert.subject


def _hash(parts: Sequence[str], characters: int) -> str:
    return hashlib.sha256(canonical_json(list(parts)).encode()).hexdigest()[:characters]
