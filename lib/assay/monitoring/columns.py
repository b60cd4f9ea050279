"""Consumes two windows of some columns in one task, produces how far apart they are, for all rows and by segment.

A task that has its columns of all rows of both windows, or all rows of its segments, needs no other: nothing is
exchanged between tasks, and statistics are exact. It holds 4 bytes a row and column, and 4 a row for segments.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence

import pyarrow as pa

from assay.monitoring.compared import COMPARED, compared
from assay.monitoring.held import WINDOW, WINDOWS, Codes, Column, Held, parts_by_window
from assay.monitoring.tally import Tally

COUNTED = pa.schema([pa.field(WINDOW, pa.int8()), pa.field("rows", pa.int64())])


@dataclasses.dataclass(frozen=True)
class InWindow:
    """Kernel that marks batches with their window."""

    window: int

    def __call__(self, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """The same batches with one column more."""
        for batch in batches:
            mark = pa.repeat(pa.scalar(self.window, pa.int8()), batch.num_rows)
            yield batch.append_column(pa.field(WINDOW, pa.int8()), mark)


def marked(schema: pa.Schema) -> pa.Schema:
    """Schema after `InWindow`."""
    return schema.append(pa.field(WINDOW, pa.int8()))


@dataclasses.dataclass(frozen=True)
class CountRows:
    """Kernel: marked batches -> their rows, one row a batch."""

    def __call__(self, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """Rows of `COUNTED`."""
        for batch in batches:
            for window, part in parts_by_window(batch):
                yield pa.RecordBatch.from_pylist([{WINDOW: window, "rows": part.num_rows}], COUNTED)


@dataclasses.dataclass(frozen=True)
class CompareColumns:
    """Kernel: marked batches of both windows -> rows of `COMPARED`.

    numeric, categorical: columns of numbers and of texts; missing and infinite numbers are left out and counted.
    by: columns whose values, joined by '|' as column=value, name a row's segment; none compares all rows alone.
    least: rows that a segment must have in both windows to be compared.  kinds: names of numbers and of categories.
    whole: compare all rows of the task, too, in one segment without a name.
    """

    numeric: tuple[str, ...]
    categorical: tuple[str, ...] = ()
    by: tuple[str, ...] = ()
    least: int = 1
    kinds: tuple[str, str] = ("number", "category")
    whole: bool = True

    @property
    def names(self) -> tuple[str, ...]:
        """All columns."""
        return (*self.numeric, *self.categorical)

    def __call__(self, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """One row per column and segment."""
        held = Held(self.numeric, self.categorical, self.by)
        for batch in batches:
            held.add(batch)
        orders = [held.by_segment(window) for window in WINDOWS] if self.by else []
        for name in self.names:
            windows = [held.take(name, window) for window in WINDOWS]
            found = [compared(name, "", self.kinds, *windows)] if self.whole else []
            for segment, parts in _by_segment(held.segments, windows, orders) if orders else ():
                if min(part.rows for part in parts) >= self.least:
                    found.append(compared(name, segment, self.kinds, *parts))
            yield pa.RecordBatch.from_pylist(found, COMPARED)


def _by_segment(
    names: Sequence[str], windows: Sequence[Column], orders: Sequence[tuple[Codes, Codes]]
) -> Iterator[tuple[str, list[Column]]]:
    """A column's rows in both windows, segment by segment."""
    ordered = [column.at(order) for column, (order, _) in zip(windows, orders, strict=True)]
    for code, segment in enumerate(names):
        spans = [slice(starts[code], starts[code + 1]) for _, starts in orders]
        yield segment, [column.at(span) for column, span in zip(ordered, spans, strict=True)]


@dataclasses.dataclass(frozen=True)
class CompareSegments:
    """Kernel: marked batches with all rows of each segment that is among them -> rows of `COMPARED`, by segment.

    exactly: as `CompareColumns` tells of segments, as long as the task has at most `most` rows. When it has more, what
    it holds makes room: values of each column and segment go into a sketch, which leaves them as they are while they
    are few, and the next rows are read. size: points of one weight.
    """

    exactly: CompareColumns
    most: int
    size: int

    def __call__(self, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """One row per column and segment."""
        kept: list[pa.RecordBatch] = []
        rows = 0
        tallies: dict[tuple[str, str], list[Tally]] = {}
        for batch in batches:
            kept.append(batch)
            rows += batch.num_rows
            if rows > self.most:
                self._fold(kept, tallies)
                kept, rows = [], 0
        if not tallies:
            yield from self.exactly(iter(kept))
            return
        self._fold(kept, tallies)
        for (name, segment), windows in tallies.items():
            if min(tally.rows for tally in windows) >= self.exactly.least:
                yield pa.RecordBatch.from_pylist([compared(name, segment, self.exactly.kinds, *windows)], COMPARED)

    def _fold(self, batches: Sequence[pa.RecordBatch], tallies: dict[tuple[str, str], list[Tally]]) -> None:
        """Let sketches take the rows."""
        exactly = self.exactly
        held = Held(exactly.numeric, exactly.categorical, exactly.by)
        for batch in batches:
            held.add(batch)
        orders = [held.by_segment(window) for window in WINDOWS]
        for name in exactly.names:
            windows = [held.take(name, window) for window in WINDOWS]
            for segment, parts in _by_segment(held.segments, windows, orders):
                mine = tallies.setdefault(
                    (name, segment), [Tally(self.size, numeric=parts[0].numeric) for _ in WINDOWS]
                )
                for tally, part in zip(mine, parts, strict=True):
                    tally.add(dataclasses.replace(part, values=part.values.copy()))
