"""Consumes the same tables along both roads, checks that rows, commits and refusals are the same, in one lake."""

from __future__ import annotations

import dataclasses
import datetime as dt
import itertools
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pytest

from assay.errors import AssayError, DataError
from assay.runtime.arrow_plane import ArrowPlane
from assay.runtime.conditions import Condition
from assay.runtime.plane import Aside, Commit, Output, Plane
from assay.runtime.spark_plane import SparkPlane
from assay.runtime.tables import TIME, Table

pytestmark = pytest.mark.spark

ROADS = ["arrow", "spark"]
OTHER = {"arrow": "spark", "spark": "arrow"}
START = dt.datetime(2020, 1, 31, 23, 59, 59, 999_999, tzinfo=dt.UTC)
DEEDS = Table(
    name="deeds",
    stage="tests",
    grain="one deed",
    key=("row", "place"),
    partition_by=("place", "month"),
    columns={
        "row": (pa.int64(), "number"),
        "time": (TIME, "UTC"),
        "text": (pa.string(), "any"),
        "x": (pa.float64(), "any"),
        "place": (pa.string(), "partition"),
        "month": (pa.string(), "YYYY-MM of time"),
    },
)
NOTES = Table("notes", "tests", "one note", ("row",), (), {"row": (pa.int64(), "number"), "text": (pa.string(), "any")})
PLACES = ["a b/c", "100% é", "x=y&z", 'it\'s \\ "so"', None, "plain", ".."]
ROWS = [
    {
        "row": i,
        "time": START + dt.timedelta(microseconds=i % 3, days=9 * i),
        "text": ["ü", None, "", "a'b"][i % 4],
        "x": [1.5, None, math.nan, -2.0, math.inf][i % 5],
        "place": PLACES[i % len(PLACES)],
    }
    for i in range(28)
]
for each in ROWS:
    each["month"] = each["time"].strftime("%Y-%m")
# What both roads may rewrite: Spark keeps letters such as é in file names, and then only Spark can remove the files.
PLAIN = [row | {"place": row["place"] and row["place"].replace("é", "e")} for row in ROWS]


