"""Consumes condensed rows of whole keys, produces cells, one per key and time, with the past of each as a slice."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from assay.features.condensed import cell_starts
from assay.features.exact import RunningSums

if TYPE_CHECKING:
    import polars as pl

DAY_US = 86_400_000_000


def days_us(days: float) -> int:
    """Days as whole microseconds."""
    return round(days * DAY_US)


class Timeline:
    """Cells in order of key and time. Positions are counted over all cells; those of one key lie together.

    cells: key columns and `time`, one row per cell. time: microseconds since 1970, shape (n,).
    key_start: position of the first cell of each cell's key.
    """

    def __init__(self, condensed: pl.DataFrame, by: Sequence[str]) -> None:
        """Take rows of `condense` or `merge`, in their order."""
        import polars as pl

        self._rows = condensed
        starts = cell_starts(condensed, [*by, "time"])
        self._row_bounds = np.append(starts, condensed.height)
        self.cells = condensed.select(*by, "time")[starts]
        self.time = self.cells.select(pl.col("time").dt.timestamp("us")).to_series().to_numpy()
        firsts = cell_starts(self.cells, list(by))
        lengths = np.diff(firsts, append=len(self.time))
        self.key = np.repeat(np.arange(len(firsts)), lengths)
        self.key_start = np.repeat(firsts, lengths)
        self._moments, self._rank = np.unique(self.time, return_inverse=True)
        self._found: dict[int, np.ndarray] = {}

    def first_since(self, back_us: int) -> np.ndarray:
        """Per cell at t: position of the first cell of its key at or after t - back_us; int64, shape (n,)."""
        if back_us == 0:
            return np.arange(len(self.time))
        if back_us not in self._found:
            rank = np.searchsorted(self._moments, self._moments - back_us)[self._rank]
            span = len(self._moments) + 1
            self._found[back_us] = np.searchsorted(self.key * span + self._rank, self.key * span + rank)
        return self._found[back_us]

    def months(self, zone: str, *, back_us: int = 0) -> np.ndarray:
        """Calendar month of each cell's time less `back_us` in a time zone, counted from year 0; int64, shape (n,)."""
        import polars as pl

        moment = pl.from_epoch(pl.Series(self.time - back_us), time_unit="us").dt.replace_time_zone("UTC")
        local = moment.dt.convert_time_zone(zone)
        return (local.dt.year().cast(pl.Int64) * 12 + local.dt.month().cast(pl.Int64)).to_numpy()

    def counts(self, value: str) -> np.ndarray:
        """Known values per cell; int64, shape (n,)."""
        return self._per_cell(f"{value}|n", np.add)

    def extremes(self, value: str, moment: str) -> np.ndarray:
        """Least (`lo`) or greatest (`hi`) value per cell, NaN where none is known."""
        return self._per_cell(f"{value}|{moment}", np.fmin if moment == "lo" else np.fmax)

    def sums(self, value: str, moment: str) -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
        """A function (start, stop) -> sum of moment `s` or `q` over the cells start <= position < stop."""
        running, bounds = RunningSums(self._rows[f"{value}|{moment}"].to_numpy()), self._row_bounds
        return lambda start, stop: running.between(bounds[start], bounds[stop])

    def _per_cell(self, column: str, add: np.ufunc) -> np.ndarray:
        rows = self._rows[column].to_numpy()
        starts = self._row_bounds[:-1]
        return rows if len(starts) == len(rows) else add.reduceat(rows, starts)
