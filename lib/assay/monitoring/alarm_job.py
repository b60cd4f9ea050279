"""Consumes `health` and `drift_detections` of one date, produces alerts: to the tables, the log, and who listens."""

from __future__ import annotations

from typing import Any

from assay.monitoring.alarms import findings_of
from assay.monitoring.alerts_outbox import Status
from assay.monitoring.alerts_stage import raise_alerts
from assay.monitoring.health_job import importance_of
from assay.monitoring.watching import Watching
from assay.runtime.conditions import Condition
from assay.runtime.job import Done, Plan
from assay.runtime.monitoring_tables import ALERT_DELIVERIES, ALERTS, DRIFT_DETECTIONS, HEALTH

JOB = "alerts"


def plan(watching: Watching) -> Plan:
    """What alerts are about to be raised from. A run with `--where` raises none: a slice says nothing of the whole."""
    context = watching.context
    inputs = {t.name: context.version(t.name, made_by="monitor") for t in (DRIFT_DETECTIONS, HEALTH)}
    return Plan(
        job=JOB,
        inputs=inputs,
        sections=("monitoring", "alerts", "where", "as_of"),
        slots=[(ALERTS.name, watching.target.name)],
        extra=watching.told,
        execute=lambda identity: raised(watching, inputs, identity),
        still_valid=lambda _: not _waits(watching),
    )


def _waits(watching: Watching) -> bool:
    """Whether somebody was not told yet: a run that has nothing new to say tries again."""
    plane = watching.context.plane
    version = plane.version(ALERT_DELIVERIES.name)
    if version is None:
        return False
    of_target = Condition("target", "==", watching.target.name)
    pending = Condition("status", "==", Status.PENDING.value)
    return bool(plane.read(ALERT_DELIVERIES.name, version=version, where=[of_target, pending]).collect().num_rows)


def raised(watching: Watching, inputs: dict[str, int], identity: str) -> Done:
    """Read what was found, step the alerts, tell them."""
    if watching.where:
        return Done(metrics={}, written=[], summary=["no alerts of a slice (--where)"])
    parts, drift = (_rows(watching, table, inputs[table]) for table in (HEALTH.name, DRIFT_DETECTIONS.name))
    importance = importance_of(watching.champion.model)
    findings, examined = findings_of(parts, drift, importance, watching.config)
    with watching.context.reporter.step("alerts"):
        found = raise_alerts(watching.context, watching.target.name, findings, examined, watching.now, identity)
    return Done(metrics=dict(found.metrics), written=list(found.written), summary=list(found.summary))


def _rows(watching: Watching, table: str, version: int) -> list[dict[str, Any]]:
    where = [Condition("target", "==", watching.target.name), Condition("as_of", "==", watching.as_of)]
    rows: list[dict[str, Any]] = watching.context.plane.read(table, version=version, where=where).collect().to_pylist()
    return rows
