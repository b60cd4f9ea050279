"""Consumes a column's rows part by part, produces what is compared in their place, in bounded memory."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from assay.monitoring.held import Column, counts_apart
from assay.monitoring.samples import Apart
from assay.monitoring.sketch import Sketch
from assay.monitoring.weighted import points_apart

COUNTS = pa.list_(pa.int64())
KEPT = (
    *(pa.field(name, pa.int64()) for name in ("rows", "low", "high")),
    *(pa.field(name, COUNTS) for name in ("weights", "sizes")),
    pa.field("points", pa.list_(pa.float64())),
    pa.field("names", pa.list_(pa.string())),
    pa.field("counts", COUNTS),
)


class Tally:
    """One column's rows in one window: how many, a sketch of numbers, how often each category occurs (exactly)."""

    def __init__(self, size: int, *, numeric: bool) -> None:
        """size: of the sketch."""
        self.rows = 0
        self.numeric = numeric
        self._sketch = Sketch(size)
        self._counts: Counter[str] = Counter()

    def add(self, part: Column) -> None:
        """Take rows."""
        self.rows += part.rows
        if self.numeric:
            self._sketch.add(part.values)
        else:
            self._counts.update(part.counts())

    def merge(self, other: Tally) -> None:
        """Take what another one has."""
        self.rows += other.rows
        self._sketch.merge(other._sketch)
        self._counts.update(other._counts)

    def against(self, current: Tally) -> tuple[Apart, Sequence[str]]:
        """Compare with the current window; also its most frequent new categories."""
        if self.numeric:
            return points_apart(self._sketch.points(), current._sketch.points()), ()
        return counts_apart(self._counts, current._counts)

    def as_row(self) -> dict[str, Any]:
        """Columns of `KEPT`: few points, all categories."""
        self._sketch.shrink()
        categories = {"names": list(self._counts), "counts": list(self._counts.values())}
        return {"rows": self.rows, **self._sketch.as_row(), **categories}

    @classmethod
    def of_row(cls, row: Mapping[str, Any], size: int, *, numeric: bool) -> Tally:
        """Read back a row of `KEPT`, whose lists are Arrow's."""
        found = cls(size, numeric=numeric)
        found.rows = row["rows"].as_py()
        arrays = {name: np.asarray(row[name].values) for name in ("weights", "sizes", "points")}
        found._sketch = Sketch.of_row({**arrays, **{name: row[name].as_py() for name in ("low", "high")}}, size)
        found._counts = Counter(dict(zip(row["names"].as_py(), row["counts"].as_py(), strict=True)))
        return found
