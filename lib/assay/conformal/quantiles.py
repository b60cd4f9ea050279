"""Consumes conformity scores, produces their finite-sample exact conformal quantiles: of all rows, or of every group.

The quantile of n calibration scores at a level (promised coverage, 1 - alpha) is the k-th smallest of them with
k = ceil((n + 1) * level), and +infinity when k > n: then n rows cannot promise that level. If calibration and new rows
are exchangeable, a new score is at most the quantile with probability at least `level`, and exactly k / (n + 1) when
scores have no ties. Sources: Papadopoulos et al. 2002; Vovk, Gammerman and Shafer 2005; Lei et al. 2018, theorem 2.2.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from typing import Any

import numpy as np
import numpy.typing as npt

from assay.conformal.selection import Floats, Integers, scores_at


def conformal_rank(rows: int, level: float) -> int:
    """Return k = ceil((rows + 1) * level), computed exactly on the decimal text of `level`.

    In floating point 10 * 0.9 may come out a hair above 9 and cost a rank, so no float takes part. Write a level
    as itself, not as `1 - alpha`: 1 - 0.9 is 0.09999999999999998, and that is what would be promised.
    The number of m new rows that are covered is BetaBinomial(m, k, rows + 1 - k) (Vovk 2012, without ties).

    Raises ValueError for a level outside (0, 1) and for negative rows.
    """
    if rows < 0:
        raise ValueError(f"a calibration set cannot have {rows} rows")
    return _rank(rows, exact_level(level))


def minimum_rows(level: float) -> int:
    """Return the smallest n whose quantile at `level` is finite: ceil(level / (1 - level)); 4 rows at 0.8, 9 at 0.9.

    Raises ValueError for a level outside (0, 1).
    """
    exact = exact_level(level)
    return -(-exact.numerator // (exact.denominator - exact.numerator))


def conformal_quantile(scores: npt.ArrayLike, level: float) -> float:
    """Return the quantile of `scores` (n,) at one level, in the unit of the scores; see `conformal_quantiles`."""
    return float(conformal_quantiles(scores, (level,))[0])


def conformal_quantiles(scores: npt.ArrayLike, levels: Sequence[float]) -> Floats:
    """Return the conformal quantile at each level, (L,), in the unit of the scores, by one partial sort: O(n).

    scores: (n,) real numbers in any order; infinite ones are allowed and sort to their end. n = 0 gives +inf.
    levels: (L,) promised coverages inside (0, 1), in any order.
    A higher level has no smaller rank, so quantiles never decrease with the level: intervals are nested.

    Raises ValueError for NaN scores (with their number), for scores that are not (n,) and for a level outside (0, 1).
    """
    values = checked_scores(scores) + 0.0  # a copy to sort in place; ties of signed zeros have one bit pattern
    ranks = [_rank(len(values), exact_level(level)) for level in levels]
    finite = sorted({rank - 1 for rank in ranks if rank <= len(values)})
    if finite:
        values.partition(finite)
    return np.array([values[rank - 1] if rank <= len(values) else np.inf for rank in ranks], dtype=np.float64)


def grouped_quantiles(
    codes: npt.ArrayLike, scores: npt.ArrayLike, groups: int, levels: Sequence[float]
) -> tuple[Floats, Integers]:
    """Return quantiles (G, L) and rows (G,) of every group: Mondrian conformal (Vovk et al. 2005, chapter 4).

    codes: (n,) integers, the group of each row, 0 to groups - 1.  scores: (n,), as for `conformal_quantiles`.
    Row g equals `conformal_quantiles(scores[codes == g], levels)` to the last bit; a group without rows gets +inf.
    Many rows are not sorted but for those close to the quantiles; see `selection`.

    Raises ValueError for NaN scores, codes outside 0 to groups - 1, shapes that differ and a level outside (0, 1).
    """
    values = checked_scores(scores)
    group = checked_codes(codes, rows=len(values), groups=groups)
    exact = [exact_level(level) for level in levels]
    shares = np.broadcast_to([float(level) for level in exact], (groups, len(exact)))
    return scores_at(group, values, None, groups, lambda rows: _ranks(rows, exact), shares)


def _ranks(rows: Integers, levels: Sequence[Fraction]) -> Integers:
    sizes, size_of_group = np.unique(rows, return_inverse=True)
    ranks = np.array([[_capped_rank(n, level) for level in levels] for n in sizes.tolist()], dtype=np.int64)
    return np.asarray(ranks.reshape(len(sizes), len(levels))[size_of_group])


def _rank(rows: int, level: Fraction) -> int:
    return -(-(rows + 1) * level.numerator // level.denominator)


def _capped_rank(rows: int, level: Fraction) -> int:
    return min(_rank(rows, level), rows + 1)


def exact_level(level: float) -> Fraction:
    """Return the level as its shortest decimal text says it: 0.9 is nine tenths, not the binary number beside it.

    Raises ValueError for a level outside (0, 1).
    """
    try:
        exact = Fraction(str(level))
    except ValueError:
        raise ValueError(f"level {level!r} is not a number") from None
    if not 0 < exact < 1:
        raise ValueError(f"level {level!r} must lie between 0 and 1, both excluded: 0.9 promises that 90 % are covered")
    return exact


def checked_scores(scores: npt.ArrayLike) -> Floats:
    """Return scores as float64, (n,).

    Raises ValueError for NaN, with their number, and for scores that are not (n,).
    """
    values = np.asarray(scores, dtype=np.float64)
    if values.ndim != 1:
        raise ValueError(f"scores must be one-dimensional, found shape {values.shape}")
    if len(values) and np.isnan(values.min()):
        missing = int(np.count_nonzero(np.isnan(values)))
        raise ValueError(
            f"{missing} of {len(values)} conformity scores are NaN; leave out rows without an outcome or a prediction"
        )
    return values


def checked_codes(codes: npt.ArrayLike, *, rows: int, groups: int) -> npt.NDArray[Any]:
    """Return the group of each row as int64, (n,).

    Raises ValueError for another shape, for what is no integer and for codes outside 0 to groups - 1.
    """
    group = np.asarray(codes)
    if group.shape != (rows,):
        raise ValueError(f"codes have shape {group.shape} for {rows} scores")
    if rows == 0:
        return np.zeros(0, dtype=np.int64)
    if not np.issubdtype(group.dtype, np.integer):
        raise ValueError(f"codes must be integers, found {group.dtype}")
    if int(group.min()) < 0 or int(group.max()) >= groups:
        raise ValueError(f"codes run from {group.min()} to {group.max()}, but there are {groups} groups")
    return group.astype(np.int64, copy=False)
