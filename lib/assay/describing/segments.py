"""Consumes categories and a target, produces the columns that split results: a tree, the broadest first."""

from __future__ import annotations

import dataclasses

import numpy as np
import polars as pl

from assay.describing.columns import Codes, Column, determined, joined
from assay.describing.granularity import Looked
from assay.describing.leaks import variance_between

LEVELS = 2
MOST_VALUES = 200
MIN_ROWS = 100  # of a segment, on average
MIN_GAIN = 0.02  # share of the target's variance


@dataclasses.dataclass(frozen=True)
class Segment:
    """A level of the tree.

    share: of the variance of the target's ranks, between its values and those of the levels before it.
    """

    column: str
    share: float
    values: int


def find_segments(target: str, looked: Looked, names: list[str]) -> list[Segment]:
    """Up to two levels, each chosen for how much it adds; the broadest first. Empty where nothing explains much."""
    values = looked.columns[target].numbers
    known = np.isfinite(values)
    ranked = pl.Series(values[known]).rank("average").to_numpy()
    able = {name: looked.columns[name] for name in names if _able(looked.columns[name], looked)}
    alone = set(looked.entity.columns) if len(looked.entity.columns) == 1 else set()
    # An entity's own level explains all there is; only where nothing broader does, each is a segment.
    broad = _chosen({name: c for name, c in able.items() if name not in alone}, looked, known, ranked)
    chosen = broad or _chosen({name: c for name, c in able.items() if name in alone}, looked, known, ranked)
    chosen.sort(key=lambda column: column.distinct)
    levels = [chosen[: place + 1] for place in range(len(chosen))]
    return [Segment(c[-1].name, variance_between(_cells(c)[known], ranked), c[-1].distinct) for c in levels]


def _chosen(able: dict[str, Column], looked: Looked, known: Codes, ranked: Codes) -> list[Column]:
    """The levels that add most, in the order of what they add."""
    chosen: list[Column] = []
    explained = 0.0
    while len(chosen) < LEVELS:
        gains = {
            name: variance_between(_cells([*chosen, column])[known], ranked) - explained
            for name, column in able.items()
            if column not in chosen and _fits([*chosen, column], looked)
        }
        best = max(gains, key=lambda name: gains[name], default=None)
        if best is None or gains[best] < MIN_GAIN:
            break
        chosen.append(able[best])
        explained += gains[best]
    return chosen


def _able(column: Column, looked: Looked) -> bool:
    return 1 < column.distinct <= min(MOST_VALUES, looked.rows // MIN_ROWS) and column.missing < 0.2


def _fits(columns: list[Column], looked: Looked) -> bool:
    """Cells have rows enough, and no level says what another one says."""
    cells = _cells(columns)
    count = len(np.unique(cells))
    if count * MIN_ROWS > looked.rows or (len(columns) > 1 and count > 0.9 * looked.entity.count):
        return False
    *before, last = columns
    return all(determined(one.codes, last.codes, 0.99) < 0.99 for one in before)


def _cells(columns: list[Column]) -> Codes:
    together = joined(*(column.codes for column in columns))
    return pl.Series(together).rank("dense").to_numpy().astype(np.int64) - 1
