"""Consumes observations of a number, checks the targets that compare it: what they are, and that none is a feature."""

from __future__ import annotations

import datetime as dt
import json

import numpy as np
import polars as pl
import pyarrow as pa
import pytest

from assay.features.catalog import numeric_features
from assay.features.kernel import BuildFeatures, feature_schema, observation_columns
from assay.features.plan import FeaturePlan, HistoryOf, Threshold

UP, HIGH = Threshold("up", "price"), Threshold("high", "price", 10.0)


def plan_of(*, temporal, thresholds=(UP, HIGH), delay=0.0, codes=()):
    return FeaturePlan(
        entity=("town",),
        texts=("town",),
        numeric=(),
        categorical=(),
        targets=("price",),
        history=(HistoryOf("price", delay),),
        groups={},
        anchors=(),
        temporal=temporal,
        market=False,
        thresholds=thresholds,
        codes=codes,
    )


def built(plan, prices, mood=None):
    start = dt.datetime(2020, 1, 1, tzinfo=dt.timezone.utc)
    frame = pl.DataFrame(
        {
            "row_id": list(range(len(prices))),
            "time": [start + dt.timedelta(days=n) for n in range(len(prices))],
            "town": ["a"] * len(prices),
            "price": pl.Series(prices, dtype=pl.Float64),
            **({"mood": pl.Series(mood, dtype=pl.Float64)} if mood else {}),
        }
    ).with_columns(month=pl.col("time").dt.strftime("%Y-%m"))
    frame = frame.with_columns(pl.col("time").cast(pl.Datetime("us", "UTC"))).select(observation_columns(plan))
    batches = list(BuildFeatures(plan, {})(iter(frame.to_arrow().to_batches())))
    return pl.from_arrow(pa.Table.from_batches(batches, feature_schema(plan))).sort("row_id")


@pytest.mark.parametrize("temporal", [False, True])
def test_a_rise_is_over_the_last_known_value_and_unknown_without_one(temporal):
    rows = built(plan_of(temporal=temporal), [9.0, 11.0, 11.0, None, 12.0, 5.0])
    assert rows["up"].to_list() == [None, 1, 0, None, 1, 0]
    assert rows["high"].to_list() == [0, 1, 1, None, 1, 0]


def test_a_value_that_stays_as_it_is_is_no_rise_whatever_its_digits():
    prices = np.repeat(np.random.default_rng(0).uniform(1, 100, 50), 2)
    rows = built(plan_of(temporal=False), prices.tolist())
    assert rows["up"].to_list()[1::2] == [0.0] * 50


def test_a_value_that_is_not_yet_known_is_not_compared_with():
    rows = built(plan_of(temporal=False, delay=1.5), [1.0, 2.0, 3.0, 1.5])
    assert rows["up"].to_list() == [None, None, 1, 0]  # with the value of two days before


def test_what_is_made_here_and_codes_of_classes_are_targets_and_no_features():
    plan = plan_of(temporal=True, codes=("mood",))
    names = numeric_features(plan)
    assert not {"up", "high", "mood"} & set(names)
    assert not any(name.startswith(("mood", "up__", "high__")) for name in names)
    assert built(plan, [1.0, 2.0], mood=[0, 2])["mood"].to_list() == [0, 2]


def test_the_plan_comes_back_from_json_and_plans_without_are_as_they_were():
    plan = plan_of(temporal=True, codes=("mood",))
    again = FeaturePlan.from_dict(json.loads(json.dumps(plan.to_dict())))
    assert again == plan
    assert again.hash == plan.hash != plan_of(temporal=True).hash
    plain = plan_of(temporal=True, thresholds=())
    assert not {"thresholds", "codes"} & set(plain.to_dict())
    assert FeaturePlan.from_dict(json.loads(json.dumps(plain.to_dict()))) == plain
