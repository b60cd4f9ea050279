"""Consumes levels and last known values, checks the relative features against the formula, row by row."""

from __future__ import annotations

import polars as pl
import pytest
from feature_harness import plan_of

from assay.features.catalog import features_of
from assay.features.relative import SUFFIX, relative

FRAME = pl.DataFrame(
    {"last": [100.0, -5.0, 0.0, None, 50.0], "level": [110.0, 10.0, 10.0, 10.0, None]},
    schema={"last": pl.Float32, "level": pl.Float32},
)


def test_ratios_are_null_unless_both_are_above_zero():
    values = relative(FRAME, anchor="last", columns=["level"], ratio=True)["level__relative"].to_list()
    assert values[0] == pytest.approx(0.1)
    assert values[1:] == [None, None, None, None]


def test_differences_take_any_values():
    values = relative(FRAME, anchor="last", columns=["level"], ratio=False)["level__relative"].to_list()
    assert values == [10.0, 15.0, 10.0, None, None]


def test_levels_of_anchored_targets_alone_have_relatives():
    plan = plan_of(anchors=("price",), ratios=("price",))
    levels = [f.name.removesuffix(SUFFIX) for f in features_of(plan) if f.family == "relative"]
    assert set(levels) >= {
        "price__own__lag_2",
        "price__own__mean_3d",
        "price__own__ewm_20d",
        "price__own__ever_max",
        "price__place__lag_1",
        "price__all__ewm_20d",
        "price__all__market_level",
    }
    assert plan.anchor("price") not in levels
    others = ("std", "count", "momentum", "slope", "shift", "season", "days", "volume", "dispersion", "trend")
    assert not [name for name in levels if name.startswith("sales") or any(word in name for word in others)]
    assert not [f for f in features_of(plan_of(anchors=())) if f.family == "relative"]


def test_what_float32_cannot_hold_becomes_its_largest_number():
    frame = pl.DataFrame({"last": [1e-30], "level": [1e30]}, schema={"last": pl.Float32, "level": pl.Float32})
    found = relative(frame, anchor="last", columns=["level"], ratio=True)["level__relative"]
    assert found.is_finite().all()
    assert found.item() > 3e38
