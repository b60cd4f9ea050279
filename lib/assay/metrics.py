"""Consumes outcomes, predictions and interval bounds as arrays, produces point metrics, interval metrics and bands.

All arrays are float64 of shape (n,), in the target's unit. `segments.py` computes the same numbers per segment.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import stats

Vector = npt.NDArray[np.float64]

WITHIN_PERCENTS = (5, 10, 20)
EXACT_ROWS = 100_000


def point_metrics(actual: npt.ArrayLike, prediction: npt.ArrayLike) -> dict[str, float]:
    """Errors of point predictions; error = prediction - actual.

    Keys: `rmse`, `mae`, `bias` (mean error) in the target's unit; `r2` = 1 - SSE / SST, NaN where the outcome is
    constant (one row included); `median_ape`, `mape` as shares (0.05 is 5 %) of |actual|; `within_5pct`,
    `within_10pct`, `within_20pct` in percent of rows, 0 to 100; `zero_actuals`, the rows whose outcome is 0: a relative
    error says nothing there, so the relative metrics leave them out (NaN when no row is left).

    Raises ValueError for no rows, unequal lengths, and values that are NaN or infinite.
    """
    y, p = _vector("actual", actual), _vector("prediction", prediction)
    _same_length(actual=y, prediction=p)
    _all_finite(actual=y, prediction=p)
    error = p - y
    relative = y != 0
    ape = np.abs(error[relative]) / np.abs(y[relative])
    # Compared by value: the rounded mean of a constant outcome can leave a tiny SST and a meaningless, huge r2.
    constant = y.min() == y.max()
    return {
        "r2": math.nan if constant else float(1 - np.sum(error**2) / np.sum((y - y.mean()) ** 2)),
        "rmse": float(np.sqrt(np.mean(error**2))),
        "mae": float(np.mean(np.abs(error))),
        "bias": float(np.mean(error)),
        "median_ape": float(np.median(ape)) if ape.size else math.nan,
        "mape": float(np.mean(ape)) if ape.size else math.nan,
        **{
            f"within_{percent}pct": float(100 * np.mean(ape <= percent / 100)) if ape.size else math.nan
            for percent in WITHIN_PERCENTS
        },
        "zero_actuals": float(np.sum(~relative)),
    }


def pinball_losses(actual: npt.ArrayLike, quantiles: npt.ArrayLike, levels: Sequence[float]) -> Vector:
    """Mean over the levels of each row's pinball loss, (n,) in the target's unit (Koenker and Bassett, 1978).

    quantiles: (n, Q), one column per level. Above a quantile it is level * (y - q), below it (1 - level) * (q - y).
    """
    y, q = _vector("actual", actual), np.asarray(quantiles, dtype=np.float64)
    if q.shape != (y.size, len(levels)):
        raise ValueError(f"quantiles must have shape {(y.size, len(levels))}, found {q.shape}")
    above = y[:, None] - q
    return np.asarray(np.mean(np.maximum(np.array(levels) * above, (np.array(levels) - 1) * above), axis=1))


def interval_metrics(
    actual: npt.ArrayLike, lower: npt.ArrayLike, upper: npt.ArrayLike, level: float
) -> dict[str, float]:
    """Quality of prediction intervals [lower, upper] that promise to hold a share `level` of the outcomes.

    Keys, shares from 0 to 1: `coverage` (lower <= actual <= upper), `below_share` and `above_share` (outcomes under the
    lower and over the upper bound), `infinite_share` (a bound is infinite: calibration had too few rows),
    `missing_share` (a bound is NaN: nothing was promised). Over finite intervals, in the target's unit: `width` and
    `interval_score` = width + 2/alpha (lower - y)+ + 2/alpha (y - upper)+ with alpha = 1 - level, lower is better
    (Winkler 1972; Gneiting & Raftery 2007, eq. 43); `pinball`, the mean loss of both ends as quantiles at alpha / 2 and
    1 - alpha / 2, which is alpha / 4 of that score. Rows without bounds count only in `missing_share`. NaN where no row
    is left to average.

    Raises ValueError for no rows, unequal lengths, an outcome that is NaN or infinite, lower above upper, and a level
    outside (0, 1).
    """
    check_level(level)
    y, low, high = _vector("actual", actual), _vector("lower", lower), _vector("upper", upper)
    _same_length(actual=y, lower=low, upper=high)
    _all_finite(actual=y)
    given = ~(np.isnan(low) | np.isnan(high))
    rows = y.size
    y, low, high = y[given], low[given], high[given]
    crossed = int(np.sum(low > high))
    if crossed:
        raise ValueError(f"{crossed} of {rows} intervals at level {level} have lower above upper")
    finite = np.isfinite(low) & np.isfinite(high)
    width = (high - low)[finite] if finite.any() else np.empty(0)
    miss = np.maximum(low[finite] - y[finite], 0) + np.maximum(y[finite] - high[finite], 0)
    return {
        "coverage": _mean((low <= y) & (y <= high)),
        "width": _mean(width),
        "interval_score": _mean(width + 2 / (1 - level) * miss),
        "pinball": _mean((1 - level) / 4 * (width + 2 / (1 - level) * miss)),
        "below_share": _mean(y < low),
        "above_share": _mean(y > high),
        "infinite_share": _mean(~finite),
        "missing_share": float(1 - given.sum() / rows),
    }


def binomial_band(
    level: float, rows: int, confidence: float = 0.95, *, calibration_rows: int | None = None
) -> tuple[float, float]:
    """Range (low, high) of the share of `rows` outcomes that chance lets fall inside, if the promise `level` holds.

    Exact: quantiles of Binomial(rows, level) / rows at (1 - confidence) / 2 on either side, ends included, so that at
    least `confidence` of all honest observations are inside. No rows: (0, 1).

    With `calibration_rows` n, the luck of a finite calibration set counts too: the true coverage of split conformal is
    itself Beta(k, n + 1 - k) with k = ceil((n + 1) level) (Vovk 2012; Angelopoulos & Bates 2023, 3.2), which makes the
    count beta-binomial and the band wider. Both take rows as exchangeable; rows that move together need more room.
    """
    check_level(level)
    check_level(confidence, "confidence")
    if rows < 1:
        return 0.0, 1.0
    tail = (1 - confidence) / 2
    if calibration_rows is None:
        law = stats.binom(rows, level)
    else:
        rank = math.ceil((calibration_rows + 1) * level - 1e-9)
        if rank > calibration_rows:  # the quantile does not exist: intervals are infinite and hold everything
            return 1.0, 1.0
        law = _beta_binomial(rows, rank, calibration_rows)
        if rows > EXACT_ROWS:
            return float(law.ppf(tail)), float(law.ppf(1 - tail))
    return float(law.ppf(tail)) / rows, float(law.ppf(1 - tail)) / rows


def _beta_binomial(rows: int, rank: int, calibration_rows: int) -> Any:
    """Law of the covered count; above EXACT_ROWS of the covered share, as the Beta with the same mean and variance."""
    misses = calibration_rows + 1 - rank
    if rows <= EXACT_ROWS:
        return stats.betabinom(rows, rank, misses)
    # The exact quantile sums over all counts: seconds at a million rows, for a difference in the sixth digit.
    weight = rows * (calibration_rows + 2) / (calibration_rows + 1 + rows) - 1
    return stats.beta(weight * rank / (calibration_rows + 1), weight * misses / (calibration_rows + 1))


def binomial_bands(level: float, rows: npt.ArrayLike, confidence: float = 0.95) -> tuple[Vector, Vector]:
    """`binomial_band` for many sample sizes at once: rows of shape (k,) to (low, high), each of shape (k,)."""
    check_level(level)
    check_level(confidence, "confidence")
    counts = np.asarray(rows, dtype=np.float64)
    # Equal sizes are common among thousands of segments, and the exact quantile is the costly part.
    sizes, places = np.unique(counts, return_inverse=True)
    some = np.maximum(sizes, 1)
    tail = (1 - confidence) / 2
    low = np.where(sizes > 0, stats.binom.ppf(tail, some, level) / some, 0.0)
    high = np.where(sizes > 0, stats.binom.ppf(1 - tail, some, level) / some, 1.0)
    return low[places], high[places]


def wilson_bands(inside: npt.ArrayLike, rows: npt.ArrayLike, confidence: float = 0.95) -> tuple[Vector, Vector]:
    """Where the true share lies: score bands (Wilson, 1927) of `inside` of `rows` (k,); no rows: (0, 1).

    Unlike `binomial_bands`, which is around the promise, these are around what was seen.
    """
    check_level(confidence, "confidence")
    n, k = np.asarray(rows, dtype=np.float64), np.asarray(inside, dtype=np.float64)
    z = float(stats.norm.ppf((1 + confidence) / 2))
    some = np.maximum(n, 1)
    share = k / some
    centre = (share + z**2 / (2 * some)) / (1 + z**2 / some)
    half = z / (1 + z**2 / some) * np.sqrt(share * (1 - share) / some + z**2 / (4 * some**2))
    low, high = np.clip(centre - half, 0.0, 1.0), np.clip(centre + half, 0.0, 1.0)
    # All or none inside: the end is 1 or 0 itself, which rounding would miss.
    low, high = np.where(k == 0, 0.0, low), np.where(k == n, 1.0, high)
    return np.where(n > 0, low, 0.0), np.where(n > 0, high, 1.0)


def adjusted_p_values(inside: npt.ArrayLike, rows: npt.ArrayLike, level: float) -> Vector:
    """How likely counts so far from `level` are if it holds (exact binomial, both tails), for many at once (k,).

    Adjusted so that of those at or below q no more than a share q is there by chance (Benjamini and Hochberg, 1995).
    """
    check_level(level)
    n, k = np.asarray(rows, dtype=np.float64), np.asarray(inside, dtype=np.float64)
    if not n.size:
        return np.empty(0)
    tail = np.minimum(stats.binom.cdf(k, n, level), stats.binom.sf(k - 1, n, level))
    return np.asarray(stats.false_discovery_control(np.minimum(2 * tail, 1.0), method="bh"))


def check_level(level: float, name: str = "level") -> None:
    """Raise ValueError unless 0 < level < 1."""
    if not 0 < level < 1:
        raise ValueError(f"{name} must be a share between 0 and 1, found {level}")


def _vector(name: str, values: npt.ArrayLike) -> Vector:
    vector = np.asarray(values, dtype=np.float64)
    if vector.ndim != 1:
        raise ValueError(f"{name} must have one dimension, found shape {vector.shape}")
    return vector


def _same_length(**vectors: Vector) -> None:
    lengths = {name: vector.size for name, vector in vectors.items()}
    if len(set(lengths.values())) > 1:
        raise ValueError(f"arrays differ in length: {', '.join(f'{name} {n}' for name, n in lengths.items())}")
    if not next(iter(lengths.values())):
        raise ValueError("no rows to evaluate: no prediction has a known outcome")


def _all_finite(**vectors: Vector) -> None:
    for name, vector in vectors.items():
        bad = int(np.sum(~np.isfinite(vector)))
        if bad:
            raise ValueError(f"{name} is NaN or infinite in {bad} of {vector.size} rows")


def _mean(values: npt.NDArray[np.float64] | npt.NDArray[np.bool_]) -> float:
    return float(np.mean(values)) if values.size else math.nan
