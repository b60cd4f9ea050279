"""The combined score: targets of different units on the same footing, weighed, and what it turns out to be worth."""

import datetime as dt

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import percentileofscore, spearmanr

from assay.scoring.decisions import POINTS, Combine, footing, worth

SHARES = np.linspace(0, 1, POINTS)


def grid_of(outcomes):
    return np.quantile(np.asarray(outcomes, dtype=float), SHARES)


@given(st.lists(st.floats(-1e6, 1e6), min_size=50, max_size=400), st.floats(-2e6, 2e6))
def test_a_number_becomes_its_percentile_among_earlier_outcomes(outcomes, value):
    (found,) = footing(np.array([value]), grid_of(outcomes))
    below, within = (percentileofscore(outcomes, value, kind=kind) / 100 for kind in ("strict", "weak"))
    slack = 1 / (len(outcomes) - 1) + 2 / POINTS  # quantiles lie between outcomes
    assert below - slack <= found <= within + slack
    assert 0 <= found <= 1


def test_order_is_kept_ties_count_half_and_missing_stays_missing():
    grid = grid_of([0.0] * 500 + [*range(1, 501)])
    values = np.array([-1.0, 0.0, 1.0, 250.0, 500.0, 900.0, np.nan])
    found = footing(values, grid)
    assert np.all(np.diff(found[:-1]) >= 0)
    assert found[1] == pytest.approx(0.25, abs=0.01)  # half of the outcomes are 0
    assert (found[0], found[4], found[5]) == (0.0, 1.0, 1.0)
    assert np.isnan(found[6])
    np.testing.assert_array_equal(footing(np.array([0.2, 0.9]), None), [0.2, 0.9])


def rows(*lines):
    time = pa.scalar(dt.datetime(2020, 1, 1, tzinfo=dt.timezone.utc), pa.timestamp("us", "UTC"))
    names = ("row_id", "target", "prediction", "price", "sold")
    columns = {name: pa.array([line[i] for line in lines]) for i, name in enumerate(names)}
    columns |= {"time": pa.array([time.as_py()] * len(lines), time.type), "month": pa.array(["2020-01"] * len(lines))}
    return pa.record_batch(columns)


def test_each_row_gets_one_score_and_one_of_its_outcomes_where_all_are_known():
    kernel = Combine(
        {"price": 3.0, "sold": -1.0}, {"price": grid_of(range(101)), "sold": None}, {"price": "price", "sold": "sold"}
    )
    batches = [
        rows((7, "price", 50.0, 100.0, 0.0), (7, "sold", 0.2, 100.0, 0.0), (8, "sold", 0.5, None, 1.0)),
        rows((8, "price", 100.0, None, 1.0), (9, "price", 1.0, 1.0, 1.0)),  # nobody says whether 9 will be sold
    ]
    (found,) = kernel(iter(batches))
    assert found.column("row_id").to_pylist() == [7, 8]
    np.testing.assert_allclose(found.column("score").to_numpy(), [(3 * 0.5 + 0.8) / 4, (3 * 1.0 + 0.5) / 4])
    assert found.column("realised").to_pylist() == [pytest.approx((3 * 1.0 + 1.0) / 4), None]
    assert list(kernel(iter([]))) == []


def test_worth_is_the_rank_correlation_and_what_the_best_tenth_came_to():
    random = np.random.default_rng(2)
    score = random.random(500)
    realised = score + random.normal(0, 0.2, 500)
    found = worth(score, realised)
    assert found["decision_rank_correlation"] == pytest.approx(spearmanr(score, realised).statistic)
    assert found["decision_top_realised"] == pytest.approx(realised[np.argsort(score)[-50:]].mean())
    assert found["decision_realised"] == pytest.approx(realised.mean())
    assert worth(score[:3], realised[:3]) == {}
