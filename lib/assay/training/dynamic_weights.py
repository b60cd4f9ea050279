"""Consumes members' predictions at known times, produces weights by how well each did lately, as of every moment.

At a time t only errors count whose outcome was known before t: those of rows with time + availability delay < t. An
error that is a half-life older than another counts half as much.
"""

from __future__ import annotations

import dataclasses
from typing import Literal

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Times = npt.NDArray[np.int64]
Measure = Literal["rmse", "sharpe"]
DAY = 86_400_000_000  # microseconds
FEW_MOMENTS = 5  # with outcomes, below which a Sharpe ratio says nothing


@dataclasses.dataclass(frozen=True, eq=False)
class Track:
    """What is known of M members after each of T moments, all sums decayed as of that moment.

    times: (T,) distinct, ascending, in microseconds.  known: (T,) when its outcomes are known.  rows: (T,).
    moments: (T,).  square: (T, M) squared errors.  gain, gain_square: (T, M) of what signals earned per moment.
    """

    times: Times
    known: Times
    rows: Floats
    moments: Floats
    square: Floats
    gain: Floats
    gain_square: Floats

    def weights(self, measure: Measure, at: Times | None = None) -> Floats:
        """Weights (n, M) at times (n,), each row summing to 1; without times those after all moments, (1, M).

        rmse: inversely to the mean squared error (Bates and Granger, 1969, "The combination of forecasts").
        sharpe: in proportion to the Sharpe ratio of each member's signals where it is positive. Before anything is
        known, and where no ratio is positive, all weigh the same.
        """
        last = len(self.times) - 1
        place = np.array([last]) if at is None else np.searchsorted(self.known, at, side="left") - 1
        worth = self._inverse_errors() if measure == "rmse" else self._sharpes()
        found = np.where(place[:, None] >= 0, worth[np.maximum(place, 0)], 1.0)
        total = found.sum(axis=1, keepdims=True)
        equal = np.full_like(found, 1 / found.shape[1])
        result: Floats = np.divide(found, total, out=equal, where=total > 0)
        return result

    def _inverse_errors(self) -> Floats:
        mean = self.square / self.rows[:, None]
        least = mean.min(axis=1, keepdims=True)
        perfect = mean <= 0
        scaled = np.divide(least, mean, out=np.zeros_like(mean), where=~perfect)
        return np.where(perfect.any(axis=1, keepdims=True), perfect.astype(np.float64), scaled)

    def _sharpes(self) -> Floats:
        mean = self.gain / self.moments[:, None]
        spread = np.sqrt(np.maximum(self.gain_square / self.moments[:, None] - mean**2, 0.0))
        ratio = np.divide(mean, spread, out=np.zeros_like(mean), where=spread > 1e-12)
        ratio[: FEW_MOMENTS - 1] = 0.0
        return np.maximum(ratio, 0.0)


def track(times: Times, truth: Floats, members: Floats, *, delay_days: float, halflife_days: float) -> Track:
    """How members did, moment by moment.

    times: (n,) microseconds.  truth (n,), members (n, M): on the model's scale.  A signal is the sign of a prediction;
    what it earns at a moment is the mean over its rows of signal * truth, so the scale must be that of changes.
    """
    distinct, place = np.unique(times, return_inverse=True)
    count, width = len(distinct), members.shape[1]
    rows = np.bincount(place, minlength=count).astype(np.float64)
    error = (members - truth[:, None]) ** 2
    earned = np.sign(members) * truth[:, None]
    square, sums_earned = (
        np.stack([np.bincount(place, values[:, m], count) for m in range(width)], axis=1) for values in (error, earned)
    )
    gain: Floats = sums_earned / rows[:, None]
    kept = np.exp2(-np.diff(distinct, prepend=distinct[:1]) / (halflife_days * DAY))
    sums = np.concatenate([rows[:, None], np.ones((count, 1)), square, gain, gain**2], axis=1)
    for moment in range(1, count):
        sums[moment] += kept[moment] * sums[moment - 1]
    each = [sums[:, 2 + part * width : 2 + (part + 1) * width] for part in range(3)]
    return Track(distinct, distinct + round(delay_days * DAY), sums[:, 0], sums[:, 1], *each)
