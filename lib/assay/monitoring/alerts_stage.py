"""Consumes the findings of one monitoring run of a target, produces `alerts`, `alert_deliveries`, and words to sinks.

What to tell is decided by one commit, that of `alerts`; the outbox follows from it, and is written before anything is
sent. A run that dies in between leaves a decision that the next run finds and carries out: each notification gets to
each sink at least once, and carries an id by which a receiver can drop a second one.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

import pyarrow as pa

from assay.errors import AssayError, Overtaken
from assay.monitoring import alerts_text as text
from assay.monitoring.alerts import Alert, Kind, Notification, Stepped, step
from assay.monitoring.alerts_outbox import (
    WEBHOOK,
    Delivery,
    Status,
    dead_webhook,
    given_up,
    merged,
    queued,
    unqueued,
    waiting,
)
from assay.monitoring.alerts_rows import alert_rows, delivery_rows, read_alerts, read_deliveries
from assay.monitoring.findings import Examined, Finding, Level
from assay.monitoring.sinks import Clock, deliver
from assay.monitoring.watching import rows_of_target
from assay.runtime.job import JobContext
from assay.runtime.monitoring_tables import ALERT_DELIVERIES, ALERTS
from assay.runtime.plane import NEVER, Output, Written
from assay.runtime.tables import Table

JOB = "monitor"
TRIES = 5  # where others write the same target's alerts at the same time
NAMED = 5  # notifications of the summary
AS_OF = "as_of"  # of a commit to `alerts`: the run that made it


@dataclasses.dataclass(frozen=True)
class Raised:
    """What became of a run's findings.

    alerts: all of the target, open and recovered, the oldest first.  notifications: what this run raised, the worst
    first.  deliveries: the outbox.  summary: lines for a person.
    """

    alerts: Sequence[Alert]
    notifications: Sequence[Notification]
    deliveries: Sequence[Delivery]
    written: Sequence[Written]
    summary: Sequence[str]
    metrics: Mapping[str, float]


def raise_alerts(
    context: JobContext,
    target: str,
    findings: Iterable[Finding],
    examined: Examined,
    now: dt.datetime,
    identity: str,
    *,
    clock: Clock | None = None,
) -> Raised:
    """Step the alerts of a target, put on record what is to be told, and tell it.

    now: as-of time of the run.  A run of an earlier time than that of the alerts on record changes none of them: it
    only sends what waits.  identity: of the run, as commits have it.

    A receiver that is dead fails nothing and holds up the run no longer than `alerts.webhook.budget_seconds`.
    """
    return _Raising(context, target, now, identity, clock or Clock()).run(list(findings), examined)


def send_waiting(
    context: JobContext, target: str, now: dt.datetime, identity: str, *, clock: Clock | None = None
) -> Raised:
    """Only send what waits, for runs that have nothing new to say. Changes no alert."""
    return _Raising(context, target, now, identity, clock or Clock()).send()


@dataclasses.dataclass(frozen=True)
class _Record:
    """What is on record of a target, and by which run. alerts_version, outbox_version: at which tables were read."""

    alerts: Sequence[Alert]
    outbox: Sequence[Delivery]
    last_run: dt.datetime | None
    alerts_version: int
    outbox_version: int

    @property
    def lost(self) -> list[Notification]:
        """Decided by a run that died before it put them into the outbox."""
        return unqueued(self.alerts, self.outbox, self.last_run)


class _Raising:
    """One target's alerts in one run."""

    def __init__(self, context: JobContext, target: str, now: dt.datetime, identity: str, clock: Clock) -> None:
        self.context, self.target, self.now, self.identity, self.clock = context, target, now, identity, clock
        self.config = context.config.profile.alerts
        self.dataset = context.config.dataset.name
        self.written: list[Written] = []

    def run(self, findings: Sequence[Finding], examined: Examined) -> Raised:
        """Step and put on record, again where others were faster; send."""
        for _ in range(TRIES):
            record = self.on_record()
            if record.last_run is not None and record.last_run > self.now:
                day = f"{record.last_run:%Y-%m-%d %H:%M}"
                return self.send(f"alerts of {self.target} are those of {day}, later than this run: they stay")
            dead = dead_webhook(record.outbox, self.now, self.config)
            stepped = step(
                record.alerts,
                [*findings, *([dead] if dead is not None else [])],
                examined | Examined.of(rules=[WEBHOOK]),
                self.now,
                self.config,
                dataset=self.dataset,
                target=self.target,
            )
            try:
                self.write(ALERTS, alert_rows(stepped.alerts), record.alerts_version, as_of=self.now.isoformat())
            except Overtaken:
                continue
            return self.sent(record, stepped, [])
        raise AssayError(f"alerts of {self.target}: others wrote them {TRIES} times while this run did; run it again")

    def send(self, *told: str) -> Raised:
        """Send what waits, and what a run that died had decided."""
        record = self.on_record()
        return self.sent(record, Stepped(tuple(record.alerts), ()), told)

    def sent(self, record: _Record, stepped: Stepped, told: Sequence[str]) -> Raised:
        """Put into the outbox what is to be told, send, put on record what came of it."""
        queue = queued(record.outbox, [*record.lost, *stepped.notifications], self.config)
        version = record.outbox_version
        if version == NEVER or queue != list(record.outbox):
            queue, version = self.recorded(queue, version, step="queued")
        done = queue
        if any(one.is_pending for one in queue):
            with self.context.reporter.step(f"telling of alerts of {self.target}"):
                done = deliver(queue, self.config, dataset=self.dataset, target=self.target, clock=self.clock)
        done = given_up(done, self.now, self.config.webhook)
        if done != queue:
            done, _ = self.recorded(done, version, step="sent")
        summary = [*told, *_summary(stepped, done, self.target)]
        return Raised(stepped.alerts, stepped.notifications, done, self.written, summary, _metrics(stepped, done))

    def recorded(self, outbox: Sequence[Delivery], version: int, **details: str) -> tuple[list[Delivery], int]:
        """Write the outbox, with what others put there meanwhile; it, and its new version."""
        rows = list(outbox)
        for _ in range(TRIES):
            try:
                return rows, self.write(ALERT_DELIVERIES, delivery_rows(rows), version, **details)
            except Overtaken:
                record = self.on_record()
                rows, version = merged(record.outbox, rows), record.outbox_version
        raise AssayError(f"alert_deliveries of {self.target}: others wrote them {TRIES} times; run it again")

    def on_record(self) -> _Record:
        """What the tables have. Versions are taken first: what others write meanwhile is then seen as theirs."""
        alerts_version, outbox_version = (self.version(table) for table in (ALERTS, ALERT_DELIVERIES))
        alerts_commit = self.context.plane.last_commit(ALERTS.name, self.target)
        alerts = read_alerts(self.rows(ALERTS))
        # Without a commit (logs are cleaned after some time) the alerts themselves say how far runs came.
        told = alerts_commit.details.get(AS_OF) if alerts_commit is not None else None
        examined = max((one.examined_at for one in alerts), default=None)
        return _Record(
            alerts,
            read_deliveries(self.rows(ALERT_DELIVERIES)),
            dt.datetime.fromisoformat(told) if told is not None else examined,
            alerts_version,
            outbox_version,
        )

    def version(self, table: Table) -> int:
        """Version of a table."""
        found = self.context.plane.version(table.name)
        return NEVER if found is None else found

    def rows(self, table: Table) -> pa.Table:
        """The target's rows of a table."""
        version = self.version(table)
        if version == NEVER:
            return table.schema().empty_table()
        return rows_of_target(self.context.plane, table, version, self.target)

    def write(self, table: Table, rows: pa.Table, since: int, **details: str) -> int:
        """Replace the target's rows, which nobody wrote after the table's version `since`; the new version.

        Raises:
            Overtaken: somebody did.
        """
        schema, commit = table.schema(), self.context.commit(JOB, self.target, self.identity, **details)
        output = Output(table, schema, commit, owns={"target": self.target}, expects=since)
        done = self.context.plane.rows_of(table, schema, rows).write([output])
        self.written += done
        return done[0].version


