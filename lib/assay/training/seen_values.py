"""Consumes training rows, produces what each input had in them: its range, its categories, how many rows know it.

One pass. Counts, least and greatest values do not depend on how rows are cut into tasks.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from assay.model.encoding import Seen
from assay.model.scale import as_floats

VALUES = pa.schema(
    [
        pa.field("column", pa.string()),
        pa.field("value", pa.string()),  # one category; null in the row of a column's counts
        pa.field("rows", pa.int64()),
        pa.field("known", pa.int64()),
        pa.field("low", pa.float64()),
        pa.field("high", pa.float64()),
    ]
)


class _Column:
    """What one column of a share has. Infinite numbers count as missing, as they do to the encoding."""

    def __init__(self) -> None:
        self.rows = self.known = 0
        self.low, self.high = np.inf, -np.inf
        self.values: set[str] = set()

    def add(self, column: pa.Array) -> None:
        self.rows += len(column)
        if pa.types.is_string(column.type):
            self.known += len(column) - column.null_count
            self.values.update(column.unique().drop_null().to_pylist())
            return
        values = as_floats(column) if column.null_count else column.to_numpy()
        if len(values) and not np.isfinite(values.sum(dtype=np.float64)):
            values = values[np.isfinite(values)]
        if len(values):
            self.known += len(values)
            self.low, self.high = min(self.low, float(values.min())), max(self.high, float(values.max()))

    def told(self, name: str) -> list[dict[str, Any]]:
        found = self.low <= self.high
        counts = {"column": name, "rows": self.rows, "known": self.known}
        ranged = {"low": self.low, "high": self.high} if found else {}
        return [{**counts, **ranged}, *({"column": name, "value": value} for value in sorted(self.values))]


def seen_values(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """Kernel: rows of `VALUES` of a share, one per column and one per category; missing values have none."""
    columns: dict[str, _Column] = {}
    for batch in batches:
        for name in batch.schema.names:
            columns.setdefault(name, _Column()).add(batch.column(name))
    if columns:
        rows = [row for name, column in columns.items() for row in column.told(name)]
        yield pa.RecordBatch.from_pylist(rows, schema=VALUES)


def vocabulary(found: pa.Table, categories: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """Category -> its values, sorted, from the rows of all shares."""
    values: dict[str, set[str]] = {name: set() for name in categories}
    for row in found.filter(pc.is_valid(found.column("value"))).select(["column", "value"]).to_pylist():
        values[row["column"]].add(row["value"])
    return {name: tuple(sorted(known)) for name, known in values.items()}


def seen(found: pa.Table) -> dict[str, Seen]:
    """Column -> what the rows of all shares had there."""
    counted = found.filter(pc.is_null(found.column("value"))).group_by("column")
    merged = counted.aggregate([("rows", "sum"), ("known", "sum"), ("low", "min"), ("high", "max")])
    return {
        row["column"]: Seen(row["known_sum"] / row["rows_sum"], row["low_min"], row["high_max"])
        for row in sorted(merged.to_pylist(), key=lambda row: str(row["column"]))
        if row["rows_sum"]
    }
