"""Produces what the tests of alerts share: findings, notifications, and a job's outside without Spark or MLflow."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Any

from assay.config import conf_root, load_run
from assay.monitoring.alerts import Kind, Notification
from assay.monitoring.findings import Examined, Finding, Level
from assay.runtime.job import JobContext
from assay.runtime.local_plane import LocalPlane
from assay.runtime.progress import Reporter

START = dt.datetime(2024, 1, 1, 6, tzinfo=dt.timezone.utc)
TARGET = "price"
DATASET = conf_root() / "datasets" / "txhousing.yml"


def day(number: float) -> dt.datetime:
    return START + dt.timedelta(days=number)


def found(level: Level, rule: str = "drift.psi", subject: str = "rooms", message: str = "PSI 0.3 > 0.2") -> Finding:
    return Finding(rule, subject, level, 0.3, 0.2, message)


def notification(number: int, level: Level = Level.HIGH, **changes: Any) -> Notification:
    given: dict[str, Any] = {
        "notification_id": f"id-{number:03d}",
        "alert_id": f"alert-{number:03d}",
        "target": TARGET,
        "kind": Kind.OPENED,
        "rule": "drift.psi",
        "subject": f"column {number}",
        "level": level,
        "value": 0.3,
        "limit": 0.2,
        "message": "PSI 0.3 > 0.2",
        "opened_at": day(number),
        "raised_at": day(number),
        "seen": 1,
    }
    return Notification(**(given | changes))


ALL = Examined.of(["drift.psi", "health"])


class Lake(LocalPlane):
    """Tables in a folder. before: called with a table's name before its rows are written; may be set at any time."""

    before: Callable[[str], None] = staticmethod(lambda table: None)
    after: Callable[[str], None] = staticmethod(lambda table: None)

    def rows_of(self, table, schema, rows):
        self.before(table.name)
        return super().rows_of(table, schema, rows)

    def commit(self, output, files):
        written = super().commit(output, files)
        self.after(output.table.name)
        return written


class Outside(JobContext):
    """A job's context with tables, a configuration and a quiet terminal alone."""

    def __init__(self, workspace: Path, *overrides: str) -> None:
        self.config = load_run(dataset=DATASET, workspace=workspace, overrides=overrides)
        self.reporter = Reporter(quiet=True)

    @cached_property
    def plane(self) -> Lake:
        return Lake(self.config.workspace / "lake")

    def rows(self, table: str) -> list[dict[str, Any]]:
        return self.plane.read(table, version=self.plane.version(table)).collect().to_pylist()
