"""Consumes notifications, produces what a person reads of them and what a receiver of a webhook gets."""

from __future__ import annotations

import hashlib
import hmac
import json
import math
import re
from collections.abc import Sequence
from typing import Any

from assay.monitoring.alerts import Notification
from assay.version import __version__

SIGNATURE = "X-Assay-Signature"
KEY = "Idempotency-Key"
LINE = 300  # characters: receivers such as Slack take 40,000 in all, and a digest has 100 lines
_BREAKS = re.compile(r"[\s\x00-\x1f\x7f-\x9f\u2028\u2029]+")


def line(notification: Notification) -> str:
    """One line: `HIGH opened: drift.psi of rooms (price, 2024-05-01): PSI 0.31 > 0.25`."""
    one = notification
    of = f" of {one.subject}" if one.subject else ""
    told = f"{one.level.name} {one.kind}: {one.rule}{of} ({one.target}, {one.raised_at:%Y-%m-%d}): {one.message}"
    told = _BREAKS.sub(" ", told).strip()
    return told if len(told) <= LINE else f"{told[: LINE - 3]}..."


def body(notifications: Sequence[Notification], message_id: str, *, dataset: str, target: str) -> bytes:
    """A message as JSON, the same bytes whenever it is made of the same notifications.

    `text` is for chats: receivers such as Slack show it, and give `&`, `<` and `>` a meaning that data must not have.
    `alerts` is for programs; each one's `id` stays the same in whatever message it comes.
    """
    lines = [line(one) for one in notifications]
    text = lines[0] if len(lines) == 1 else "\n".join([f"{len(lines)} alerts of {dataset}:", *lines])
    tree = {
        "id": message_id,
        "source": f"assay {__version__}",
        "dataset": dataset,
        "target": target,
        "text": text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;"),
        "alerts": [_told(one) for one in notifications],
    }
    return json.dumps(tree, ensure_ascii=False, allow_nan=False).encode()


def headers(content: bytes, message_id: str, key: str | None) -> dict[str, str]:
    """Headers of a message; with a key, the signature is HMAC-SHA256 (RFC 2104) over the body's bytes."""
    found = {"Content-Type": "application/json; charset=utf-8", "User-Agent": f"assay/{__version__}", KEY: message_id}
    if key is not None:
        found[SIGNATURE] = f"sha256={hmac.new(key.encode(), content, hashlib.sha256).hexdigest()}"
    return found


def _told(one: Notification) -> dict[str, Any]:
    return {
        "id": one.notification_id,
        "alert": one.alert_id,
        "kind": one.kind.value,
        "rule": one.rule,
        "subject": one.subject,
        "level": one.level.name,
        "value": _finite(one.value),
        "limit": _finite(one.limit),
        "message": one.message,
        "opened_at": one.opened_at.isoformat(),
        "raised_at": one.raised_at.isoformat(),
        "seen": one.seen,
    }


def _finite(value: float | None) -> float | None:
    """JSON knows no infinity."""
    return value if value is not None and math.isfinite(value) else None
