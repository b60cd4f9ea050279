"""Consumes a name and a value, produces an environment variable that has it for a while."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator


@contextlib.contextmanager
def variable(name: str, value: str) -> Iterator[str | None]:
    """Let an environment variable hold a value while the block lasts, which gets what it held before; None for none."""
    before = os.environ.get(name)
    os.environ[name] = value
    try:
        yield before
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before
