"""Consumes log records and configuration values, produces the same without secrets."""

from __future__ import annotations

import logging
import re
from typing import Any

MASK = "***"
_NAMES = r"pass(?:word|wd|phrase)?|pwd|secrets?|token|credentials?|(?:api|private|access|account)[_-]?key|sas"
# A whole word of a key: `fs.azure.sas.token`, `secretKey`, never `passengers` or `kansas`.
SECRET_KEY = re.compile(rf"(?:^|[^A-Za-z])(?i:{_NAMES})(?:$|[^A-Za-z])")
CAMEL = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")
_IN_TEXT = (
    # key=value, key: value and JSON's "key": "value"
    (
        re.compile(
            r"(?i)\b([\w.-]*(?:password|passwd|passphrase|pwd|secret|token|credential|api_?key|access_?key|"
            r"account_?key|private_?key)[\w.-]*[\"']?\s*[=:]\s*)(\"[^\"]*\"|'[^']*'|[^\s;,&\"')}\]]+)"
        ),
        r"\1" + MASK,
    ),
    (re.compile(r"(\w+://[^/\s:@]*:)([^\s/]+)(@)"), r"\1" + MASK + r"\3"),
    (re.compile(r"\b(dapi|ghp_|github_pat_|AKIA|xox[bp]-)[A-Za-z0-9_-]{12,}"), MASK),
    (re.compile(r"(?i)\b(bearer\s+|authorization:\s*\w+\s+)[A-Za-z0-9._~+/=-]{8,}"), r"\1" + MASK),
)


def redact(text: str) -> str:
    """Text with passwords, tokens and credentials in URLs masked."""
    for pattern, replacement in _IN_TEXT:
        text = pattern.sub(replacement, text)
    return text


def redact_tree(value: Any, key: str = "") -> Any:
    """Plain data with every value under a secret-looking key masked, and texts redacted."""
    secret = bool(SECRET_KEY.search(CAMEL.sub("_", key)))
    if secret and isinstance(value, str | int | float) and not isinstance(value, bool) and value != "":
        return MASK
    if isinstance(value, dict):
        return {k: redact_tree(v, str(k)) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [redact_tree(v, key) for v in value]
    return redact(value) if isinstance(value, str) else value


class RedactingFormatter(logging.Formatter):
    """Masks secrets in everything that a handler writes, tracebacks included."""

    def format(self, record: logging.LogRecord) -> str:
        """The record as text, without secrets."""
        return redact(super().format(record))


def set_up_logging() -> None:
    """Route Python's own logging through the redaction and quiet chatty libraries."""
    handler = logging.StreamHandler()
    handler.setFormatter(RedactingFormatter("%(levelname)s %(name)s: %(message)s"))
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
    for chatty in ("mlflow", "alembic", "py4j", "matplotlib", "sqlalchemy"):
        logging.getLogger(chatty).setLevel(logging.ERROR)
