"""Consumes random probabilities, checks that sets of classes are the inverse of their score and keep their promise."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from assay.conformal.calibration import Calibration, fit
from assay.conformal.class_sets import SET_SCORES, draws_of, uniform

LAC, APS = SET_SCORES["lac"], SET_SCORES["aps"]
every_score = pytest.mark.parametrize("score", SET_SCORES.values(), ids=SET_SCORES.keys())
seeds = st.integers(0, 300)


def drawn(classes, rows, seed):
    random = np.random.default_rng(seed)
    each = random.dirichlet(np.ones(classes), rows)
    each[::7] = 1 / classes  # ties
    return np.array([random.choice(classes, p=p) for p in each]), each, random.random(rows)


@every_score
@given(classes=st.integers(2, 6), seed=seeds, quantile=st.floats(0, 1))
def test_a_class_is_in_the_set_where_its_score_is_at_most_the_quantile(score, classes, seed, quantile):
    _, each, draws = drawn(classes, 20, seed)
    sets = score.sets(each, np.full(20, quantile), draws)
    for code in range(classes):
        np.testing.assert_array_equal(sets[:, code], score.score(np.full(20, code), each, draws) <= quantile)


@every_score
@given(classes=st.integers(2, 6), seed=seeds)
def test_each_class_may_have_a_quantile_of_its_own(score, classes, seed):
    _, each, draws = drawn(classes, 20, seed)
    limits = np.random.default_rng(seed).random((20, classes))
    whole = score.sets(each, limits, draws)
    for code in range(classes):
        np.testing.assert_array_equal(whole[:, code], score.sets(each, limits[:, code], draws)[:, code])


@every_score
def test_an_infinite_quantile_holds_every_class(score):
    _, each, draws = drawn(3, 5, 0)
    assert score.sets(each, np.full(5, np.inf), draws).all()


@every_score
@pytest.mark.parametrize("classes", [2, 5])
def test_the_promise_is_kept_on_later_rows_and_sets_are_nested(score, classes):
    actual, each, draws = drawn(classes, 4_000, 1)
    calibration = fit(
        score.score(actual[:2000], each[:2000], draws[:2000]),
        np.full(2000, "", object),
        (0.8, 0.9),
        min_segment_rows=1,
        score=score.name,
    )
    assert Calibration.from_dict(calibration.to_dict()) == calibration
    quantiles = calibration.quantiles[""].quantiles
    sets = [score.sets(each[2000:], np.full(2000, q), draws[2000:]) for q in quantiles]
    for level, found in zip((0.8, 0.9), sets, strict=True):
        assert found[np.arange(2000), actual[2000:]].mean() == pytest.approx(level, abs=0.03)
    assert (sets[0] <= sets[1]).all()


def test_an_adaptive_score_is_the_mass_of_likelier_classes_and_a_share_of_its_own():
    each = np.array([[0.2, 0.5, 0.3]] * 3)
    np.testing.assert_allclose(APS.score([1, 2, 0], each, np.array([0.5, 0.5, 0.5])), [0.25, 0.65, 0.9])
    np.testing.assert_allclose(APS.score([1, 2, 0], each, np.zeros(3)), [0.0, 0.5, 0.8])
    np.testing.assert_allclose(APS.score([1, 2, 0], each), [0.5, 0.8, 1.0])


@given(classes=st.integers(2, 6), seed=seeds, quantile=st.floats(0, 1))
def test_without_a_draw_a_score_is_the_largest_and_a_set_holds_those_of_all_draws(classes, seed, quantile):
    actual, each, draws = drawn(classes, 20, seed)
    some = np.where(np.arange(20) % 2, draws, np.nan)
    limit = np.full(20, quantile)
    for given_draws in (None, some):
        assert (APS.score(actual, each, given_draws) >= APS.score(actual, each, draws)).all()
        assert (APS.sets(each, limit, given_draws) >= APS.sets(each, limit, draws)).all()
    np.testing.assert_array_equal(APS.sets(each, limit, some)[1::2], APS.sets(each, limit, draws)[1::2])
    assert APS.sets(each, limit).any(axis=1).all()  # and never empty


def test_adaptive_sets_are_small_where_the_model_is_sure():
    sure, unsure = [0.97, 0.01, 0.01, 0.01], [0.28, 0.26, 0.24, 0.22]
    sizes = APS.sets(np.array([sure] * 500 + [unsure] * 500), np.full(1000, 0.8), uniform(np.arange(1000))).sum(axis=1)
    assert sizes[:500].mean() < 1 < 2.5 < sizes[500:].mean()


def test_a_draw_is_the_row_s_own_wherever_it_is_asked_for_and_spread_evenly():
    ids = np.random.default_rng(0).integers(-(2**63), 2**63 - 1, 20_000)
    batch = pa.record_batch({"row_id": pa.array(ids), "x": pa.array(np.zeros(len(ids)))})
    whole = draws_of(batch)
    np.testing.assert_array_equal(
        np.concatenate([draws_of(batch.slice(k, 5_000)) for k in range(0, 20_000, 5_000)]), whole
    )
    assert (whole >= 0).all()
    assert (whole < 1).all()
    np.testing.assert_allclose(np.bincount((whole * 10).astype(int)) / len(ids), 0.1, atol=0.01)
    # Parts of rows are ranges of row_id, so a draw must know nothing of where in that range a row is.
    assert abs(np.corrcoef(whole, ids.astype(float))[0, 1]) < 0.03
    np.testing.assert_allclose(uniform(np.arange(20_000)).mean(), 0.5, atol=0.01)
    assert uniform(np.array([0]))[0] == (0xE220A8397B1DCDAF >> 11) / 2**53  # SplitMix64's first number of seed 0


def test_a_row_without_an_id_has_no_draw():
    assert draws_of(pa.record_batch({"x": pa.array([1.0])})) is None
    assert draws_of(pa.record_batch({"row_id": pa.array([5.0, np.nan])})) is None
    found = draws_of(pa.record_batch({"row_id": pa.array([5, None], pa.int64())}))
    assert found[0] == uniform(np.array([5]))[0]
    assert np.isnan(found[1])


@every_score
def test_shapes_that_do_not_fit_are_refused(score):
    with pytest.raises(ValueError, match="do not fit"):
        score.score([0, 1], [[0.5, 0.5]])
    with pytest.raises(ValueError, match="do not fit"):
        score.sets([[0.5, 0.5]], [0.1, 0.2])
    with pytest.raises(ValueError, match="draws of shape"):
        APS.sets([[0.5, 0.5]], [0.1], np.zeros(2))
