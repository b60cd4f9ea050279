"""Checks that a scale per row is chosen where it makes better intervals, and only there."""

from __future__ import annotations

import datetime as dt

import numpy as np
import pyarrow as pa
import pytest

from assay.conformal import fit
from assay.conformal.calibration import labels_in
from assay.conformal.choice import MARGIN, interval_scores, relative_interval_score
from assay.conformal.conformity import SCORED, Older
from assay.conformal.scores import scores_in

START = dt.datetime(2024, 1, 1, tzinfo=dt.timezone.utc)


def scored(scores, scale=None):
    """Rows an hour apart, the oldest first."""
    count = len(scores)
    columns = {
        "row_id": np.arange(count),
        "time": [START + dt.timedelta(hours=hour) for hour in range(count)],
        "label": ["city=A" if row % 2 else "city=B" for row in range(count)],
        "scores": [[score] for score in scores],
        "own_width": np.zeros(count),
        "scale": np.ones(count) if scale is None else scale,
    }
    return pa.table(columns, schema=SCORED)


def fitted(rows, kind):
    return fit(scores_in(rows), labels_in(rows.column("label")), (0.8, 0.9), min_segment_rows=20, score=kind)


def ratio(errors, scale):
    absolute, normalised = scored(errors), scored(errors / scale, scale)
    taught = Older.of(absolute, 1 / 3, drawn=False)
    return relative_interval_score(absolute, taught.without(normalised), Older.of(absolute, 2 / 3, drawn=False), fitted)


def test_a_scale_is_better_where_errors_have_one():
    rng = np.random.default_rng(5)
    scale = rng.choice([0.2, 1.0, 5.0], 3_000)
    errors = np.abs(rng.normal(size=3_000))
    assert ratio(errors * scale, scale) < 0.8
    assert ratio(errors, scale) > 1.2  # a scale that has nothing to do with the errors
    assert ratio(errors, np.ones(3_000)) == pytest.approx(1, abs=MARGIN)


def test_interval_scores_are_those_of_the_definition():
    errors, scale = np.array([0.5, 1.0, 8.0, 2.0]), np.array([1.0, 2.0, 4.0, 0.5])
    rows = scored(errors / scale, scale)
    calibration = fit(np.arange(1, 20) / 10, ["city=A"] * 19, (0.8, 0.9), min_segment_rows=1, score="normalised")
    for place, level in enumerate(calibration.levels):
        lower = -calibration.quantiles[""].quantiles[place] * scale
        found = -2 * lower + 2 / (1 - level) * np.maximum(errors + lower, 0)
        assert interval_scores(calibration, rows)[place] == pytest.approx(found.mean())


def test_the_newest_third_alone_is_judged():
    rng = np.random.default_rng(6)
    scale = rng.choice([0.2, 1.0, 5.0], 900)
    errors = np.abs(rng.normal(size=900)) * scale
    plain = ratio(errors, scale)
    for row, judged in ((100, False), (400, False), (800, True)):
        other = errors.copy()
        other[row] = 1e9  # moves a quantile by one rank at most, and a mean to one billion
        assert (ratio(other, scale) == pytest.approx(plain, rel=0.05)) is not judged


def test_too_few_rows_for_normalised_intervals_choose_absolute_ones():
    assert ratio(np.abs(np.random.default_rng(7).normal(size=9)), np.ones(9)) >= 1
    assert ratio(np.zeros(0), np.zeros(0)) == 1
