"""Consumes batches, checks that files of tables and of exchanges hold them again, and what is said of them is true."""

from __future__ import annotations

import datetime as dt
import json
import math
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from assay.runtime import arrow_files, table_writer
from assay.runtime.arrow_files import Share, Spilled, conform, conform_table, dictionaries, spill_by_key
from assay.runtime.conditions import Condition
from assay.runtime.local_plane import LocalPlane
from assay.runtime.plane import Commit, Output
from assay.runtime.sharing import Piece
from assay.runtime.table_writer import TableWriter
from assay.runtime.tables import Table

TIME = pa.timestamp("us", tz="UTC")
SCHEMA = pa.schema(
    [("row", pa.int64()), ("time", TIME), ("text", pa.string()), ("x", pa.float64()), ("p", pa.string())]
)
LABELS = ["2020-01", "a b", "é/ü", "100%", "x=y", "..", None, ""]


def batch_of(rows) -> pa.RecordBatch:
    return pa.RecordBatch.from_pylist([{"row": i, **row} for i, row in enumerate(rows)], schema=SCHEMA)


def read(root: Path, files, columns=SCHEMA) -> list[dict]:
    pieces = [Piece(str(root / f.path), f.rows, f.partition) for f in files]
    rows = [row for batch in Share(tuple(pieces), columns, columns).batches() for row in batch.to_pylist()]
    return sorted(rows, key=lambda row: row["row"])


@settings(deadline=None)
@given(
    labels=st.lists(st.sampled_from(LABELS), max_size=30),
    batch_rows=st.integers(1, 9),
    limit=st.sampled_from([1, 500, 1 << 20]),
    small=st.sampled_from([0, 1 << 20]),
)
def test_what_is_written_is_read_again_whatever_its_partition(tmp_path_factory, labels, batch_rows, limit, small):
    root = tmp_path_factory.mktemp("table")
    start = dt.datetime(2020, 1, 1, tzinfo=dt.timezone.utc)
    rows = [
        {"time": start + dt.timedelta(days=i), "text": f"t{i}", "x": i / 3, "p": label}
        for i, label in enumerate(labels)
    ]
    writer = TableWriter(str(root), SCHEMA, ["p"], ["row", "time"])
    whole = batch_of(rows)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(table_writer, "BUFFERED_BYTES", limit)
        patch.setattr(table_writer, "OPEN_FILES", 2)
        for first in range(0, len(rows), batch_rows):
            writer.write(whole.slice(first, batch_rows))
        files = writer.close()
        patch.setattr(arrow_files, "SMALL_BYTES", small)
        found = read(root, files)
    expected = [row | {"p": row["p"] or None} for row in whole.to_pylist()]  # to Delta, an empty partition is null
    assert found == expected
    assert sum(file.rows for file in files) == len(rows)
    if limit > 500:
        assert len(files) == len({row["p"] for row in expected})
    for file in files:
        path = root / file.path
        assert path.stat().st_size == file.size
        assert path.parent.parent == root
        assert pq.read_metadata(path).num_rows == file.rows


def test_a_table_of_several_partition_columns_and_one_without_any(tmp_path):
    schema = pa.schema([("row", pa.int64()), ("target", pa.string()), ("month", pa.string())])
    rows = [{"row": i, "target": t, "month": m} for i, (t, m) in enumerate([("a", "1"), ("b", "1"), ("a", None)] * 2)]
    batch = pa.RecordBatch.from_pylist(rows, schema=schema)
    for keys in (["target", "month"], []):
        root = tmp_path / "-".join(["t", *keys])
        root.mkdir()
        writer = TableWriter(str(root), schema, keys, ["row"])
        writer.write(batch)
        files = writer.close()
        assert len(files) == (3 if keys else 1)
        assert read(root, files, schema) == rows


def stats_of(root: Path, schema: pa.Schema, batches, statistics) -> dict:
    writer = TableWriter(str(root), schema, [], statistics)
    for batch in batches:
        writer.write(pa.RecordBatch.from_pylist(batch, schema=schema))
    (file,) = writer.close()
    return json.loads(file.stats, parse_constant=lambda text: pytest.fail(f"{text} is no JSON"))


micros = st.integers(-(2**52), 2**52).map(
    lambda us: dt.datetime(1970, 1, 1, tzinfo=dt.timezone.utc) + dt.timedelta(microseconds=us)
)


@settings(deadline=None)
@given(times=st.lists(micros, min_size=1, max_size=8))
def test_bounds_of_times_hold_every_microsecond_of_the_file(tmp_path_factory, times):
    root = tmp_path_factory.mktemp("stats")
    stats = stats_of(root, pa.schema([("time", TIME)]), [[{"time": t}] for t in times], ["time"])
    low, high = (
        dt.datetime.fromisoformat(stats[end]["time"].replace("Z", "+00:00")) for end in ("minValues", "maxValues")
    )
    millisecond = dt.timedelta(milliseconds=1)
    assert low <= min(times) < low + millisecond
    assert high - millisecond < max(times) <= high


