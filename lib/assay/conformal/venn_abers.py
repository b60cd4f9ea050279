"""Consumes scores of rows with outcomes 0 and 1, produces the Venn-Abers pair (p0, p1) of any score, without refits.

p0 and p1 are what isotonic regression says of a new row, fitted on the calibration rows and on this row as well, once
with the outcome 0 and once with 1: whichever it is, one of them is calibrated (Vovk and Petej 2014; Vovk, Petej and
Fedorova 2015, "Large-scale probabilistic predictors with and without guarantees of validity"). Both are steps in the
score, and all steps come from one pass over the distinct scores.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Steps:
    """A rising step function. at: where it rises, (m,). values: of the m + 1 steps between.

    closed: the end of each step that belongs to it: with `right` a score equal to at[i] has values[i], with `left` it
    has values[i + 1].
    """

    at: Floats
    values: Floats
    closed: str

    def __call__(self, scores: Floats) -> Floats:
        """Value at each score, (n,)."""
        side = "left" if self.closed == "right" else "right"
        return np.asarray(self.values[np.searchsorted(self.at, scores, side=side)])  # type: ignore[call-overload]


@dataclass(frozen=True)
class VennAbersPair:
    """p0 and p1 of a score. A row is worth p1 / (1 - p0 + p1), which risks least log loss (Vovk and Petej 2014)."""

    low: Steps
    high: Steps

    def pair(self, scores: npt.ArrayLike) -> tuple[Floats, Floats]:
        """p0 and p1, (n,) each; p0 <= p1."""
        found = np.asarray(scores, dtype=np.float64)
        return self.low(found), self.high(found)

    def probability(self, scores: npt.ArrayLike) -> Floats:
        """The one probability (n,), above 0 and below 1."""
        p0, p1 = self.pair(scores)
        return p1 / (1.0 - p0 + p1)


def fit_venn_abers(scores: npt.ArrayLike, outcomes: npt.ArrayLike) -> VennAbersPair:
    """Return the pair of any score, of calibration rows (n,) with outcomes 0 and 1.

    Cost: a sort, and a pass in Python over the distinct scores (two seconds for a million). What is kept are the steps,
    far fewer than rows: isotonic regression has about as many blocks as the cube root of rows.

    Raises ValueError for NaN scores, outcomes that are neither 0 nor 1, shapes that differ, and no rows.
    """
    found, came = np.asarray(scores, dtype=np.float64), np.asarray(outcomes, dtype=np.float64)
    if found.ndim != 1 or found.shape != came.shape or not found.size:
        raise ValueError(f"scores of shape {found.shape} do not fit outcomes of shape {came.shape}")
    if np.isnan(found).any() or not np.isin(came, (0.0, 1.0)).all():
        raise ValueError("scores must be numbers, and outcomes 0 or 1")
    distinct, place, rows = np.unique(found, return_inverse=True, return_counts=True)
    ones = np.bincount(place, came, len(distinct)).astype(np.int64)
    high = _with_a_one(rows, ones)
    low = 1.0 - _with_a_one(rows[::-1], (rows - ones)[::-1])[::-1]  # a zero is a one of the mirrored problem
    # Between two calibration scores p1 is that of the upper one and p0 that of the lower one: a row of outcome 1 never
    # ends a block of isotonic regression, unless all of the block are ones, and a row of outcome 0 never begins one.
    rises = np.diff(np.append(high, 1.0)) != 0
    falls = np.diff(np.insert(low, 0, 0.0)) != 0
    return VennAbersPair(
        low=Steps(distinct[falls], np.insert(low[falls], 0, 0.0), "left"),
        high=Steps(distinct[rises], np.append(high[rises], 1.0), "right"),
    )


def _with_a_one(rows: npt.NDArray[np.int64], ones: npt.NDArray[np.int64]) -> Floats:
    """Isotonic regression's value at each distinct score, after one more row of outcome 1 came to that score, (k,).

    It is a slope of the greatest convex minorant of the cumulative sums (rows, ones). The further row starts before all
    others and moves up one score at a time, which moves one point of the diagram by (1, 1); what lies to the left of
    the minorant's current corner never counts again, so that corners are only ever added and dropped once. Whole
    numbers: no rounding decides.
    """
    x = [0, *np.cumsum(rows).tolist()]
    y = [0, *np.cumsum(ones).tolist()]
    hull: list[tuple[int, int]] = []  # corners from right to left: the current one is the last
    for point in zip(reversed(x), reversed(y), strict=True):
        _add(hull, point)
    _add(hull, (-1, -1))
    found = np.empty(len(rows))
    for i in range(len(rows)):
        (left, low), (right, high) = hull[-1], hull[-2]
        found[i] = (high - low) / (right - left)
        moved = (x[i + 1] - 1, y[i + 1] - 1)
        if (moved[1] - low) * (right - left) < (high - low) * (moved[0] - left):  # below the line: a new corner
            hull.pop()
            _add(hull, moved)
    return found


def _add(hull: list[tuple[int, int]], point: tuple[int, int]) -> None:
    """Put a point to the left of a convex minorant, and drop the corners that it makes idle."""
    x, y = point
    while len(hull) > 1:
        (x1, y1), (x2, y2) = hull[-1], hull[-2]
        if (y1 - y) * (x2 - x1) < (y2 - y1) * (x1 - x):
            break
        hull.pop()
    hull.append(point)
