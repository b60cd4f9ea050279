"""The quantile of each row's segment: labels of distinct values give what labels of every row give."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from assay.conformal.calibration import fit
from assay.conformal.intervals import labels_of, quantiles_of

VALUES = st.sampled_from(["a", "b|c", "=", "∅", "", None])
ROWS = st.lists(st.tuples(VALUES, VALUES, VALUES), min_size=1, max_size=30)
COLUMNS = ("kind", "city", "x=y")


@settings(deadline=None)  # the first example pays for imports
@given(ROWS, ROWS, st.integers(0, 3))
def test_distinct_labels_are_enough(calibrated, new, columns):
    names = COLUMNS[:columns]

    def batch(rows):
        return pa.record_batch([pa.array(column, pa.string()) for column in zip(*rows, strict=True)], names=COLUMNS)

    scores = np.arange(len(calibrated), dtype=float)
    labels = np.array(labels_of(batch(calibrated), names), dtype=object)
    calibration = fit(scores, labels, (0.5, 0.2), min_segment_rows=2, segment_columns=names)
    expected, used = calibration.quantiles_for(np.array(labels_of(batch(new), names), dtype=object))
    quantiles, segments = quantiles_of(calibration, batch(new))
    np.testing.assert_array_equal(quantiles, expected)
    assert segments.to_pylist() == list(used)


@pytest.mark.parametrize("names", [(), ("kind",), COLUMNS])
def test_a_batch_without_rows_has_no_segments(names):
    calibration = fit(np.ones(9), np.array([""] * 9, dtype=object), (0.8,), min_segment_rows=1, segment_columns=names)
    quantiles, segments = quantiles_of(calibration, pa.record_batch([pa.array([], pa.string())] * 3, names=COLUMNS))
    assert quantiles.shape == (0, 1)
    assert segments.to_pylist() == []
