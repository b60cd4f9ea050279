"""Consumes marked batches of two windows in many tasks, produces how far apart their columns are, in bounded memory.

Each task reads some rows of all columns and hands on few points of each; those of a column meet in one task. What is
lost on the way is stated: `error` of `COMPARED`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import pyarrow as pa

from assay.monitoring.compared import COMPARED, compared
from assay.monitoring.held import CURRENT, REFERENCE, WINDOWS, Column, codes, numbers, parts_by_window
from assay.monitoring.tally import KEPT, Tally

SKETCHED = pa.schema([pa.field("column", pa.string()), pa.field("window", pa.int8()), *KEPT])


@dataclasses.dataclass(frozen=True)
class SketchColumns:
    """Kernel: marked batches -> rows of `SKETCHED`, one a column and window, also where a task has no row of it.

    numeric, categorical: columns.  size: points of one weight.
    """

    numeric: tuple[str, ...]
    categorical: tuple[str, ...]
    size: int

    def __call__(self, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """What is left of a task's rows."""
        names = [(name, name in self.numeric) for name in (*self.numeric, *self.categorical)]
        tallies = {(n, window): Tally(self.size, numeric=is_number) for n, is_number in names for window in WINDOWS}
        for batch in batches:
            for window, part in parts_by_window(batch):
                for name, is_number in names:
                    tallies[name, window].add(_column(part.column(name), is_number))
        rows = [{"column": name, "window": window, **tally.as_row()} for (name, window), tally in tallies.items()]
        yield pa.record_batch([pa.array([row[f.name] for row in rows], f.type) for f in SKETCHED], schema=SKETCHED)


def _column(values: pa.Array, is_number: bool) -> Column:
    if is_number:
        return Column(numbers(values))
    names: dict[str, int] = {}
    return Column(codes(values, names), list(names))


@dataclasses.dataclass(frozen=True)
class MergeSketches:
    """Kernel: rows of `SKETCHED`, all of a column in one task -> rows of `COMPARED`, of all rows of the windows."""

    numeric: tuple[str, ...]
    size: int
    kinds: tuple[str, str] = ("number", "category")

    def __call__(self, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """One row per column."""
        found: dict[str, dict[int, Tally]] = {}
        for batch in batches:
            for place in range(batch.num_rows):
                row = {name: batch.column(name)[place] for name in SKETCHED.names}
                name, window = row["column"].as_py(), row["window"].as_py()
                part = Tally.of_row(row, self.size, numeric=name in self.numeric)
                windows = found.setdefault(name, {w: Tally(self.size, numeric=part.numeric) for w in WINDOWS})
                windows[window].merge(part)
        for name, windows in found.items():
            row = compared(name, "", self.kinds, windows[REFERENCE], windows[CURRENT])
            yield pa.RecordBatch.from_pylist([row], COMPARED)