@pytest.mark.parametrize(
    ("moment", "low", "high"),
    [
        ("0999-05-06T00:00:00.000001+00:00", "0999-05-06T00:00:00.000Z", "0999-05-06T00:00:00.001Z"),
        ("1969-12-31T23:59:59.999999+00:00", "1969-12-31T23:59:59.999Z", "1970-01-01T00:00:00.000Z"),
        ("9999-12-31T23:59:59.999999+00:00", None, None),
    ],
)
def test_bounds_of_odd_years_are_right_or_left_out(tmp_path, moment, low, high):
    stats = stats_of(tmp_path, pa.schema([("time", TIME)]), [[{"time": dt.datetime.fromisoformat(moment)}]], ["time"])
    assert stats == {
        "numRecords": 1,
        "minValues": {"time": low} if low else {},
        "maxValues": {"time": high} if high else {},
        "nullCount": {},
    }


def test_bounds_that_would_not_hold_are_left_out(tmp_path):
    schema = pa.schema(
        [("n", pa.int64()), ("x", pa.float64()), ("y", pa.float64()), ("t", pa.string()), ("e", pa.string())]
    )
    rows = [
        {"n": 3, "x": 1.0, "y": math.inf, "t": "ü", "e": None},
        {"n": -3, "x": math.nan, "y": 0.0, "t": "Z", "e": None},
    ]
    stats = stats_of(tmp_path, schema, [rows[:1], rows[1:]], schema.names)
    assert stats["minValues"] == {"n": -3, "t": "Z"}
    assert stats["maxValues"] == {"n": 3, "t": "ü"}
    meta = pq.read_metadata(next(tmp_path.glob("*.parquet")))
    assert meta.row_group(0).column(0).statistics.max == 3


def test_only_the_named_columns_have_statistics(tmp_path):
    schema = pa.schema([("n", pa.int64()), ("x", pa.float64())])
    stats_of(tmp_path, schema, [[{"n": 1, "x": 1.0}]], ["n"])
    group = pq.read_metadata(next(tmp_path.glob("*.parquet"))).row_group(0)
    assert group.column(0).is_stats_set
    assert not group.column(1).is_stats_set


def test_many_small_batches_of_many_months_are_sorted_once(tmp_path):
    """200 months in each of 400 batches are a second of work; with a filter per month and batch they were a minute."""
    months = np.array([f"{2000 + m // 12}-{m % 12 + 1:02d}" for m in range(200)])
    random = np.random.default_rng(7)
    schema = pa.schema([("row", pa.int64()), *((f"f{i}", pa.float32()) for i in range(20)), ("month", pa.string())])
    features = {f"f{i}": random.random(1_000, dtype=np.float32) for i in range(20)}
    batches = [
        pa.record_batch({"row": np.arange(1_000), **features, "month": random.permutation(np.tile(months, 5))}, schema)
        for _ in range(400)
    ]
    writer = TableWriter(str(tmp_path), schema, ["month"], ["row"])
    started = time.perf_counter()
    for batch in batches:
        writer.write(batch)
    files = writer.close()
    assert time.perf_counter() - started < 20
    assert len(files) == 200
    assert sum(file.rows for file in files) == 400_000


@pytest.mark.parametrize("length", [2, 400])
def test_partitions_keep_the_order_of_their_rows(tmp_path, length):
    months = np.repeat(["2020-02", "2020-01", "2020-02", None, "2020-01"], length)
    rows = np.arange(len(months))
    schema = pa.schema([("row", pa.int64()), ("month", pa.string())])
    writer = TableWriter(str(tmp_path), schema, ["month"], ["row"])
    for part in np.array_split(rows, 3):
        writer.write(pa.record_batch({"row": part, "month": pa.array(months[part].tolist(), pa.string())}, schema))
    files = {file.partition["month"]: file for file in writer.close()}
    assert set(files) == {"2020-01", "2020-02", None}
    for month, file in files.items():
        found = pq.read_table(str(tmp_path / file.path), partitioning=None)["row"].to_numpy()
        np.testing.assert_array_equal(found, rows[months == month])


def test_a_share_reads_the_columns_wanted_under_conditions_on_others(tmp_path):
    writer = TableWriter(str(tmp_path), SCHEMA, ["p"], [])
    writer.write(
        batch_of([{"text": t, "x": x, "p": p} for t, x, p in [("a", 1.0, "1"), ("b", 2.0, "1"), (None, 3.0, "2")]])
    )
    pieces = tuple(Piece(str(tmp_path / f.path), f.rows, f.partition) for f in writer.close())

    def rows(columns, conditions=()) -> list[dict]:
        schema = pa.schema([SCHEMA.field(c) for c in columns])
        types = pa.schema([SCHEMA.field(c) for c in dict.fromkeys([*columns, *(c.column for c in conditions)])])
        return [row for b in Share(pieces, schema, types, tuple(conditions)).batches() for row in b.to_pylist()]

    assert rows(["p"]) == [{"p": "1"}, {"p": "1"}, {"p": "2"}]
    assert rows(["p", "x"], [Condition("text", "not_null")]) == [{"p": "1", "x": 1.0}, {"p": "1", "x": 2.0}]
    assert rows(["x"], [Condition("p", "==", "2")]) == [{"x": 3.0}]
    assert rows(["x"], [Condition("x", ">=", 9.0)]) == []


