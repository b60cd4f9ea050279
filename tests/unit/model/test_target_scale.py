"""Consumes targets and anchors, checks that the way to the model's scale and the way back meet."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from assay.model.scale import TargetScale, as_floats

TYPICAL = 250.0
prices = st.floats(1e-3, 1e9)
levels = st.floats(-1e9, 1e9)
unusable = st.sampled_from([None, float("nan"), float("inf"), 0.0, -5.0])


def anchored(anchors):
    return pa.record_batch({"last": pa.array(anchors, pa.float32())})


@given(st.lists(st.tuples(prices, prices | unusable), min_size=1, max_size=20))
def test_logs_relative_to_an_anchor_come_back(rows):
    y, batch = np.array([y for y, _ in rows]), anchored([a for _, a in rows])
    scale = TargetScale("price", "log", "last", TYPICAL)
    np.testing.assert_allclose(scale.inverse(scale.forward(y, batch), batch), y, rtol=1e-9)


@given(st.lists(st.tuples(levels, levels), min_size=1, max_size=20))
def test_plain_values_relative_to_an_anchor_come_back(rows):
    y, batch = np.array([y for y, _ in rows]), anchored([a for _, a in rows])
    scale = TargetScale("sales", "none", "last", TYPICAL)
    np.testing.assert_allclose(scale.inverse(scale.forward(y, batch), batch), y, rtol=1e-9, atol=1e-6)


@given(st.lists(prices, min_size=1, max_size=20), st.sampled_from(["none", "log"]))
def test_without_an_anchor_too(prices, transform):
    y, batch = np.array(prices), anchored([1.0] * len(prices))
    scale = TargetScale("price", transform)
    assert scale.columns == []
    np.testing.assert_allclose(scale.inverse(scale.forward(y, batch), batch), y, rtol=1e-12)


@pytest.mark.parametrize("anchor", [None, float("nan"), float("inf"), 0.0, -5.0])
def test_under_a_log_the_typical_value_stands_in_for_an_anchor_that_has_none(anchor):
    scale = TargetScale("price", "log", "last", TYPICAL)
    np.testing.assert_allclose(scale.forward(np.array([500.0]), anchored([anchor])), [np.log(2)])


def test_without_a_log_zero_and_negative_anchors_are_values_like_others():
    scale = TargetScale("sales", "none", "last", TYPICAL)
    found = scale.forward(np.array([10.0] * 4), anchored([0.0, -5.0, None, float("inf")]))
    np.testing.assert_allclose(found, [10, 15, 10 - TYPICAL, 10 - TYPICAL])


@given(st.lists(st.floats(-700, 700), min_size=2, max_size=20), st.sampled_from(["none", "log"]))
def test_the_way_back_keeps_the_order_of_interval_ends(points, transform):
    z = np.sort(np.array(points))
    batch = anchored([42.0] * len(points))
    level = TargetScale("price", transform, "last", TYPICAL).inverse(z, batch)
    assert np.all(np.diff(level) >= 0)


def test_infinite_ends_stay_ends():
    batch, z = anchored([100.0, 100.0]), np.array([-np.inf, np.inf])
    assert TargetScale("p", "log", "last", TYPICAL).inverse(z, batch).tolist() == [0.0, np.inf]
    assert TargetScale("p", "none", "last", TYPICAL).inverse(z, batch).tolist() == [-np.inf, np.inf]
    assert TargetScale("p", "log", "last", TYPICAL).inverse(np.array([1e4, 1.0]), batch)[0] == np.inf  # no warning


def test_plain_data_and_back():
    scale = TargetScale("price", "log", "last", TYPICAL)
    assert TargetScale(**scale.to_dict()) == scale
    assert scale.columns == ["last"]


def test_columns_of_any_number_type_become_doubles_with_nan():
    for kind in (pa.int64(), pa.float32(), pa.float64()):
        found = as_floats(pa.array([1, None], kind))
        assert found.dtype == np.float64
        np.testing.assert_array_equal(found, [1, np.nan])
