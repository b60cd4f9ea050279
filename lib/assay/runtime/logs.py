"""Consumes log records and configuration values, produces the same without secrets."""

from __future__ import annotations

import logging
import re
from typing import Any

MASK = "***"
SECRET_KEY = re.compile(r"(?i)(pass(word|wd)?|secret|token|credential|api_?key|private_?key|access_?key|sas)")
_IN_TEXT = (
    (
        re.compile(
            r"(?i)\b([\w.-]*(?:password|passwd|secret|token|api_?key|access_?key)[\w.-]*\s*[=:]\s*)([^\s;,&\"']+)"
        ),
        r"\1" + MASK,
    ),
    (re.compile(r"(\w+://[^/\s:@]+:)([^@\s/]+)(@)"), r"\1" + MASK + r"\3"),
    (re.compile(r"\b(dapi|ghp_|AKIA|xox[bp]-)[A-Za-z0-9-]{12,}"), MASK),
    (re.compile(r"(?i)(bearer\s+)[A-Za-z0-9._~+/=-]{8,}"), r"\1" + MASK),
)


def redact(text: str) -> str:
    """Text with passwords, tokens and credentials in URLs masked."""
    for pattern, replacement in _IN_TEXT:
        text = pattern.sub(replacement, text)
    return text


def redact_tree(value: Any, key: str = "") -> Any:
    """Plain data with every value under a secret-looking key masked, and texts redacted."""
    if key and SECRET_KEY.search(key) and isinstance(value, str | int | float) and not isinstance(value, bool):
        return MASK
    if isinstance(value, dict):
        return {k: redact_tree(v, str(k)) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [redact_tree(v, key) for v in value]
    return redact(value) if isinstance(value, str) else value


class RedactingFilter(logging.Filter):
    """Masks secrets in every record that passes a handler."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Rewrite the message; nothing is dropped."""
        record.msg, record.args = redact(record.getMessage()), None
        return True


def set_up_logging() -> None:
    """Route Python's own logging through the redaction and quiet chatty libraries."""
    handler = logging.StreamHandler()
    handler.addFilter(RedactingFilter())
    handler.setFormatter(logging.Formatter("%(levelname)s %(name)s: %(message)s"))
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
    for chatty in ("mlflow", "alembic", "py4j", "matplotlib", "sqlalchemy"):
        logging.getLogger(chatty).setLevel(logging.ERROR)
