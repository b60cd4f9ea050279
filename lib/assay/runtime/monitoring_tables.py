"""Consumes nothing, produces the declarations of monitoring's tables: grain, key, partitions, columns, units."""

from __future__ import annotations

import pyarrow as pa

from assay.runtime.tables import TIME, Table

_RULE = (pa.string(), "what was looked at, such as drift.psi, coverage.80, error, health or webhook")
_SUBJECT = (pa.string(), "of what, such as a feature or a segment; empty for the target as a whole")
_LIMIT = (pa.float64(), "what the value must not pass, in the rule's unit; null where there is none")
_MESSAGE = (pa.string(), "the finding in words")
_TARGET = (pa.string(), "target column")

# Times are as-of times of runs (`--date`), of deliveries also the clock's where it says so.
ALERTS = Table(
    name="alerts",
    stage="monitoring",
    grain="one alert of a target, from its opening to its recovery",
    key=("alert_id",),
    partition_by=("target",),
    columns={
        "alert_id": (pa.string(), "hash of dataset, target, rule, subject and opened_at"),
        "rule": _RULE,
        "subject": _SUBJECT,
        "status": (pa.string(), "open, or recovered"),
        "level": (pa.string(), "LOW, MEDIUM, HIGH or CRITICAL: of the newest finding, with what it rose by staying"),
        "value": (pa.float64(), "of the newest finding, in the rule's unit; null where it has none"),
        "limit": _LIMIT,
        "message": _MESSAGE,
        "opened_at": (TIME, "its first finding, UTC"),
        "open_since": (TIME, "the same, or when it last came back within its cooldown, UTC"),
        "seen_at": (TIME, "its newest finding, UTC"),
        "examined_at": (TIME, "when it was last looked for, UTC"),
        "seen": (pa.int64(), "runs that found it"),
        "absent_runs": (pa.int64(), "runs in a row that looked for it in vain"),
        "reopened": (pa.int64(), "times that it came back within its cooldown"),
        "escalated_at": (TIME, "when a higher level than before was last told, UTC; null where none was"),
        "recovered_at": (TIME, "its recovery, UTC; null while it is open"),
        "notified_at": (TIME, "when it was last told that it is there, UTC"),
        "notified_level": (pa.string(), "at which level"),
        "told_level": (pa.string(), "the worst level told since open_since; null where nothing was told since"),
        "notice": (pa.string(), "newest notification: opened, escalated, continues, reopened or recovered"),
        "notice_at": (TIME, "of which run, UTC"),
        "notifications": (pa.int64(), "how many there were"),
        "target": _TARGET,
    },
)
ALERT_DELIVERIES = Table(
    name="alert_deliveries",
    stage="monitoring",
    grain="one notification of an alert to one sink",
    key=("notification_id", "sink"),
    partition_by=("target",),
    columns={
        "notification_id": (
            pa.string(),
            "hash of alert, kind, level and raised_at; a receiver drops it the second time",
        ),
        "sink": (pa.string(), "log, or webhook"),
        "status": (pa.string(), "pending, delivered, or failed_for_good: it is too old to be sent"),
        "attempts": (pa.int64(), "times that it was sent, or that sending was tried"),
        "last_error": (pa.string(), "what came of the last attempt that failed; without addresses and secrets"),
        "attempted_at": (TIME, "clock's time of the last attempt, UTC"),
        "next_attempt_at": (TIME, "clock's time before which the receiver wants no other, UTC; null: at the next run"),
        "delivered_at": (TIME, "clock's time of the delivery, UTC; null until then"),
        "message_id": (pa.string(), "idempotency key of the message that delivered it: its own, or a digest's"),
        "alert_id": (pa.string(), "alert of `alerts`"),
        "kind": (pa.string(), "opened, escalated, continues, reopened or recovered"),
        "rule": _RULE,
        "subject": _SUBJECT,
        "level": (pa.string(), "LOW, MEDIUM, HIGH or CRITICAL; of a recovery the worst one told before"),
        "value": (pa.float64(), "of the finding, in the rule's unit; null where it has none"),
        "limit": _LIMIT,
        "message": _MESSAGE,
        "opened_at": (TIME, "the alert's first finding, UTC"),
        "raised_at": (TIME, "run that raised the notification, UTC"),
        "seen": (pa.int64(), "runs that had found the alert by then"),
        "target": _TARGET,
    },
)

MONITORING_TABLES = {table.name: table for table in (ALERTS, ALERT_DELIVERIES)}
