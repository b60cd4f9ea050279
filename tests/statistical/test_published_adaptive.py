"""French electricity prices of 2019: adaptive intervals beside those that Zaffran et al. (2022) published.

The figures are of all 8,760 hours of the authors' own result files (random forests, 90 % promised, absolute residuals,
`ACP_<gamma>_RF`), with our data. Theirs learn a new forest of 1,000 trees for every day and hour, from the older half
of the three years before; scores of the newer half are made anew with it. Ours learn one of 60 trees per hour, once,
from the first half of what lies before 2019, and then take each day's scores as they come: intervals are a few percent
wider, and the coverage that misses lead to is the same. Infinite intervals are left out of the mean width.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import polars as pl
import pytest
from sklearn.ensemble import RandomForestRegressor

from assay.conformal import Adaptation, ScoredRows, Timeline, adapt

pytestmark = [pytest.mark.statistical, pytest.mark.realdata]

HOURS, FITTED, CALIBRATION, TESTED = 24, 544, 545, 365  # days of each part, from 2016-01-08 to 2019-12-31
LEVEL = 0.9


class Published(NamedTuple):
    coverage: float
    mean_width: float
    median_width: float


PUBLISHED = {
    0.0: Published(0.9296, 25.55, 24.62),
    0.01: Published(0.9046, 22.91, 21.91),
    0.02: Published(0.8995, 22.46, 21.28),
    0.04: Published(0.8978, 22.62, 21.08),
}


@pytest.fixture(scope="module")
def prices(real_data) -> ScoredRows:
    """Absolute residuals of calibration and test days; a group per hour."""
    frame = pl.read_parquet(real_data / "epex_fr_spot.parquet").sort("Date")
    at, scores = np.arange(-CALIBRATION, TESTED), []
    for hour in range(HOURS):
        own = frame.filter(pl.col("hour") == hour)
        inputs, price = own.drop("Date", "Spot").to_numpy(), own["Spot"].to_numpy()
        assert len(price) == FITTED + CALIBRATION + TESTED
        forest = RandomForestRegressor(60, max_features=6, random_state=1).fit(inputs[:FITTED], price[:FITTED])
        scores.append(np.abs(price - forest.predict(inputs))[FITTED:])
    steps = np.tile(at, HOURS)
    known = np.where(steps < 0, 0, steps + 1)
    return ScoredRows(np.repeat(np.arange(HOURS), len(at)), np.concatenate(scores), steps, known)


def adapted(prices: ScoredRows, gamma: float, *, bounded: bool = False) -> Timeline:
    how = Adaptation((LEVEL,), step_size=gamma, damping_rows=0, min_rows=50, window=CALIBRATION, bounded=bounded)
    return adapt(prices, np.full(HOURS, -1), how, stop=TESTED)


def figures(prices: ScoredRows, timeline: Timeline) -> Published:
    judged = prices.where(prices.at >= 0)
    half = timeline.quantiles_for(judged.groups, judged.at)[:, 0]
    covered = judged.scores[:, 0] <= half
    return Published(float(covered.mean()), float(2 * half[np.isfinite(half)].mean()), float(2 * np.median(half)))


@pytest.mark.parametrize("gamma", PUBLISHED)
def test_coverage_and_width_are_close_to_the_published_ones(prices, gamma):
    ours, theirs = figures(prices, adapted(prices, gamma)), PUBLISHED[gamma]
    assert abs(ours.coverage - theirs.coverage) < 0.004
    assert 0.98 < ours.mean_width / theirs.mean_width < 1.08
    assert 0.98 < ours.median_width / theirs.median_width < 1.08


def test_adapting_narrows_what_never_adapts_gives_and_keeps_the_promise(prices):
    """2019 is calmer than the years before: without adaptation, intervals cover more than promised and are wider."""
    still, adaptive = figures(prices, adapted(prices, 0.0)), figures(prices, adapted(prices, 0.02))
    assert still.coverage > LEVEL + 0.02
    assert abs(adaptive.coverage - LEVEL) < 0.005
    assert adaptive.mean_width < 0.9 * still.mean_width


def test_bounded_intervals_are_never_infinite_and_cover_as_often(prices):
    free, bounded = adapted(prices, 0.04), adapted(prices, 0.04, bounded=True)
    assert np.isinf(free.quantiles).any()
    assert np.isfinite(bounded.quantiles).all()
    assert abs(figures(prices, bounded).coverage - figures(prices, free).coverage) < 0.002
