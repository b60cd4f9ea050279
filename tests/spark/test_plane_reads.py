"""Consumes tables that each road wrote, checks that both roads read the same rows, versions and commits."""

from __future__ import annotations

import dataclasses
import datetime as dt
import math
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from lake_tables import DEEDS, NOTES, OTHER, PLACES, PLAIN, ROADS, ROWS, START, commit_of, planes_on, put, rows_of, same

from assay.errors import DataError
from assay.runtime.conditions import Condition
from assay.runtime.plane import Output
from assay.runtime.spark_plane import SparkPlane

pytestmark = pytest.mark.spark


@pytest.fixture(scope="module")
def lake(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("lake ü 100%")


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
        assert plane.last_commit("deeds", "x", details=details).version == found.version
        assert plane.last_commit("deeds", "x", details={"plan": 1}) is None


@pytest.mark.parametrize("writer", ROADS)
def test_data_skipping_loses_no_row(planes, spark, writer):
    """Files hold single microseconds: a bound cut to the millisecond would make Spark skip some of them."""
    first = dt.datetime(1969, 12, 31, 23, 59, 59, 998_999, tzinfo=dt.timezone.utc)
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
