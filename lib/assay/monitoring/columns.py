"""Consumes two windows of some columns in one task, produces how far apart they are, for all rows and by segment.

Tables lie column by column, so work is dealt by columns, not by rows: a task reads its columns of all rows of both
windows and no others, nothing is exchanged between tasks, and statistics are exact. A task holds 4 bytes a row and
column, and 4 a row for segments.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from assay.conformal.calibration import segment_labels
from assay.monitoring.samples import Apart, categories_apart, new_categories, numbers_apart

WINDOW = "__window"  # column of batches: 0 of the reference, 1 of the current window
WINDOWS = (REFERENCE, CURRENT) = (0, 1)
SEGMENT = "__segment"
NAMED = 3  # new categories
COMPARED = pa.schema(
    [
        pa.field("column", pa.string()),
        pa.field("kind", pa.string()),
        pa.field("numeric", pa.bool_()),
        pa.field("segment", pa.string()),  # empty for all rows
        *(
            pa.field(f"{what}_{window}", pa.int64())
            for window in ("reference", "current")
            for what in ("rows", "known")
        ),
        pa.field("bins", pa.list_(pa.list_(pa.int64()))),
        *(pa.field(name, pa.float64()) for name in ("ks", "wasserstein", "spread")),
        *(pa.field(f"median_{window}", pa.float64()) for window in ("reference", "current")),
        pa.field("new", pa.int64()),
        pa.field("new_categories", pa.list_(pa.string())),
    ]
)
Codes = npt.NDArray[np.int32]


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
class CompareColumns:
    """Kernel: marked batches of both windows -> rows of `COMPARED`.

    numeric, categorical: columns of numbers and of texts; missing and infinite numbers are left out and counted.
    by: columns whose values, joined by '|' as column=value, name a row's segment; none compares all rows alone.
    least: rows that a segment must have in both windows to be compared.  kinds: names of numbers and of categories.
    """

    numeric: tuple[str, ...]
    categorical: tuple[str, ...] = ()
    by: tuple[str, ...] = ()
    least: int = 1
    kinds: tuple[str, str] = ("number", "category")

    def __call__(self, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """One row per column and segment."""
        held = Held(self.numeric, self.categorical, self.by)
        for batch in batches:
            held.add(batch)
        orders = [held.by_segment(window) for window in WINDOWS] if self.by else []
        for name in (*self.numeric, *self.categorical):
            windows = [held.take(name, window) for window in WINDOWS]
            found = [self._row(name, "", windows)]
            if orders:
                found += [self._row(name, *one) for one in self._segments(held.segments, windows, orders)]
            yield pa.RecordBatch.from_pylist(found, COMPARED)

    def _segments(
        self, names: Sequence[str], windows: Sequence[Column], orders: Sequence[tuple[Codes, Codes]]
    ) -> Iterator[tuple[str, list[Column]]]:
        """A column's rows by segment."""
        ordered = [
            dataclasses.replace(column, values=column.values[order])
            for column, (order, _) in zip(windows, orders, strict=True)
        ]
        for code, segment in enumerate(names):
            spans = [slice(starts[code], starts[code + 1]) for _, starts in orders]
            if min(span.stop - span.start for span in spans) >= self.least:
                parts = zip(ordered, spans, strict=True)
                yield segment, [dataclasses.replace(column, values=column.values[span]) for column, span in parts]

    def _row(self, name: str, segment: str, windows: Sequence[Column]) -> dict[str, object]:
        reference, current = windows
        apart, new = reference.against(current)
        return {
            "column": name,
            "kind": self.kinds[reference.names is not None],
            "numeric": reference.names is None,
            "segment": segment,
            "rows_reference": len(reference.values),
            "known_reference": apart.reference,
            "rows_current": len(current.values),
            "known_current": apart.current,
            "bins": apart.bins.tolist(),
            **{statistic: getattr(apart, statistic) for statistic in ("ks", "wasserstein", "spread", "new")},
            "median_reference": apart.medians[0],
            "median_current": apart.medians[1],
            "new_categories": list(new),
        }


def apart_of(row: Mapping[str, Any]) -> Apart:
    """Read back a row of `COMPARED`."""
    return Apart(
        row["known_reference"],
        row["known_current"],
        np.array(row["bins"], dtype=np.int64).reshape(2, -1),
        medians=(row["median_reference"], row["median_current"]),
        **{statistic: row[statistic] for statistic in ("ks", "wasserstein", "spread", "new")},
    )


