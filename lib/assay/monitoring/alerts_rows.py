"""Consumes alerts and deliveries, produces rows of `alerts` and `alert_deliveries`, and reads them back."""

from __future__ import annotations

import dataclasses
import datetime as dt
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import pyarrow as pa

from assay.monitoring.alerts import Alert, Kind, Notification
from assay.monitoring.alerts_outbox import Delivery, Status
from assay.monitoring.findings import Level
from assay.runtime.monitoring_tables import ALERT_DELIVERIES, ALERTS
from assay.runtime.tables import Table

_READ: dict[str, Callable[[Any], Any]] = {
    "level": lambda text: Level[text],
    "notified_level": lambda text: Level[text],
    "told_level": lambda text: Level[text],
    "notice": Kind,
    "kind": Kind,
    "status": Status,
}


def alert_rows(alerts: Iterable[Alert]) -> pa.Table:
    """Rows of `alerts`."""
    return _table(ALERTS, [{**_fields(one), "status": "open" if one.is_open else "recovered"} for one in alerts])


def read_alerts(rows: pa.Table) -> list[Alert]:
    """Back from rows of `alerts`."""
    return [_made(Alert, row) for row in rows.drop_columns(["status"]).to_pylist()]


def delivery_rows(deliveries: Iterable[Delivery]) -> pa.Table:
    """Rows of `alert_deliveries`."""
    return _table(ALERT_DELIVERIES, [_fields(one.notification) | _fields(one) for one in deliveries])


def read_deliveries(rows: pa.Table) -> list[Delivery]:
    """Back from rows of `alert_deliveries`."""
    told = [field.name for field in dataclasses.fields(Notification)]
    own = [field.name for field in dataclasses.fields(Delivery) if field.name != "notification"]
    return [
        _made(Delivery, {name: row[name] for name in own}, notification=_made(Notification, {n: row[n] for n in told}))
        for row in rows.to_pylist()
    ]


def _fields(one: Any) -> dict[str, Any]:
    """Fields of a dataclass as plain values."""
    found = {field.name: getattr(one, field.name) for field in dataclasses.fields(one)}
    return {name: value.name if isinstance(value, Level) else value for name, value in found.items()}


def _table(table: Table, rows: Sequence[Mapping[str, Any]]) -> pa.Table:
    schema = table.schema()
    return pa.Table.from_pylist([{name: row[name] for name in schema.names} for row in rows], schema=schema)


def _made(kind: Any, row: Mapping[str, Any], **more: Any) -> Any:
    return kind(**{name: _value(name, value) for name, value in row.items()}, **more)


def _value(name: str, value: Any) -> Any:
    if isinstance(value, dt.datetime):
        return value.astimezone(dt.timezone.utc)
    return _READ[name](value) if name in _READ and value is not None else value
