"""Consumes rows of classes by group and season, checks the rates that stand as baselines against plain counting."""

from __future__ import annotations

import datetime as dt
import json

import numpy as np
import polars as pl
import pyarrow as pa
import pytest

from assay.errors import DataError
from assay.model.rates import FLOOR, RateBaselines, bounded
from assay.training.rates import PARENT_ROWS, CountAfter, GroupCounts, shrunk

START = dt.datetime(2019, 1, 1, tzinfo=dt.timezone.utc)


def rows_of(count=400, classes=3, seed=0):
    random = np.random.default_rng(seed)
    town = random.choice(["a", "b"], count)
    code = np.where(town == "a", random.choice(classes, count), 0).astype(float)
    return pl.DataFrame(
        {
            "town": town,
            "time": [START + dt.timedelta(days=2 * n) for n in range(count)],
            "mood": code,
            "mood__own__lag_1": random.choice([0.0, 1.0, 2.0, np.nan], count).astype(np.float32),
        }
    ).with_columns(pl.col("time").cast(pl.Datetime("us", "UTC")))


def batches(frame):
    return iter(frame.to_arrow().to_batches())


def counted(frame, keys=("town",)):
    kernel = GroupCounts(keys, "mood", 3, False, least_span_days=100)
    return pl.from_arrow(pa.Table.from_batches(list(kernel(batches(frame)))))


def test_groups_are_counted_whatever_the_order_of_their_rows():
    frame = rows_of()
    found = counted(frame)
    whole = found.filter(pl.col("season").is_null()).sort("town")
    for town, row in zip("ab", whole.iter_rows(named=True), strict=True):
        own = frame.filter(pl.col("town") == town)["mood"].to_numpy()
        assert [row[f"count_{k}"] for k in range(3)] == np.bincount(own.astype(int), minlength=3).tolist()
        assert sum(row[f"slope_{k}"] for k in range(3)) == pytest.approx(0, abs=1e-12)
    assert counted(frame.sample(fraction=1, shuffle=True, seed=1)).sort(pl.all()).equals(found.sort(pl.all()))
    seasons = found.filter(pl.col("season").is_not_null())
    assert seasons.select(pl.sum_horizontal(pl.col("^count_.*$")).sum()).item() == 400
    few = list(GroupCounts(("town",), "mood", 3, False, 100)(batches(frame.head(3))))
    assert sum(batch.num_rows for batch in few) == 0  # of too few rows a group has its parent's figures


def test_shares_lean_to_the_parent_and_are_never_nothing():
    parent = {"rate_0": [0.5], "rate_1": [0.5]}
    found = shrunk([{"count_0": 10.0, "count_1": 0.0}], (), parent, 2)
    expected = np.array([10 + PARENT_ROWS / 2, PARENT_ROWS / 2]) / (10 + PARENT_ROWS)
    np.testing.assert_allclose(found, [expected])
    assert (shrunk([{"count_0": 1e9, "count_1": 0.0}], (), parent, 2) >= FLOOR / 2).all()
    np.testing.assert_allclose(bounded(np.array([[1.2, -0.2]])).sum(axis=1), 1)


def test_what_follows_what_is_counted():
    frame = rows_of()
    (batch,) = CountAfter("mood__own__lag_1", "mood", 3)(batches(frame))
    found = {(last, after): rows for last, after, rows in zip(*(c.to_pylist() for c in batch.columns), strict=True)}
    known = frame.filter(pl.col("mood__own__lag_1").is_not_nan())
    for (last, after), rows in found.items():
        assert rows == known.filter((pl.col("mood__own__lag_1") == last) & (pl.col("mood") == after)).height
    assert sum(found.values()) == known.height


def rules():
    group = {"town": ["a"], "rate_0": [0.2], "rate_1": [0.8], "days": [None], "slope_0": [None], "slope_1": [None]}
    whole = {"rate_0": [0.6], "rate_1": [0.4], "days": [17_900.0], "slope_0": [-0.001], "slope_1": [0.001]}
    return RateBaselines(
        classes=2,
        group_columns=("town",),
        end_days=18_000.0,
        span_days=300.0,
        groups=(whole, group),
        seasons=(
            {"season": [0], "rate_0": [0.7], "rate_1": [0.3]},
            {"town": [], "season": [], "rate_0": [], "rate_1": []},
        ),
        last_value="last",
        market_level="level",
        after=((0.9, 0.1), (0.25, 0.75)),
    )


def test_rules_predict_what_their_tables_say():
    days = 18_100
    time = dt.datetime(1970, 1, 1, tzinfo=dt.timezone.utc) + dt.timedelta(days=days)
    batch = pa.record_batch(
        {
            "town": ["a", "elsewhere", None],
            "time": pa.array([time] * 3, pa.timestamp("us", tz="UTC")),
            "last": pa.array([1.0, 0.0, None], pa.float32()),
            "level": pa.array([0.3, None, 2.0], pa.float32()),
        }
    )
    found = rules().predict(batch)
    assert list(found) == rules().names
    for name, each in found.items():
        assert each.shape == (3, 2)
        np.testing.assert_allclose(each.sum(axis=1), 1, err_msg=name)
        assert (each > 0).all()
    second = {name: each[:, 1] for name, each in found.items()}
    np.testing.assert_allclose(second["global_rate"], 0.4)
    np.testing.assert_allclose(second["group_rate"], [0.8, 0.4, 0.4])
    np.testing.assert_allclose(second["last_value"], [0.75, 0.1, 0.4])
    np.testing.assert_allclose(second["market_trend"], [0.3, 0.4, 1 / (1 + FLOOR)], rtol=1e-6)
    np.testing.assert_allclose(second["temporal_trend"][1:], 0.4 + 0.001 * 200)
    parts = [second[name] for name in ("temporal_trend", "seasonal", "last_value", "market_trend")]
    np.testing.assert_allclose(second["combined"], np.mean(parts, axis=0))


def test_rules_come_back_from_json_and_other_versions_are_refused():
    tree = json.loads(json.dumps(rules().to_dict()))
    assert RateBaselines.from_dict(tree) == rules()
    with pytest.raises(DataError, match="another version of assay"):
        RateBaselines.from_dict({**tree, "older": 1})
