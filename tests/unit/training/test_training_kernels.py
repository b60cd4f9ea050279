"""Consumes shares of feature rows, checks what training counts and collects from them."""

from __future__ import annotations

import datetime as dt
import math

import pyarrow as pa

from assay.model.encoding import Seen
from assay.runtime.tables import TIME
from assay.training.rows import COUNTS, count_times
from assay.training.seen_values import VALUES, seen, seen_values, vocabulary

DAYS = [dt.datetime(2020, 1, day, tzinfo=dt.timezone.utc) for day in (1, 2, 3)]


def test_rows_are_counted_per_time_over_all_batches():
    batches = [pa.record_batch({"time": pa.array([DAYS[i] for i in found], TIME)}) for found in ([0, 1, 0], [], [0, 2])]
    counted = pa.Table.from_batches(list(count_times(iter(batches))), COUNTS)
    assert dict(zip(counted["time"].to_pylist(), counted["rows"].to_pylist(), strict=True)) == {
        DAYS[0]: 3,
        DAYS[1]: 1,
        DAYS[2]: 1,
    }
    assert list(count_times(iter([]))) == []


def test_what_training_saw_of_each_column_does_not_depend_on_shares():
    batches = [
        pa.record_batch(
            {
                "city": pa.array(["Waco", None, "Austin"]),
                "kind": pa.array([None, None, None], pa.string()),
                "size": pa.array([2.5, None, math.inf], pa.float32()),
                "never": pa.array([math.nan] * 3, pa.float32()),
            }
        ),
        pa.record_batch(
            {
                "city": pa.array(["Waco", "Ölstadt"]),
                "kind": pa.array(["flat", "flat"]),
                "size": pa.array([-1.0, 7.0], pa.float32()),
                "never": pa.array([None, None], pa.float32()),
            }
        ),
    ]
    for shares in ([batches], [[batch] for batch in batches], [[], batches]):
        found = [batch for share in shares for batch in seen_values(iter(share))]
        table = pa.Table.from_batches(found, VALUES)
        assert vocabulary(table, ["city", "kind"]) == {"city": ("Austin", "Waco", "Ölstadt"), "kind": ("flat",)}
        assert seen(table) == {
            "city": Seen(0.8),
            "kind": Seen(0.4),
            "never": Seen(0.0),
            "size": Seen(0.6, -1.0, 7.0),
        }
    assert list(seen_values(iter([]))) == []
