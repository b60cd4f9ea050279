"""Consumes labelled rows, checks the baselines' figures and predictions against pandas and NumPy."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from assay.config import canonical_json
from assay.errors import DataError
from assay.model.baselines import Baselines
from assay.model.group_tables import MIN_GROUP_ROWS
from assay.training.baselines import GroupFigures, past_columns
from assay.training.group_tables import MIN_LINE_ROWS

SPAN = 1_095.0
KEYS = ("town", "kind")


@pytest.fixture
def panel():
    """Months of towns that grow at speeds of their own: one without a name, one observed for a year, one rare."""
    random = np.random.default_rng(3)
    parts = []
    for number, (town, months) in enumerate([(None, 36), ("Austin", 36), ("Dallas", 36), ("new", 10), ("rare", 4)]):
        times = pd.date_range("2010-01-01", periods=36, freq="MS", tz="UTC")[-months:]
        growth = (number - 1) * 0.0004 * (times - times[0]).days.to_numpy()
        season = 0.2 * np.sin(2 * np.pi * times.month.to_numpy() / 12)
        for kind in ("flat", "house"):
            noise = random.normal(0, 0.05, months)
            prices = np.exp(5 + number * 0.3 + (kind == "house") + growth + season + noise)
            parts.append(pd.DataFrame({"town": town, "kind": kind, "time": times, "price": prices}))
    frame = pd.concat(parts, ignore_index=True).sample(frac=1, random_state=1).reset_index(drop=True)
    frame["last"] = np.where(random.random(len(frame)) < 0.3, np.nan, frame["price"] * 0.9).astype(np.float32)
    frame["age"] = random.choice([0.0, 31.0, 400.0, np.nan], len(frame)).astype(np.float32)
    frame["level"] = np.where(random.random(len(frame)) < 0.5, np.nan, 300.0).astype(np.float32)
    frame["momentum"] = np.where(random.random(len(frame)) < 0.2, np.nan, 0.03).astype(np.float32)
    return frame


def batch_of(frame):
    return pa.RecordBatch.from_pandas(frame, preserve_index=False)


def figures_of(frame, keys, *, transform="log", weekly=False):
    kernel = GroupFigures(keys, "price", transform, weekly, least_span_days=SPAN / 2)
    batch = batch_of(frame)
    parts = [batch.slice(start, 17) for start in range(0, batch.num_rows, 17)]
    found = pa.Table.from_batches(list(kernel(iter(parts)))).to_pandas()
    return found[found["season"].isna()].drop(columns="season"), found[found["season"].notna()]


def baselines_of(frame, *, transform="log", **past):
    """Of towns, then kinds in towns."""
    tables = [figures_of(frame, KEYS[:depth], transform=transform) for depth in range(3)]

    def columns(found, names):
        rows = json.loads(found[names].to_json(orient="records", double_precision=15))
        return {name: [row[name] for row in rows] for name in names}

    return Baselines(
        transform=transform,
        group_columns=KEYS,
        end_days=frame["time"].max().timestamp() / 86_400,
        span_days=SPAN,
        groups=tuple(
            columns(found, [*KEYS[:d], "median", "days", "level", "slope"]) for d, (found, _) in enumerate(tables)
        ),
        seasons=tuple(
            columns(found.astype({"season": int}), [*KEYS[:d], "season", "median"])
            for d, (_, found) in enumerate(tables)
        ),
        **past,
    )


def predicted(baselines, frame):
    return pd.DataFrame(baselines.predict(batch_of(frame)))


PAST = {"last_value": "last", "age_days": "age", "market_level": "level", "market_momentum": "momentum"}


def test_medians_are_those_of_pandas_and_small_groups_are_left_out(panel):
    found, _ = figures_of(panel, ("town",))
    expected = panel.groupby("town", dropna=False)["price"].median()
    named = found.set_index("town")["median"]
    assert set(named.index.dropna()) == {"Austin", "Dallas", "new", "rare"}
    for town in ("Austin", "Dallas", "new"):
        assert named[town] == pytest.approx(expected[town])
    assert found["median"][found["town"].isna()].item() == pytest.approx(expected[expected.index.isna()].item())
    assert figures_of(panel, ())[0]["median"].item() == pytest.approx(panel["price"].median())
    by_kind, _ = figures_of(panel, KEYS)
    assert "rare" not in set(by_kind["town"])  # 4 rows of each kind
    assert panel.groupby(["town", "kind"]).size()["rare"].max() == MIN_GROUP_ROWS - 1


def test_lines_are_those_of_least_squares_on_the_targets_scale(panel):
    found = figures_of(panel, ("town",))[0].set_index("town")
    for town in ("Austin", "Dallas"):
        rows = panel[panel["town"] == town]
        days = rows["time"].astype("int64").to_numpy() / (86_400e9 if rows["time"].dt.unit == "ns" else 86_400e6)
        slope, start = np.polyfit(days - days.mean(), np.log(rows["price"]), 1)
        assert found["slope"][town] == pytest.approx(slope, rel=1e-9)
        assert found["level"][town] == pytest.approx(start, rel=1e-12)
        assert found["days"][town] == pytest.approx(days.mean(), rel=1e-12)
    assert panel.groupby("town").size()["new"] >= MIN_LINE_ROWS  # enough rows, but of less than half of the time
    assert found["slope"].isna()["new"]
    assert found["slope"].isna()["rare"]
    plain = figures_of(panel, ("town",), transform="none")[0].set_index("town")
    assert plain["level"]["Austin"] == pytest.approx(panel["price"][panel["town"] == "Austin"].mean())


def test_seasons_are_months_or_days_of_the_week_within_them(panel):
    _, found = figures_of(panel, ("town",))
    expected = (
        panel.assign(month=panel["time"].dt.month - 1).groupby(["town", "month"])["price"].agg(["median", "size"])
    )
    expected = expected[expected["size"] >= MIN_GROUP_ROWS]["median"]
    named = found[found["town"].notna()].set_index(["town", "season"])["median"]
    assert set(named.index) == set(expected.index)
    assert len(named) == 24
    for key, median in named.items():
        assert median == pytest.approx(expected[key])
    daily = (
        panel.iloc[:1]
        .loc[np.zeros(200, dtype=int)]
        .assign(time=pd.date_range("2012-02-01", periods=200, freq="D", tz="UTC"), price=np.arange(1.0, 201.0))
    )
    _, weekly = figures_of(pd.concat([daily] * 5), (), weekly=True)
    assert len(weekly) == 7 * 7  # February to August
    first = weekly.set_index("season")["median"][1 * 7 + 2]  # Wednesdays of February: the 1st, 8th, 15th, 22nd, 29th
    assert first == pytest.approx(np.median([1, 8, 15, 22, 29]))


def test_neither_the_order_of_rows_nor_batches_change_a_bit(panel):
    one, two = (figures_of(frame, KEYS) for frame in (panel, panel.sample(frac=1, random_state=5)))
    for left, right in zip(one, two, strict=True):
        columns = [*KEYS, "season"] if "season" in left else list(KEYS)
        pd.testing.assert_frame_equal(
            *(frame.sort_values(columns, ignore_index=True) for frame in (left, right)), check_exact=True
        )


def test_no_rows_give_no_figures():
    assert list(GroupFigures(("town",), "price", "log", False, 0.0)(iter([]))) == []


def test_a_small_group_has_the_figures_of_its_parent(panel):
    found = predicted(baselines_of(panel), panel)
    np.testing.assert_allclose(found["global_median"], panel["price"].median())
    by_kind = panel.groupby(list(KEYS), dropna=False)["price"].transform("median")
    by_town = panel.groupby("town", dropna=False)["price"].transform("median")
    rare = panel["town"] == "rare"
    np.testing.assert_allclose(found["group_median"], by_kind.where(~rare, by_town))
    stranger = panel.assign(town="nobody knows", kind="boat")
    np.testing.assert_allclose(predicted(baselines_of(panel), stranger)["group_median"], panel["price"].median())


def test_a_trend_goes_on_but_not_for_ever(panel):
    baselines = baselines_of(panel)
    dallas = panel[(panel["town"] == "Dallas") & (panel["kind"] == "flat")].sort_values("time")
    days = (dallas["time"] - dallas["time"].min()).dt.days.to_numpy()
    line = np.polynomial.Polynomial.fit(days, np.log(dallas["price"]), 1)
    np.testing.assert_allclose(predicted(baselines, dallas)["temporal_trend"], np.exp(line(days)), rtol=1e-9)
    later = dallas.assign(time=dallas["time"] + pd.Timedelta(days=90 * 365))
    furthest = (dallas["time"].max() - dallas["time"].min()).days + SPAN
    np.testing.assert_allclose(predicted(baselines, later)["temporal_trend"], np.exp(line(furthest)), rtol=1e-9)
    # A town of one year has its own level and the slope of everybody.
    new = panel[(panel["town"] == "new") & (panel["kind"] == "house")]
    slope = figures_of(panel, ())[0]["slope"].item()
    ahead = (new["time"] - new["time"].mean()).dt.total_seconds() / 86_400
    expected = np.exp(np.log(new["price"]).mean() + slope * ahead)
    np.testing.assert_allclose(predicted(baselines, new)["temporal_trend"], expected, rtol=1e-9)


def test_seasons_that_a_group_lacks_are_those_of_its_parents(panel):
    found = predicted(baselines_of(panel), panel)["seasonal"]
    month = panel["time"].dt.month
    by_town = panel.groupby(["town", month], dropna=False)["price"].transform("median")
    of_all = panel.groupby(month)["price"].transform("median")
    known = panel["town"].isin(["Austin", "Dallas"]) | panel["town"].isna()  # 6 rows a month; of each kind only 3
    np.testing.assert_allclose(found, by_town.where(known, of_all))


def test_what_a_last_value_becomes(panel):
    baselines = baselines_of(panel, **PAST)
    found = predicted(baselines, panel)
    last, age = panel["last"].astype(float), panel["age"].astype(float).fillna(0.0)
    known = last.notna()
    np.testing.assert_allclose(found["last_value"], last.fillna(found["group_median"]))
    one = (panel["town"] == "Dallas") & (panel["kind"] == "flat")
    slope = figures_of(panel, KEYS)[0].set_index(list(KEYS))["slope"]["Dallas", "flat"]
    np.testing.assert_allclose(found["age_adjusted"][one & known], (last * np.exp(slope * age))[one & known])
    np.testing.assert_allclose(found["age_adjusted"][~known], found["temporal_trend"][~known])
    monthly = 1 + panel["momentum"].astype(float).fillna(0.0)
    level = panel["level"].astype(float) * monthly
    expected = (last * monthly ** (age / (365.25 / 12))).fillna(level).fillna(found["temporal_trend"])
    np.testing.assert_allclose(found["market_trend"], expected)
    parts = found[["temporal_trend", "seasonal", "last_value", "age_adjusted", "market_trend"]]
    np.testing.assert_allclose(found["combined"], parts.median(axis=1))
    assert list(found) == baselines.names


def test_a_momentum_of_three_months_is_a_third_of_it_a_month(panel):
    rows = panel.dropna(subset=["last", "momentum"]).assign(age=np.float32(365.25 / 12))
    found = predicted(baselines_of(panel, **PAST, momentum_months=3), rows)["market_trend"]
    momentum = rows["momentum"].astype(float)
    np.testing.assert_allclose(found, rows["last"].astype(float) * (1 + momentum) ** (1 / 3), rtol=1e-6)


def test_on_the_plain_scale_lines_are_straight_and_values_may_be_negative(panel):
    frame = panel.assign(price=panel["price"] - 600, last=panel["last"] - 600)
    baselines = baselines_of(frame, transform="none", **PAST)
    found = predicted(baselines, frame)
    assert np.isfinite(found.to_numpy()).all()
    one = frame[(frame["town"] == "Austin") & (frame["kind"] == "house")]
    days = (one["time"] - one["time"].min()).dt.days.to_numpy()
    line = np.polynomial.Polynomial.fit(days, one["price"], 1)
    np.testing.assert_allclose(predicted(baselines, one)["temporal_trend"], line(days), rtol=1e-9)


def test_without_groups_past_and_enough_rows_there_is_still_every_baseline_that_can_be(panel):
    few = panel.iloc[:3]
    whole, seasons = figures_of(few, ())
    assert len(seasons) == 0
    assert whole["slope"].isna().item()
    facts = {"median": [7.0], "days": [14_000.0], "level": [np.log(6.0)], "slope": [None]}
    baselines = Baselines("log", (), 15_000.0, SPAN, (facts,), ({"season": [], "median": []},))
    found = predicted(baselines, few)
    assert list(found) == ["global_median", "temporal_trend", "seasonal", "market_trend", "combined"]
    assert found.iloc[0].to_list() == pytest.approx([7.0, 6.0, 7.0, 6.0, 6.0])
    assert baselines.columns == ["time"]


def test_they_survive_json(panel):
    baselines = baselines_of(panel, **PAST)
    again = Baselines.from_dict(json.loads(canonical_json(baselines.to_dict())))
    assert again == baselines
    assert baselines.columns == ["time", "town", "kind", "last", "age", "level", "momentum"]
    pd.testing.assert_frame_equal(predicted(again, panel), predicted(baselines, panel))
    with pytest.raises(DataError, match="train again"):
        Baselines.from_dict({"global_median": 5.0, "group_columns": [], "group_medians": [], "last_value": None})


def test_features_that_tell_of_the_past_are_found_by_their_names():
    names = ["price__own__lag_1", "price__own__age_days", "price__all__market_level", "price__kind__market_level"]
    momenta = ["price__kind__market_momentum_12m", "price__kind__market_momentum_3m", "price__all__market_momentum_1m"]
    assert past_columns([*names, *momenta, "prices__own__lag_1"], "price") == {
        "last_value": "price__own__lag_1",
        "age_days": "price__own__age_days",
        "market_level": "price__kind__market_level",
        "market_momentum": "price__kind__market_momentum_3m",
        "momentum_months": 3,
    }
    assert past_columns(names[:2], "stock") == {}
