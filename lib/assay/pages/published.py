"""Consumes a finished page, produces the file that people open: in one piece, under a name that any disk can hold."""

from __future__ import annotations

from pathlib import Path

from assay.config import RunConfig
from assay.runtime.job import reports_folder


def report_path(config: RunConfig, kind: str, target: str) -> Path:
    """Where people find a report of a target: reports/KIND-TARGET.html."""
    safe = "".join(c if c.isalnum() or c in "-_" else "_" for c in target)
    return reports_folder(config) / f"{kind}-{safe}.html"


def publish(path: Path, page: str) -> Path:
    """Put a page there; who opens it meanwhile sees the one before."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    part.write_text(page, encoding="utf-8")
    part.replace(path)
    return path
