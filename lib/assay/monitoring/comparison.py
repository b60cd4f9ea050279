"""Consumes columns of tables in two windows, produces rows of `COMPARED`: which task reads what, and what it does.

Tables lie column by column, so work is dealt by columns, not by rows: a task reads some columns of all rows of both
windows, and statistics are exact. Where windows have too many rows for that, work is dealt by rows: tasks make sketches
of all columns, which meet column by column; rows of segments meet segment by segment, which leaves those exact.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Sequence

import pyarrow as pa
import pyarrow.compute as pc

from assay.config.monitoring import MonitoringConfig
from assay.monitoring.columns import COUNTED, CompareColumns, CompareSegments, CountRows, InWindow, marked
from assay.monitoring.compared import COMPARED
from assay.monitoring.held import WINDOW, WINDOWS
from assay.monitoring.sketches import SKETCHED, MergeSketches, SketchColumns
from assay.runtime.conditions import Condition
from assay.runtime.plane import Flow, Plane

BYTES = 4  # of a number or a category's code in a task's memory
SKETCHING = 2  # tasks a slot for each window
SKETCHED_ROWS = 500_000  # that are worth a task of their own
POINTS_A_ROW, CELLS_A_ROW = 4, 100  # that count for a row where it is said how many are brought together


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

    def of(self, watched: Sequence[Watched], more: Sequence[Flow] = ()) -> pa.Table:
        """Rows of `COMPARED` of all columns, in one run of all tasks. more: such rows, made elsewhere."""
        flows = [*(flow for one in watched for flow in self._flows(one)), *more]
        return functools.reduce(lambda one, other: one.union(other), flows).collect()

    def _flows(self, watched: Watched) -> list[Flow]:
        by = self.by if set(self.by) <= set(self.plane.schema(watched.table).names) else ()
        rows = {version: self.plane.rows(watched.table, version) for version in {s.version for s in watched.sides}}
        if not self._sketches(watched, max(rows.values())):
            groups = self._groups(watched, sum(rows.values()))
            return [self._exactly(watched, group, by) for group in groups]
        sketched = self._sketched(watched, max(rows.values()))
        return [sketched, self._segments(watched, by, sum(rows.values()))] if by else [sketched]

    def _sketches(self, watched: Watched, rows: int) -> bool:
        """Whether a window has too many rows to be compared exactly. rows: no window has more."""
        if self.config.sketch != "auto":
            return self.config.sketch == "always"
        return rows > self.config.exact_rows and max(self._rows(watched)) > self.config.exact_rows

    def _rows(self, watched: Watched) -> list[int]:
        """Rows of each window."""
        counted = self._read(watched, ["time"], 2 * self.plane.slots).map(CountRows(), COUNTED).collect()
        return [pc.sum(counted.filter(pc.field(WINDOW) == window)["rows"]).as_py() or 0 for window in WINDOWS]

    def _groups(self, watched: Watched, rows: int) -> list[tuple[str, ...]]:
        """Columns that one task holds: all slots have as many, and none more than its memory takes."""
        names, slots = watched.names, self.plane.slots
        most = max(1, self.config.task_bytes // (max(rows, 1) * BYTES))
        tasks = min(len(names), slots * math.ceil(len(names) / (most * slots)))
        return [names[first::tasks] for first in range(tasks)]  # neighbours are alike in what they cost

    def _kernel(self, watched: Watched, group: Sequence[str], by: tuple[str, ...]) -> CompareColumns:
        numeric = tuple(name for name in group if name in watched.numeric)
        categorical = tuple(name for name in group if name in watched.categorical)
        return CompareColumns(numeric, categorical, by, self.config.least_rows, watched.kinds)

    def _exactly(self, watched: Watched, group: Sequence[str], by: tuple[str, ...]) -> Flow:
        """Read some columns of both windows in one task, and compare them there."""
        read = self._read(watched, [*group, *by], 1).in_few(1)
        return read.map(self._kernel(watched, group, by), COMPARED)

    def _sketched(self, watched: Watched, rows: int) -> Flow:
        """Read all columns of some rows in each task; what is left of a column meets in one. rows: of a window."""
        size, tasks = self.config.sketch_points, self._tasks(rows)
        left = SketchColumns(watched.numeric, watched.categorical, size)
        met = self._read(watched, watched.names, tasks).map(left, SKETCHED)
        hint = 2 * tasks * len(watched.names) * size // POINTS_A_ROW
        return met.by_key(["column"], rows_hint=hint).map(MergeSketches(watched.numeric, size, watched.kinds), COMPARED)

    def _segments(self, watched: Watched, by: tuple[str, ...], rows: int) -> Flow:
        """Bring the rows of each segment into one task (one shuffle of all rows), and compare them there."""
        columns = [*watched.names, *by]
        exactly = dataclasses.replace(self._kernel(watched, watched.names, by), whole=False)
        most = max(1, self.config.task_bytes // (len(columns) * BYTES))
        kernel = CompareSegments(exactly, most, self.config.sketch_points)
        met = self._read(watched, columns, self._tasks(rows), encoded=False)  # dictionaries of tasks differ
        return met.by_key(by, rows_hint=max(rows, rows * len(columns) // CELLS_A_ROW)).map(kernel, COMPARED)

    def _tasks(self, rows: int) -> int:
        """Tasks that read a window by rows."""
        return min(SKETCHING * self.plane.slots, math.ceil(rows / SKETCHED_ROWS))

    def _read(self, watched: Watched, columns: Sequence[str], tasks: int, *, encoded: bool = True) -> Flow:
        """Marked rows of both windows, each in at most so many tasks. encoded: texts may come as dictionaries."""
        wanted, parts = list(dict.fromkeys(columns)), []
        for mark, side in zip(WINDOWS, watched.sides, strict=True):
            texts = wanted if encoded else ()
            read = self.plane.read(watched.table, version=side.version, columns=wanted, where=side.where, encoded=texts)
            parts.append(read.map(InWindow(mark), marked(read.schema)).in_few(max(1, tasks)))
        return parts[0].union(parts[1])
