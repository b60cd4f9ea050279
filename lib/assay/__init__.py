"""assay: distributed Spark ML jobs that say what things are worth, and how sure they are."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from assay.version import __version__

if TYPE_CHECKING:
    from assay.workspace import Workspace

__all__ = ["__version__", "open_workspace"]


def open_workspace(folder: str | Path) -> Workspace:
    """Look at a finished run: its tables, figures and reports."""
    from assay.workspace import Workspace

    return Workspace(folder)
