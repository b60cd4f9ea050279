"""Consumes rows, checks interactions and transforms against plain arithmetic, and what a configuration may name."""

from __future__ import annotations

import datetime as dt
import math
import statistics

import pytest
from feature_harness import features_of, observations, settings_of, utc, widest_plan
from feature_oracle import LARGEST_FLOAT32, delay, differs, seen
from hypothesis import given, settings
from hypothesis import strategies as st

from assay.config.features import FeaturesConfig, InteractionsConfig
from assay.errors import ConfigError
from assay.features import catalog
from assay.features.plan import FeaturePlan, HistoryOf

START = utc("2020-01-20")
LAST = "price__own__lag_1"
numbers = st.one_of(st.none(), st.sampled_from([0.0, -3.0, 1e30, 1e-30]), st.floats(-1e4, 1e4))


def plan_with(chosen: InteractionsConfig, *, numeric=("size",), **changes) -> FeaturePlan:
    options = {"numeric": numeric, "groups": {}, "encoding_groups": (), **changes}
    bare = {"windows_days": (), "windows_rows": (), "trend_days": (), "seasonality_days": (), "technical": ()}
    return widest_plan(widest={"interactions": chosen, "target_encoding": {}, "forward_fill": (), **bare}, **options)


def named(plan: FeaturePlan, *families: str) -> list[str]:
    return [f.name for f in catalog.features_of(plan) if f.family in families]


@settings(deadline=None, max_examples=60)
@given(values=st.lists(st.tuples(numbers, numbers), min_size=2, max_size=8))
def test_combinations_are_plain_arithmetic_of_what_float32_holds(values):
    chosen = InteractionsConfig(
        columns=("price", "size"), pairs=(("size", "price"),), kinds=("ratio", "product", "difference"), degree=3
    )
    plan = plan_with(chosen)
    rows = [
        {"row_id": i, "thing": "x", "place": "p", "time": START + dt.timedelta(days=i), "price": a, "size": b}
        for i, (a, b) in enumerate(values)
    ]
    for row in features_of(observations(rows, plan), plan).to_dicts():
        a, b = row[LAST], rows[row["row_id"]]["size"]
        whole = None not in (a, b)
        expected = {
            f"{LAST}__over__size": a / b if whole and b else None,
            f"size__over__{LAST}": b / a if whole and a else None,
            f"{LAST}__times__size": a * b if whole else None,
            f"{LAST}__minus__size": a - b if whole else None,
            f"{LAST}__squared": None if a is None else a * a,
            "size__cubed": None if b is None else b**3,
            f"{LAST}__log1p": None if a is None else math.copysign(math.log1p(abs(a)), a),
            "size__sqrt": None if b is None else math.copysign(math.sqrt(abs(b)), b),
        }
        for name, value in expected.items():
            assert not differs(row[name], value, scale=0 if "over" in name else 1e-20), (name, row[name], value)
    assert f"size__times__{LAST}" not in row  # the same number as the other way round


def test_what_float32_cannot_hold_is_its_largest_number():
    plan = plan_with(InteractionsConfig(columns=("size", "area"), degree=3), numeric=("size", "area"))
    row = {"row_id": 0, "thing": "x", "place": "p", "time": START, "size": -1e30, "area": 1e-30}
    found = features_of(observations([row], plan), plan).row(0, named=True)
    assert found["size__over__area"] == found["size__cubed"] == -LARGEST_FLOAT32
    assert found["size__squared"] == LARGEST_FLOAT32
    assert found["size__times__area"] == -1.0


@settings(deadline=None, max_examples=60)
@given(
    values=st.lists(st.one_of(st.none(), st.floats(-1e4, 1e4)), min_size=1, max_size=12),
    delay_days=st.sampled_from([0.0, 1.5]),
)
def test_own_scale_is_distance_from_the_mean_and_place_in_the_range(values, delay_days):
    plan = plan_with(InteractionsConfig(), history=(HistoryOf("price", delay_days),), targets=("price",))
    rows = [
        {"row_id": i, "thing": "x", "place": "p", "time": START + dt.timedelta(days=i), "price": v}
        for i, v in enumerate(values)
    ]
    for row in features_of(observations(rows, plan), plan).to_dicts():
        past = seen(rows, by=["thing"], value="price", delay_days=delay_days, key=("x",), at=row["time"])
        known = [value for _, value in past]
        low, high = min(known, default=0), max(known, default=0)
        if high - low < 1e-3 * max(abs(low), abs(high), 1e-6):
            continue  # what is left of the spread is rounding
        score = (known[-1] - statistics.fmean(known)) / statistics.stdev(known)
        assert row["price__own__zscore_ever"] == pytest.approx(score, abs=1e-4)
        assert row["price__own__range_ever"] == pytest.approx((known[-1] - low) / (high - low), abs=1e-5)


def test_own_scale_needs_values_that_differ():
    plan = plan_with(InteractionsConfig())
    rows = [
        {"row_id": i, "thing": "x", "place": "p", "time": START + dt.timedelta(days=i), "price": v}
        for i, v in enumerate([5.0, 5.0, 5.0, 6.0, 5.0])
    ]
    found = features_of(observations(rows, plan), plan)
    assert found["price__own__range_ever"].to_list() == [None, None, None, None, 1.0]
    assert found["price__own__zscore_ever"].is_null().to_list() == [True, True, True, True, False]
    assert delay(1) == dt.timedelta(days=1)


def test_without_a_choice_they_are_of_the_targets_and_the_first_four_attributes():
    plan = plan_with(InteractionsConfig(), numeric=("a", "b", "c", "d", "e"))
    names = named(plan, "interactions", "transforms")
    assert len(names) == 10 * 2 + 5 + 5 * 2
    assert {f"{LAST}__over__a", "c__times__d", "d__squared", f"{LAST}__log1p", "a__sqrt"} < set(names)
    assert not any(name.startswith("e__") or name.endswith("__e") for name in names)


def test_a_pair_may_be_of_any_features_and_asks_for_no_powers():
    chosen = InteractionsConfig(pairs=((LAST, "sales__own__ewm_0_5d"),), kinds=("ratio",), transforms=())
    plan = plan_with(chosen)
    assert named(plan, "interactions", "transforms", "own_scale") == [f"{LAST}__over__sales__own__ewm_0.5d"]
    (made,) = (f for f in catalog.features_of(plan) if f.family == "interactions")
    assert made.inputs == ("price", "sales")


def test_the_flag_switches_all_of_them_off():
    assert not named(plan_with(InteractionsConfig(), interactions=False), "interactions", "transforms", "own_scale")


@pytest.mark.parametrize(
    ("chosen", "message"),
    [
        ({"columns": ("sizes",)}, r"features.interactions.columns: 'sizes' is no numeric column and no.*mean size\?"),
        ({"pairs": (("size", "place"),)}, r"features.interactions.pairs: 'place' is no numeric column"),
        ({"columns": ("sales",)}, r"'sales' stands for its last known value: add 1 to dataset.features.lags"),
    ],
)
def test_names_of_nothing_are_refused(chosen, message):
    plan = widest_plan(settings=settings_of(lags=(2,), interactions=InteractionsConfig(**chosen)))
    with pytest.raises(ConfigError, match=message):
        catalog.features_of(plan)


def test_settings_survive_being_written_down():
    plan = plan_with(InteractionsConfig(columns=("price",), pairs=(("size", "price"),), degree=1))
    again = FeaturePlan.from_dict(plan.to_dict())
    assert again.settings == plan.settings
    assert isinstance(again.settings, FeaturesConfig)
    assert catalog.features_of(again) == catalog.features_of(plan)
