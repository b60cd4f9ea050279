"""Quantiles, intervals and adaptive levels against crepes and MAPIE on the same residuals.

Where they differ, it is by convention, and tests say so:

* crepes takes the rank from (1 - level) * (n + 1) in floating point, which may come out a hair too low: its intervals
  are then a rank wider, or infinite. Ours are exact.
* MAPIE counts an outcome on the bound of its interval as missed, ours as covered: without ties the same.
* MAPIE adds up alpha in floating point and rounds levels to two decimals; ours is kept in whole billionths.
* MAPIE keeps alpha in [0, 1] as `bounded` does, but where alpha asks for more than the scores can say it refuses.
"""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from sklearn.base import BaseEstimator, RegressorMixin

from assay.conformal import (
    SCORES,
    Adaptation,
    Forecast,
    ScoredRows,
    adapt,
    conformal_quantiles,
    grouped_quantiles,
)

LEVELS = (0.8, 0.9, 0.95)
ABSOLUTE, NORMALISED = SCORES["absolute"], SCORES["normalised"]
crepes = pytest.importorskip("crepes")
pytest.importorskip("mapie")


class Given(RegressorMixin, BaseEstimator):
    """A model whose prediction is the first input."""

    def fit(self, X, y):
        return self

    def __sklearn_is_fitted__(self):
        return True

    def predict(self, X):
        return np.asarray(X)[:, 0]


