"""Consumes rows of many days, checks what they weigh and that XGBoost learns with just these weights."""

from __future__ import annotations

import datetime as dt

import numpy as np
import pyarrow as pa
import pytest
import xgboost as xgb
from hypothesis import given
from hypothesis import strategies as st

from assay.model.encoding import Encoding
from assay.runtime.tables import TIME
from assay.training.weights import TimeDecay
from assay.training.xgboost_params import DEFAULTS

BOTH = Encoding(("size",), {"city": ("Austin", "Dallas", "Waco")})
NEWEST = dt.datetime(2024, 5, 1, 12, tzinfo=dt.timezone.utc)


def dated(batch, last=NEWEST, step=dt.timedelta(hours=7)):
    """The rows of a batch, one after the other, the last one at `last`."""
    times = [last - step * (batch.num_rows - 1 - row) for row in range(batch.num_rows)]
    return batch.append_column("time", pa.array(times, TIME))


@given(st.lists(st.floats(0, 4000), min_size=1, max_size=20), st.floats(0.5, 5000))
def test_each_half_life_halves_what_a_row_weighs(days, halflife):
    times = [NEWEST - dt.timedelta(days=age) for age in days]
    found = TimeDecay(NEWEST, halflife)(pa.record_batch({"time": pa.array(times, TIME)}))
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, 0.5 ** (np.array(days) / halflife), rtol=1e-5, atol=1e-30)


def test_any_unit_and_zone_of_a_time_is_understood():
    utc = pa.array([NEWEST, NEWEST - dt.timedelta(days=30)], TIME)
    for column in (utc, utc.cast(pa.timestamp("ns", "America/Chicago")), utc.cast(pa.timestamp("s", "UTC"))):
        np.testing.assert_array_equal(TimeDecay(NEWEST, 30)(pa.record_batch({"time": column})), [1.0, 0.5])


def test_a_weighted_fit_is_that_of_xgboost_alone_with_these_weights(fit, rows):
    train = [dated(rows(700), NEWEST - dt.timedelta(days=90)), dated(rows(800, seed=1))]
    decay = TimeDecay(NEWEST, 20.0)
    whole = pa.Table.from_batches(train).combine_chunks().to_batches()[0]
    ages = np.array([(NEWEST - time).total_seconds() / 86400 for time in whole.column("time").to_pylist()])
    matrix = xgb.QuantileDMatrix(
        BOTH.matrix(whole),
        whole.column("y").to_numpy(),
        weight=(0.5 ** (ages / 20.0)).astype(np.float32),
        feature_types=["q", "c"],
        enable_categorical=True,
        max_bin=256,
    )
    native = xgb.train({**DEFAULTS, "seed": 7, "nthread": 1}, matrix, 20)
    expected = native.inplace_predict(BOTH.matrix(rows(300, seed=5)))
    weighted = xgb.Booster(model_file=bytearray(fit(train, weights=decay)["booster"]))
    np.testing.assert_allclose(weighted.inplace_predict(BOTH.matrix(rows(300, seed=5))), expected, rtol=1e-5, atol=1e-5)
    assert fit(train)["booster"] != fit(train, weights=decay)["booster"]


def test_old_rows_count_less(fit, rows):
    """Prices were 10 higher once: who forgets fast learns the prices of today."""
    now, then = dated(rows(600)), dated(rows(600, seed=1), NEWEST - dt.timedelta(days=400))
    then = then.set_column(2, "y", pa.array(then.column("y").to_numpy() + 10))

    def level(**more):
        booster = xgb.Booster(model_file=bytearray(fit([then, now], rounds=150, **more)["booster"]))
        return float(np.mean(booster.inplace_predict(BOTH.matrix(now)) - now.column("y").to_numpy()))

    assert level() > 3
    assert level(weights=TimeDecay(NEWEST, 30)) == pytest.approx(0, abs=0.2)


def test_the_tune_period_is_not_weighted_and_a_refit_counts_from_its_newest_row(fit, rows):
    train, tune = [dated(rows(500), NEWEST - dt.timedelta(days=200))], [dated(rows(500, seed=1, noise=2.0))]
    early, late = TimeDecay(NEWEST - dt.timedelta(days=200), 50.0), TimeDecay(NEWEST, 50.0)
    without = fit(train, tune=tune, rounds=40, stopping=40, weights=early)
    booster, batch = xgb.Booster(model_file=bytearray(without["booster"])), tune[0]
    error = booster.inplace_predict(BOTH.matrix(batch)) - batch.column("y").to_numpy()
    best = without["history"]["tune_rmse"][without["rounds"] - 1]
    assert best == pytest.approx(float(np.sqrt(np.mean(error**2))), rel=1e-5)
    refitted = fit(train, tune=tune, rounds=40, stopping=40, weights=early, refit_weights=late, refit=True)
    both = fit([*train, *tune], rounds=without["rounds"], weights=late)
    assert refitted["booster"] == both["booster"]
    assert refitted["history"] == without["history"]


def test_shares_without_rows_or_weight_do_not_stop_a_rank(fit, rows):
    decay = TimeDecay(NEWEST, 1.0)
    assert fit([], weights=decay)["rounds"] == 20
    ancient = dated(rows(300), NEWEST - dt.timedelta(days=9000))  # weighs nothing in 32 bits
    assert fit([ancient, dated(rows(300, seed=1))], weights=decay)["rounds"] == 20