@dataclasses.dataclass(frozen=True)
class Column:
    """A column's rows in one window. names: of categories, whose codes `values` then are, -1 where one is missing."""

    values: npt.NDArray[Any]
    names: Sequence[str] | None = None

    def against(self, current: Column) -> tuple[Apart, Sequence[str]]:
        """Compare with the current window; also its most frequent new categories."""
        if self.names is None:
            return numbers_apart(_known(self.values), _known(current.values)), ()
        one, other = (_counts(column.values, self.names) for column in (self, current))
        return categories_apart(one, other), new_categories(one, other, NAMED)


def _known(values: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """The finite ones, sorted."""
    ordered = np.sort(values)  # what is no number comes last
    return ordered[np.searchsorted(ordered, -np.inf, "right") : np.searchsorted(ordered, np.inf, "left")]


def _counts(codes: Codes, names: Sequence[str]) -> dict[str, int]:
    found, rows = np.unique(codes[codes >= 0], return_counts=True)
    return {names[code]: count for code, count in zip(found.tolist(), rows.tolist(), strict=True)}


class Held:
    """What a task holds of the batches that it has read. segments: their names, by code."""

    def __init__(self, numeric: Sequence[str], categorical: Sequence[str], by: Sequence[str]) -> None:
        self._by = tuple(by)
        self._names: dict[str, dict[str, int]] = {name: {} for name in categorical}
        self._segments: dict[str, int] = {}
        self._parts: dict[tuple[str, int], list[npt.NDArray[Any]]] = {
            (name, window): [] for name in (*numeric, *categorical, SEGMENT) for window in WINDOWS
        }

    @property
    def segments(self) -> list[str]:
        """Names of the segments."""
        return list(self._segments)

    def add(self, batch: pa.RecordBatch) -> None:
        """Take what is needed of a batch, which may have rows of both windows."""
        marks = batch.column(WINDOW).to_numpy()
        for window in WINDOWS:
            count = np.count_nonzero(marks == window)
            if count:
                self._add(batch if count == len(marks) else batch.filter(pa.array(marks == window)), window)

    def _add(self, batch: pa.RecordBatch, window: int) -> None:
        for (name, of), parts in self._parts.items():
            if of != window:
                continue
            if name in self._names:
                parts.append(_codes(batch.column(name), self._names[name]))
            elif name != SEGMENT:
                parts.append(batch.column(name).to_numpy(zero_copy_only=False))
            elif self._by:
                parts.append(self._segment_codes(batch))

    def _segment_codes(self, batch: pa.RecordBatch) -> Codes:
        """A code per row; names are made once for each combination of a batch."""
        coded = [batch.column(name).dictionary_encode() for name in self._by]
        texts = [np.array([*one.dictionary.to_pylist(), None], dtype=object) for one in coded]
        codes = [one.indices.fill_null(len(one.dictionary)).to_numpy(zero_copy_only=False) for one in coded]
        sizes = [len(text) for text in texts]
        combinations, of_row = np.unique(np.ravel_multi_index(codes, sizes), return_inverse=True)
        apart = np.unravel_index(combinations, sizes)
        columns = {name: text[code] for name, text, code in zip(self._by, texts, apart, strict=True)}
        found = [self._segments.setdefault(label, len(self._segments)) for label in segment_labels(columns)]
        return np.array(found, dtype=np.int32)[of_row]

    def take(self, name: str, window: int) -> Column:
        """A column in one window, which is held no longer."""
        parts = self._parts.pop((name, window))
        names = self._names.get(name)
        values = np.concatenate(parts) if parts else np.empty(0, np.float32 if names is None else np.int32)
        return Column(values, None if names is None else list(names))

    def by_segment(self, window: int) -> tuple[Codes, Codes]:
        """Places of the window's rows, segment by segment, (n,), and where each segment starts, (segments + 1,)."""
        codes = self.take(SEGMENT, window).values.astype(np.int32)
        order = np.argsort(codes, kind="stable").astype(np.int32)
        return order, np.searchsorted(codes[order], np.arange(len(self._segments) + 1)).astype(np.int32)


def _codes(column: pa.Array, names: dict[str, int]) -> Codes:
    """Codes of texts, -1 of those that are missing; `names` gets what is new."""
    coded = column.dictionary_encode()
    known = np.array([names.setdefault(n, len(names)) for n in coded.dictionary.to_pylist()] + [-1], dtype=np.int32)
    codes: Codes = known[coded.indices.fill_null(len(known) - 1).to_numpy(zero_copy_only=False)]
    return codes
