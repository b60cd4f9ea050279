"""Consumes hand-worked and generated outcomes, checks point metrics, interval metrics and binomial bands."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from assay.metrics import binomial_band, binomial_bands, interval_metrics, point_metrics

ACTUAL = [100.0, 200.0, 300.0, 400.0]
PREDICTION = [104.0, 190.0, 300.0, 500.0]  # errors 4, -10, 0, 100; relative 4 %, 5 %, 0 %, 25 %


def test_point_metrics_by_hand():
    found = point_metrics(ACTUAL, PREDICTION)
    assert found == pytest.approx(
        {
            "r2": 1 - 10_116 / 50_000,
            "rmse": math.sqrt(10_116 / 4),
            "mae": 28.5,
            "bias": 23.5,
            "median_ape": 0.045,
            "mape": 0.085,
            "within_5pct": 75.0,
            "within_10pct": 75.0,
            "within_20pct": 75.0,
            "zero_actuals": 0.0,
        }
    )


def test_zero_outcomes_are_left_out_of_relative_metrics_and_counted():
    found = point_metrics([0.0, 100.0, -100.0], [50.0, 110.0, -130.0])
    assert found["zero_actuals"] == 1
    assert found["median_ape"] == pytest.approx(0.2)
    assert found["within_20pct"] == 50.0
    assert found["mae"] == pytest.approx(30.0)
    only_zeros = point_metrics([0.0, 0.0], [1.0, 2.0])
    assert all(math.isnan(only_zeros[name]) for name in ("median_ape", "mape", "within_20pct"))


@pytest.mark.parametrize("actual", [[5.0], [0.1, 0.1, 0.1], [1e9 + 0.1] * 7])
def test_r2_of_a_constant_outcome_is_undefined(actual):
    assert math.isnan(point_metrics(actual, [value + 1 for value in actual])["r2"])


@pytest.mark.parametrize(
    ("actual", "prediction", "message"),
    [
        ([], [], "no rows"),
        ([1.0], [math.nan], "prediction is NaN or infinite in 1 of 1"),
        ([1.0, 2.0], [1.0, math.inf], "prediction is NaN or infinite in 1 of 2"),
        ([math.nan, 2.0], [1.0, 2.0], "actual is NaN"),
        ([1.0, 2.0], [1.0], "differ in length: actual 2, prediction 1"),
        ([[1.0]], [[1.0]], "one dimension"),
    ],
)
def test_point_metrics_refuse_what_they_cannot_judge(actual, prediction, message):
    with pytest.raises(ValueError, match=message):
        point_metrics(actual, prediction)


def test_interval_metrics_by_hand():
    # Inside; 10 below the lower bound; 5 above the upper bound; on the bound, which counts as inside.
    found = interval_metrics([10.0, 20.0, 95.0, 40.0], [0.0, 30.0, 80.0, 40.0], [20.0, 50.0, 90.0, 60.0], 0.8)
    assert found == pytest.approx(
        {
            "coverage": 0.5,
            "width": 17.5,
            "interval_score": 17.5 + (10 * 10 + 10 * 5) / 4,
            "pinball": 0.05 * (17.5 + (10 * 10 + 10 * 5) / 4),
            "below_share": 0.25,
            "above_share": 0.25,
            "infinite_share": 0.0,
            "missing_share": 0.0,
        }
    )


def test_infinite_and_missing_intervals():
    inf, nan = math.inf, math.nan
    found = interval_metrics([1.0, 1.0, 1.0, 1.0], [-inf, 0.0, nan, 0.0], [inf, inf, 5.0, 4.0], 0.9)
    assert found["coverage"] == 1.0
    assert found["infinite_share"] == pytest.approx(2 / 3)
    assert found["missing_share"] == 0.25
    assert found["width"] == found["interval_score"] == 4.0
    nothing = interval_metrics([1.0], [nan], [nan], 0.9)
    assert math.isnan(nothing["coverage"])
    assert nothing["missing_share"] == 1.0
    unbounded = interval_metrics([1.0], [-inf], [inf], 0.9)
    assert unbounded["infinite_share"] == 1.0
    assert math.isnan(unbounded["width"])


@pytest.mark.parametrize(
    ("lower", "upper", "level", "message"),
    [
        ([2.0], [1.0], 0.9, "1 of 1 intervals at level 0.9 have lower above upper"),
        ([0.0], [1.0], 90, "level must be a share"),
        ([0.0], [1.0], 1.0, "level must be a share"),
        ([0.0, 1.0], [1.0], 0.9, "differ in length"),
    ],
)
def test_interval_metrics_refuse_nonsense(lower, upper, level, message):
    with pytest.raises(ValueError, match=message):
        interval_metrics([1.0], lower, upper, level)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(*[st.floats(-1e6, 1e6)] * 3), min_size=1, max_size=40),
    st.sampled_from([0.5, 0.8, 0.975]),
)
def test_interval_shares_add_up_and_the_score_is_never_below_the_width(triples, level):
    actual, one, other = (np.array(column) for column in zip(*triples, strict=True))
    found = interval_metrics(actual, np.minimum(one, other), np.maximum(one, other), level)
    assert found["coverage"] + found["below_share"] + found["above_share"] == pytest.approx(1)
    assert found["interval_score"] >= found["width"] - 1e-6
    widened = interval_metrics(actual, np.minimum(one, other) - 1, np.maximum(one, other) + 1, level)
    assert widened["coverage"] >= found["coverage"]


@settings(max_examples=60, deadline=None)
@given(st.sampled_from([0.5, 0.8, 0.9, 0.99]), st.integers(1, 400), st.sampled_from([0.9, 0.95, 0.99]))
def test_band_holds_the_confidence_and_no_shorter_band_does(level, rows, confidence):
    low, high = binomial_band(level, rows, confidence)
    law, tail = stats.binom(rows, level), (1 - confidence) / 2
    first, last = round(low * rows), round(high * rows)
    assert law.cdf(last) - law.cdf(first - 1) >= confidence - 1e-12
    assert law.cdf(first) >= tail - 1e-12  # one count further in, and the lower tail is too heavy
    assert law.sf(last - 1) >= tail - 1e-12


def test_bands_of_many_sizes_are_the_single_bands():
    sizes = [0, 1, 7, 7, 46, 5000]
    low, high = binomial_bands(0.9, sizes)
    assert [(a, b) for a, b in zip(low, high, strict=True)] == [binomial_band(0.9, n) for n in sizes]
    assert binomial_band(0.9, 0) == (0.0, 1.0)


def test_few_calibration_rows_widen_the_band():
    plain = binomial_band(0.9, 1000)
    small, large = (binomial_band(0.9, 1000, calibration_rows=n) for n in (200, 10**7))
    assert small[0] < plain[0] < plain[1] < small[1]
    assert large == pytest.approx(plain, abs=0.002)
    assert binomial_band(0.9, 1000, calibration_rows=5) == (1.0, 1.0)  # too few for a 90 % quantile: infinite intervals


def test_band_with_calibration_rows_is_honest_about_split_conformal():
    random = np.random.default_rng(11)
    calibration_rows, rows, level = 99, 200, 0.9
    low, high = binomial_band(level, rows, calibration_rows=calibration_rows)
    scores = np.sort(random.random((4000, calibration_rows)), axis=1)
    bound = scores[:, math.ceil((calibration_rows + 1) * level) - 1]
    coverage = (random.random((4000, rows)) <= bound[:, None]).mean(axis=1)
    inside = ((coverage >= low - 1e-12) & (coverage <= high + 1e-12)).mean()
    assert 0.94 <= inside <= 0.975
    low, high = binomial_band(level, rows)
    assert ((coverage >= low) & (coverage <= high)).mean() < 0.85  # what forgetting the calibration's luck costs


def test_large_samples_use_a_close_and_quick_approximation():
    exact = binomial_band(0.9, 100_000, calibration_rows=5_000)
    assert binomial_band(0.9, 100_001, calibration_rows=5_000) == pytest.approx(exact, abs=1e-4)
