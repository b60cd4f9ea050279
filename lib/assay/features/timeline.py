"""Consumes condensed rows of whole keys, produces cells, one per key and time, with the past of each as a slice."""

from __future__ import annotations

import copy
import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import numpy.typing as npt

from assay.features.condensed import cell_starts
from assay.features.exact import PassingSums, RunningSums

if TYPE_CHECKING:
    import polars as pl

Positions = npt.NDArray[np.int64]
Numbers = npt.NDArray[np.float64]
T = TypeVar("T")

DAY_US = 86_400_000_000
LARGE_CELLS = 1_000_000


def days_us(days: float) -> int:
    """Days as whole microseconds."""
    return round(days * DAY_US)


class Itself:
    """A list of 0, 1, 2, ... without end that takes no room."""

    def __getitem__(self, positions: Positions) -> Positions:
        """The positions."""
        return positions


@dataclasses.dataclass(frozen=True)
class Known:
    """Cells with a known value. positions: of these, int64, to be looked up.  means: mean value of each.

    before: how many of them lie before each position, for positions from 0 to the number of cells.
    """

    positions: Positions | Itself
    means: Numbers
    before: Positions | Itself

    def at(self, index: Positions, there: npt.NDArray[np.bool_]) -> Positions:
        """Position of the index-th of them, 0 where it is not `there`."""
        found = np.zeros(len(index), dtype=np.int64)
        found[there] = self.positions[index[there]]
        return found


