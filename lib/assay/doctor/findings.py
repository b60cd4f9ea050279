"""Consumes what a check saw, produces findings: what is well, what may go wrong, what has to be put right, and how."""

from __future__ import annotations

import dataclasses
from typing import Literal

from assay.runtime.logs import redact

Status = Literal["ok", "warn", "fail"]


@dataclasses.dataclass(frozen=True)
class Finding:
    """What a check found. todo: one line of advice; empty where nothing has to be done. Neither has secrets in it."""

    check: str
    status: Status
    told: str
    todo: str = ""

    def __post_init__(self) -> None:
        for name in ("told", "todo"):
            object.__setattr__(self, name, " ".join(redact(getattr(self, name)).split()))

    def as_dict(self) -> dict[str, str]:
        """For JSON output."""
        return dataclasses.asdict(self)


def ok(check: str, told: str) -> Finding:
    """All is well, or there is only something to know."""
    return Finding(check, "ok", told)


def warn(check: str, told: str, todo: str) -> Finding:
    """Jobs run, but slowly, or not all of them, or not for long."""
    return Finding(check, "warn", told, todo)


def fail(check: str, told: str, todo: str) -> Finding:
    """Jobs do not run before this is put right."""
    return Finding(check, "fail", told, todo)


def refused(check: str, error: Exception, todo: str) -> Finding:
    """What a job would be refused for. todo: for errors that do not say it themselves, after a semicolon."""
    told, _, advice = str(error).rpartition("; ")
    return fail(check, told, advice) if told else fail(check, advice, todo)


def gigabytes(size: float) -> str:
    """Bytes for people."""
    return f"{size / (1 << 30):.1f} GiB"
