"""Consumes random probabilities, checks that sets of classes are the inverse of their score and keep their promise."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from assay.conformal.calibration import Calibration, fit
from assay.conformal.class_sets import SET_SCORES

LAC = SET_SCORES["lac"]


def drawn(classes, rows, seed):
    random = np.random.default_rng(seed)
    each = random.dirichlet(np.ones(classes), rows)
    return np.array([random.choice(classes, p=p) for p in each]), each


@given(st.integers(2, 6), st.integers(0, 30), st.floats(0, 1))
def test_a_class_is_in_the_set_where_its_score_is_at_most_the_quantile(classes, seed, quantile):
    _, each = drawn(classes, 20, seed)
    sets = LAC.sets(each, np.full(20, quantile))
    for code in range(classes):
        np.testing.assert_array_equal(sets[:, code], LAC.score(np.full(20, code), each) <= quantile)


def test_an_infinite_quantile_holds_every_class():
    _, each = drawn(3, 5, 0)
    assert LAC.sets(each, np.full(5, np.inf)).all()


@pytest.mark.parametrize("classes", [2, 5])
def test_the_promise_is_kept_on_later_rows_and_sets_are_nested(classes):
    actual, each = drawn(classes, 4_000, 1)
    calibration = fit(
        LAC.score(actual[:2000], each[:2000]), np.full(2000, "", object), (0.8, 0.9), min_segment_rows=1, score="lac"
    )
    assert Calibration.from_dict(calibration.to_dict()) == calibration
    sets = [LAC.sets(each[2000:], np.full(2000, q)) for q in calibration.quantiles[""].quantiles]
    for level, found in zip((0.8, 0.9), sets, strict=True):
        assert found[np.arange(2000), actual[2000:]].mean() == pytest.approx(level, abs=0.03)
    assert (sets[0] <= sets[1]).all()


def test_shapes_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="do not fit"):
        LAC.score([0, 1], [[0.5, 0.5]])
    with pytest.raises(ValueError, match="do not fit"):
        LAC.sets([[0.5, 0.5]], [0.1, 0.2])