def _summary(stepped: Stepped, outbox: Sequence[Delivery], target: str) -> list[str]:
    """What a person should know: what is new, what is open, what does not get through."""
    lines = [text.line(one) for one in stepped.notifications[:NAMED]]
    if len(stepped.notifications) > NAMED:
        lines.append(f"and {len(stepped.notifications) - NAMED:,} more, in the table {ALERTS.name}")
    levels = Counter(one.level for one in stepped.alerts if one.is_open)
    counts = ", ".join(f"{levels[level]:,} {level.name}" for level in sorted(levels, reverse=True))
    lines.append(f"alerts of {target} that are open: {counts or 'none'}")
    if stuck := waiting(outbox, WEBHOOK):
        error = next((one.last_error for one in stuck if one.last_error), "not tried")
        lines.append(f"{len(stuck):,} notifications wait for the webhook: {error}")
    return lines


def _metrics(stepped: Stepped, outbox: Sequence[Delivery]) -> dict[str, float]:
    """Figures of the run: alerts that are open, by level; notifications that it raised, by kind; the outbox."""
    levels = Counter(one.level for one in stepped.alerts if one.is_open)
    kinds = Counter(one.kind for one in stepped.notifications)
    states = Counter(one.status for one in outbox)
    return {
        "alerts_open": float(levels.total()),
        **{f"alerts_open_{level.name.lower()}": float(levels[level]) for level in Level},
        **{f"alerts_{kind.value}": float(kinds[kind]) for kind in Kind},
        "deliveries_pending": float(states[Status.PENDING]),
        "deliveries_failed": float(states[Status.FAILED]),
    }
