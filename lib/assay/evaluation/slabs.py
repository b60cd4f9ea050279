"""Consumes a sample of evaluated rows, produces the part of them where intervals hold least: the worst slab.

Coverage over all rows can hide a part where it fails (worst-slab coverage: Cauchois, Gupta and Duchi, 2021). They look
in random directions; here slabs are ranges of one input, or cells of two, so that a person can say where it is. As
there, the slab is found on one half of the rows and its coverage told of the other, which knows nothing of the search.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from assay.metrics import adjusted_p_values, wilson_bands
from assay.model.scale import Floats
from assay.pages.formats import edge
from assay.runtime.tables import level_label

CELLS = 4  # per input, where two are crossed
PAIRED = 6  # inputs that are crossed
LEAST_ROWS = 60  # of a slab in either half


@dataclass(frozen=True)
class Slab:
    """The worst slab of a level.

    where: words for it.  rows, coverage: of the half that it was not found on; low, high: 95 % (Wilson); p_value: how
    likely a coverage so far off is if the promise held there.  found_rows, found: of the half that it was found on,
    where the search makes it look worse than it is.  others: coverage of that other half's rows outside the slab.
    searched: how many slabs were looked at.
    """

    level: float
    where: str
    rows: int
    coverage: float
    low: float
    high: float
    p_value: float
    found_rows: int
    found: float
    others: float
    searched: int


@dataclass(frozen=True)
class Range:
    """Rows with low < value <= high; None is open."""

    column: str
    low: float | None
    high: float | None

    def holds(self, values: Floats) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
        """Which rows (n,) are in it; missing values are in none."""
        found = ~np.isnan(values)
        found &= True if self.low is None else values > self.low
        return np.asarray(found & (True if self.high is None else values <= self.high))

    @property
    def words(self) -> str:
        """Such as `size above 10 and up to 20`."""
        ends = [f"above {edge(self.low)}"] if self.low is not None else []
        ends += [f"up to {edge(self.high)}"] if self.high is not None else []
        return f"{self.column} {' and '.join(ends)}"


def worst_slab(sample: pl.DataFrame, level: float, grid: Mapping[str, Floats], *, least_share: float) -> Slab | None:
    """The slab with the lowest coverage of at least so large a share; None with too few rows.

    sample: `hash`, `actual`, bounds, and the columns of `grid`.  grid: column -> its edges (k,), from before the test:
    slabs are runs of their bands. Of equal ones the first is taken.
    """
    label = level_label(level)
    low, high = pl.col(f"lower_{label}").fill_nan(None), pl.col(f"upper_{label}").fill_nan(None)
    given = sample.filter(low.is_not_null() & high.is_not_null())
    inside = given.select((low <= pl.col("actual")) & (pl.col("actual") <= high)).to_series().to_numpy()
    half = (given["hash"].to_numpy() >> np.uint64(1)) & np.uint64(1) == 1  # the sample takes the hash by its high bits
    least = max(LEAST_ROWS, int(np.ceil(least_share * half.sum())))
    if half.sum() < 2 * least or (~half).sum() < 2 * LEAST_ROWS:
        return None
    values = {name: given[name].cast(pl.Float64).to_numpy() for name in grid}
    worst: tuple[float, tuple[Range, ...], int] | None = None
    searched = 0
    for ranges in _candidates(grid):
        part = half.copy()
        for one in ranges:
            part &= one.holds(values[one.column])
        rows = int(part.sum())
        if least <= rows < int(half.sum()):
            searched += 1
            coverage = float(inside[part].mean())
            if worst is None or coverage < worst[0]:
                worst = (coverage, ranges, rows)
    if worst is None:
        return None
    held = np.logical_and.reduce([one.holds(values[one.column]) for one in worst[1]])
    mine, rest = held & ~half, ~held & ~half
    rows = int(mine.sum())
    if rows < LEAST_ROWS // 2 or not rest.any():
        return None
    covered = float(inside[mine].sum())
    ends = wilson_bands([covered], [rows])
    return Slab(
        level=level,
        where=" and ".join(one.words for one in worst[1]),
        rows=rows,
        coverage=covered / rows,
        low=float(ends[0][0]),
        high=float(ends[1][0]),
        p_value=float(adjusted_p_values([covered], [rows], level)[0]),
        found_rows=worst[2],
        found=worst[0],
        others=float(inside[rest].mean()),
        searched=searched,
    )


def _candidates(grid: Mapping[str, Floats]) -> Iterator[tuple[Range, ...]]:
    """Every run of an input's bands, then every cell of two inputs."""
    for name, edges in grid.items():
        for low, high in itertools.combinations([None, *(float(e) for e in edges), None], 2):
            if low is not None or high is not None:
                yield (Range(name, low, high),)
    coarse = {name: _runs(name, edges) for name, edges in list(grid.items())[:PAIRED] if len(edges)}
    for one, other in itertools.combinations(coarse, 2):
        yield from itertools.product(coarse[one], coarse[other])


def _runs(name: str, edges: Floats) -> Sequence[Range]:
    inner = np.unique(edges[np.linspace(0, len(edges) - 1, CELLS + 1).round().astype(int)[1:-1]])
    ends = [None, *(float(e) for e in inner), None]
    return [Range(name, low, high) for low, high in itertools.pairwise(ends)]
