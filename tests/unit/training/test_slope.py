"""Consumes sums of days, checks the slope of outcomes on predictions, and when it is used."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
import statsmodels.api as sm

from assay.training.slope import LEAST_DAYS, NONE, SUMS, slope_of


def days(count, skill, *, rows=50, shared=0.0, seed=0):
    """Predicted and true changes: `skill` is the slope of the truth; `shared` what a day's rows have in common."""
    draw = np.random.default_rng(seed)
    day = np.repeat(np.arange(count), rows)
    predicted = draw.normal(0, 0.01, len(day)) + draw.normal(0, 0.005, count)[day]
    truth = skill * predicted + draw.normal(0, 0.02, len(day)) + draw.normal(0, shared, count)[day]
    return day, predicted, truth


def sums(day, predicted, truth, parts=3):
    """Rows of `SUMS`, as several tasks give them."""
    cut = [
        pa.table({"day": d, "both": t * p, "square": p**2})
        for d, p, t in zip(*(np.array_split(x, parts) for x in (day, predicted, truth)), strict=True)
    ]
    return (
        pa.concat_tables(cut).group_by("day").aggregate([("both", "sum"), ("square", "sum")]).rename_columns(SUMS.names)
    )


def test_slope_and_error_are_those_of_a_regression_with_clusters():
    day, predicted, truth = days(60, 0.4, shared=0.01)
    found = slope_of(sums(day, predicted, truth), len(day))
    fit = sm.OLS(truth, predicted).fit(cov_type="cluster", cov_kwds={"groups": day, "use_correction": False})
    assert (found.slope, found.error) == pytest.approx((fit.params[0], fit.bse[0]))
    assert (found.days, found.rows) == (60, 3000)


def test_skill_is_left_alone_and_noise_counts_for_nothing():
    assert slope_of(sums(*days(200, 1.0)), 1).used == 1.0
    assert slope_of(sums(*days(200, 1.3)), 1).used == 1.0
    assert slope_of(sums(*days(200, 0.0, shared=0.01)), 1).used == 0.0
    assert slope_of(sums(*days(200, -0.7)), 1).used == 0.0
    half = slope_of(sums(*days(200, 0.5)), 1)
    assert half.used == pytest.approx(half.slope, abs=1e-6)
    assert 0.4 < half.used < 0.6


def test_what_is_not_shown_changes_nothing():
    """Days that move together leave the slope open, however many rows they have; so do few days."""
    unsure = slope_of(sums(*days(25, 0.6, shared=0.05, rows=500)), 1)
    assert unsure.error > 0.3
    assert unsure.used == 1.0
    assert slope_of(sums(*days(LEAST_DAYS - 1, 0.0)), 1).used == 1.0
    assert NONE.used == 1.0
    assert (NONE.figures, NONE.sentences) == ({}, [])


def test_nothing_predicted_has_no_slope():
    day, predicted, truth = days(40, 1.0)
    assert slope_of(sums(day, 0 * predicted, truth), 2000).used == 1.0
    assert slope_of(SUMS.empty_table(), 0).used == 1.0


def test_what_was_found_is_told():
    found = slope_of(sums(*days(200, 0.0)), 10_000)
    assert "predicted changes count times 0: outcomes of 10,000 later rows followed them by" in found.sentences[0]
    assert found.figures == {"slope": found.slope, "slope_error": found.error, "slope_used": 0.0}


def test_the_order_in_which_tasks_end_changes_no_bit():
    day, predicted, truth = days(300, 0.5)
    told = sums(day, predicted, truth, parts=40)
    chance = np.random.default_rng(3)
    orders = [chance.permutation(told.num_rows) for _ in range(20)]
    assert len({(slope.slope, slope.error) for slope in (slope_of(told.take(one), len(day)) for one in orders)}) == 1
