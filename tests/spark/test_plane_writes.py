"""Consumes writes along each road, checks what they replace, what they refuse and what a dead one leaves behind."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from lake_tables import DEEDS, NOTES, OTHER, PLAIN, ROADS, ROWS, START, commit_of, put, rows_of, same

from assay.errors import AssayError, DataError
from assay.runtime.conditions import Condition
from assay.runtime.plane import Aside, Output

pytestmark = pytest.mark.spark


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


@pytest.mark.parametrize("road", ROADS)
def test_columns_keep_their_meanings_as_comments_whoever_writes(spark, planes, road):
    mine, other = planes[road], planes[OTHER[road]]
    put(mine, DEEDS, PLAIN)
    told = {name: meaning for name, (_, meaning) in DEEDS.columns.items()}
    assert comments(spark, mine) == told
    put(other, DEEDS, PLAIN[:1], owns={"place": PLAIN[0]["place"], "month": PLAIN[0]["month"]})
    assert comments(spark, mine) == told
    put(other, DEEDS, PLAIN[:3])
    assert comments(spark, mine) == told


def comments(spark, plane):
    """Columns of `deeds` with their comments, as Spark tells them."""
    rows = spark.sql(f"DESCRIBE delta.`{plane.location('deeds')}`").collect()
    return {row["col_name"]: row["comment"] for row in rows if row["comment"] and not row["col_name"].startswith("#")}
