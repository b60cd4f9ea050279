"""Coverage of every conformity score on exchangeable data, against its exact distribution.

A quantile of n scores without ties covers m new ones BetaBinomial(m, k, n + 1 - k) times, k = ceil((n + 1) * promise),
whatever the score is (Vovk 2012). So every *part* of every score has exact bounds; a level with one part has them
itself, and one with two (signed scores) covers at least as much as the union bound says. Bounds are two-sided at 1e-6.

Power: with n = 100, m = 50 and 2,000 repetitions the bounds lie within 1 % of the promise (asserted), so that a
promise kept only to 98 % of itself is rejected.
"""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from scipy import stats

from assay.conformal import SCORES, Forecast, conformal_quantiles

pytestmark = pytest.mark.statistical

ROWS, NEW_ROWS, REPETITIONS, SIGNIFICANCE = 100, 50, 2_000, 1e-6
LEVELS = (0.8, 0.9)
TAILS = (0.05, 0.1, 0.9, 0.95)


def bounds(promise: float) -> tuple[int, int]:
    """Least and largest count of covered rows over all repetitions, by the law's own convolution."""
    k = math.ceil((ROWS + 1) * Fraction(str(promise)))
    law = stats.betabinom(NEW_ROWS, k, ROWS + 1 - k).pmf(np.arange(NEW_ROWS + 1))
    size = NEW_ROWS * REPETITIONS + 1
    total = np.clip(np.fft.irfft(np.fft.rfft(law, size) ** REPETITIONS, size), 0, None)
    tail = SIGNIFICANCE / 2
    return int(np.argmax(np.cumsum(total) > tail)), size - 1 - int(np.argmax(np.cumsum(total[::-1]) > tail))


def market(rng: np.random.Generator, rows: int) -> tuple[np.ndarray, Forecast]:
    """Skewed outcomes whose spread depends on the row, and a model whose scale and quantiles are only roughly right."""
    x = rng.uniform(-1, 1, rows)
    spread = np.exp(x)
    y = 3 * x + spread * (rng.exponential(size=rows) - 1) + 0.3
    wrong = np.exp(0.5 * x) * rng.uniform(0.5, 1.5, rows)
    ends = np.array([-0.9, -0.8, 1.0, 1.5])
    return y, Forecast(3 * x, wrong, 3 * x[:, None] + wrong[:, None] * ends, TAILS)


def part_of(forecast: Forecast, rows: slice) -> Forecast:
    assert forecast.scale is not None
    assert forecast.quantiles is not None
    return Forecast(forecast.centre[rows], forecast.scale[rows], forecast.quantiles[rows], forecast.quantile_levels)


@pytest.mark.parametrize("name", SCORES)
def test_every_part_of_every_score_keeps_its_promise_exactly(name):
    score, rng = SCORES[name], np.random.default_rng(17)
    parts = score.parts(LEVELS)
    of_parts, of_levels = np.zeros(len(parts), dtype=int), np.zeros(len(LEVELS), dtype=int)
    for _ in range(REPETITIONS):
        y, forecast = market(rng, ROWS + NEW_ROWS)
        known, new = slice(0, ROWS), slice(ROWS, None)
        scores = score.score(y[known], part_of(forecast, known), LEVELS)
        quantiles = np.array([conformal_quantiles(scores[:, part.column], (part.promise,))[0] for part in parts])
        later = score.score(y[new], part_of(forecast, new), LEVELS)
        of_parts += (later[:, [part.column for part in parts]] <= quantiles).sum(axis=0)
        lower, upper = score.interval(part_of(forecast, new), quantiles, LEVELS)
        of_levels += ((y[new, None] >= lower) & (y[new, None] <= upper)).sum(axis=0)
    for part, hits in zip(parts, of_parts, strict=True):
        low, high = bounds(part.promise)
        assert 0.99 * part.promise < low / (NEW_ROWS * REPETITIONS), "the bounds are what makes the test worth running"
        assert low <= hits <= high, part
    for at, (level, hits) in enumerate(zip(LEVELS, of_levels, strict=True)):
        low, high = bounds(level)
        alone = sum(part.level == at for part in parts) == 1
        assert low <= hits <= (high if alone else NEW_ROWS * REPETITIONS), level
