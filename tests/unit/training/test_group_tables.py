"""Consumes training rows by group, checks the tables that rules without a model are made of, and who looks up what."""

from __future__ import annotations

import datetime as dt

import numpy as np
import polars as pl
import pyarrow as pa
import pytest

from assay.model.group_tables import MIN_GROUP_ROWS, finest, keyed_rows
from assay.training.baselines import GroupFigures, fit_baselines
from assay.training.group_tables import TrainingGroups
from assay.training.rates import fit_rates
from assay.training.split import Period

START = dt.datetime(2020, 1, 1, tzinfo=dt.timezone.utc)
KEYS = ("town", "kind")
TEXTS = {name: pa.string() for name in KEYS}


class Here:
    """Plane and flow at once: the rows are here, in batches of a few."""

    def __init__(self, table):
        self.table, self.hints = table, []

    def read(self, name, *, version, columns, where):
        assert (name, version, where) == ("features", 3, ["of the period"])
        return Here(self.table.select(columns))

    def schema(self, name):
        return self.table.schema

    def by_key(self, keys, *, rows_hint):
        assert rows_hint == 400
        return self

    def map(self, kernel, schema):
        return Here(pa.Table.from_batches(list(kernel(iter(self.table.to_batches(max_chunksize=37)))), schema))

    def collect(self):
        return self.table


@pytest.fixture(scope="module")
def rows():
    """400 rows over two years, without order; one town has no name, one is rare."""
    random = np.random.default_rng(5)
    town = np.array([*["a"] * 200, *["b"] * 147, *[None] * 50, *["rare"] * 3], dtype=object)
    times = [START + dt.timedelta(days=int(day)) for day in random.integers(0, 730, 400)]
    return pl.DataFrame(
        {
            "town": pl.Series(town.tolist(), dtype=pl.String),
            "kind": random.choice(["flat", "house"], 400).tolist(),
            "time": pl.Series(times, dtype=pl.Datetime("us", "UTC")),
            "price": np.exp(random.normal(5, 1, 400)),
            "sold": random.integers(0, 2, 400).astype(float),
        }
    )


def groups_of(frame, target, keys=KEYS, times=400):
    ends = frame["time"].min(), frame["time"].max()
    periods = [Period(None, None, count, *ends) for count in (300, 100)]
    table = frame.to_arrow()
    plane = Here(table.cast(pa.schema([pa.field(f.name, TEXTS.get(f.name, f.type)) for f in table.schema])))
    return TrainingGroups(
        plane=plane, version=3, where=["of the period"], target=target, group_columns=keys, periods=periods, times=times
    )


def test_rules_of_numbers_and_of_classes_are_made_of_the_same_groups_and_seasons(rows):
    numbers, classes = fit_baselines(groups_of(rows, "price"), "log"), fit_rates(groups_of(rows, "sold"), 2)
    for name in ("group_columns", "end_days", "span_days", "weekly"):
        assert getattr(numbers, name) == getattr(classes, name)
    for depth in range(3):
        keys = list(KEYS[:depth])
        counted = rows.group_by(keys).len().filter(pl.col("len") >= MIN_GROUP_ROWS).sort(keys, nulls_last=True)
        for table in (numbers.groups[depth], classes.groups[depth]):
            assert [table[key] for key in keys] == [counted[key].to_list() for key in keys]
        seasons = [
            [table[key] for key in (*keys, "season")] for table in (numbers.seasons[depth], classes.seasons[depth])
        ]
        assert seasons[0] == seasons[1]
        assert seasons[0][-1]
    medians = rows.group_by("town").agg(pl.col("price").median()).filter(pl.col("town") != "rare").sort("town")
    assert numbers.groups[1]["median"][:2] == pytest.approx(medians["price"].to_list())


def test_days_of_the_week_are_seasons_of_data_that_know_one(rows):
    assert groups_of(rows, "price", times=400).weekly
    assert not groups_of(rows, "price", times=24).weekly
    (_, whole, parts), *_ = groups_of(rows, "price", times=24).levels(
        lambda keys: GroupFigures(keys, "price", "log", weekly=False, least_span_days=300)
    )
    assert len(whole) == 1
    assert [row["season"] for row in parts] == list(range(12))


def test_a_row_has_the_figure_of_its_finest_group_that_has_one():
    batch = pa.record_batch(
        {
            "town": pa.array(["a", "a", None, "elsewhere"]),
            "kind": pa.array(["flat", "boat", "flat", None]),
            "time": pa.array([dt.datetime(2020, 3, 1, 12, tzinfo=dt.timezone.utc)] * 4, pa.timestamp("us", "UTC")),
        }
    )
    rows = keyed_rows(batch, KEYS, weekly=True)
    assert rows["season"].to_list() == [2 * 7 + 6] * 4  # a Sunday in March
    assert rows["day"].to_list() == [18_322.5] * 4
    tables = [
        {"median": [1.0], "slope": [None]},
        {"town": ["a", None], "median": [2.0, 3.0], "slope": [0.2, None]},
        {"town": ["a"], "kind": ["flat"], "median": [4.0], "slope": [None]},
    ]
    found = finest(rows, tables, KEYS, ("median", "slope"))
    np.testing.assert_array_equal(found["median"], [4.0, 2.0, 3.0, 1.0])
    np.testing.assert_array_equal(found["slope"], [0.2, 0.2, np.nan, np.nan])
    seasons = [{"season": [20], "median": [5.0]}, {"town": ["a"], "season": [0], "median": [6.0]}]
    np.testing.assert_array_equal(finest(rows, seasons, KEYS, ["median"], by_season=True)["median"], [5.0] * 4)
