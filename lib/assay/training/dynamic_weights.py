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
        return _as_of(self._inverse_errors() if measure == "rmse" else self._sharpes(), self.known, at)

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
    sums = np.concatenate([rows[:, None], np.ones((count, 1)), square, gain, gain**2], axis=1)
    _decay(sums, distinct, halflife_days)
    each = [sums[:, 2 + part * width : 2 + (part + 1) * width] for part in range(3)]
    return Track(distinct, distinct + round(delay_days * DAY), sums[:, 0], sums[:, 1], *each)


@dataclasses.dataclass(frozen=True, eq=False)
class Surprise:
    """What is known of M members' probabilities after each of T moments. times, known: as in `Track`.

    losses: (T, M) sums over moments of the mean log loss of a moment's rows, decayed as of that moment.
    """

    times: Times
    known: Times
    losses: Floats

    def weights(self, at: Times | None = None) -> Floats:
        """Weights (n, M) at times (n,), each row summing to 1; without times those after all moments, (1, M).

        In proportion to exp(-losses), which is the likelihood of each member: recursive log score weights (Jore,
        Mitchell and Vahey, 2010) that forget (Raftery, Karny and Ettler, 2010). Rows of one moment err together and
        count as one. Before anything is known all weigh the same.
        """
        return _as_of(np.exp(self.losses.min(axis=1, keepdims=True) - self.losses), self.known, at)


def surprise(times: Times, losses: Floats, *, delay_days: float, halflife_days: float) -> Surprise:
    """How members did, moment by moment. times: (n,) microseconds.  losses: (n, M) log losses of members."""
    distinct, place = np.unique(times, return_inverse=True)
    rows = np.bincount(place).astype(np.float64)
    sums = np.stack([np.bincount(place, one) / rows for one in losses.T], axis=1)
    _decay(sums, distinct, halflife_days)
    return Surprise(distinct, distinct + round(delay_days * DAY), sums)


def _decay(sums: Floats, times: Times, halflife_days: float) -> None:
    """Add to each moment's row (T, any) those before it, in place, half of one that is a half-life older."""
    kept = np.exp2(-np.diff(times, prepend=times[:1]) / (halflife_days * DAY))
    for moment in range(1, len(times)):
        sums[moment] += kept[moment] * sums[moment - 1]


def _as_of(worth: Floats, known: Times, at: Times | None) -> Floats:
    """Shares (n, M) of what members are worth (T, M), as known before times (n,), or at last; else equal ones."""
    place = np.array([len(worth) - 1]) if at is None else np.searchsorted(known, at, side="left") - 1
    found = np.where(place[:, None] >= 0, worth[np.maximum(place, 0)], 1.0)
    total = found.sum(axis=1, keepdims=True)
    equal = np.full_like(found, 1 / found.shape[1])
    result: Floats = np.divide(found, total, out=equal, where=total > 0)
    return result
