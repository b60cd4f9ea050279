"""Consumes a real booster and rows, checks that what inputs add is exact, of the right rows, and told rightly."""

from __future__ import annotations

import numpy as np
import polars as pl
import pyarrow as pa
import pytest

from assay.evaluation import plots
from assay.evaluation.explanations import BASE, OTHER, ExplainRows, explainable, explained, explained_schema
from assay.model.bundle import Model
from assay.model.carried import Carried
from assay.model.encoding import Encoding
from assay.model.row_sample import EVERY_ROW, row_hash, sample_threshold
from assay.model.scale import TargetScale
from assay.pages.canvas import to_svg

CITIES = ("Austin", "Dallas", "Waco")
ROWS = 600


def market(rows=ROWS, seed=0):
    """Sizes matter most, then cities; noise matters not. Some values are missing, the model does not know one city."""
    random = np.random.default_rng(seed)
    city = random.choice([*CITIES, "Lufkin", None], rows)
    size = np.where(random.random(rows) < 0.1, np.nan, random.normal(0, 1, rows))
    effect = np.array([{"Austin": 0.5, "Dallas": -0.5}.get(name, 0.0) for name in city])
    price = np.exp(5 + np.nan_to_num(size) + effect + random.normal(0, 0.05, rows))
    return pa.record_batch(
        {
            "row_id": pa.array(random.permutation(rows)),
            "time": pa.array(np.arange(rows) * 86_400_000_000, pa.timestamp("us", tz="UTC")),
            "size": pa.array(size, pa.float32()),
            "noise": pa.array(random.normal(0, 1, rows), pa.float32()),
            "city": pa.array(city.tolist(), pa.string()),
            "kind": pa.array(random.choice(["flat", "house", None], rows, p=[0.5, 0.4, 0.1]).tolist(), pa.string()),
            "price": pa.array(price, pa.float64()),
        }
    )


@pytest.fixture(scope="module")
def model():
    """A booster on the logarithm of prices."""
    import xgboost as xgb

    encoding, scale = Encoding(("size", "noise"), {"city": CITIES}), TargetScale("price", "log")
    batch = market()
    data = xgb.QuantileDMatrix(
        encoding.matrix(batch),
        scale.forward(batch.column("price").to_numpy(), batch),
        feature_types=encoding.feature_types,
        enable_categorical=True,
    )
    booster = xgb.train({"max_depth": 3, "eta": 0.3, "seed": 1}, data, 30)
    return Model("xgboost", bytes(booster.save_raw("ubj")), encoding, scale, {}, "", {})


def sample_of(model, batch, *, most=ROWS, threshold=EVERY_ROW, cut=97):
    parts = [batch.slice(start, cut) for start in range(0, batch.num_rows, cut)]
    found = list(ExplainRows(Carried.of(model), ("kind",), threshold)(iter(parts)))
    return explained(pa.Table.from_batches(found, explained_schema(("kind",))), model, ("kind",), most)


def test_contributions_of_a_row_add_up_to_its_prediction(model):
    batch = market(seed=4)
    found = sample_of(model, batch)
    predicted = dict(zip(batch.column("row_id").to_pylist(), model.predict_scaled(batch), strict=True))
    sums = found.base + found.contributions.sum(axis=1)
    np.testing.assert_allclose(sums, [predicted[row] for row in found.rows["row_id"]], rtol=1e-5)


def test_what_matters_comes_first(model):
    overall = sample_of(model, market()).overall()
    assert overall["feature"].to_list() == ["size", "city", "noise"]
    assert overall["share"].sum() == pytest.approx(1.0)
    assert overall["share"][2] < 0.1


@pytest.mark.parametrize("most", [1, 2, 3, 9])
def test_the_table_has_the_largest_of_each_row_and_adds_up(model, most):
    batch = market()
    found = sample_of(model, batch)
    table = found.table("v1", "price", most)
    lines = table.group_by("row_id").agg(pl.len(), pl.col("contribution").sum())
    assert set(lines["len"]) == {1 + min(most, 3) + (most < 3)}
    predicted = pl.DataFrame({"row_id": batch.column("row_id").to_numpy(), "p": model.predict_scaled(batch)})
    joined = lines.join(predicted, on="row_id")
    np.testing.assert_allclose(joined["contribution"], joined["p"], rtol=1e-5)
    named = table.filter(~pl.col("feature").is_in([BASE, OTHER]))
    first = named.group_by("row_id", maintain_order=True).first().sort("row_id")
    greatest = np.abs(found.contributions).max(axis=1)[np.argsort(found.rows["row_id"])]
    np.testing.assert_allclose(first["contribution"].abs(), greatest)
    assert set(table["model_version"]) == {"v1"}


def test_values_are_told_as_people_know_them(model):
    batch = market()
    named = sample_of(model, batch).table("v", "price", 3)
    rows = {r["row_id"]: r for r in batch.to_pylist()}
    for line in named.filter(pl.col("feature") == "city").to_dicts():
        city = rows[line["row_id"]]["city"]
        assert line["value"] == (city if city in CITIES else None)
    for line in named.filter(pl.col("feature") == "size").to_dicts():
        size = rows[line["row_id"]]["size"]
        assert (line["value"] is None) == np.isnan(size)
        assert line["value"] is None or float(line["value"]) == pytest.approx(size, rel=1e-6)


def test_a_sample_is_of_the_least_hashes_whatever_the_order_and_the_cut(model):
    batch = market()
    one = sample_of(model, batch, most=50, threshold=sample_threshold(ROWS, 50))
    turned = batch.take(pa.array(np.arange(ROWS)[::-1]))
    two = sample_of(model, turned, most=50, threshold=sample_threshold(ROWS, 50), cut=13)
    ids = batch.column("row_id").to_numpy()
    assert one.rows["row_id"].to_list() == ids[np.argsort(row_hash(ids))[:50]].tolist()
    assert one.rows.equals(two.rows)
    np.testing.assert_array_equal(one.contributions, two.contributions)


def test_segments_have_means_of_their_own_largest_first(model):
    found = sample_of(model, market())
    table = found.by_segment("kind")
    assert table["segment"].unique(maintain_order=True).to_list() == ["flat", "house", "(missing)"]
    house = found.contributions[(found.rows["kind"] == "house").fill_null(False).to_numpy()]
    told = dict(table.filter(pl.col("segment") == "house").select("feature", "mean_abs").iter_rows())
    assert told == pytest.approx(dict(zip(("size", "noise", "city"), np.abs(house).mean(axis=0), strict=True)))
    everyone, *parts = found.drivers(["kind"])
    assert (everyone.column, everyone.rows) == ("", ROWS)
    assert [part.segment for part in parts] == ["flat", "house", "(missing)"]
    assert [name for name, _ in everyone.inputs] == ["size", "city", "noise"]
    assert sum(share for _, share in parts[0].inputs) == pytest.approx(1.0)


def test_the_figure_names_the_inputs(model):
    page = to_svg(plots.contributions(sample_of(model, market()), "log"), "contributions", "what")
    for word in ("size", "city", "noise", "0.01 is about 1 %"):
        assert word in page


def test_without_rows_there_is_nothing(model):
    assert sample_of(model, market(), threshold=0) is None
    empty = model.predictor.contributions(np.empty((0, 3), np.float32))
    assert empty.shape == (0, 4)
    assert explainable(model)
