"""The contract that every conformity score keeps: forward and inverse describe the same set."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from assay import extensions
from assay.config.conformal import tail_levels
from assay.conformal import SCORES, AbsoluteResidual, Forecast, nested, score_named
from assay.errors import UserError

LEVELS = (0.8, 0.9)
TAILS = (0.05, 0.1, 0.5, 0.9, 0.95)
EVERY = {**SCORES, **{name: score_named(name) for name in extensions.names("score")}}  # those of ASSAY_EXTENSIONS, too
every_score = pytest.mark.parametrize("score", EVERY.values(), ids=EVERY.keys())
moderate = st.floats(min_value=-1e6, max_value=1e6)
half_widths = st.floats(min_value=0.0, max_value=1e6)
rows = st.lists(
    st.tuples(moderate, st.lists(moderate, min_size=5, max_size=5), st.floats(0.01, 1e3), half_widths),
    min_size=1,
    max_size=20,
)


def forecasts(found) -> tuple[np.ndarray, Forecast, np.ndarray]:
    """Outcomes (n,), what a model with a scale and quantiles says of them, and a quantile for each row."""
    y, raw, scale, quantile = (np.array(column, dtype=np.float64) for column in zip(*found, strict=True))
    quantiles = np.sort(raw, axis=1)
    return y, Forecast(quantiles[:, 2], scale, quantiles, TAILS), quantile


def per_part(score, quantile: np.ndarray, times: float = 1.0) -> np.ndarray:
    """The same quantile for all parts of a row, that of the second level so many times as large: (n, P)."""
    return np.column_stack([quantile * (times if part.level else 1.0) for part in score.parts(LEVELS)])


@every_score
@given(found=rows)
def test_outcome_is_inside_exactly_when_all_its_scores_are_at_most_their_quantiles(score, found):
    y, forecast, quantile = forecasts(found)
    quantiles = per_part(score, quantile, 2.0)
    lower, upper = score.interval(forecast, quantiles, LEVELS)
    scores = score.score(y, forecast, LEVELS)
    spread = np.abs(forecast.quantiles).max(axis=1) + np.abs(y) + (1 + forecast.scale) * (1 + 2 * quantile)
    for at in range(len(LEVELS)):
        parts = [(place, part.column) for place, part in enumerate(score.parts(LEVELS)) if part.level == at]
        gaps = np.column_stack([scores[:, column] - quantiles[:, place] for place, column in parts])
        clear = (np.abs(gaps) > 1e-12 * spread[:, None]).all(axis=1)
        inside = (y >= lower[:, at]) & (y <= upper[:, at])
        assert np.array_equal(inside[clear], (gaps <= 0).all(axis=1)[clear])


@every_score
@given(found=rows)
def test_shapes_and_types_are_as_documented(score, found):
    y, forecast, quantile = forecasts(found)
    parts = score.parts(LEVELS)
    scores = score.score(y, forecast, LEVELS)
    assert scores.shape == (len(y), len({part.column for part in parts}))
    assert {part.level for part in parts} == {0, 1}
    for part in parts:  # widths move in shares of such quantiles
        assert not part.above_zero or (scores[:, part.column] >= 0).all()
    for quantiles in (np.full(len(parts), 2.5), per_part(score, quantile)):
        for bound in score.interval(forecast, quantiles, LEVELS):
            assert bound.shape == (len(y), 2)
            assert bound.dtype == np.float64


@every_score
@given(found=rows)
def test_larger_quantiles_give_larger_intervals(score, found):
    _, forecast, quantile = forecasts(found)
    lower, upper = score.interval(forecast, per_part(score, quantile), LEVELS)
    wider = score.interval(forecast, per_part(score, 2 * quantile), LEVELS)
    assert (wider[0] <= lower).all()
    assert (wider[1] >= upper).all()
    endless = score.interval(forecast, np.full(len(score.parts(LEVELS)), np.inf), LEVELS)
    assert np.isneginf(endless[0]).all()
    assert np.isposinf(endless[1]).all()


@every_score
def test_ends_that_cross_are_put_in_order(score):
    forecast = Forecast(np.array([3.0]), np.array([1.0]), np.array([[1.0, 2.0, 3.0, 4.0, 5.0]]), TAILS)
    if score.name not in {"signed", "cqr"}:
        return  # their scores, and with them their quantiles, are never negative
    lower, upper = score.interval(forecast, np.full(len(score.parts(LEVELS)), -10.0), LEVELS)
    assert (lower <= upper).all()


@every_score
def test_contract_of_the_registry(score):
    assert EVERY[score.name] is score
    assert score_named(score.name) is score
    with pytest.raises((dataclasses.FrozenInstanceError, AttributeError, TypeError)):
        score.name = "other"


@every_score
def test_missing_values_give_missing_numbers(score):
    whole = np.ones((3, 5))
    unknown = Forecast(np.array([np.nan, np.inf, -np.inf]), np.ones(3), whole * np.nan, TAILS)
    assert np.isnan(score.score([np.nan] * 3, Forecast(np.ones(3), np.ones(3), whole, TAILS), LEVELS)).all()
    assert np.isnan(score.score(np.ones(3), unknown, LEVELS)[0]).all()
    for quantile in (1.0, np.inf):
        for bound in score.interval(unknown, np.full(len(score.parts(LEVELS)), quantile), LEVELS):
            assert np.isnan(bound).all()


@every_score
def test_shapes_that_would_broadcast_are_refused(score):
    forecast = Forecast(np.ones(3), np.ones(3), np.ones((3, 5)), TAILS)
    with pytest.raises(ValueError, match="outcomes have shape"):
        score.score(np.ones((3, 1)), forecast, LEVELS)
    with pytest.raises(ValueError, match="do not fit"):
        score.interval(forecast, np.ones((2, len(score.parts(LEVELS)))), LEVELS)
    with pytest.raises(ValueError, match="do not fit"):
        score.interval(forecast, np.ones((3, 1, 1)), LEVELS)
    with pytest.raises(ValueError, match="one-dimensional"):
        Forecast.of(np.ones((3, 1)))


def test_scores_that_are_distances_are_never_below_0():
    never = {name for name, score in SCORES.items() if all(part.above_zero for part in score.parts(LEVELS))}
    assert never == {"absolute", "normalised"}


def test_an_unknown_score_says_where_scores_come_from():
    with pytest.raises(UserError, match=r"conformity score 'squared' is none of assay's own .* runtime\.extensions"):
        score_named("squared")


def test_absolute_residual_by_hand():
    score = AbsoluteResidual()
    assert score.score([10.0, 7.0], Forecast.of([8.0, 8.0])).tolist() == [[2.0], [1.0]]
    lower, upper = score.interval(Forecast.of([8.0, 20.0]), [[1.0, 2.0], [3.0, np.inf]])
    assert lower.tolist() == [[7.0, 6.0], [17.0, -np.inf]]
    assert upper.tolist() == [[9.0, 10.0], [23.0, np.inf]]


def test_signed_residual_by_hand():
    score = SCORES["signed"]
    assert [(part.level, part.column, part.promise) for part in score.parts((0.8,))] == [(0, 0, 0.9), (0, 1, 0.9)]
    assert score.score([10.0, 7.0], Forecast.of([8.0, 8.0]), (0.8,)).tolist() == [[-2.0, 2.0], [1.0, -1.0]]
    lower, upper = score.interval(Forecast.of([8.0]), [1.0, 5.0], (0.8,))
    assert (lower.tolist(), upper.tolist()) == ([[7.0]], [[13.0]])


def test_normalised_residual_by_hand():
    score, forecast = SCORES["normalised"], Forecast(np.array([8.0, 8.0]), np.array([2.0, 0.5]))
    assert score.score([10.0, 7.0], forecast, (0.8,)).tolist() == [[1.0], [2.0]]
    lower, upper = score.interval(forecast, [3.0], (0.8,))
    assert (lower.tolist(), upper.tolist()) == ([[2.0], [6.5]], [[14.0], [9.5]])
    with pytest.raises(ValueError, match="need a scale"):
        score.score([1.0], Forecast.of([1.0]), (0.8,))
    with pytest.raises(ValueError, match="1 scales are not above 0"):
        score.score([1.0], Forecast(np.array([1.0]), np.array([0.0])), (0.8,))


def test_conformalised_quantiles_by_hand():
    score = SCORES["cqr"]
    forecast = Forecast(np.array([3.0]), None, np.array([[1.0, 2.0, 3.0, 4.0, 6.0]]), TAILS)
    assert score.score([7.0], forecast, LEVELS).tolist() == [[3.0, 1.0]]
    assert score.score([3.0], forecast, LEVELS).tolist() == [[-1.0, -2.0]]
    lower, upper = score.interval(forecast, [0.5, -0.5], LEVELS)
    assert (lower.tolist(), upper.tolist()) == ([[1.5, 1.5]], [[4.5, 5.5]])
    with pytest.raises(ValueError, match=r"learned the quantiles \[0.05, .*not \[0.025, 0.975\]"):
        score.score([7.0], forecast, (0.95,))
    with pytest.raises(ValueError, match="need a model of quantiles"):
        score.interval(Forecast.of([3.0]), [0.5], (0.8,))


def test_tails_are_exact_decimals():
    assert tail_levels(0.9) == (0.05, 0.95)
    assert tail_levels(0.8) == (0.1, 0.9)
    assert tail_levels(0.99) == (0.005, 0.995)


def test_intervals_of_a_higher_level_hold_those_of_a_lower_one():
    lower, upper = nested(np.array([[1.0, 2.0, 0.5]]), np.array([[9.0, 8.0, 9.5]]), (0.8, 0.9, 0.5))
    assert lower.tolist() == [[0.5, 0.5, 0.5]]
    assert upper.tolist() == [[9.5, 9.5, 9.5]]
    same = nested(np.array([[2.0, 1.0]]), np.array([[8.0, 9.0]]), (0.8, 0.9))
    assert (same[0].tolist(), same[1].tolist()) == ([[2.0, 1.0]], [[8.0, 9.0]])
