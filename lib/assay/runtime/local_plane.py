"""Consumes a lake on a file system, produces its rows in this very process, without Spark: for what only reads."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from assay.errors import AssayError
from assay.runtime.arrow_plane import ArrowPlane

if TYPE_CHECKING:
    from pyspark import SparkContext


class LocalPlane(ArrowPlane):
    """Tables as folders below one root; tasks run one after the other, here."""

    def __init__(self, root: Path, *, rows_per_task: int = 250_000) -> None:
        super().__init__(_none, root, rows_per_task=rows_per_task)

    @property
    def slots(self) -> int:
        """One."""
        return 1

    def run_tasks(self, work: Sequence[Any], function: Callable[[int, Any], Any]) -> list[Any]:
        """Run `function(index, item)` for each item; results in order."""
        return [function(index, item) for index, item in enumerate(work)]


def _none() -> SparkContext:
    raise AssayError("there is no Spark where rows are only read")
