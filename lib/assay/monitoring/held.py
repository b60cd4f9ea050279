"""Consumes marked batches of two windows, produces their columns as arrays, by window and by segment."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from assay.conformal.calibration import segment_labels
from assay.monitoring.samples import Apart, categories_apart, known, new_categories, numbers_apart

WINDOW = "__window"  # column of batches: 0 of the reference, 1 of the current window
WINDOWS = (REFERENCE, CURRENT) = (0, 1)
SEGMENT = "__segment"
NAMED = 3  # new categories
Codes = npt.NDArray[np.int32]


def parts_by_window(batch: pa.RecordBatch) -> list[tuple[int, pa.RecordBatch]]:
    """A marked batch, which may have rows of both windows, window by window."""
    marks = batch.column(WINDOW).to_numpy()
    found = []
    for window in WINDOWS:
        count = np.count_nonzero(marks == window)
        if count:
            found.append((window, batch if count == len(marks) else batch.filter(pa.array(marks == window))))
    return found


@dataclasses.dataclass(frozen=True)
class Column:
    """A column's rows in one window. names: of categories, whose codes `values` then are, -1 where one is missing."""

    values: npt.NDArray[Any]
    names: Sequence[str] | None = None

    @property
    def rows(self) -> int:
        """How many, those without a value too."""
        return len(self.values)

    @property
    def numeric(self) -> bool:
        """Whether they are numbers, or categories."""
        return self.names is None

    def at(self, places: Any) -> Column:
        """Some of the rows."""
        return Column(self.values[places], self.names)

    def counts(self) -> dict[str, int]:
        """Rows of each category."""
        assert self.names is not None
        rows = np.bincount(self.values + 1, minlength=1)[1:]
        return {self.names[code]: int(rows[code]) for code in np.flatnonzero(rows).tolist()}

    def against(self, current: Column) -> tuple[Apart, Sequence[str]]:
        """Compare with the current window; also its most frequent new categories."""
        if self.names is None:
            return numbers_apart(known(self.values), known(current.values)), ()
        return counts_apart(self.counts(), current.counts())


def counts_apart(reference: Mapping[str, int], current: Mapping[str, int]) -> tuple[Apart, Sequence[str]]:
    """Categories of two windows, compared; also the most frequent new ones."""
    return categories_apart(reference, current), new_categories(reference, current, NAMED)


def numbers(column: pa.Array) -> npt.NDArray[Any]:
    """Values as they are, NaN where one is missing."""
    found: npt.NDArray[Any] = column.to_numpy(zero_copy_only=False)
    return found


def codes(column: pa.Array, names: dict[str, int]) -> Codes:
    """Codes of texts, -1 of those that are missing; `names` gets what is new."""
    coded = column.dictionary_encode()
    found = np.array([names.setdefault(n, len(names)) for n in coded.dictionary.to_pylist()] + [-1], dtype=np.int32)
    places = coded.indices.fill_null(len(found) - 1) if coded.null_count else coded.indices
    of_row: Codes = found[places.to_numpy(zero_copy_only=False)]
    return of_row


class Held:
    """What a task holds of the batches that it has read: so many rows."""

    def __init__(self, numeric: Sequence[str], categorical: Sequence[str], by: Sequence[str]) -> None:
        self.rows = 0
        self._by = tuple(by)
        self._names: dict[str, dict[str, int]] = {name: {} for name in categorical}
        self._segments: dict[str, int] = {}
        self._parts: dict[tuple[str, int], list[npt.NDArray[Any]]] = {
            (name, window): [] for name in (*numeric, *categorical, SEGMENT) for window in WINDOWS
        }

    @property
    def segments(self) -> list[str]:
        """Their names, by code."""
        return list(self._segments)

    def add(self, batch: pa.RecordBatch) -> None:
        """Take what is needed of a batch, which may have rows of both windows."""
        self.rows += batch.num_rows
        for window, part in parts_by_window(batch):
            self._add(part, window)

    def _add(self, batch: pa.RecordBatch, window: int) -> None:
        for (name, of), parts in self._parts.items():
            if of != window:
                continue
            if name in self._names:
                parts.append(codes(batch.column(name), self._names[name]))
            elif name != SEGMENT:
                parts.append(numbers(batch.column(name)))
            elif self._by:
                parts.append(self._segment_codes(batch))

    def _segment_codes(self, batch: pa.RecordBatch) -> Codes:
        """A code per row; names are made once for each combination of a batch."""
        coded = [batch.column(name).dictionary_encode() for name in self._by]
        texts = [np.array([*one.dictionary.to_pylist(), None], dtype=object) for one in coded]
        places = [one.indices.fill_null(len(one.dictionary)).to_numpy(zero_copy_only=False) for one in coded]
        sizes = [len(text) for text in texts]
        combinations, of_row = np.unique(np.ravel_multi_index(places, sizes), return_inverse=True)
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
        found = self.take(SEGMENT, window).values.astype(np.int32, copy=False)
        small = found.astype(np.uint16) if len(self._segments) <= 1 << 16 else found  # those are sorted faster
        order = np.argsort(small, kind="stable").astype(np.int32)
        rows = np.bincount(found, minlength=len(self._segments))
        return order, np.append(0, np.cumsum(rows)).astype(np.int32)
