"""The contract that every conformity score keeps: forward and inverse describe the same set."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from assay.conformal import SCORES, AbsoluteResidual, score_named

every_score = pytest.mark.parametrize("score", SCORES.values(), ids=SCORES.keys())
moderate = st.floats(min_value=-1e6, max_value=1e6)
half_widths = st.floats(min_value=0.0, max_value=1e6)
rows = st.lists(st.tuples(moderate, moderate, half_widths), min_size=1, max_size=20)


@every_score
@given(rows=rows)
def test_outcome_is_inside_exactly_when_its_score_is_at_most_the_quantile(score, rows):
    y, prediction, quantile = (np.array(column) for column in zip(*rows, strict=True))
    lower, upper = score.interval(prediction, quantile)
    scores = score.score(y, prediction)
    rounding = 4 * np.finfo(np.float64).eps * (np.abs(prediction) + quantile + np.abs(y))
    clear = np.abs(scores - quantile) > rounding
    inside = (y >= lower) & (y <= upper)
    assert np.array_equal(inside[clear], (scores <= quantile)[clear])


@every_score
@given(rows=rows)
def test_shapes_and_types_are_as_documented(score, rows):
    y, prediction, quantile = (np.array(column) for column in zip(*rows, strict=True))
    n = len(y)
    assert score.score(y, prediction).shape == (n,)
    for q, shape in ((2.5, (n,)), (quantile, (n,)), (np.column_stack([quantile] * 3), (n, 3))):
        for bound in score.interval(prediction, q):
            assert bound.shape == shape
            assert bound.dtype == np.float64


@every_score
@given(rows=rows)
def test_larger_quantiles_give_nested_intervals(score, rows):
    _, prediction, quantile = (np.array(column) for column in zip(*rows, strict=True))
    lower, upper = score.interval(prediction, np.column_stack([quantile, 2 * quantile, np.full(len(rows), np.inf)]))
    assert (np.diff(lower, axis=1) <= 0).all()
    assert (np.diff(upper, axis=1) >= 0).all()
    assert np.isneginf(lower[:, 2]).all()
    assert np.isposinf(upper[:, 2]).all()


@every_score
def test_contract_of_the_registry(score):
    assert SCORES[score.name] is score
    assert score_named(score.name) is score
    with pytest.raises((dataclasses.FrozenInstanceError, AttributeError, TypeError)):
        score.name = "other"


@every_score
def test_missing_values_give_missing_numbers(score):
    assert np.isnan(score.score([np.nan, 1.0], [1.0, np.nan])).all()
    for quantile in (1.0, np.inf):
        for bound in score.interval([np.nan, np.inf, -np.inf], quantile):
            assert np.isnan(bound).all()


@every_score
def test_shapes_that_would_broadcast_are_refused(score):
    with pytest.raises(ValueError, match="outcomes have shape"):
        score.score(np.ones(3), np.ones((3, 1)))
    with pytest.raises(ValueError, match="do not fit"):
        score.interval(np.ones(3), np.ones(2))
    with pytest.raises(ValueError, match="do not fit"):
        score.interval(np.ones((3, 1)), np.ones(3))
    with pytest.raises(ValueError, match="do not fit"):
        score.interval(np.ones(3), np.ones((3, 1, 1)))


def test_unknown_score_names_the_known_ones():
    with pytest.raises(ValueError, match="unknown conformity score 'squared'; known: absolute"):
        score_named("squared")


def test_absolute_residual_by_hand():
    score = AbsoluteResidual()
    assert score.score([10.0, 7.0], [8.0, 8.0]).tolist() == [2.0, 1.0]
    lower, upper = score.interval([8.0, 20.0], [[1.0, 2.0], [3.0, np.inf]])
    assert lower.tolist() == [[7.0, 6.0], [17.0, -np.inf]]
    assert upper.tolist() == [[9.0, 10.0], [23.0, np.inf]]