@pytest.fixture(scope="module")
def lake(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("lake ü 100%")


def planes_on(spark, root: Path, rows_per_task: int = 5) -> dict[str, Any]:
    return {
        "arrow": ArrowPlane(lambda: spark.sparkContext, root, rows_per_task=rows_per_task),
        "spark": SparkPlane(lambda: spark, root.as_uri(), rows_per_task=rows_per_task),
    }


@pytest.fixture(scope="module")
def deeds(spark, lake) -> dict[str, tuple[str, int]]:
    """The deeds, written along each road: road -> (table, version)."""
    written = {}
    for road, plane in planes_on(spark, lake).items():
        table = dataclasses.replace(DEEDS, name=f"deeds_{road}")
        flow = plane.rows_of(table, DEEDS.schema(), pa.Table.from_pylist(ROWS, schema=DEEDS.schema()))
        (done,) = flow.write([Output(table, DEEDS.schema(), commit_of("first"))])
        assert done.rows == len(ROWS)
        written[road] = (table.name, done.version)
    return written


@pytest.fixture
def planes(spark, tmp_path) -> Iterator[dict[str, Any]]:
    """Both roads on an empty lake."""
    found = planes_on(spark, tmp_path / "lake é 1")
    yield found
    found["arrow"].clean()


def commit_of(identity: str, slot: str = "all", **details: Any) -> Commit:
    return Commit(-1, "tests", slot, identity, details)


def rows_of(table: pa.Table) -> list[dict[str, Any]]:
    rows = table.to_pylist()
    for row in rows:
        if row.get("time") is not None:
            row["time"] = row["time"].astimezone(dt.UTC)
    return sorted(rows, key=lambda row: (row.get("row", 0), str(row)))


def same(found: list[dict[str, Any]], expected: list[dict[str, Any]]) -> bool:
    """Equal rows, NaN being itself."""
    return str(found) == str(expected)


def put(plane: Plane, table: Table, rows, identity: str = "1", *, schema: pa.Schema | None = None, **output: Any):
    schema = schema or table.schema()
    flow = plane.rows_of(table, schema, pa.Table.from_pylist(rows, schema=schema))
    (done,) = flow.write([Output(table, schema, commit_of(identity, **output.pop("commit", {})), **output)])
    return done


CONDITIONS = [
    [],
    [Condition("time", "<", START + dt.timedelta(days=54))],
    [Condition("time", ">=", START + dt.timedelta(microseconds=1)), Condition("x", "not_null")],
    [Condition("time", "==", START + dt.timedelta(microseconds=1, days=9))],
    [Condition("text", "==", "a'b")],
    [Condition("text", "is_null")],
    [Condition("x", ">=", -2.0)],
    [Condition("x", "<", 2)],
    [Condition("x", "==", math.nan)],
    [Condition("place", "==", "a b/c"), Condition("month", "==", "2020-04")],
    [Condition("place", "==", "100% é")],
    [Condition("place", "is_null")],
    [Condition("place", "==", "nowhere")],
    [Condition("place", "in", ("a b/c", "plain", "nowhere")), Condition("text", "in", ("", "ü"))],
    [Condition("place", "in", ())],
]


def expected(conditions: list[Condition]) -> list[dict[str, Any]]:
    def holds(row: dict[str, Any], condition: Condition) -> bool:
        value = row[condition.column]
        if condition.op in {"is_null", "not_null"}:
            return (value is None) == (condition.op == "is_null")
        compare = {
            "==": lambda a, b: a == b,
            ">=": lambda a, b: a >= b,
            "<": lambda a, b: a < b,
            "in": lambda a, b: a in b,
        }[condition.op]
        return value is not None and compare(value, condition.value)

    return [row for row in ROWS if all(holds(row, condition) for condition in conditions)]


@pytest.mark.parametrize("writer", ROADS)
@pytest.mark.parametrize("reader", ROADS)
def test_reading_gives_the_rows_written_whoever_wrote_them(spark, lake, deeds, reader, writer):
    plane, (table, version) = planes_on(spark, lake)[reader], deeds[writer]
    assert plane.version(table) == version
    assert plane.rows(table, version) == len(ROWS)
    assert plane.schema(table) == DEEDS.schema()
    for conditions in CONDITIONS if reader == writer else CONDITIONS[::4]:
        found = plane.read(table, version=version, where=conditions).collect()
        assert found.schema == DEEDS.schema()
        assert same(rows_of(found), expected(conditions)), conditions


@pytest.mark.parametrize("reader", ROADS)
def test_columns_are_those_asked_for_in_that_order(spark, lake, deeds, reader):
    plane, (table, version) = planes_on(spark, lake)[reader], deeds[OTHER[reader]]
    where = [Condition("x", "not_null"), Condition("place", "is_null")]
    found = plane.read(table, version=version, columns=["month", "row"], where=where).collect()
    assert found.schema.names == ["month", "row"]
    assert rows_of(found) == [{"month": r["month"], "row": r["row"]} for r in expected(where)]
    only_partitions = plane.read(table, version=version, columns=["place"]).collect()
    assert only_partitions.num_rows == len(ROWS)
    with pytest.raises(KeyError):
        plane.read(table, version=version, columns=["nothing"])


@pytest.mark.parametrize("writer", ROADS)
def test_spark_itself_reads_what_a_road_wrote(spark, lake, deeds, writer):
    frame = spark.read.format("delta").load(str(lake / deeds[writer][0]))
    assert same(rows_of(frame.toArrow().cast(DEEDS.schema())), ROWS)
    for place in PLACES[:4]:
        assert frame.where(frame.place == place).count() == 4


@pytest.mark.parametrize("road", ROADS)
def test_versions_are_read_as_they_were(planes, road):
    mine, other = planes[road], planes[OTHER[road]]
    assert mine.version("notes") is None
    assert mine.last_commit("notes", "all") is None
    first = put(mine, NOTES, [{"row": 1, "text": "a"}], "first")
    wide = NOTES.schema([pa.field("more", pa.float32())])
    second = put(other, NOTES, [{"row": 2, "text": "b", "more": 0.5}, {"row": 3}], "second", schema=wide)
    assert second.version > first.version
    assert (first.rows, second.rows) == (1, 2)
    for plane in planes.values():
        assert rows_of(plane.read("notes", version=first.version).collect()) == [{"row": 1, "text": "a"}]
        assert plane.read("notes", version=second.version).collect().schema == wide
        assert (plane.rows("notes", first.version), plane.rows("notes", second.version)) == (1, 2)
        assert plane.schema("notes") == wide
        assert plane.version("notes") == second.version


@pytest.mark.parametrize("road", ROADS)
def test_the_newest_commit_of_a_slot_is_seen_from_both_roads(planes, spark, road):
    details = {"plan": {"a": [1, "é'\""]}}
    put(planes[road], DEEDS, PLAIN[:7], "one", commit={"slot": "x", **details})
    mine = [row | {"place": "plain"} for row in PLAIN[:2]]
    put(planes[OTHER[road]], DEEDS, mine, "two", owns={"place": "plain"}, commit={"slot": "plain"})
    spark.sql(f"ALTER TABLE delta.`{planes['spark'].location('deeds')}` SET TBLPROPERTIES ('by' = 'others')")
    for plane in planes.values():
        found = plane.last_commit("deeds", "x")
        assert (found.identity, found.job, found.details) == ("one", "tests", details)
        assert plane.last_commit("deeds", "plain").identity == "two"
        assert plane.last_commit("deeds", "x").version < plane.last_commit("deeds", "plain").version
        assert plane.last_commit("deeds", "nobody") is None


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
def test_a_write_replaces_all_or_exactly_what_it_owns(planes, road):
    mine, other = planes[road], planes[OTHER[road]]
    put(mine, DEEDS, PLAIN)
    one = [row | {"x": 7.0} for row in PLAIN[:3]]
    for plane, place in ((mine, "a b/c"), (other, 'it\'s \\ "so"'), (mine, "new u")):
        done = put(plane, DEEDS, [row | {"place": place} for row in one], owns={"place": place})
        assert done.rows == 3
        for reader in planes.values():
            found = rows_of(
                reader.read("deeds", version=done.version, where=[Condition("place", "==", place)]).collect()
            )
            assert [row["x"] for row in found] == [7.0] * 3
    assert mine.rows("deeds", done.version) == 20 + 9
    emptied = put(other, DEEDS, [], owns={"place": "new u"})
    assert (emptied.rows, mine.rows("deeds", emptied.version)) == (0, 26)
    whole = put(mine, DEEDS, PLAIN[:4])
    assert other.rows("deeds", whole.version) == 4
    both = put(other, DEEDS, [PLAIN[5] | {"place": "p"}], owns={"place": "p", "month": PLAIN[5]["month"]})
    assert mine.rows("deeds", both.version) == 5
    places = (PLAIN[0]["place"], "p", "q")
    several = put(mine, DEEDS, [PLAIN[6] | {"place": "q"}], owns={"place": places})
    found = rows_of(other.read("deeds", version=several.version).collect())
    assert [row["place"] for row in found] == [*(row["place"] for row in PLAIN[1:4]), "q"]
    nothing = put(mine, DEEDS, [], "said", owns={"place": ()})
    assert (nothing.rows, mine.rows("deeds", nothing.version)) == (0, 4)
    assert other.last_commit("deeds", "all").identity == "said"
    assert other.last_commit("deeds", "all", identity="1").version == several.version
    assert other.last_commit("deeds", "all", identity="never") is None


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
def test_rows_outside_of_what_a_write_owns_stop_it(planes, road):
    done = put(planes[road], DEEDS, PLAIN)
    with pytest.raises(Exception, match="place") as caught:
        put(planes[road], DEEDS, [PLAIN[0] | {"place": "elsewhere"}], owns={"place": "plain"})
    assert road == "spark" or isinstance(caught.value, AssayError)
    assert planes[road].version("deeds") == done.version


@pytest.mark.parametrize("road", ROADS)
def test_a_part_of_a_table_with_other_columns_is_refused_before_any_work(planes, road):
    done = put(planes[OTHER[road]], DEEDS, PLAIN)
    wide = DEEDS.schema([pa.field("more", pa.float32())])

    def never(_: Iterator[Any]) -> Iterator[pa.RecordBatch]:
        raise RuntimeError("a kernel ran")

    flow = planes[road].inputs([1], never, wide)
    with pytest.raises(DataError, match="table deeds has other columns than this run writes"):
        flow.write([Output(DEEDS, wide, commit_of("2"), owns={"place": "plain"})])
    assert planes[road].version("deeds") == done.version


@pytest.mark.parametrize("road", ROADS)
def test_one_run_fills_several_tables_and_may_be_refused(planes, road):
    plane = planes[road]
    rows = [row | {"place": "p"} for row in PLAIN]
    good = Output(DEEDS, DEEDS.schema(), commit_of("1"), only="text", keep="filled")
    bad = Output(NOTES, NOTES.schema(), commit_of("1"), only="text")
    seen: list[dict[str, int]] = []

    def flow():
        return plane.rows_of(DEEDS, DEEDS.schema(), pa.Table.from_pylist(rows, schema=DEEDS.schema()))

    def refuse(counts):
        seen.append(dict(counts))
        return ["notes"]

    (written,) = flow().write([good, bad], approve=refuse)
    assert (written.table, written.rows) == ("notes", 7)
    assert plane.version("deeds") is None
    assert flow().write([good, bad], approve=lambda _: []) == []
    both = flow().write([good, bad], approve=list)
    assert [(done.table, done.rows) for done in both] == [("deeds", 21), ("notes", 7)]
    assert seen == [{"deeds": 21, "notes": 7}]
    found = planes[OTHER[road]].read("notes", version=both[1].version).collect()
    assert rows_of(found) == [{"row": row["row"], "text": None} for row in rows if row["text"] is None]


@pytest.mark.parametrize("road", ROADS)
def test_rows_set_aside_reach_the_driver_before_approval_and_no_table(planes, road):
    plane = planes[road]
    schema = pa.schema([*NOTES.schema(), pa.field("told", pa.binary())])
    rows = [{"row": i, "text": None if i % 2 else "t", "told": bytes([i]) if i % 3 == 0 else None} for i in range(20)]
    wanted = pa.schema([schema.field("told"), schema.field("row")])
    taken: list[dict[str, Any]] = []

    def approve(counts):
        assert len(taken) == 7
        return list(counts)

    flow = plane.rows_of(NOTES, schema, pa.Table.from_pylist(rows, schema=schema)).by_key(["row"], rows_hint=20)
    (written,) = flow.write(
        [Output(NOTES, NOTES.schema(), commit_of("1"), only="text")],
        approve=approve,
        aside=Aside(wanted, "told", lambda table: taken.extend(table.to_pylist())),
    )
    assert sorted(taken, key=lambda row: row["row"]) == [{"told": bytes([i]), "row": i} for i in range(0, 20, 3)]
    found = plane.read("notes", version=written.version).collect().column("row").to_pylist()
    assert sorted(found) == [i for i in range(1, 20, 2) if i % 3]
    none = plane.rows_of(NOTES, schema, pa.Table.from_pylist(rows[1:3], schema=schema))
    none.write([Output(NOTES, NOTES.schema(), commit_of("2"))], aside=Aside(wanted, "told", taken.append))
    assert taken[-1].num_rows == 0
    assert taken[-1].schema.names == ["told", "row"]


@pytest.mark.parametrize("road", ROADS)
def test_no_rows_make_an_empty_table_and_no_trouble(planes, road):
    mine, other = planes[road], planes[OTHER[road]]
    done = put(mine, DEEDS, [])
    assert done.rows == 0
    assert other.last_commit("deeds", "all").identity == "1"

    def count(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        yield from batches

    for plane in planes.values():
        flow = plane.read("deeds", version=done.version)
        assert plane.rows("deeds", done.version) == 0
        for empty in (flow, flow.by_key(["row"], rows_hint=0), flow.by_key([], rows_hint=0).map(count, flow.schema)):
            assert empty.collect().equals(DEEDS.schema().empty_table())
        notes = plane.rows_of(NOTES, NOTES.schema(), pa.Table.from_pylist([{"row": 1}], schema=NOTES.schema()))
        narrow = plane.read("deeds", version=done.version, columns=["row", "x"])
        assert notes.join(narrow, ["row"], rows_hint=1).collect().num_rows == 0
    assert put(other, DEEDS, PLAIN).rows == 28
    assert put(mine, DEEDS, []).rows == 0


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


@pytest.mark.parametrize("feature", ["deletion vectors", "column mapping", "column mapping, old protocol"])
def test_tables_that_only_spark_understands_are_refused_by_the_arrow_road(planes, spark, feature):
    options = {
        "deletion vectors": {"delta.enableDeletionVectors": "true"},
        "column mapping": {"delta.columnMapping.mode": "name"},
        "column mapping, old protocol": {
            "delta.columnMapping.mode": "name",
            "delta.minReaderVersion": "2",
            "delta.minWriterVersion": "5",
        },
    }[feature]
    location = planes["spark"].location("notes")
    frame = spark.createDataFrame([(1, "a"), (2, "b"), (3, "c")], "row long, text string").coalesce(1)
    frame.write.format("delta").options(**options).save(location)
    spark.sql(f"DELETE FROM delta.`{location}` WHERE row = 2")
    named = {"deletion vectors": "deletionVectors"}.get(feature, "columnMapping")
    with pytest.raises(DataError, match=rf"table notes uses {named}.*set runtime.road=spark"):
        planes["arrow"].version("notes")
    plane = planes["spark"]
    found = plane.read("notes", version=plane.version("notes")).collect()
    assert rows_of(found) == [{"row": 1, "text": "a"}, {"row": 3, "text": "c"}]


@pytest.mark.parametrize("road", ROADS)
def test_files_of_a_task_that_died_are_never_seen(planes, spark, road):
    plane = planes[road]
    done = put(plane, DEEDS, PLAIN[:3])

    def dies(items: Iterator[int]) -> Iterator[pa.RecordBatch]:
        for item in items:
            yield pa.RecordBatch.from_pylist(PLAIN[item : item + 5], schema=DEEDS.schema())
            if item == 10:
                raise RuntimeError("killed in the middle")

    flow = plane.inputs([0, 5, 10], dies, DEEDS.schema())
    with pytest.raises(Exception, match="killed in the middle"):
        flow.write([Output(DEEDS, DEEDS.schema(), commit_of("2"))])
    # Also files that are complete, as of a driver that died between the tasks and the commit.
    folder = Path(planes["arrow"].location("deeds"))
    data = next(path for path in folder.rglob("*.parquet") if "_delta_log" not in path.parts)
    (data.parent / "part-orphan.parquet").write_bytes(data.read_bytes())
    assert plane.version("deeds") == done.version
    for reader in planes.values():
        found = reader.read("deeds", version=reader.version("deeds")).collect()
        assert same(rows_of(found), PLAIN[:3])
    assert spark.read.format("delta").load(planes["spark"].location("deeds")).count() == 3
    again = plane.inputs([0, 5], dies, DEEDS.schema()).write([Output(DEEDS, DEEDS.schema(), commit_of("2"))])
    assert (again[0].rows, plane.rows("deeds", again[0].version)) == (10, 10)


def test_an_interrupted_creation_leaves_no_table(planes):
    folder = Path(planes["arrow"].location("notes"))
    (folder / "_delta_log").mkdir(parents=True)
    (folder / "part-0.parquet").write_bytes(b"half")
    assert planes["arrow"].version("notes") is None
    assert planes["arrow"].last_commit("notes", "all") is None
    assert put(planes["arrow"], NOTES, [{"row": 1}]).rows == 1


@pytest.mark.parametrize("writer", ROADS)
def test_data_skipping_loses_no_row(planes, spark, writer):
    """Files hold single microseconds: a bound cut to the millisecond would make Spark skip some of them."""
    first = dt.datetime(1969, 12, 31, 23, 59, 59, 998_999, tzinfo=dt.UTC)
    times = [first + dt.timedelta(microseconds=m) for m in (0, 1, 999, 1000, 1001, 1002, 2001)]
    rows = [{"row": i, "time": t, "place": str(i), "month": t.strftime("%Y-%m")} for i, t in enumerate(times)]
    version = put(planes[writer], DEEDS, rows).version
    location = planes["spark"].location("deeds")
    stats = spark.read.json(f"{location}/_delta_log/*.json").select("add.stats")
    assert stats.where("stats like '%minValues%time%'").count() == len(rows)
    frame = spark.read.format("delta").load(location)
    for moment in times:
        for compare in ("__eq__", "__ge__", "__lt__"):
            wanted = [i for i, t in enumerate(times) if getattr(t, compare)(moment)]
            found = frame.where(getattr(frame.time, compare)(moment)).select("row").collect()
            assert sorted(row.row for row in found) == wanted, (compare, moment)
    where = [Condition("time", "<", times[4])]
    for plane in planes.values():
        assert plane.read("deeds", version=version, where=where).collect().num_rows == 4
    properties = {row.key: row.value for row in spark.sql(f"SHOW TBLPROPERTIES delta.`{location}`").collect()}
    assert properties["delta.dataSkippingStatsColumns"] == "row,time"  # partition columns have none


@pytest.mark.parametrize("road", ROADS)
def test_a_whole_replace_may_change_columns(planes, road):
    put(planes[OTHER[road]], DEEDS, PLAIN)
    changed = pa.schema([DEEDS.schema().field(name) for name in ("time", "row", "place", "month")])
    changed = changed.append(pa.field("x", pa.float32()))
    rows = [{"row": 1, "time": START, "place": "p", "month": "2020-01", "x": 0.5}]
    done = put(planes[road], DEEDS, rows, schema=changed)
    for plane in planes.values():
        assert plane.schema("deeds") == changed
        assert rows_of(plane.read("deeds", version=done.version).collect()) == [
            {"time": START, "row": 1, "place": "p", "month": "2020-01", "x": 0.5}
        ]


def test_files_that_only_spark_can_remove_are_refused_by_the_arrow_road(planes):
    first = put(planes["spark"], DEEDS, ROWS)
    for owns in ({}, {"place": "100% é"}):
        with pytest.raises(DataError, match=r"table deeds has the file place=100.*é.*set runtime.road=spark"):
            put(planes["arrow"], DEEDS, [row for row in ROWS if row["place"] == "100% é"], owns=owns)
    assert planes["spark"].version("deeds") == first.version
    some = put(planes["arrow"], DEEDS, ROWS[5:6], owns={"place": "plain"})
    assert planes["spark"].rows("deeds", some.version) == 25
    again = put(planes["spark"], DEEDS, ROWS[:4])
    assert planes["arrow"].rows("deeds", again.version) == 4


def test_other_partitions_are_for_spark_to_make(planes):
    done = put(planes["arrow"], DEEDS, PLAIN)
    changed = dataclasses.replace(DEEDS, partition_by=("month",))
    with pytest.raises(DataError, match=r"table deeds is partitioned by \['place', 'month'\].*runtime.road=spark"):
        put(planes["arrow"], changed, PLAIN)
    assert planes["arrow"].version("deeds") == done.version
    again = put(planes["spark"], changed, PLAIN)
    assert same(rows_of(planes["arrow"].read("deeds", version=again.version).collect().select(list(PLAIN[0]))), PLAIN)
    assert put(planes["arrow"], changed, PLAIN[:3]).rows == 3


def test_tables_of_a_catalog_are_reached_by_name(spark, tmp_path):
    spark.sql(f"CREATE SCHEMA lake_1 LOCATION '{tmp_path.as_uri()}'")
    try:
        plane = SparkPlane(lambda: spark, "", catalog="spark_catalog.lake_1")
        assert plane.version("deeds") is None
        assert plane.last_commit("deeds", "all") is None
        first = put(plane, DEEDS, ROWS, "first")
        second = put(plane, DEEDS, ROWS[5:6], "second", owns={"place": "plain"}, commit={"slot": "plain"})
        assert plane.location("deeds") == "spark_catalog.lake_1.deeds"
        assert spark.table("lake_1.deeds").count() == 25
        assert (plane.rows("deeds", first.version), plane.rows("deeds", second.version)) == (28, 25)
        assert same(rows_of(plane.read("deeds", version=first.version).collect()), ROWS)
        assert plane.last_commit("deeds", "all").identity == "first"
        assert plane.schema("deeds") == DEEDS.schema()
    finally:
        spark.sql("DROP SCHEMA lake_1 CASCADE")


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
