"""Confidence and risk: from 0 to 1, without a unit, and moving the right way."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from assay.conformal.calibration import fit
from assay.conformal.difficulty import Difficulty
from assay.model.scale import TargetScale
from assay.scoring.confidence import (
    confidence_of_classes,
    confidence_of_width,
    risk_of_bound,
    risk_of_classes,
    scaled_width,
    typical_width,
)

WIDTHS = st.floats(1e-6, 1e6)


@settings(deadline=None)  # the first example pays for imports
@given(WIDTHS, WIDTHS, WIDTHS)
def test_a_wider_interval_never_has_more_confidence(one, other, typical):
    narrow, wide = confidence_of_width(np.sort([one, other]), typical)
    assert 0 <= wide <= narrow <= 1


@pytest.mark.parametrize(("width", "expected"), [(0.0, 1.0), (0.4, 0.5), (1.2, 0.25), (np.inf, 0.0)])
def test_confidence_is_half_at_the_typical_width(width, expected):
    assert confidence_of_width(np.array([width]), 0.4)[0] == pytest.approx(expected)


@pytest.mark.parametrize("typical", [0.0, np.inf, np.nan])
def test_without_a_typical_width_there_is_no_confidence(typical):
    assert np.isnan(confidence_of_width(np.array([1.0]), typical)).all()


def test_the_typical_width_is_that_of_the_widest_level_over_all_rows():
    scores = np.arange(1, 100) / 100
    calibration = fit(scores, np.array([""] * 99, dtype=object), (0.9, 0.5), min_segment_rows=1)
    assert typical_width(calibration) == pytest.approx(2 * 0.90)
    assert typical_width(fit(scores[:5], np.array([""] * 5, dtype=object), (0.9,), min_segment_rows=1)) == np.inf


def test_every_kind_of_score_has_a_typical_width():
    scores, labels = np.arange(1, 100) / 100, np.array([""] * 99, dtype=object)
    signed = fit(np.column_stack([scores, 2 * scores]), labels, (0.8,), min_segment_rows=1, score="signed")
    assert typical_width(signed) == pytest.approx(0.9 + 1.8)
    difficulty = Difficulty(b"", typical=3.0, rows=500)
    normalised = fit(scores, labels, (0.8,), min_segment_rows=1, score="normalised", difficulty=difficulty)
    assert typical_width(normalised) == pytest.approx(2 * 0.8 * 3)
    own = dataclasses.replace(fit(scores, labels, (0.8,), min_segment_rows=1, score="cqr"), own_width=5.0)
    assert typical_width(own) == pytest.approx(5.0 + 2 * 0.8)


@settings(deadline=None)  # the first example pays for imports
@given(st.floats(1e-3, 1e3))
def test_neither_depends_on_the_unit(unit):
    prediction, lower, upper = np.array([10.0, 50.0]), np.array([8.0, 20.0]), np.array([13.0, 90.0])
    log = TargetScale("price", "log")
    np.testing.assert_allclose(scaled_width(lower, upper, log), scaled_width(lower * unit, upper * unit, log))
    np.testing.assert_allclose(risk_of_bound(prediction, lower), risk_of_bound(prediction * unit, lower * unit))


@pytest.mark.parametrize(
    ("prediction", "lower", "expected"),
    [
        (100.0, 88.0, 0.12),
        (100.0, 0.0, 1.0),
        (100.0, -50.0, 1.0),
        (100.0, -np.inf, 1.0),
        (-10.0, -15.0, 0.5),
        (0.0, -1.0, 1.0),
        (0.0, 0.0, 0.0),
        (5.0, 5.0, 0.0),
    ],
)
def test_risk_is_the_share_that_may_be_lost(prediction, lower, expected):
    assert risk_of_bound(np.array([prediction]), np.array([lower]))[0] == pytest.approx(expected)


def test_an_unknown_prediction_has_an_unknown_risk():
    assert np.isnan(risk_of_bound(np.array([np.nan]), np.array([1.0]))).all()


def test_infinite_bounds_are_infinitely_wide_on_either_scale():
    bounds = np.array([-np.inf, 0.0]), np.array([np.inf, np.inf])
    assert np.isinf(scaled_width(*bounds, TargetScale("x"))).all()
    assert np.isinf(scaled_width(*bounds, TargetScale("x", "log"))).all()


def test_of_classes_chance_has_no_confidence_and_certainty_has_all():
    p = np.array([[0.5, 0.5], [1.0, 0.0], [0.9, 0.1], [0.9, 0.1], [0.9, 0.1]])
    found = confidence_of_classes(p, np.array([2, 1, 1, 2, 0]))
    np.testing.assert_allclose(found, [0, 1, 0.8, 0.4, 0.4])
    np.testing.assert_allclose(risk_of_classes(p), [0.5, 0, 0.1, 0.1, 0.1])
