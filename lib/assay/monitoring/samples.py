"""Consumes two samples of one column, produces how far apart they are: exact statistics, no tests yet.

Samples are sorted once; everything else is read off the two sorted arrays, in one pass over the smaller number of
searches that ties allow.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.floating]
Counts = npt.NDArray[np.int64]
BINS = 10  # of the reference's rows, as the index of population stability has them
MOST_CATEGORIES = 1_000  # that are told apart; rarer ones are one


@dataclasses.dataclass(frozen=True)
class Apart:
    """Two samples of a column, compared.

    reference, current: known values of each.  bins: rows of the reference and of the current sample in each bin,
    (2, bins).  ks: largest distance of the two distribution functions, 0 to 1; NaN of categories, and where a sample
    has no value.  wasserstein: area between them, in the column's unit.  spread: standard deviation of the reference,
    in the same.  new: rows of the current sample with a category that the reference has not.
    """

    reference: int
    current: int
    bins: Counts
    ks: float = np.nan
    wasserstein: float = np.nan
    spread: float = np.nan
    medians: tuple[float, float] = (np.nan, np.nan)
    new: int = 0


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
        spread=float(np.std(reference, dtype=np.float64)),
        medians=(_median(reference), _median(current)),
    )


def _median(ordered: Floats) -> float:
    return float(np.mean(ordered[[(len(ordered) - 1) // 2, len(ordered) // 2]], dtype=np.float64))


def largest_distance(reference: Floats, current: Floats) -> float:
    """Kolmogorov and Smirnov's statistic of two sorted samples, neither empty.

    The reference's distribution function is above the other's by most just before a step of the other, and below it by
    most right after one: the steps of one sample are enough.
    """
    n, m = len(reference), len(current)
    before = np.searchsorted(reference, current, "left")
    after = before.copy()
    tied = reference[np.minimum(before, n - 1)] == current
    if tied.any():
        after[tied] = np.searchsorted(reference, current[tied], "right")
    starts, ends = _runs(current)
    above = before[starts] / n - starts / m
    below = ends / m - after[starts] / n
    return float(max(above.max(), below.max(), 0.0))


def _runs(values: Floats) -> tuple[Counts, Counts]:
    """First place of each distinct value of a sorted array, and the one after its last."""
    starts = np.flatnonzero(np.concatenate([[True], values[1:] != values[:-1]]))
    return starts, np.append(starts[1:], len(values))


def area_between(reference: Floats, current: Floats) -> float:
    """Wasserstein's distance of order 1 of two sorted samples, neither empty: the area between their quantiles.

    Quantiles are constant between multiples of 1 / n and of 1 / m; in units of 1 / (n m) those are whole numbers.
    """
    n, m = len(reference), len(current)
    if n == m:
        return float(np.abs(np.subtract(reference, current, dtype=np.float64)).mean())
    ends = np.sort(np.concatenate([np.arange(1, n + 1) * m, np.arange(1, m) * n]))
    of_reference, of_current = (ends - 1) // m, (ends - 1) // n
    gaps = np.abs(np.subtract(reference[of_reference], current[of_current], dtype=np.float64))
    return float(gaps @ np.diff(ends, prepend=0)) / (n * m)


def decile_edges(ordered: Floats) -> Floats:
    """Upper ends of all bins but the last, each a value of the sorted sample; fewer where ties make some equal.

    Of a sample with one value there are three bins: below it, the value, above it.
    """
    if not len(ordered):
        return ordered
    if ordered[0] == ordered[-1]:
        return np.array([np.nextafter(ordered[0], -np.inf), ordered[0]])
    places = -(-np.arange(1, BINS) * len(ordered) // BINS) - 1
    edges = np.unique(ordered[np.maximum(places, 0)])
    below: Floats = edges[edges < ordered[-1]]
    return below


def bin_counts(ordered: Floats, edges: Floats) -> Counts:
    """Rows of a sorted sample up to each edge and after the last, (len(edges) + 1,)."""
    until = np.append(np.searchsorted(ordered, edges, "right"), len(ordered))
    return np.diff(until, prepend=0).astype(np.int64)


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
