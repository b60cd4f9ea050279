"""Consumes labelled rows, checks the baselines' medians and predictions against pandas."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from assay.config import canonical_json
from assay.model.baselines import MIN_GROUP_ROWS, Baselines
from assay.training.baselines import Medians


@pytest.fixture
def panel():
    """Rows of towns, one of them rare, one without a name."""
    random = np.random.default_rng(3)
    towns = [None, "Austin", "Dallas"]
    frame = pd.DataFrame(
        {
            "town": [*(towns[i] for i in random.integers(0, 3, 200)), *["rare"] * (MIN_GROUP_ROWS - 1)],
            "kind": random.choice(["flat", "house"], 200 + MIN_GROUP_ROWS - 1),
            "price": np.exp(random.normal(5, 1, 200 + MIN_GROUP_ROWS - 1)),
        }
    )
    frame["last"] = np.where(random.random(len(frame)) < 0.3, np.nan, frame["price"] * 0.9).astype(np.float32)
    return frame


def batch_of(frame):
    return pa.RecordBatch.from_pandas(frame, preserve_index=False)


def medians_of(frame, groups):
    batch = batch_of(frame)
    parts = [batch.slice(start, 17) for start in range(0, batch.num_rows, 17)]
    return pa.Table.from_batches(list(Medians(groups, "price")(iter(parts)))).to_pylist()


def test_medians_are_those_of_pandas_and_small_groups_are_left_out(panel):
    found = {row["town"]: row["median"] for row in medians_of(panel, ("town",))}
    expected = panel.groupby("town", dropna=False)["price"].median()
    assert set(found) == {None, "Austin", "Dallas"}
    for town, median in found.items():
        assert median == pytest.approx(expected[expected.index.isna()].iloc[0] if town is None else expected[town])
    assert medians_of(panel, ()) == [{"median": pytest.approx(panel["price"].median())}]


def test_two_columns_make_one_group(panel):
    found = {(row["town"], row["kind"]): row["median"] for row in medians_of(panel, ("town", "kind"))}
    counts = panel.groupby(["town", "kind"], dropna=False).size()
    assert len(found) == int((counts >= MIN_GROUP_ROWS).sum())
    expected = panel[(panel["town"] == "Dallas") & (panel["kind"] == "flat")]["price"].median()
    assert found["Dallas", "flat"] == pytest.approx(expected)


def test_no_rows_give_no_medians():
    assert list(Medians(("town",), "price")(iter([]))) == []


def test_predictions_fall_back_from_last_value_to_group_to_everyone(panel):
    groups = {(row["town"],): row["median"] for row in medians_of(panel, ("town",))}
    overall = float(panel["price"].median())
    baselines = Baselines(overall, ("town",), groups, "last")
    found = pd.DataFrame(baselines.predict(batch_of(panel)))
    by_town = panel.groupby("town", dropna=False)["price"].transform("median").where(panel["town"] != "rare", overall)
    np.testing.assert_allclose(found["global_median"], overall)
    np.testing.assert_allclose(found["group_median"], by_town)
    np.testing.assert_allclose(found["last_value"], panel["last"].astype(float).fillna(by_town))


def test_without_groups_and_history_only_the_global_median_is_left(panel):
    found = Baselines(7.0, (), {}, None).predict(batch_of(panel))
    assert list(found) == ["global_median"]
    assert set(found["global_median"]) == {7.0}
    assert list(Baselines(7.0, (), {}, "last").predict(batch_of(panel))) == ["global_median", "last_value"]


def test_they_survive_json(panel):
    groups = {(row["town"], row["kind"]): row["median"] for row in medians_of(panel, ("town", "kind"))}
    baselines = Baselines(5.5, ("town", "kind"), groups, "last")
    assert Baselines.from_dict(json.loads(canonical_json(baselines.to_dict()))) == baselines
    assert baselines.columns == ["town", "kind", "last"]
