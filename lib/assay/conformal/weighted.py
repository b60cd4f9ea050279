"""Consumes conformity scores with weights, produces their weighted conformal quantiles: of all rows, or of every group.

The quantile of n calibration scores s_i with weights w_i in [0, 1] at a level is the smallest s with

    sum of w_i over s_i <= s  >=  level * (w_1 + ... + w_n + 1),

and +infinity when no score is: the 1 is the weight of the row to come. Weights chosen beforehand (such as by age) cost
a new score coverage no more than the weighted distance of the calibration rows from being exchangeable with it.
Sources: Tibshirani et al. 2019, lemma 1; Barber, Candès, Ramdas and Tibshirani 2023, theorem 2.

Weights are kept in fixed point, as whole multiples of 2^-32: their sums are exact, so that neither the order of rows
nor how they are grouped changes a bit, and rows older than 33 half-lives count for nothing. Levels are exact decimals.
"""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import numpy.typing as npt

from assay.conformal.quantiles import checked_codes, checked_scores
from assay.conformal.selection import UNIT, Floats, Integers, scores_at

BILLION = 10**9  # levels of at most nine decimals are whole numbers of billionths, and need no fractions
_MOST_ROWS = 2**31 - 1  # the sum of as many weights of 1, and one more, still fits into 63 bits


def exponential_weights(age_days: npt.ArrayLike, halflife_days: float) -> Floats:
    """Return 2^(-age / halflife), shaped as `age_days`: 1 for a row of now, half of it every `halflife_days`.

    Raises ValueError for ages that are negative or NaN and for a half-life that is not above 0.
    """
    ages = np.asarray(age_days, dtype=np.float64)
    if not halflife_days > 0:
        raise ValueError(f"halflife_days must be above 0, found {halflife_days}")
    wrong = int(np.count_nonzero(~(ages >= 0)))
    if wrong:
        raise ValueError(f"{wrong} of {ages.size} ages are negative or NaN: a row cannot be younger than now")
    return np.asarray(np.exp2(-ages / halflife_days))


def weighted_quantiles(scores: npt.ArrayLike, weights: npt.ArrayLike, levels: npt.ArrayLike) -> Floats:
    """Return the weighted conformal quantile at each level, (L,), in the unit of the scores.

    scores, weights: (n,). levels: (L,). See `grouped_weighted_quantiles`, also for what is refused.
    """
    rows = np.asarray(scores).shape
    return np.asarray(grouped_weighted_quantiles(np.zeros(rows, dtype=np.int64), scores, weights, 1, levels)[0][0])


def grouped_weighted_quantiles(
    codes: npt.ArrayLike, scores: npt.ArrayLike, weights: npt.ArrayLike, groups: int, levels: npt.ArrayLike
) -> tuple[Floats, Integers]:
    """Return weighted quantiles (G, L) and rows (G,) of every group, in one pass over all of them.

    codes, scores: (n,), as for `grouped_quantiles`; with weights of 1 the result is its result, to the last bit.
    weights: (n,) in [0, 1]; 1 is the weight of the row to come, so the newest rows' own.
    levels: (L,) for all groups, or (G, L) one row per group. A level of 1 or more gives +inf, the whole line: that is
    what adaptive inference asks for after too many misses. A level of 0 or less gives -inf, the empty interval: its
    promise is that nothing need be covered, and a row that is then missed is what leads adaptive inference back.

    Raises ValueError for NaN scores, weights outside [0, 1], NaN levels, codes outside 0 to groups - 1 and shapes
    that do not fit.
    """
    values = checked_scores(scores)
    group = checked_codes(codes, rows=len(values), groups=groups)
    masses = _checked_weights(weights, rows=len(values))
    wanted = _checked_levels(levels, groups)
    shares = np.broadcast_to(wanted, (groups, wanted.shape[-1]))
    quantiles, _ = scores_at(group, values, masses, groups, lambda totals: needed_mass(totals, wanted), shares)
    return quantiles, np.bincount(group, minlength=groups).astype(np.int64)


def needed_mass(totals: Integers, levels: Floats) -> Integers:
    """Return ceil(level * (total + 1)) exactly, in multiples of 2^-32, (G, L); 0 for levels of 0 or less.

    totals: (G,) sums of the groups' weights in multiples of 2^-32. levels: (L,) or (G, L), as their shortest decimal
    texts say them. What is above a group's total is a quantile at +infinity: so is every level of 1 or more.
    """
    clipped = np.broadcast_to(np.clip(levels, 0.0, 1.0), (len(totals), np.shape(levels)[-1]))
    whole = np.rint(clipped * BILLION)
    needed = needed_billionths(totals + UNIT, whole.astype(np.int64))
    for g, level in np.argwhere(whole / BILLION != clipped):  # more than nine decimals
        exact = Fraction(str(clipped[g, level]))
        needed[g, level] = -(-(int(totals[g]) + UNIT) * exact.numerator // exact.denominator)
    return needed


def needed_billionths(masses: Integers, billionths: Integers) -> Integers:
    """Return ceil(billionths * mass / 10^9), (G, L), exactly: no product leaves 63 bits.

    masses: (G,) below 2^63. billionths: (G, L) of 0 to 10^9.
    """
    quotient, rest = np.divmod(masses, BILLION)
    return np.asarray(billionths * quotient[:, None] - (-(billionths * rest[:, None]) // BILLION), dtype=np.int64)


def _checked_weights(weights: npt.ArrayLike, *, rows: int) -> Floats:
    given = np.asarray(weights, dtype=np.float64)
    if given.shape != (rows,):
        raise ValueError(f"weights have shape {given.shape} for {rows} scores")
    if rows > _MOST_ROWS:
        raise ValueError(f"{rows} scores are too many to be weighted at once; the most are {_MOST_ROWS}")
    if rows and not (given.min() >= 0 and given.max() <= 1):  # a NaN fails both
        wrong = int(np.count_nonzero(~((given >= 0) & (given <= 1))))
        raise ValueError(f"{wrong} of {rows} weights lie outside 0 to 1; the largest weight, of the row to come, is 1")
    return given


def _checked_levels(levels: npt.ArrayLike, groups: int) -> Floats:
    wanted = np.asarray(levels, dtype=np.float64)
    if wanted.ndim not in {1, 2} or (wanted.ndim == 2 and len(wanted) != groups):
        raise ValueError(f"levels must be (levels,) or ({groups}, levels), found shape {wanted.shape}")
    missing = int(np.count_nonzero(np.isnan(wanted)))
    if missing:
        raise ValueError(f"{missing} of {wanted.size} levels are NaN")
    return wanted
