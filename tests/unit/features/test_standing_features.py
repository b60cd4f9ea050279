"""Consumes random markets, checks share, price to market, beta and rank against loops over all rows."""

from __future__ import annotations

import datetime as dt
import itertools

import numpy as np
import polars as pl
import pytest
from feature_harness import features_of, observations, plan_of, settings_of, utc
from feature_oracle import delay

from assay.features import ranks, standing
from assay.features.plan import HistoryOf

DAY = dt.timedelta(days=1)


@pytest.fixture(scope="module", params=[0.0, 3.0])
def market(request):
    """40 things in two places over 200 days, now and then missing, sometimes two rows of a thing on a day."""
    random = np.random.default_rng(5)
    rows = []
    for number in range(12):
        walk = 100 * (1 + number) * np.exp(np.cumsum(random.normal(0, 0.03, 200)))
        for day in range(200):
            if random.random() < 0.7:
                time = utc("2020-01-05") + day * DAY + dt.timedelta(hours=int(random.integers(0, 24)))
                price = None if random.random() < 0.1 else float(walk[day])
                rows.append({"thing": f"t{number}", "place": "pq"[number % 2], "time": time, "price": price})
    rows = [row | {"row_id": i, "size": 1.0, "sales": 1.0} for i, row in enumerate(rows)]
    plan = plan_of(
        history=(HistoryOf("price", request.param),), settings=settings_of(beta_days=(60,), windows_days=(30,))
    )
    return rows, plan, request.param, features_of(observations(rows, plan), plan)


def day_of(time: dt.datetime) -> dt.datetime:
    return time.replace(hour=0, minute=0, second=0, microsecond=0)


def sample(rows):
    return rows[:: len(rows) // 60]


def test_beta_is_the_slope_of_the_entitys_changes_on_its_markets(market):
    rows, _, late, built = market
    checked = 0
    for row in sample(rows):
        until = day_of(row["time"]) - (delay(late) if late == 0 else delay(late) + DAY - dt.timedelta(microseconds=1))
        own: dict[dt.datetime, list[float]] = {}
        for r in rows:
            if r["thing"] == row["thing"] and r["price"] is not None and day_of(r["time"]) < until:
                own.setdefault(r["time"], []).append(r["price"])

        def mean_of_day(time, row=row):
            day = day_of(time)
            return np.mean([r["price"] for r in rows if r["place"] == row["place"] and r["price"] is not None
                            and day_of(r["time"]) == day])  # fmt: skip

        times = sorted(own)
        pairs = [
            (np.mean(own[b]) / np.mean(own[a]) - 1, mean_of_day(b) / mean_of_day(a) - 1)
            for a, b in itertools.pairwise(times)
            if day_of(a) >= until - 60 * DAY
        ]
        found = built.filter(pl.col("row_id") == row["row_id"])["price__place__beta_60d"].item()
        if len(pairs) < standing.LEAST_CHANGES:
            assert found is None
            continue
        y, x = np.array(pairs).T
        assert found == pytest.approx(np.polyfit(x, y, 1)[0], rel=1e-4)
        checked += 1
    assert checked > 20


def test_rank_is_the_share_of_the_last_months_values_below_the_last_value(market):
    rows, _, late, built = market
    checked = 0
    for row in sample(rows):
        known = [r for r in rows if r["price"] is not None and r["time"] + delay(late) < row["time"]]
        mine = [r for r in known if r["thing"] == row["thing"]]
        at = day_of(row["time"]) - delay(late)
        months = [(r["time"].year, r["time"].month) for r in known if r["place"] == row["place"]]
        over = [m for m in months if m < (at.year, at.month)]
        found = built.filter(pl.col("row_id") == row["row_id"])["price__place__market_rank"].item()
        if not mine or not over:
            assert found is None
            continue
        values = [r["price"] for r in rows if r["place"] == row["place"] and r["price"] is not None
                  and (r["time"].year, r["time"].month) == max(over)]  # fmt: skip
        last = max(mine, key=lambda r: r["time"])["price"]
        bins, own = ranks.bin_of(np.array(values)), ranks.bin_of(np.array([np.float32(last)], dtype=float))[0]
        assert found == pytest.approx((np.sum(bins < own) + np.sum(bins == own) / 2) / len(values), abs=1e-6)
        exact = np.mean(np.array(values) < last)
        assert abs(found - exact) <= np.mean(bins == own) + 1e-6
        checked += 1
    assert checked > 30


def test_bins_rise_with_the_values_and_are_narrow():
    values = np.sort(np.concatenate([-np.logspace(-3, 9, 400), [0.0], np.logspace(-3, 9, 400)]))
    bins = ranks.bin_of(values)
    assert (np.diff(bins) >= 0).all()
    assert ranks.bin_of(np.array([100.0, 102.3]))[0] < ranks.bin_of(np.array([100.0, 102.3]))[1]
    assert ranks.bin_of(np.array([np.nan]))[0] < bins.min()


def test_share_and_price_to_market_compare_the_entity_with_its_market(market):
    _, _, _, built = market
    own, group = "price__own__", "price__place__"
    sums = [built[f"{p}mean_30d"].cast(float) * built[f"{p}count_30d"] for p in (own, group)]
    expected = (sums[0] / sums[1]).to_numpy()
    share = built["price__place__share_30d"].to_numpy()
    both = np.isfinite(expected) & (built["price__own__count_30d"] > 0).to_numpy()
    assert both.sum() > 500
    assert share[both] == pytest.approx(expected[both], rel=1e-5)
    assert ((share[both] > 0) & (share[both] <= 1)).mean() > 0.95  # a group is looked at as of the day's start
    ratio = built["price__own__lag_1"] / built["price__place__market_level"] - 1
    there = ratio.is_not_null().to_numpy()
    assert built["price__place__price_to_market"].to_numpy()[there] == pytest.approx(ratio.to_numpy()[there], abs=1e-5)
