"""Consumes numeric inputs with missing values, produces them filled from the other inputs of their row.

Both imputers work on standardised columns: a distance, or a prior on slopes, must not depend on a column's unit.
"""

from __future__ import annotations

import dataclasses

import numpy as np
import numpy.typing as npt

from assay.model.preparation_rows import weighted_sums

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int32]
BLOCK_ROWS = 256
ERROR = 1e-12  # of a distance found by products, relative to the squares that it is made of; far above rounding


@dataclasses.dataclass(frozen=True)
class Neighbours:
    """The mean of the k nearest donors that know the value, as scikit-learn's `KNNImputer` defines nearness.

    positions: (c,) of its columns.  centre, spread: (c,) that standardise them.
    donors: (m, c) standardised training rows, NaN for missing; each column is known to one donor at least.
    A row that shares no known column with any donor gets the donors' mean. Of equally near ones the first count.
    """

    positions: Integers
    centre: Floats
    spread: Floats
    donors: Floats
    neighbours: int

    @property
    def range(self) -> tuple[Floats, Floats]:
        """Lowest and highest value that it can give each of its columns, (c,) both."""
        low, high = (
            (np.nanmin(self.donors, axis=0), np.nanmax(self.donors, axis=0)) if self.donors.size else (self.centre,) * 2
        )
        return low * self.spread + self.centre, high * self.spread + self.centre

    def apply(self, values: Floats) -> Floats:
        """(n, p) -> (n, p)."""
        block = values[:, self.positions]
        missing = np.isnan(block)
        rows = np.flatnonzero(missing.any(axis=1))
        if not len(rows):
            return values
        known = ~np.isnan(self.donors)
        filled = np.where(known, self.donors, 0.0)
        means = filled.sum(axis=0) / known.sum(axis=0)
        standardised = (block - self.centre) / self.spread
        result = values.copy()
        for first in range(0, len(rows), BLOCK_ROWS):
            some = rows[first : first + BLOCK_ROWS]
            about, error = _about(standardised[some], filled, known)
            for column, position in enumerate(self.positions):
                take = np.flatnonzero(missing[some, column])
                if len(take):
                    donors = np.flatnonzero(known[:, column])
                    near, distance = self._nearest(
                        standardised[some[take]], about[take][:, donors], error[take], donors
                    )
                    found = _mean(filled[near, column], np.isfinite(distance), means[column])
                    result[some[take], position] = found * self.spread[column] + self.centre[column]
        return result

    def _nearest(
        self, rows: Floats, about: Floats, error: Floats, donors: npt.NDArray[np.intp]
    ) -> tuple[npt.NDArray[np.intp], Floats]:
        """Nearest donors of rows (r, c), nearest first, and their distances, both (r, k).

        Products of BLAS say about how near a donor is, to an error that the batch decides. Whoever may be among the
        nearest by that is measured again, in a fixed order.
        """
        count = min(self.neighbours, len(donors))
        limit = np.partition(about, count - 1, axis=1)[:, count - 1] + error
        most = int((about <= limit[:, None]).sum(axis=1).max())
        chosen = np.sort(np.argpartition(about, most - 1, axis=1)[:, :most], axis=1)
        candidates = donors[chosen]
        distance = self._distances(rows, candidates)
        order = np.argsort(distance, axis=1, kind="stable")[:, :count]
        return np.take_along_axis(candidates, order, axis=1), np.take_along_axis(distance, order, axis=1)

    def _distances(self, rows: Floats, candidates: npt.NDArray[np.intp]) -> Floats:
        """Squared distances (r, m) to each row's candidates (r, m) over the columns that both know, scaled up to all
        columns; infinite where there is none."""
        total, shared = np.zeros(candidates.shape), np.zeros(candidates.shape)
        for column in range(rows.shape[1]):
            difference = rows[:, column, None] - self.donors[candidates, column]
            both = ~np.isnan(difference)
            total += np.where(both, difference * difference, 0.0)
            shared += both
        return np.where(shared > 0, total * rows.shape[1] / np.maximum(shared, 1), np.inf)


def _about(rows: Floats, donors: Floats, known: npt.NDArray[np.bool_]) -> tuple[Floats, Floats]:
    """Squared distances (r, m) as `Neighbours._distances` has them, nearly; and twice their greatest error (r,)."""
    have = (~np.isnan(rows)).astype(np.float64)
    filled, other = np.nan_to_num(rows, nan=0.0), known.astype(np.float64)
    shared = have @ other.T
    total = (filled**2) @ other.T - 2 * (filled @ donors.T) + have @ (donors**2).T
    size = (filled**2).sum(axis=1) + float((donors**2).sum(axis=1).max(initial=0.0))
    return np.where(shared > 0, total * rows.shape[1] / np.maximum(shared, 1), np.inf), ERROR * rows.shape[1] * size


def _mean(donated: Floats, near: npt.NDArray[np.bool_], otherwise: float) -> Floats:
    """Mean over the donors (r, k) that are near, added in their order (r,)."""
    total = np.zeros(len(donated))
    for column in range(donated.shape[1]):
        total += np.where(near[:, column], donated[:, column], 0.0)
    number = near.sum(axis=1)
    return np.where(number > 0, total / np.maximum(number, 1), otherwise)


@dataclasses.dataclass(frozen=True)
class Chained:
    """Each column predicted from the others in turn, as scikit-learn's `IterativeImputer` (van Buuren's MICE).

    positions: (c,) of its columns.  centre, spread: (c,) that standardise them.  start: (c,) the first guess.
    target: (s,) column of each step.  weights: (s, c), intercept: (s,) its linear model, 0 for the column itself.
    low, high: (c,) range of a prediction.
    """

    positions: Integers
    centre: Floats
    spread: Floats
    start: Floats
    target: Integers
    weights: Floats
    intercept: Floats
    low: Floats
    high: Floats

    @property
    def range(self) -> tuple[Floats, Floats]:
        """Lowest and highest value that it can give each of its columns, (c,) both."""
        low, high = np.minimum(self.low, self.start), np.maximum(self.high, self.start)
        return low * self.spread + self.centre, high * self.spread + self.centre

    def apply(self, values: Floats) -> Floats:
        """(n, p) -> (n, p)."""
        block = values[:, self.positions]
        missing = np.isnan(block)
        rows = np.flatnonzero(missing.any(axis=1))
        if not len(rows):
            return values
        gaps = missing[rows]
        guess = np.where(gaps, self.start, (block[rows] - self.centre) / self.spread)
        for column, weights, intercept in zip(self.target, self.weights, self.intercept, strict=True):
            take = np.flatnonzero(gaps[:, column])
            if len(take):
                predicted = weighted_sums(guess[take], weights[:, None])[:, 0] + intercept
                guess[take, column] = np.clip(predicted, self.low[column], self.high[column])
        result = values.copy()
        result[np.ix_(rows, self.positions)] = np.where(gaps, guess * self.spread + self.centre, block[rows])
        return result