def market(rows: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Predictions, outcomes, and how hard each row is."""
    rng = np.random.default_rng(seed)
    prediction, scale = rng.normal(12, 1, rows), rng.lognormal(0, 0.7, rows)
    return prediction, prediction + scale * rng.standard_t(3, rows), scale


@pytest.fixture
def quiet():
    """crepes and MAPIE warn of what tests do on purpose."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@pytest.mark.usefixtures("quiet")
@pytest.mark.parametrize("n", [3, 10, 57, 998])
@pytest.mark.parametrize("kind", ["absolute", "normalised"])
def test_split_intervals_are_those_of_crepes(n, kind):
    prediction, y, scale = market(n + 20, seed=n)
    score, new = SCORES[kind], slice(n, None)
    known = Forecast(prediction[:n], scale[:n])
    quantiles = conformal_quantiles(score.score(y[:n], known, LEVELS)[:, 0], LEVELS)
    lower, upper = score.interval(Forecast(prediction[new], scale[new]), quantiles, LEVELS)
    sigmas = {"fit": scale[:n], "new": scale[new]} if kind == "normalised" else {"fit": None, "new": None}
    theirs = crepes.ConformalRegressor().fit(y[:n] - prediction[:n], sigmas=sigmas["fit"])
    for place, level in enumerate(LEVELS):
        bounds = theirs.predict_int(prediction[new], sigmas=sigmas["new"], confidence=level)
        np.testing.assert_array_equal(np.column_stack([lower, upper])[:, [place, place + 3]], bounds)


@pytest.mark.usefixtures("quiet")
@pytest.mark.parametrize("normalised", [False, True])
def test_quantiles_of_segments_are_those_of_mondrian_crepes(normalised):
    sizes = [77, 78, 82, 61, 102]  # with one more, none is a multiple of 5: no rank is left to rounding
    n, rng = sum(sizes), np.random.default_rng(5)
    segment = np.concatenate([rng.permutation(np.repeat(np.arange(5), sizes)), rng.integers(0, 5, 50)])
    prediction, y, scale = market(n + 50, seed=3)
    score, sigma = (NORMALISED, scale) if normalised else (ABSOLUTE, None)
    scores = score.score(y[:n], Forecast(prediction[:n], scale[:n]), LEVELS)[:, 0]
    quantiles, counts = grouped_quantiles(segment[:n], scores, 5, LEVELS)
    lower, upper = score.interval(Forecast(prediction[n:], scale[n:]), quantiles[segment[n:]], LEVELS)
    theirs = crepes.ConformalRegressor().fit(
        y[:n] - prediction[:n], sigmas=None if sigma is None else sigma[:n], bins=segment[:n]
    )
    assert counts.tolist() == sizes
    for place, level in enumerate(LEVELS):
        bounds = theirs.predict_int(
            prediction[n:], sigmas=None if sigma is None else sigma[n:], bins=segment[n:], confidence=level
        )
        np.testing.assert_array_equal(np.column_stack([lower[:, place], upper[:, place]]), bounds)


@pytest.mark.usefixtures("quiet")
def test_convention_crepes_loses_a_rank_to_floating_point():
    """Nine scores can promise 90 %: their largest. (1 - 0.9) * 10 is 0.9999999999999998, and crepes gives the line."""
    residuals = np.arange(1.0, 10.0)
    theirs = crepes.ConformalRegressor().fit(residuals).predict_int(np.zeros(1), confidence=0.9)
    assert np.isinf(theirs).all()
    assert conformal_quantiles(residuals, (0.9,)).tolist() == [9.0]


@pytest.mark.usefixtures("quiet")
@pytest.mark.parametrize("n", [21, 57, 998])
def test_split_intervals_are_those_of_mapie(n):
    from mapie.regression import SplitConformalRegressor

    prediction, y, _ = market(n + 20, seed=n)
    quantiles = conformal_quantiles(ABSOLUTE.score(y[:n], Forecast(prediction[:n]), LEVELS)[:, 0], LEVELS)
    lower, upper = ABSOLUTE.interval(Forecast(prediction[n:]), quantiles, LEVELS)
    model = SplitConformalRegressor(Given(), confidence_level=list(LEVELS), prefit=True)
    _, theirs = model.conformalize(prediction[:n, None], y[:n]).predict_interval(prediction[n:, None])
    np.testing.assert_allclose(np.stack([lower, upper], axis=1), theirs, rtol=1e-14)


def series(calibration: int, steps: int, seed: int) -> np.ndarray:
    """Residuals with heavy tails, a slow wave and a jump, (calibration + steps,)."""
    rng = np.random.default_rng(seed)
    residuals = rng.standard_t(4, calibration + steps) * (1 + 0.4 * np.sin(np.arange(calibration + steps) / 30))
    residuals[calibration + steps // 2 :] *= 1.3
    return residuals


def mapie_path(residuals: np.ndarray, calibration: int, gamma: float, levels) -> tuple[np.ndarray, np.ndarray]:
    """alpha and half widths that MAPIE has at each step, (T, L): the newest score takes the oldest one's place."""
    from mapie.conformity_scores import AbsoluteConformityScore
    from mapie.regression import TimeSeriesRegressor

    inputs = np.zeros((len(residuals), 1))
    model = TimeSeriesRegressor(
        Given(), method="aci", cv="prefit", conformity_score=AbsoluteConformityScore(sym=True)
    ).fit(inputs[:calibration], residuals[:calibration])
    alphas, widths = [], []
    for step in range(calibration, len(residuals)):
        now = slice(step, step + 1)
        _, bounds = model.predict(inputs[now], confidence_level=list(levels), allow_infinite_bounds=True)
        alphas.append([model.current_alpha[round(1 - level, 2)] for level in levels])
        widths.append(bounds[0, 1])
        model.adapt_conformal_inference(inputs[now], residuals[now], gamma=gamma, confidence_level=list(levels))
        model.update(inputs[now], residuals[now])
    return np.array(alphas), np.array(widths)


@pytest.mark.usefixtures("quiet")
@pytest.mark.parametrize(("gamma", "seed"), [(0.0, 1), (0.005, 1), (0.01, 2), (0.02, 3)])
def test_alpha_s_path_of_one_series_is_that_of_mapie(gamma, seed):
    """300 scores: 301 * level is no whole number at any alpha on the way, so that no rank is left to rounding."""
    calibration, steps, levels = 300, 250, (0.8, 0.9)
    residuals = series(calibration, steps, seed)
    alphas, widths = mapie_path(residuals, calibration, gamma, levels)
    at = np.arange(-calibration, steps)
    rows = ScoredRows(np.zeros(len(at), dtype=int), np.abs(residuals), at, np.where(at < 0, 0, at + 1))
    how = Adaptation(levels, step_size=gamma, damping_rows=0, min_rows=1, window=calibration)
    ours = adapt(rows, [-1], how, stop=steps)
    np.testing.assert_allclose(ours.alpha[:, 0], alphas, rtol=0, atol=1e-12)
    np.testing.assert_array_equal(ours.quantiles[:, 0], widths)
    assert (len(np.unique(alphas[:, 1])) > 20) == (gamma > 0), "a path that goes nowhere proves nothing"
