"""Consumes flows of both roads, checks that kernels, keys, joins and ranks see the same rows."""

from __future__ import annotations

import itertools
import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pytest
from lake_tables import DEEDS, NOTES, OTHER, PLAIN, ROADS, START, commit_of, put, rows_of

from assay.runtime.conditions import Condition
from assay.runtime.plane import Output
from assay.runtime.spark_plane import by_hash_of_rank, by_rank
from assay.runtime.tables import TIME

pytestmark = pytest.mark.spark


@pytest.mark.parametrize("road", ROADS)
def test_kernels_see_whole_keys_and_joins_whole_pairs(planes, road):
    plane, places = planes[road], {row["place"] for row in PLAIN}
    version = put(plane, DEEDS, PLAIN).version
    counted = pa.schema([("place", pa.string()), ("row", pa.int64())])

    def count(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        found: dict[str | None, int] = {}
        for batch in batches:
            for place in batch.column("place").to_pylist():
                found[place] = found.get(place, 0) + 1
        yield pa.RecordBatch.from_pylist([{"row": n, "place": p} for p, n in found.items()], schema=counted)

    def doubled(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            # Other types and another order of columns than the schema says: the plane casts.
            yield pa.record_batch({"row": pc.cast(pc.multiply(batch["row"], 2), pa.int32()), "place": batch["place"]})

    flow = plane.read("deeds", version=version)
    per_place = flow.by_key(["place"], rows_hint=28).map(count, counted).collect()
    assert rows_of(per_place) == rows_of(pa.Table.from_pylist([{"place": p, "row": 4} for p in places], counted))
    assert flow.by_key([], rows_hint=0).map(count, counted).collect()["row"].to_pylist() == [4] * 7
    twice = flow.map(doubled, counted)
    assert twice.schema == counted
    assert sorted(twice.collect()["row"].to_pylist()) == [2 * i for i in range(28)]

    left = plane.read("deeds", version=version, columns=["text", "row"])
    named = [{"row": i, "place": f"p{i}"} for i in [3, 5, 5, 99]]
    right = plane.rows_of(NOTES, counted, pa.Table.from_pylist(named, schema=counted))
    joined = left.join(right, ["row"], rows_hint=28)
    assert joined.schema.names == ["text", "row", "place"]
    assert rows_of(joined.collect()) == [{"text": PLAIN[i]["text"], "row": i, "place": f"p{i}"} for i in [3, 5, 5]]
    nulls = pa.Table.from_pylist([{"row": None, "text": "n"}, {"row": 3, "text": "t"}], schema=NOTES.schema())
    both = plane.rows_of(NOTES, NOTES.schema(), nulls).join(
        plane.rows_of(NOTES, counted, pa.Table.from_pylist([{"row": None}, {"row": 3}], schema=counted)),
        ["row"],
        rows_hint=1,
    )
    assert both.collect()["row"].to_pylist() == [3]  # a null is equal to nothing


@pytest.mark.parametrize("road", ROADS)
def test_one_task_may_read_all_rows_of_several_flows(planes, road):
    plane = planes[road]
    version = put(plane, DEEDS, PLAIN).version
    counted = pa.schema([("column", pa.string()), ("rows", pa.int64()), ("before", pa.int64())])

    def renamed(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            yield pa.RecordBatch.from_arrays(batch.columns, names=["value"])

    class Count:
        def __init__(self, column: str) -> None:
            self.column = column

        def __call__(self, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
            rows = [value for batch in batches for value in batch["value"].to_pylist()]
            before = sum(value is not None for value in rows[: len(PLAIN)])
            yield pa.RecordBatch.from_pylist([{"column": self.column, "rows": len(rows), "before": before}], counted)

    flows = []
    for column in ("row", "place"):
        schema = pa.schema([("value", DEEDS.schema().field(column).type)])
        one = plane.read("deeds", version=version, columns=[column]).map(renamed, schema)
        nothing = plane.read("deeds", version=version, columns=[column], where=[Condition("row", "==", -1)])
        both = one.union(nothing.map(renamed, schema)).union(one)
        flows.append(both.in_few(1).map(Count(column), counted))
    found = flows[0].union(flows[1]).collect().to_pylist()
    assert sorted(row["column"] for row in found) == ["place", "row"]
    for row in found:
        known = sum(one[row["column"]] is not None for one in PLAIN)
        assert (row["rows"], row["before"]) == (2 * len(PLAIN), known)


@pytest.mark.parametrize("road", ROADS)
@pytest.mark.parametrize("tasks", [1, 2])
def test_few_tasks_read_each_row_once(planes, road, tasks):
    plane = planes[road]
    version = put(plane, DEEDS, PLAIN).version
    counted = pa.schema([("rows", pa.int64())])

    def count(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        yield pa.RecordBatch.from_pylist([{"rows": sum(batch.num_rows for batch in batches)}], counted)

    def unchanged(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        yield from batches

    read = plane.read("deeds", version=version, columns=["row"])
    together = read.map(unchanged, read.schema).in_few(tasks).union(read.in_few(tasks))
    rows = together.map(count, counted).collect()["rows"].to_pylist()
    assert len(rows) <= 2 * tasks
    assert sum(rows) == 2 * len(PLAIN)


@pytest.mark.parametrize("road", ROADS)
def test_items_become_one_task_each(planes, road):
    schema = pa.schema([("row", pa.int64()), ("text", pa.string())])  # two columns, as many as Spark's frame of items

    def expand(items: Iterator[Any]) -> Iterator[pa.RecordBatch]:
        for name, rows in items:
            yield pa.record_batch({"text": [name] * rows, "row": list(range(rows))})

    flow = planes[road].inputs([("ü", 2), ("b", 0), ("c", 1)], expand, schema)
    found = [(row["row"], row["text"]) for row in rows_of(flow.collect())]
    assert found == [(0, "c"), (0, "ü"), (1, "ü")]
    assert planes[road].inputs([], expand, schema).collect().num_rows == 0


@pytest.mark.parametrize("road", ROADS)
def test_flows_meet_and_their_weights_are_approved(planes, road):
    plane = planes[road]
    schema = NOTES.schema()

    def numbered(first: int):
        def expand(items: Iterator[int]) -> Iterator[pa.RecordBatch]:
            for item in items:
                yield pa.record_batch({"row": pa.array([first + item]), "text": pa.array([None], pa.string())}, schema)

        return plane.inputs([1, 2], expand, schema)

    def named(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            yield batch.set_column(1, "text", pa.array(["late"] * batch.num_rows))

    old = put(plane, NOTES, [{"row": 7, "text": "kept"}])
    flow = plane.read("notes", version=old.version).union(numbered(10).map(named, schema)).union(numbered(20))
    seen: list[dict[str, int]] = []
    weighed = Output(NOTES, schema, commit_of("2"), only="text", keep="filled", weight="row")

    def approve(counts):
        seen.append(dict(counts))
        return list(counts)

    (done,) = flow.by_key(["row"], rows_hint=5).write([weighed], approve=approve)
    assert (done.rows, seen) == (3, [{"notes": 7 + 11 + 12}])
    found = planes[OTHER[road]].read("notes", version=done.version).collect()
    assert [(row["row"], row["text"]) for row in rows_of(found)] == [(7, "kept"), (11, "late"), (12, "late")]


@pytest.mark.parametrize("road", ROADS)
def test_a_frame_of_sparks_goes_the_same_way_and_is_read_once(planes, spark, road):
    from pyspark.sql import functions as F

    plane = planes[road]
    frame = spark.range(0, 100, 1, 3).select("id", F.rand().alias("any"), F.lit(START).alias("time"))
    flow = plane.frame(frame)
    assert flow.schema.field("time").type == TIME
    one, other = rows_of(flow.collect()), rows_of(flow.by_key(["id"], rows_hint=100).collect())
    assert len(one) == 100
    assert sorted((row["id"], row["any"]) for row in one) == sorted((row["id"], row["any"]) for row in other)
    assert {row["time"] for row in one} == {START}
    assert plane.frame(frame.where("id < 0")).collect().num_rows == 0


@pytest.mark.parametrize("road", ROADS)
@pytest.mark.parametrize("ranks", [1, 2])
def test_training_gives_each_rank_its_share_of_every_flow(planes, road, ranks):
    plane = planes[road]
    version = put(planes["arrow"], DEEDS, PLAIN).version

    def task(context: Any, shares: list[Any]) -> dict[str, Any]:
        rows = [[r for batch in share() for r in batch.column("row").to_pylist()] for share in shares]
        again = [[r for batch in share() for r in batch.column("row").to_pylist()] for share in shares]
        total = sum(int(text) for text in context.gather(str(sum(rows[0]))))
        return {"rank": context.rank, "ranks": context.ranks, "rows": rows, "again": again == rows, "total": total}

    def odd(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            yield batch.filter(pc.equal(pc.bit_wise_and(batch["row"], 1), 1))

    first = plane.read("deeds", version=version, columns=["row"])
    second = plane.read("deeds", version=version, columns=["row", "x"], where=[Condition("x", "not_null")])
    flows = [first, second.map(odd, second.schema)]
    results = plane.train(flows, task, ranks)
    assert [(r["rank"], r["ranks"], r["again"], r["total"]) for r in results] == [
        (rank, ranks, True, sum(range(28))) for rank in range(ranks)
    ]
    shares = [[row for r in results for row in r["rows"][flow]] for flow in range(2)]
    assert sorted(shares[0]) == list(range(28))
    assert sorted(shares[1]) == [row["row"] for row in PLAIN if row["row"] % 2 and row["x"] is not None]
    assert all(len(r["rows"][0]) >= 28 // ranks - 4 for r in results)
    assert plane.train(flows, task, ranks) == results  # the same rows for the same rank, in the same order
    exchanged = first.by_key(["row"], rows_hint=28)
    assert sorted(itertools.chain.from_iterable(r["rows"][0] for r in plane.train([exchanged], task, ranks))) == list(
        range(28)
    )


@pytest.mark.parametrize("road", ROADS)
def test_ranks_without_rows_take_part(planes, road):
    plane = planes[road]
    version = put(planes["arrow"], NOTES, [{"row": 41}]).version

    def task(context: Any, shares: list[Any]) -> list[int]:
        own = sum(batch.column("row").to_pylist()[0] for batch in shares[0]())
        return [int(text) for text in context.gather(str(own))]

    results = plane.train([plane.read("notes", version=version)], task, 2)
    assert results[0] == results[1]
    assert sorted(results[0]) == [0, 41]


def test_exchange_files_are_gone_after_a_run_and_after_a_dead_process(planes):
    plane = planes["arrow"]
    version = put(plane, DEEDS, PLAIN).version
    assert plane.read("deeds", version=version).by_key(["row"], rows_hint=28).collect().num_rows == 28
    scratch = Path(plane.root) / "_scratch"
    mine = next(scratch.iterdir())
    dead = mine.with_name(f"{mine.name.rpartition('-')[0]}-4194305")  # above Linux' highest process number
    alive = mine.with_name(f"{mine.name.rpartition('-')[0]}-1")
    elsewhere = mine.with_name("another.host-4194305")
    for folder in (dead, alive, elsewhere):
        (folder / "001").mkdir(parents=True)
    plane.clean()
    assert sorted(scratch.iterdir()) == sorted([alive, elsewhere])
    plane.clean()


@pytest.mark.parametrize("road", ROADS)
def test_columns_with_a_dot_go_through_kernels_and_ranks(planes, road):
    """As features have them: `price__own__season_365.25d`."""
    schema = pa.schema([("row", pa.int64()), ("season_365.25d", pa.float32())])
    rows = pa.Table.from_pylist([{"row": i, "season_365.25d": i / 4} for i in range(6)], schema=schema)
    flow = planes[road].rows_of(NOTES, schema, rows)

    def doubled(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            yield batch.set_column(
                1, "season_365.25d", pc.multiply(batch["season_365.25d"], pa.scalar(2, pa.float32()))
            )

    def total(context: Any, shares: list[Any]) -> float:
        return sum(pc.sum(batch["season_365.25d"]).as_py() for share in shares for batch in share() if batch.num_rows)

    found = flow.map(doubled, schema).collect().sort_by("row")
    assert found["season_365.25d"].to_pylist() == [i / 2 for i in range(6)]
    assert sum(planes[road].train([flow, flow.map(doubled, schema)], total, 1)) == pytest.approx(3 * 15 / 4)


def test_a_large_table_of_the_driver_goes_to_tasks_through_files(planes):
    plane, rows = planes["arrow"], 120_000
    texts = [f"{row:040d}" for row in range(rows)]
    table = pa.table({"row": range(rows), "text": texts}, schema=NOTES.schema())
    flow = plane.rows_of(NOTES, NOTES.schema(), table)
    assert len(pickle.dumps(flow.shares())) < table.nbytes / 1_000
    assert flow.collect().sort_by("row").equals(table)


@pytest.mark.parametrize("ranks", [1, 2, 7])
@pytest.mark.parametrize("way", [by_rank, by_hash_of_rank])
def test_each_rank_has_a_partition_of_its_number(spark, way, ranks):
    """By number where Spark can (4.1), by a hash that leads there where it cannot (4.0)."""
    frame = spark.range(60).selectExpr(f"CAST(id % {ranks} AS INT) AS rank", "id")
    found = way(frame, ranks).selectExpr("rank", "spark_partition_id() AS place", "id").toPandas()
    assert (found["rank"] == found["place"]).all()
    assert sorted(found["id"]) == list(range(60))
