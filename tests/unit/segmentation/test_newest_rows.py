"""Consumes features of entities, checks which row speaks for each, its segment, and what segments are said to be."""

from __future__ import annotations

import datetime as dt

import numpy as np
import polars as pl
import pyarrow as pa
import pytest

from assay.model.clusters import find_clusters
from assay.runtime.tables import SEGMENTS
from assay.segmentation.newest import AssignSegments, Inputs, NewestRows, SumSegments, profiles

START = dt.datetime(2011, 1, 3, tzinfo=dt.timezone.utc)


def features(entities=200, weeks=4, seed=2):
    """Two kinds of customers, told apart by spend alone, in any order: the odd ones spend a hundred times as much."""
    random = np.random.default_rng(seed)
    who = np.repeat(np.arange(entities), weeks)
    spend = np.where(who % 2, 1000, 10) * random.uniform(0.5, 2, len(who))
    frame = pl.DataFrame(
        {
            "row_id": random.permutation(len(who)).astype(np.int64),
            "time": [START + dt.timedelta(weeks=int(n)) for n in np.tile(np.arange(weeks), entities)],
            "who": [f"customer {n}" for n in who],
            "spend": spend.astype(np.float32),
            "idle": random.normal(size=len(who)).astype(np.float32),
        }
    )
    return frame.sample(fraction=1, shuffle=True, seed=seed)


def through(kernel, *frames, size=50):
    batches = [batch for frame in frames for batch in frame.to_arrow().to_batches(max_chunksize=size)]
    found = list(kernel(iter(batches)))
    return pl.from_arrow(pa.Table.from_batches(found)) if found else None


def test_the_newest_row_of_each_entity():
    frame = features()
    newest = through(NewestRows(("who",)), frame)
    assert newest["who"].n_unique() == newest.height == 200
    assert set(newest["time"]) == {START + dt.timedelta(weeks=3)}
    assert newest.columns == frame.columns
    assert through(NewestRows(("who",)), frame.head(0)) is None


def test_a_sample_does_not_depend_on_the_tasks_that_entities_are_in():
    frame = features()
    whole = through(NewestRows(("who",), most=30), frame)
    assert whole.height == 30
    shares = [frame.filter(pl.col("who").hash() % 3 == n) for n in range(3)]
    several = pl.concat([through(NewestRows(("who",), most=30), share) for share in shares])
    assert set(whole["row_id"]) <= set(several["row_id"])


def test_segments_are_those_that_were_planted_and_their_profile_adds_up():
    newest = through(NewestRows(("who",)), features()).rechunk()
    inputs = Inputs(("spend", "idle"), ("spend",))
    (batch,) = newest.to_arrow().combine_chunks().to_batches()
    clusters = find_clusters(inputs.of(batch), inputs.columns, number=2, most=8, seed=7)
    schema = SEGMENTS.schema([pa.field("who", pa.string()), *(pa.field(n, pa.float64()) for n in inputs.columns)])
    rows = through(AssignSegments(clusters, inputs, schema), newest)
    kinds = rows.select("segment", odd=pl.col("who").str.extract(r"(\d+)").cast(pl.Int64) % 2).unique()
    assert kinds.height == 2
    assert rows["segment"].unique().sort().to_list() == [1, 2]
    rich = rows.filter(pl.col("segment") == kinds.filter(pl.col("odd") == 1)["segment"][0])
    assert rich["name"].unique().to_list()[0].endswith("spend high")
    assert rows["distance"].min() >= 0

    summed = pl.concat([through(SumSegments(inputs.columns), share) for share in (rows.head(70), rows.tail(130))])
    told = {(row["segment"], row["input"]): row for row in pl.from_arrow(profiles(summed.to_arrow())).to_dicts()}
    assert len(told) == 4
    one = told[(rich["segment"][0], "spend")]
    assert (one["rows"], one["share"]) == (100, 0.5)
    assert one["mean"] == pytest.approx(rich["spend"].mean())
    assert one["mean_of_all"] == pytest.approx(rows["spend"].mean())
    assert one["distance"] == pytest.approx(rich["distance"].mean())
