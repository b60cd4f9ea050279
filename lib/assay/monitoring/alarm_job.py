"""Consumes `health`, `drift_detections` and `deployments`, produces alerts, and a page on health."""

from __future__ import annotations

import dataclasses

from assay.model.deployments import read_deployments
from assay.monitoring.alarms import findings_of, taken_back
from assay.monitoring.alerts_outbox import Status
from assay.monitoring.alerts_stage import raise_alerts
from assay.monitoring.health_report import draw
from assay.monitoring.watching import Watching
from assay.runtime.conditions import Condition
from assay.runtime.deployment_tables import DEPLOYMENTS
from assay.runtime.job import Done, Plan
from assay.runtime.monitoring_tables import ALERT_DELIVERIES, ALERTS, DRIFT_DETECTIONS, HEALTH

JOB = "alerts"


def plan(watching: Watching) -> Plan:
    """What alerts are about to be raised from. A run with `--where` raises none: a slice says nothing of the whole."""
    inputs = watching.versions(DRIFT_DETECTIONS, HEALTH)
    moves = watching.context.plane.version(DEPLOYMENTS.name)
    inputs |= {DEPLOYMENTS.name: moves} if moves is not None else {}
    planned = watching.plan(JOB, inputs, ALERTS, lambda identity: raised(watching, inputs, identity), also=("alerts",))
    return dataclasses.replace(planned, still_valid=lambda _: not _waits(watching))


def _waits(watching: Watching) -> bool:
    """Whether somebody was not told yet: a run that has nothing new to say tries again."""
    version = watching.context.plane.version(ALERT_DELIVERIES.name)
    if version is None:
        return False
    pending = Condition("status", "==", Status.PENDING.value)
    return bool(watching.rows(ALERT_DELIVERIES, version, pending).num_rows)


def raised(watching: Watching, inputs: dict[str, int], identity: str) -> Done:
    """Read what was found, step the alerts, tell them."""
    if watching.where:
        return Done(metrics={}, written=[], summary=["no alerts of a slice (--where)"])
    parts, drift = (
        watching.rows(table, inputs[table.name], watching.of_date).to_pylist() for table in (HEALTH, DRIFT_DETECTIONS)
    )
    importance = watching.champion.model.importance_shares()
    findings, examined = findings_of(parts, drift, importance, watching.config)
    deployments = read_deployments(watching.context.plane, watching.target.name)
    of_moves, looked_at = taken_back(deployments, watching.since)
    findings, examined = [*findings, *of_moves], examined | looked_at
    with watching.context.reporter.step("alerts"):
        found = raise_alerts(watching.context, watching.target.name, findings, examined, watching.now, identity)
    report = None
    if watching.config.report:
        with watching.context.reporter.step("the report of health"):
            report = str(draw(watching))
    return Done(metrics=dict(found.metrics), written=list(found.written), summary=list(found.summary), report=report)
