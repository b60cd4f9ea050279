"""Consumes columns of tables in two windows, produces rows of `COMPARED`: which task reads what, and what it does.

Tables lie column by column, so work is dealt by columns: a task reads some columns of all rows of both windows.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Sequence

import pyarrow as pa

from assay.config.monitoring import MonitoringConfig
from assay.monitoring.columns import COMPARED, WINDOWS, CompareColumns, InWindow, marked
from assay.runtime.conditions import Condition
from assay.runtime.plane import Flow, Plane

BYTES = 4  # of a number or a category's code in a task's memory


@dataclasses.dataclass(frozen=True)
class Side:
    """Rows of one window: a version of the table, and what a row must fulfil."""

    version: int
    where: tuple[Condition, ...] = ()


@dataclasses.dataclass(frozen=True)
class Watched:
    """Columns of one table and where its windows lie.

    sides: of the reference and of the current window. kinds: what `drift_detections` calls numbers and categories.
    """

    table: str
    numeric: tuple[str, ...]
    categorical: tuple[str, ...]
    sides: tuple[Side, Side]
    kinds: tuple[str, str] = ("number", "category")

    @property
    def names(self) -> tuple[str, ...]:
        """All columns."""
        return (*self.numeric, *self.categorical)


@dataclasses.dataclass(frozen=True)
class Comparison:
    """How columns are compared. by: columns that make segments; a table that lacks one of them has none."""

    plane: Plane
    config: MonitoringConfig
    by: tuple[str, ...] = ()

    def of(self, watched: Sequence[Watched]) -> pa.Table:
        """Rows of `COMPARED` of all columns, in one run of all tasks."""
        flows = [self._flow(one, group) for one in watched for group in self._groups(one)]
        return functools.reduce(lambda one, other: one.union(other), flows).collect()

    def _groups(self, watched: Watched) -> list[tuple[str, ...]]:
        """Columns that one task holds: all slots have as many, and none more than its memory takes."""
        rows = max(self.plane.rows(watched.table, max(side.version for side in watched.sides)), 1)
        names, slots = watched.names, self.plane.slots
        most = max(1, self.config.task_bytes // (rows * BYTES))
        tasks = min(len(names), slots * math.ceil(len(names) / (most * slots)))
        return [names[first::tasks] for first in range(tasks)]  # neighbours are alike in what they cost

    def _flow(self, watched: Watched, group: Sequence[str]) -> Flow:
        """Read some columns of both windows in one task, and compare them there."""
        by = self.by if set(self.by) <= set(self.plane.schema(watched.table).names) else ()
        kernel = CompareColumns(
            tuple(name for name in group if name in watched.numeric),
            tuple(name for name in group if name in watched.categorical),
            by,
            self.config.least_rows,
            watched.kinds,
        )
        return self._read(watched, list(dict.fromkeys([*group, *by]))).in_one().map(kernel, COMPARED)

    def _read(self, watched: Watched, columns: Sequence[str]) -> Flow:
        """Marked rows of both windows."""
        parts = []
        for mark, side in zip(WINDOWS, watched.sides, strict=True):
            read = self.plane.read(watched.table, version=side.version, columns=columns, where=side.where)
            parts.append(read.map(InWindow(mark), marked(read.schema)))
        return parts[0].union(parts[1])
