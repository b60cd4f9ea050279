"""Consumes writers of one table along both roads at the same time, checks that only one of equal readers writes."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from lake_tables import DEEDS, OTHER, PLAIN, ROADS, commit_of, put

from assay.errors import Overtaken
from assay.runtime import spark_commit
from assay.runtime.plane import NEVER, Output
from assay.runtime.spark_plane import SparkPlane

pytestmark = pytest.mark.spark


def write(plane, x, expects, place="p", identity="same"):
    """Replace a place's rows by one with this number."""
    rows = [PLAIN[5] | {"place": place, "x": float(x)}]
    slot = {"slot": place}
    return put(plane, DEEDS, rows, identity, owns={"place": place}, expects=expects, commit=slot).version


def numbers(plane):
    rows = plane.read("deeds", version=plane.version("deeds")).collect().to_pylist()
    return sorted((row["place"], row["x"]) for row in rows)


@pytest.mark.parametrize(("first", "second"), [("arrow", "spark"), ("spark", "arrow")])
def test_a_write_is_overtaken_by_one_of_either_road_and_by_none_of_another_slot(planes, first, second):
    one, other = planes[first], planes[second]
    version = write(one, 1, NEVER)
    with pytest.raises(Overtaken, match="table deeds: tests wrote p in version"):
        write(other, 2, NEVER)
    write(other, 7, version, place="q")
    after = write(other, 3, version)
    with pytest.raises(Overtaken):
        write(one, 4, version)
    last = write(one, 5, after)
    assert last == after + 1
    assert numbers(other) == [("p", 5.0), ("q", 7.0)]


@pytest.mark.parametrize("there", [True, False])
def test_of_sparks_writers_that_read_the_same_version_exactly_one_writes(planes, there):
    plane = planes["spark"]
    version = write(plane, 0, NEVER) if there else NEVER
    barrier = threading.Barrier(3)

    def run(x):
        barrier.wait()
        try:
            write(plane, x, version)
        except Overtaken:
            return None
        return ("p", float(x))

    with ThreadPoolExecutor(3) as pool:
        done = [found for found in pool.map(run, (1, 2, 3)) if found is not None]
    assert len(done) == 1
    assert numbers(plane) == done


@pytest.mark.parametrize("road", ROADS)
@pytest.mark.parametrize("there", [True, False])
def test_delta_itself_refuses_sparks_write_after_another_that_came_between_look_and_write(
    planes, monkeypatch, road, there
):
    """The moment that no look at the log covers: another writer commits before Spark's transaction begins."""
    plane, save, meanwhile = planes["spark"], spark_commit._save, []
    first = write(plane, 0, NEVER) if there else write(plane, 0, NEVER, place="q")

    def late(on, frame, output, options):
        if not meanwhile:
            meanwhile.append(True)
            write(planes[road], 1, first)
        return save(on, frame, output, options)

    monkeypatch.setattr(spark_commit, "_save", late)
    with pytest.raises(Overtaken, match="table deeds: "):
        write(plane, 2, first)
    assert ("p", 1.0) in numbers(plane)
    assert len(numbers(plane)) == (1 if there else 2)
    write(plane, 3, plane.version("deeds"))
    assert ("p", 3.0) in numbers(planes[OTHER[road]])


def test_a_slot_whose_commit_is_older_than_the_log_can_be_written(planes, monkeypatch):
    plane = planes["spark"]
    first = write(plane, 0, NEVER)
    later = write(plane, 1, first, place="q")
    monkeypatch.setattr(type(plane), "last_commit", lambda *_, **__: None)
    history = plane.session.sql(f"DESCRIBE HISTORY {plane.identifier('deeds')}").where(f"version > {first}")
    sql = plane.session.sql
    monkeypatch.setattr(
        type(plane.session), "sql", lambda self, text: history if text.startswith("DESCRIBE") else sql(text)
    )
    output = Output(DEEDS, DEEDS.schema(), commit_of("i", "p"), owns={"place": "p"}, expects=later)
    assert spark_commit._transaction_number(plane, output) == later > first


def test_tables_of_a_catalog_are_guarded_the_same(spark, tmp_path, monkeypatch):
    spark.sql(f"CREATE SCHEMA guarded LOCATION '{tmp_path.as_uri()}/guarded'")
    try:
        plane, save, meanwhile = SparkPlane(lambda: spark, "", catalog="guarded"), spark_commit._save, []
        first = write(plane, 0, NEVER)
        with pytest.raises(Overtaken):
            write(plane, 1, NEVER)

        def late(on, frame, output, options):
            if not meanwhile:
                meanwhile.append(True)
                write(plane, 2, first)
            return save(on, frame, output, options)

        monkeypatch.setattr(spark_commit, "_save", late)
        with pytest.raises(Overtaken):
            write(plane, 3, first)
        assert numbers(plane) == [("p", 2.0)]
    finally:
        spark.sql("DROP SCHEMA guarded CASCADE")
