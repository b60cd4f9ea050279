"""Consumes labelled batches and what prices them, produces rows with scores and, told apart, those without.

A row that makes the model raise, or that it has no number for, teaches a calibration nothing and stops none: it is left
out, counted, and told with the kind of error, as scoring tells of it.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Callable, Iterator

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from assay.model.isolation import Isolating
from assay.model.row_sample import ROW

UNPRICED = pa.field("unpriced", pa.string())  # kind of error of a row without scores; null of all others
NO_SCORE = "no_score"  # what the model or the outcome gave is no number
NAMED_ROWS = 3  # of a line


def told_apart(
    price: Callable[[pa.RecordBatch], pa.RecordBatch],
    batches: Iterator[pa.RecordBatch],
    schema: pa.Schema,
    numbers: str,
) -> Iterator[pa.RecordBatch]:
    """Rows of `schema`, which ends with `UNPRICED`; one without scores has that alone, and its `row_id`, if asked for.

    price: batch -> columns of `schema` but the last, of as many rows or fewer.  numbers: the one of them, floats or
    lists of as many floats, that has no NaN where a row is priced.

    Raises:
        AssayError: the error is ours, or no row at all can be priced (`Isolating`).
    """
    isolating = Isolating(price)
    for batch in batches:
        for given, found in isolating.told(batch):
            if isinstance(found, Exception):
                yield _unpriced(given, type(found).__name__, schema)
                continue
            unknown = pa.array(_unknown(found.column(numbers)))
            if unknown.true_count:
                yield _unpriced(found.filter(unknown), NO_SCORE, schema)
            rows = found.filter(pc.invert(unknown)) if unknown.true_count else found
            yield pa.record_batch([*rows.columns, pa.nulls(rows.num_rows, UNPRICED.type)], schema=schema)


def _unknown(column: pa.Array) -> npt.NDArray[np.bool_]:
    """Which rows (n,) have NaN, or nothing."""
    if not pa.types.is_list(column.type):
        return np.asarray(np.isnan(column.to_numpy(zero_copy_only=False)))
    values = column.flatten().to_numpy(zero_copy_only=False)
    return np.asarray(np.isnan(values).reshape(len(column), -1).any(axis=1))


def _unpriced(rows: pa.RecordBatch, why: str, schema: pa.Schema) -> pa.RecordBatch:
    ids = {ROW: rows.column(ROW)} if ROW in schema.names and ROW in rows.schema.names else {}
    told = {**ids, UNPRICED.name: pa.repeat(why, rows.num_rows)}
    columns = [told[f.name] if f.name in told else pa.nulls(rows.num_rows, f.type) for f in schema]
    return pa.record_batch(columns, schema=schema)


@dataclasses.dataclass(frozen=True)
class Unpriced:
    """Rows that were left out. kinds: of errors, with how many rows each.  rows: ids, the least ones."""

    kinds: Counter[str] = dataclasses.field(default_factory=Counter)
    rows: tuple[int, ...] = ()

    @property
    def count(self) -> int:
        """How many there are."""
        return self.kinds.total()

    def line(self, what: str) -> str:
        """What a person is told. what: rows of which time."""
        ids = ", ".join(map(str, self.rows)) + (", ..." if self.count > len(self.rows) else "")
        kinds = ", ".join(f"{kind} {count:,}" for kind, count in sorted(self.kinds.items()))
        return f"{self.count:,} rows {what} could not be priced and are left out: {kinds} (row_id {ids})"


def split_apart(found: pa.Table) -> tuple[pa.Table, Unpriced]:
    """What `told_apart` gave -> the rows with scores, without that column, and the others."""
    failed = pc.is_valid(found.column(UNPRICED.name))
    rows = found.drop_columns([UNPRICED.name])
    if not pc.any(failed).as_py():
        return rows, Unpriced()
    lost = found.filter(failed)
    ids = sorted(lost.column(ROW).to_pylist())[:NAMED_ROWS] if ROW in lost.column_names else []
    return rows.filter(pc.invert(failed)), Unpriced(Counter(lost.column(UNPRICED.name).to_pylist()), tuple(ids))
