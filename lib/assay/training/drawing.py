"""Consumes how `row_id`s of labelled rows are spread, produces parts of rows that are drawn by it, alike in each run.

`row_id` is a hash, so a range of its values is a random share of the rows, whatever their order or time. Rows that come
later change nothing about the part of those that are there. Within classes (stratified), each class is cut by itself.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import itertools
from collections.abc import Iterator, Mapping

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from assay.errors import DataError
from assay.runtime.conditions import Condition, any_of
from assay.training.rows import LabelledRows
from assay.training.split import PERIODS, Period, Split
from assay.training.validation import Fold

ROW = "row_id"
BITS = 16  # a share is cut to within 1 / 2**BITS of all rows
BIN = 1 << (64 - BITS)
MOST_CLASSES = 1_000
SPREAD = pa.schema([pa.field("label", pa.string()), pa.field("bin", pa.int32()), pa.field("rows", pa.int64())])
Label = str | float | None


@dataclasses.dataclass(frozen=True)
class Spread:
    """How many rows of each class have a `row_id` in each of 2**BITS equal ranges.

    column: of the class; None where rows are drawn without looking at one.  counts: class -> (2**BITS,).
    first, last: times of the first and last row.
    """

    column: str | None
    counts: Mapping[Label, npt.NDArray[np.int64]]
    first: dt.datetime
    last: dt.datetime

    def part(self, start: float, end: float) -> Period:
        """The rows from one share of the draw to another, 0 <= start < end <= 1."""
        alternatives, rows = [], 0
        for label, counts in self.counts.items():
            low, high = (_cut(counts, share) for share in (start, end))
            rows += int(counts[low:high].sum())
            if low < high:
                alternatives.append([*self._of(label), *_between(low, high)])
        return Period(None, None, rows, self.first, self.last, any_of(*alternatives))

    def _of(self, label: Label) -> list[Condition]:
        return [Condition(self.column, "==", label)] if self.column is not None else []


def spread_of(
    rows: LabelledRows, times: Mapping[dt.datetime, int], by: str | None, seen: Period | None = None
) -> Spread:
    """Count rows by class and by range of their `row_id`.

    by: column of the class, None for no classes.  seen: rows to count; None counts all.

    Raises:
        DataError: the column has more than `MOST_CLASSES` values.
    """
    columns = [ROW, *([by] if by is not None else [])]
    found = rows.read(columns, *([seen] if seen is not None else [])).map(CountSpread(by), SPREAD).collect().to_pylist()
    text = by is not None and pa.types.is_string(rows.type_of(by))
    counts: dict[Label, npt.NDArray[np.int64]] = {}
    for line in sorted(found, key=lambda line: (line["label"] or "", line["bin"])):
        label: Label = None if by is None else line["label"] if text else float(line["label"])
        counts.setdefault(label, np.zeros(1 << BITS, dtype=np.int64))[line["bin"]] += line["rows"]
        if len(counts) > MOST_CLASSES:
            raise DataError(
                f"column {by!r} has more than {MOST_CLASSES} values, so rows cannot be drawn class by class: "
                "set split.method or validation.method to another"
            )
    return Spread(by, counts, min(times), max(times))


def drawn_split(spread: Spread, *, tune: float, calibrate: float, test: float) -> Split:
    """Four disjoint parts with these shares of the rows, and of each class's rows where they are drawn by class.

    Raises:
        DataError: nothing is left to train on, or a part has no rows.
    """
    left = 1 - tune - calibrate - test
    if left <= 0:
        raise DataError(
            f"split.tune + split.calibrate + split.test = {1 - left:g}: nothing is left to train on; make them smaller"
        )
    bounds = list(itertools.accumulate((0.0, left, tune, calibrate, test)))
    bounds[-1] = 1.0
    parts = [spread.part(start, end) for start, end in itertools.pairwise(bounds)]
    for name, part in zip(PERIODS, parts, strict=True):
        if not part.rows:
            total = sum(int(counts.sum()) for counts in spread.counts.values())
            raise DataError(f"of {total:,} labelled row(s) the part {name} gets none: give more, or a greater share")
    return Split(*parts)


def drawn_folds(spread: Spread, seen: Period, folds: int) -> list[Fold]:
    """K folds: each row judges once what learned from all others. seen: rows to look at; `spread` is of them.

    (Stone 1974; stratified: Kohavi 1995.)

    Raises:
        DataError: a fold would have no row.
    """
    found = []
    for number in range(folds):
        start, end = number / folds, (number + 1) / folds
        others = [spread.part(*pair) for pair in ((0.0, start), (end, 1.0)) if pair[0] < pair[1]]
        train = any_of(*(part.conditions() for part in others))
        judge = spread.part(start, end)
        rows = [round(seen.rows * share) for share in (1 - 1 / folds, 1 / folds)]
        if not judge.rows or not any(part.rows for part in others):
            raise DataError(f"fold {number + 1} of {folds} has no rows: set validation.folds to fewer")
        found.append(Fold(*(_within(seen, *pair) for pair in zip((train, judge.drawn), rows, strict=True))))
    return found


def _within(seen: Period, drawn: Condition | None, rows: int) -> Period:
    """Rows of a period that are drawn too."""
    assert drawn is not None
    both = drawn if seen.drawn is None else any_of([seen.drawn, drawn])
    return dataclasses.replace(seen, rows=rows, drawn=both)


def _cut(counts: npt.NDArray[np.int64], share: float) -> int:
    """The range that ends nearest to this share of the rows."""
    reached = np.concatenate([[0], np.cumsum(counts)])
    if share <= 0:
        return 0
    return len(counts) if share >= 1 else int(np.abs(reached - share * reached[-1]).argmin())


def _between(low: int, high: int) -> list[Condition]:
    """`row_id`s of ranges low to high - 1, which divide all 64-bit numbers."""
    lowest = -(1 << 63)
    bounds = [Condition(ROW, ">=", lowest + low * BIN)] if low else []
    return bounds + ([Condition(ROW, "<", lowest + high * BIN)] if high < 1 << BITS else [])


@dataclasses.dataclass(frozen=True)
class CountSpread:
    """Kernel: rows of `SPREAD`. by: column of the class, or None."""

    by: str | None

    def __call__(self, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """A share's counts, one batch."""
        parts: list[pa.Table] = []
        for batch in batches:
            ids = batch.column(ROW).to_numpy(zero_copy_only=False)
            bins = ((ids.view(np.uint64) ^ np.uint64(1 << 63)) >> np.uint64(64 - BITS)).astype(np.int32)
            label = pa.nulls(len(ids), pa.string()) if self.by is None else batch.column(self.by).cast(pa.string())
            table = pa.table({"label": label, "bin": bins})
            parts.append(table.group_by(["label", "bin"]).aggregate([([], "count_all")]))
        if parts:
            merged = pa.concat_tables(parts).group_by(["label", "bin"]).aggregate([("count_all", "sum")])
            named = {name: merged.column(name) for name in ("label", "bin")}
            table = pa.table({**named, "rows": merged.column("count_all_sum")}, schema=SPREAD)
            yield from table.combine_chunks().to_batches()