class Timeline:
    """Cells in order of key and time. Positions are counted over all cells; those of one key lie together.

    Features are wanted at the cells that were asked for: `time`, `key`, `key_start` and `first_since` have one entry
    for each of them. Sums and counts are over all cells.

    times: microseconds since 1970, one per cell.
    oldest_us: values further back are forgotten; None forgets nothing.
    """

    def __init__(self, condensed: pl.DataFrame, by: Sequence[str], *, oldest_us: int | None = None) -> None:
        """Take rows of `condense` or `merge`, in their order."""
        import polars as pl

        self._rows, self._by = condensed, list(by)
        starts = cell_starts(condensed, [*by, "time"])
        # Rows are cells in most tables; then no list of their bounds is kept.
        self._row_bounds = None if len(starts) == condensed.height else np.append(starts, condensed.height)
        self.times = self.cells.select(pl.col("time").dt.timestamp("us")).to_series().to_numpy()
        self.large = len(self.times) > LARGE_CELLS
        self._firsts = cell_starts(self.cells, self._by)
        lengths = np.diff(self._firsts, append=len(self.times))
        self._key = np.repeat(np.arange(len(self._firsts), dtype=np.int32), lengths)
        self.oldest_us = oldest_us
        # The cells of a single key are places in time; of many keys, a number of key and moment is.
        self._moments = self._place = self.times
        if self.several:
            self._moments, rank = np.unique(self.times, return_inverse=True)
            self._rank = rank.astype(np.int32)
            self._place = self.keys * (len(self._moments) + 1) + rank
        self._shared: dict[Any, Any] = {}
        self._ask(None)

    def _ask(self, positions: Positions | None) -> None:
        """At these cells, or at all of them. What is said of them is made when it is wanted: cells may be many."""
        self._positions = positions
        self._found: dict[int, Positions] = {}
        for name in ("asked", "time", "key", "key_start"):
            self.__dict__.pop(name, None)

    @functools.cached_property
    def asked(self) -> Positions:
        """Positions of the cells asked for."""
        return np.arange(len(self.times)) if self._positions is None else self._positions

    @functools.cached_property
    def time(self) -> Positions:
        """Time of each cell asked for."""
        return self.times if self._positions is None else self.times[self._positions]

    @functools.cached_property
    def key(self) -> Positions:
        """Number of the key of each cell asked for."""
        return (self._key if self._positions is None else self._key[self._positions]).astype(np.int64)

    @functools.cached_property
    def key_start(self) -> Positions:
        """Position of the first cell of the key of each cell asked for."""
        return self._firsts[self.key]

    @property
    def several(self) -> bool:
        """Whether it is of more than one key."""
        return len(self._firsts) > 1

    @property
    def cells(self) -> pl.DataFrame:
        """Key columns and `time`, one row per cell."""
        found = self._rows.select(*self._by, "time")
        return found if self._row_bounds is None else found[self._row_bounds[:-1]]

    @property
    def keys(self) -> Positions:
        """Number of each cell's key, of all cells."""
        return self._key.astype(np.int64)

    def at(self, positions: Positions) -> Timeline:
        """The same timeline, asked at these cells alone (int64, ascending). What was summed up before is kept."""
        view = copy.copy(self)
        view._ask(None if len(positions) == len(self.times) else positions)
        return view

    def once(self, key: Any, make: Callable[[], T], *, bulky: bool = False) -> T:
        """What `make` gives, made once for the timeline and all its views; what is bulky again where they are large."""
        if key not in self._shared:
            if bulky and self.large:
                return make()
            self._shared[key] = make()
        found: T = self._shared[key]
        return found

    def summed(self, values: Callable[[slice], Any], rows: int) -> RunningSums | PassingSums:
        """Sums of what a function gives for stretches of rows; of large timelines they take no room."""
        return (PassingSums if self.large else RunningSums)(values, rows)

    def done_with(self, value: str) -> None:
        """Let go of what was made of a value's cells, where they are many."""
        if self.large:
            for key in [key for key in self._shared if key[0] == value]:
                del self._shared[key]

    def first_since(self, back_us: int) -> Positions:
        """Per cell asked for, at t: position of the first cell of its key at or after t - back_us."""
        if back_us == 0:
            return self.asked
        if back_us not in self._found:
            if not self.several:
                self._found[back_us] = np.searchsorted(self._place, self.time - back_us)
                return self._found[back_us]
            if len(self._moments) < len(self.time):
                rank = np.searchsorted(self._moments, self._moments - back_us)[self._rank[self.asked]]
            else:
                rank = np.searchsorted(self._moments, self.time - back_us)
            span = len(self._moments) + 1
            self._found[back_us] = np.searchsorted(self._place, self.key * span + rank)
        return self._found[back_us]

    def oldest(self, delay_us: int) -> Positions:
        """Per cell asked for: position of the oldest cell of its key that is not forgotten."""
        return self.key_start if self.oldest_us is None else self.first_since(delay_us + self.oldest_us)

    def since(self, delay_us: int, span_us: int) -> Positions:
        """Per cell asked for: first cell of the window of `span_us`, or of as much as is remembered."""
        return self.first_since(delay_us + (span_us if self.oldest_us is None else min(span_us, self.oldest_us)))

    def months(self, zone: str, *, back_us: int = 0, everywhere: bool = False) -> Positions:
        """Calendar month of the time less `back_us` in a zone, counted from year 0, of cells asked for or all cells."""
        import polars as pl

        times = self.times if everywhere else self.time
        moment = pl.from_epoch(pl.Series(times - back_us), time_unit="us").dt.replace_time_zone("UTC")
        local = moment.dt.convert_time_zone(zone)
        return (local.dt.year().cast(pl.Int64) * 12 + local.dt.month().cast(pl.Int64)).to_numpy()

    def counts(self, value: str) -> Positions:
        """Known values per cell, of all cells."""
        return self.once((value, "n"), lambda: self._per_cell(value, "n", np.add))

    def count(self, value: str, start: Positions, stop: Positions) -> Numbers:
        """Known values in the cells start <= position < stop."""

        def run() -> Positions | Itself:
            counts = self.counts(value)
            return Itself() if (counts == 1).all() else np.concatenate(([0], np.cumsum(counts)))

        running = self.once((value, "n+"), run)
        return (running[stop] - running[start]).astype(np.float64)

    def known(self, value: str) -> Known:
        """The cells that have a known value."""

        def find() -> Known:
            counts = self.counts(value)
            every = bool((counts > 0).all())
            positions = np.arange(len(counts)) if every else np.flatnonzero(counts)
            if self._row_bounds is None and f"{value}|q" not in self._rows.columns:
                means = self._rows[f"{value}|s"].to_numpy()[slice(None) if every else positions]
            else:
                means = self.sums(value, "s")(positions, positions + 1) / counts[positions]
            if every:
                return Known(Itself(), means, Itself())
            return Known(positions, means, np.concatenate(([0], np.cumsum(counts > 0))))

        return self.once((value, "known"), find)

    def extremes(self, value: str, moment: str) -> Numbers:
        """Least (`lo`) or greatest (`hi`) value per cell, NaN where none is known, of all cells."""
        add = np.fmin if moment == "lo" else np.fmax
        return self.once((value, moment), lambda: self._per_cell(value, moment, add), bulky=True)

    def sums(
        self, value: str, moment: str, *, weight: tuple[Any, Callable[[Numbers], Numbers]] | None = None
    ) -> Callable[[Positions, Positions], Numbers]:
        """A function (start, stop) -> sum of moment `n`, `s` or `q` over the cells start <= position < stop.

        weight: a name and a function of the times (microseconds) by whose result each value is multiplied before.
        """

        def make() -> RunningSums | PassingSums:
            numbers = self._numbers(value, moment)
            if weight is None:
                return RunningSums(numbers)
            times, weights = self._row_times(), weight[1]
            return self.summed(lambda rows: numbers[rows] * weights(times[rows].astype(np.float64)), len(numbers))

        sums = self.once((value, moment, weight and weight[0]), make, bulky=weight is not None)
        bounds = self._row_bounds
        if bounds is None:
            return sums.between
        return lambda start, stop: sums.between(bounds[start], bounds[stop])

    def _row_times(self) -> Positions:
        bounds = self._row_bounds
        return self.times if bounds is None else np.repeat(self.times, np.diff(bounds))

    def _numbers(self, value: str, moment: str) -> Any:
        """A moment of each condensed row; of lean ones it follows from the sum, which is the value."""
        if f"{value}|{moment}" in self._rows.columns:
            return self._rows[f"{value}|{moment}"].to_numpy()
        single = self._rows[f"{value}|s"].to_numpy()
        if moment == "q":
            return single * single
        there = self._rows[f"{value}|n"].to_numpy() > 0
        return single if there.all() else np.where(there, single, np.nan)

    def _per_cell(self, value: str, moment: str, add: np.ufunc) -> Any:
        rows = self._numbers(value, moment)
        return rows if self._row_bounds is None else add.reduceat(rows, self._row_bounds[:-1])
