"""Consumes predictions beside outcomes, checks what is summed of each day."""

from __future__ import annotations

import datetime as dt

import numpy as np
import polars as pl
import pyarrow as pa
import pytest

from assay.monitoring.days import ANCHOR, OUTCOME, DaySums, columns_of, day_schema

DAYS = [dt.datetime(2024, 5, day, hour, tzinfo=dt.timezone.utc) for day in (1, 2, 3) for hour in (0, 23)]


def numbers(rows=400):
    draw = np.random.default_rng(2)
    p, y, anchor = 100 + draw.normal(0, 10, (3, rows))
    times = [DAYS[place] for place in draw.integers(0, len(DAYS), rows)]
    frame = pl.DataFrame({"time": times, "prediction": p, OUTCOME: y, ANCHOR: anchor})
    widths = {}
    for level, size in (("80", 12), ("90", 16)):
        widths |= {f"lower_{level}": p - size, f"upper_{level}": p + size}
    return frame.with_columns(
        pl.Series("row_id", np.arange(rows)),
        pl.Series("model_version", draw.choice(["one", "two"], rows)),
        pl.Series("quality", draw.choice(["ok", "warn", "bad"], rows)),
        *(pl.Series(name, values) for name, values in widths.items()),
        pl.lit(24.0).alias("width_80"),
        pl.lit(32.0).alias("width_90"),
    ).with_columns(
        pl.when(pl.col("row_id") % 10 == 0).then(None).otherwise(pl.col("prediction")).alias("prediction"),
        pl.when(pl.col("row_id") % 7 == 0).then(None).otherwise(pl.col(OUTCOME)).alias(OUTCOME),
        pl.when(pl.col("row_id") % 3 == 0).then(None).otherwise(pl.col(ANCHOR)).alias(ANCHOR),
    )


def summed(kernel, frame, length=10_000):
    table = pa.Table.from_batches(list(kernel(iter(frame.to_arrow().to_batches(length)))), day_schema(kernel.levels))
    return pl.from_arrow(table)


def test_sums_of_numbers_are_those_of_their_definitions():
    frame = numbers()
    found = summed(DaySums((0.8, 0.9)), frame)
    assert found.height == 6
    for row in found.to_dicts():
        of_day = pl.col("time").dt.date() == row["day"]
        mine = frame.filter(of_day & (pl.col("model_version") == row["model_version"]))
        assert (row["rows"], row["unscored"]) == (mine.height, mine["prediction"].null_count())
        assert row["bad"] == mine.filter(pl.col("quality") == "bad").height
        awaited = mine.drop_nulls("prediction").filter(pl.col(OUTCOME).is_null())
        assert (row["awaited"], row["awaited_width"]) == (awaited.height, 24.0 * awaited.height)
        known = mine.drop_nulls(["prediction", OUTCOME])
        p, y, anchor = (known[name].to_numpy() for name in ("prediction", OUTCOME, ANCHOR))
        held = [known.filter(pl.col(OUTCOME).is_between(f"lower_{end}", f"upper_{end}")).height for end in (80, 90)]
        stood = ~np.isnan(anchor)
        right = stood & (np.sign(p - anchor) == np.sign(y - anchor))
        wanted = {
            "known": len(p),
            "loss": np.sum((p - y) ** 2),
            "absolute": np.sum(np.abs(p - y)),
            "size": np.sum(np.abs(y)),
            "error": np.sum(p - y),
            "hits": np.sum(np.abs(p - y) <= 0.2 * np.abs(y)),
            "moves": stood.sum(),
            "wins": right.sum(),
            "gain": np.nansum(np.sign(p - anchor) * (y - anchor) / anchor),
            "held_80": held[0],
            "held_90": held[1],
            "width_80": 24.0 * len(p),
        }
        assert {name: row[name] for name in wanted} == pytest.approx(wanted)


def test_sums_of_classes_are_those_of_their_definitions():
    frame = pl.DataFrame(
        {
            "row_id": [1, 2, 3, 4],
            "time": [DAYS[0]] * 4,
            "model_version": ["one"] * 4,
            "prediction": [0.9, 0.6, 0.5, None],
            "quality": ["ok"] * 4,
            "predicted_class": ["a", "b", "c", None],
            "probabilities": [[0.9, 0.1, 0.0], [0.2, 0.6, 0.2], [0.25, 0.25, 0.5], None],
            "set_80": [["a"], ["a", "b"], ["a"], None],
            "width_80": [1.0, 2.0, 1.0, None],
            OUTCOME: [0.0, 2.0, 2.0, 1.0],
        }
    )
    (row,) = summed(DaySums((0.8,), ("a", "b", "c")), frame).to_dicts()
    assert (row["rows"], row["known"], row["unscored"]) == (4, 3, 1)
    assert row["loss"] == pytest.approx(-np.log([0.9, 0.2, 0.5]).sum())
    assert (row["absolute"], row["hits"], row["held_80"], row["width_80"]) == (1, 2, 1, 4)


@pytest.mark.parametrize("length", [1, 37])
def test_how_rows_are_cut_into_batches_changes_nothing(length):
    kernel = DaySums((0.8, 0.9))
    one, other = (summed(kernel, numbers(), size) for size in (10_000, length))
    keys = ["day", "model_version"]
    assert one.select(keys).equals(other.select(keys))
    np.testing.assert_allclose(one.drop(keys).to_numpy(), other.drop(keys).to_numpy())


def test_no_rows_make_no_sums():
    assert summed(DaySums((0.8,)), numbers().head(0)).height == 0
    unknown = numbers().with_columns(pl.lit(None, pl.Float64).alias(OUTCOME))
    found = summed(DaySums((0.8,)), unknown)
    assert found["known"].sum() == 0
    assert found["rows"].sum() == 400


def test_what_is_read_is_what_is_summed():
    assert set(columns_of((0.8, 0.9), classes=False)) <= set(numbers().columns)
    assert "set_80" in columns_of((0.8,), classes=True)
