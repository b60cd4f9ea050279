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
            distance = _distances(standardised[some], filled, known)
            for column, position in enumerate(self.positions):
                take = np.flatnonzero(missing[some, column])
                if len(take):
                    found = self._nearest_mean(distance[take], known[:, column], filled[:, column], means[column])
                    result[some[take], position] = found * self.spread[column] + self.centre[column]
        return result

    def _nearest_mean(
        self, distance: Floats, known: npt.NDArray[np.bool_], donated: Floats, otherwise: float
    ) -> Floats:
        """Distances (r, m), infinite where nothing is shared -> mean of the nearest donors' values (r,)."""
        reach = distance[:, known]
        count = min(self.neighbours, reach.shape[1])
        order = np.argsort(reach, axis=1, kind="stable")[:, :count]
        near = np.isfinite(np.take_along_axis(reach, order, axis=1))
        total, number = np.zeros(len(reach)), near.sum(axis=1)
        for column in range(count):
            total += np.where(near[:, column], donated[known][order[:, column]], 0.0)
        return np.where(number > 0, total / np.maximum(number, 1), otherwise)


def _distances(rows: Floats, donors: Floats, known: npt.NDArray[np.bool_]) -> Floats:
    """Squared distances (r, m) over the columns that both know, scaled up to all columns; infinite where none is."""
    total, shared = np.zeros((len(rows), len(donors))), np.zeros((len(rows), len(donors)))
    for column in range(rows.shape[1]):
        have = ~np.isnan(rows[:, column])
        difference = rows[have, column, None] - donors[None, :, column]
        both = np.broadcast_to(known[:, column], difference.shape)
        total[have] += np.where(both, difference * difference, 0.0)
        shared[have] += both
    return np.where(shared > 0, total * rows.shape[1] / np.maximum(shared, 1), np.inf)


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
