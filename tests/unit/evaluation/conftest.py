"""Produces evaluated rows of an invented market, for the tests of plots and report."""

import datetime as dt

import numpy as np
import polars as pl
import pytest


def market(entities=12, times=24, noise=0.06, name="city", seed=5):
    """`times` months of `entities` prices with log-normal errors and intervals that keep their promise."""
    random = np.random.default_rng(seed)
    months = [dt.datetime(2012 + m // 12, m % 12 + 1, 1, tzinfo=dt.timezone.utc) for m in range(times)]
    level = np.repeat(np.exp(random.normal(12, 0.3, entities)), times)
    prediction = level * np.tile(1 + 0.003 * np.arange(times), entities)
    frame = pl.DataFrame(
        {
            "time": pl.Series(months * entities, dtype=pl.Datetime("us", "UTC")),
            "actual": prediction * np.exp(random.normal(0, noise, entities * times)),
            "prediction": prediction,
            "baseline_global_median": np.full(entities * times, float(np.median(level))),
            "baseline_group_median": level,
            name: [f"{name} {place:04d}" for place in range(entities) for _ in range(times)],
        }
    )
    for label, z in (("80", 1.2816), ("90", 1.6449)):
        frame = frame.with_columns(
            (pl.col("prediction") * np.exp(-z * noise)).alias(f"lower_{label}"),
            (pl.col("prediction") * np.exp(z * noise)).alias(f"upper_{label}"),
        )
    return frame


@pytest.fixture(name="market", scope="session")
def market_factory():
    return market