def test_a_column_that_is_younger_than_the_file_is_null(tmp_path):
    pq.write_table(pa.table({"row": [1, 2]}), tmp_path / "old.parquet")
    share = Share((Piece(str(tmp_path / "old.parquet"), 2, {"p": "1"}),), SCHEMA, SCHEMA)
    (batch,) = share.batches()
    assert batch.schema == SCHEMA
    assert batch.to_pylist()[1] == {"row": 2, "time": None, "text": None, "x": None, "p": "1"}


keys = st.sampled_from(["a", "b", "é", "", None])


@settings(deadline=None)
@given(rows=st.lists(st.tuples(keys, keys), max_size=40), buckets=st.integers(1, 6), batch_rows=st.integers(1, 9))
def test_an_exchange_brings_equal_keys_together_and_keeps_every_row_in_order(
    tmp_path_factory, rows, buckets, batch_rows
):
    folder = tmp_path_factory.mktemp("exchange")
    schema = pa.schema([("row", pa.int64()), ("k", pa.string()), ("l", pa.string())])
    table = pa.Table.from_pylist([{"row": i, "k": k, "l": m} for i, (k, m) in enumerate(rows)], schema=schema)
    spilled: list[tuple[int, str, int]] = []
    half = len(rows) // 2
    for name, part in (("0", table.slice(0, half)), ("1", table.slice(half))):
        batches = iter(part.to_batches(max_chunksize=batch_rows))
        spilled += spill_by_key(batches, keys=["k", "l"], buckets=buckets, folder=str(folder), name=name, schema=schema)
    home: dict[tuple, int] = {}
    seen: list[int] = []
    for bucket in range(buckets):
        paths = tuple(path for b, path, _ in spilled if b == bucket)
        found = [row for batch in Spilled(paths, schema).batches() for row in batch.to_pylist()]
        assert len(found) == sum(count for b, _, count in spilled if b == bucket)
        assert [row["row"] for row in found] == sorted(row["row"] for row in found)
        for row in found:
            assert home.setdefault((row["k"], row["l"]), bucket) == bucket
        seen += [row["row"] for row in found]
    assert sorted(seen) == list(range(len(rows)))


def test_conform_casts_by_name_and_leaves_alone_what_fits():
    batch = pa.record_batch({"b": pa.array(["x"], pa.large_string()), "a": pa.array([1.5], pa.float64())})
    wanted = pa.schema([("a", pa.float32()), ("b", pa.string())])
    found = conform(batch, wanted)
    assert found.schema == wanted
    assert found.to_pylist() == [{"a": 1.5, "b": "x"}]
    assert conform(found, wanted) is found
    assert (
        list(conform_table(pa.table({"a": pa.array([], pa.float64()), "b": pa.array([], pa.string())}), wanted)) == []
    )


def test_texts_come_as_dictionaries_where_that_is_asked_for(tmp_path):
    """A column that is younger than the file, too; numbers and what is not asked for come as they are."""
    rows = [{"text": text, "p": "x"} for text in ("a", "b", None, "a")]
    writer = TableWriter(str(tmp_path), SCHEMA, ["p"], ["row"])
    writer.write(batch_of(rows))
    wider = dictionaries(SCHEMA.append(pa.field("younger", pa.string())), {"text", "younger", "x", "row"})
    kinds = {field.name: pa.types.is_dictionary(field.type) for field in wider}
    assert kinds == {"row": False, "time": False, "text": True, "x": False, "p": False, "younger": True}
    assert read(tmp_path, writer.close(), wider) == [
        {"row": i, "time": None, "x": None, "younger": None, **row} for i, row in enumerate(rows)
    ]


def test_a_text_that_conditions_look_at_and_partitions_stay_texts(tmp_path):
    plane = LocalPlane(tmp_path)
    table = Table("things", "ingest", "one thing", ("row",), ("p",), {f.name: (f.type, "") for f in SCHEMA})
    rows = pa.Table.from_batches([batch_of([{"text": text, "p": "x"} for text in "abca"])])
    output = Output(table, table.schema(), Commit(-1, "ingest", "all", "1"))
    (written,) = plane.rows_of(table, table.schema(), rows).write([output])
    where = [Condition("text", "==", "a")]
    for conditions, dictionary in (((), True), (where, False)):
        flow = plane.read("things", version=written.version, where=conditions, encoded=["text", "p"])
        assert pa.types.is_dictionary(flow.schema.field("text").type) == dictionary
        assert flow.schema.field("p").type == pa.string()
        wanted = ["a", "a"] if conditions else list("abca")
        assert flow.collect()["text"].to_pylist() == wanted
