"""Consumes shares of feature rows, checks what training counts and collects from them."""

from __future__ import annotations

import datetime as dt

import pyarrow as pa

from assay.runtime.tables import TIME
from assay.training.rows import COUNTS, VALUES, count_times, distinct_values

DAYS = [dt.datetime(2020, 1, day, tzinfo=dt.UTC) for day in (1, 2, 3)]


def test_rows_are_counted_per_time_over_all_batches():
    batches = [pa.record_batch({"time": pa.array([DAYS[i] for i in found], TIME)}) for found in ([0, 1, 0], [], [0, 2])]
    counted = pa.Table.from_batches(list(count_times(iter(batches))), COUNTS)
    assert dict(zip(counted["time"].to_pylist(), counted["rows"].to_pylist(), strict=True)) == {
        DAYS[0]: 3,
        DAYS[1]: 1,
        DAYS[2]: 1,
    }
    assert list(count_times(iter([]))) == []


def test_distinct_values_per_column_without_missing_ones():
    batches = [
        pa.record_batch(
            {"city": pa.array(["Waco", None, "Austin"]), "kind": pa.array([None, None, None], pa.string())}
        ),
        pa.record_batch({"city": pa.array(["Waco", "Ölstadt"]), "kind": pa.array(["flat", "flat"])}),
    ]
    found = pa.Table.from_batches(list(distinct_values(iter(batches))), VALUES).to_pylist()
    assert sorted((row["column"], row["value"]) for row in found) == [
        ("city", "Austin"),
        ("city", "Waco"),
        ("city", "Ölstadt"),
        ("kind", "flat"),
    ]
    assert list(distinct_values(iter([]))) == []
