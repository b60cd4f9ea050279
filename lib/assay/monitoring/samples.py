"""Consumes two samples of one column, produces how far apart they are: exact statistics, no tests yet.

Samples are sorted once; everything else is read off the two sorted arrays. Of large samples most values are never
searched for: where the two distribution functions cannot be further apart than somewhere else, they need no look.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.floating]
Counts = npt.NDArray[np.int64]
BINS = 10  # of the reference's rows, as the index of population stability has them
MOST_CATEGORIES = 1_000  # that are told apart; rarer ones are one
FEW_ROWS = 1 << 14  # of a sample whose every value is searched for
BLOCK_ROWS = 1 << 13  # whose doubles stay in a core's cache


@dataclasses.dataclass(frozen=True)
class Apart:
    """Two samples of a column, compared.

    reference, current: known values of each.  bins: rows of the reference and of the current sample in each bin,
    (2, bins).  ks: largest distance of the two distribution functions, 0 to 1; NaN of categories, and where a sample
    has no value.  wasserstein: area between them, in the column's unit.  spread: standard deviation of the reference,
    in the same.  new: rows of the current sample with a category that the reference has not.  error: by how much ks may
    be wrong, where samples were too large to be kept; nothing else is known better.
    """

    reference: int
    current: int
    bins: Counts
    ks: float = np.nan
    wasserstein: float = np.nan
    spread: float = np.nan
    medians: tuple[float, float] = (np.nan, np.nan)
    new: int = 0
    error: float = 0.0


def known(values: Floats) -> Floats:
    """The finite ones, sorted."""
    ordered = np.sort(values)  # what is no number comes last
    return ordered[np.searchsorted(ordered, -np.inf, "right") : np.searchsorted(ordered, np.inf, "left")]


def numbers_apart(reference: Floats, current: Floats) -> Apart:
    """Compare two sorted samples of finite numbers, (n,) and (m,).

    bins are those of the reference's deciles, fewer where ties make some equal; their lower ends are open.
    """
    n, m = len(reference), len(current)
    edges = decile_edges(reference)
    bins = np.stack([bin_counts(sample, edges) for sample in (reference, current)])
    if not n or not m:
        return Apart(n, m, bins)
    return Apart(
        n,
        m,
        bins,
        ks=largest_distance(reference, current),
        wasserstein=area_between(reference, current),
        spread=_spread(reference),
        medians=(_median(reference), _median(current)),
    )


def _median(ordered: Floats) -> float:
    return (float(ordered[(len(ordered) - 1) // 2]) + float(ordered[len(ordered) // 2])) / 2


def _spread(ordered: Floats) -> float:
    """Standard deviation, in doubles, of differences to the median, so that a large mean costs no digits."""
    middle, total, squares = _median(ordered), 0.0, 0.0
    for start in range(0, len(ordered), BLOCK_ROWS):
        gaps = np.subtract(ordered[start : start + BLOCK_ROWS], middle, dtype=np.float64)
        total += float(gaps.sum())
        squares += float(gaps @ gaps)
    return math.sqrt(max(squares - total * total / len(ordered), 0.0) / len(ordered))


def largest_distance(reference: Floats, current: Floats) -> float:
    """Kolmogorov and Smirnov's statistic of two sorted samples, neither empty.

    Between two values of a grid neither distribution function leaves the range that it has at its ends, so that most
    stretches cannot hold the largest distance, and only the others are looked into.
    """
    n, m = len(reference), len(current)
    if max(n, m) <= FEW_ROWS:
        return _distance_at(reference, current, np.arange(m))
    every = math.isqrt(max(n, m)) // 8  # what chance does to the distance is several times as much
    grid = np.unique(np.concatenate([reference[::every], current[::every]]))
    before, after = zip(*(_around(sample, grid) for sample in (reference, current)), strict=True)
    low, high = ([places[0] / n, places[1] / m] for places in (before, after))
    least = float(max(np.abs(low[0] - low[1]).max(), np.abs(high[0] - high[1]).max()))
    most = np.maximum(low[0][1:] - high[1][:-1], low[1][1:] - high[0][:-1])
    open_ = np.flatnonzero(most > least)
    starts, sizes = after[1][open_], before[1][open_ + 1] - after[1][open_]
    places = np.repeat(starts - np.cumsum(sizes) + sizes, sizes) + np.arange(sizes.sum())
    return max(least, _distance_at(reference, current, places))


def _distance_at(reference: Floats, current: Floats, places: Counts) -> float:
    """The largest distance at these places of the current sample, which have all equal values or none of them.

    The reference's distribution function is above the other's by most just before a step of the other, and below it by
    most right after one: the steps of one sample are enough.
    """
    if not len(places):
        return 0.0
    n, m, values = len(reference), len(current), current[places]
    before, after = _around(reference, values)
    starts = np.flatnonzero(np.concatenate([[True], values[1:] != values[:-1]]))
    lasts = np.append(starts[1:], len(values)) - 1
    above = before[starts] / n - places[starts] / m
    below = (places[lasts] + 1) / m - after[starts] / n
    return float(max(above.max(), below.max(), 0.0))


def _around(ordered: Floats, values: Floats) -> tuple[Counts, Counts]:
    """How many of a sorted sample are less than each value, and how many are at most as large."""
    last = len(ordered) - 1
    before = np.searchsorted(ordered, values, "left")
    after = before + (ordered[np.minimum(before, last)] == values)
    more = np.flatnonzero((after > before) & (ordered[np.minimum(after, last)] == values))
    after[more] = np.searchsorted(ordered, values[more], "right")
    return before, after


def area_between(reference: Floats, current: Floats) -> float:
    """Wasserstein's distance of order 1 of two sorted samples, neither empty: the area between their quantiles.

    The quantiles of the larger sample, of n values, are constant between multiples of 1 / n; there the other's, of m
    values, have one value or two. In units of 1 / (n m) all those shares are whole numbers.
    """
    n, m, area = len(reference), len(current), 0.0
    if n == m:
        for start in range(0, n, BLOCK_ROWS):
            block = slice(start, start + BLOCK_ROWS)
            area += float(np.abs(np.subtract(reference[block], current[block], dtype=np.float64)).sum())
        return area / n
    if n < m:
        return area_between(current, reference)
    steps = np.arange(min(BLOCK_ROWS, n)) * float(m)
    for start in range(0, n, BLOCK_ROWS):
        values = reference[start : start + BLOCK_ROWS]
        base, rest = divmod(start * m, n)
        lows = steps[: len(values)] + rest  # where each share begins, from the begin of the other's value at `base`
        first = (lows / n).astype(np.int32)
        shares = np.minimum((first + 1) * float(n) - lows, m)
        near = current[base : base + int(first[-1]) + 2].astype(np.float64)
        near = np.append(near, near[-1])  # the last value has no next one, and no share in it
        one, other = (np.abs(values - near[which]) for which in (first, first + 1))
        area += float(other.sum()) * m + float((one - other) @ shares)
    return area / n / m


def decile_edges(ordered: Floats, until: Counts | None = None) -> Floats:
    """Upper ends of all bins but the last, each a value of the sorted sample; fewer where ties make some equal.

    until: how many rows each value stands for together with all before it, (n,); without it one each. Of a sample with
    one value there are three bins: below it, the value, above it.
    """
    if not len(ordered):
        return ordered
    if ordered[0] == ordered[-1]:
        return np.array([np.nextafter(ordered[0], -np.inf), ordered[0]])
    rows = len(ordered) if until is None else int(until[-1])
    places = np.maximum(-(-np.arange(1, BINS) * rows // BINS) - 1, 0)
    edges = np.unique(ordered[places if until is None else np.searchsorted(until, places, "right")])
    below: Floats = edges[edges < ordered[-1]]
    return below


def bin_counts(ordered: Floats, edges: Floats) -> Counts:
    """Rows of a sorted sample up to each edge and after the last, (len(edges) + 1,)."""
    until = np.concatenate([[0], np.searchsorted(ordered, edges, "right"), [len(ordered)]])
    counts: Counts = until[1:] - until[:-1]
    return counts


def categories_apart(reference: Mapping[str, int], current: Mapping[str, int]) -> Apart:
    """Compare how often two samples have each category.

    bins are the categories of either, the reference's most frequent ones first; beyond `MOST_CATEGORIES` of them, the
    others share the last one.
    """
    names = sorted({**reference, **current}, key=lambda name: (-reference.get(name, 0), -current.get(name, 0), name))
    table = np.array([[sample.get(name, 0) for name in names] for sample in (reference, current)], dtype=np.int64)
    if len(names) > MOST_CATEGORIES:
        first = table[:, : MOST_CATEGORIES - 1]
        table = np.column_stack([first, table[:, MOST_CATEGORIES - 1 :].sum(axis=1)])
    new = sum(rows for name, rows in current.items() if name not in reference)
    return Apart(sum(reference.values()), sum(current.values()), table.reshape(2, -1), new=new)


def new_categories(reference: Mapping[str, int], current: Mapping[str, int], most: int) -> Sequence[str]:
    """The most frequent categories that only the current sample has."""
    found = [name for name in current if name not in reference]
    return sorted(found, key=lambda name: (-current[name], name))[:most]
