"""Consumes rows from databases, catalogs, Delta tables and growing folders, checks that both roads store the same."""

from __future__ import annotations

import datetime as dt
import json
import sqlite3
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import polars as pl
import pytest
from deltalake import DeltaTable

from assay.errors import AssayError, DataError
from assay.runtime import jars

pytestmark = pytest.mark.spark

ROADS = ["arrow", "spark"]
SQLITE = {
    ("org.xerial", "sqlite-jdbc", "3.50.3.0"): "a3f53a2aa15ae9425a9e793bbe9c8e5288febeb4b65ef5c1a4e80d4c2045cf08",
}
COLUMNS = ["sold_on", "flat", "price", "rooms", "district"]
ROWS: list[tuple[Any, ...]] = [
    ("2015-01-05", "a", 100.5, 3, "north"),
    ("2015-01-05", "b", 200.0, None, "süd"),
    ("2015-02-05", "a", 110.25, 3, None),
    ("2015-02-05", "a", 110.25, 4, None),  # a double: tables have no order, so either may stay
    ("2015-03-05", "b", -5.0, 2, "north"),
    ("2030-01-01", "b", 210.0, 2, "north"),
]
KEPT = [("a", 100.5, "north"), ("a", 110.25, None), ("b", 200.0, "süd")]
DATASET = {
    "name": "flats",
    "time": {"column": "sold_on"},
    "entity": ["flat"],
    "targets": [{"name": "price", "transform": "log"}],
    "columns": {"numeric": ["rooms"], "categorical": ["district"]},
}
TOLERANT = ["ingest.max_quarantine_share=0.9"]
TYPES = "sold_on VARCHAR(10), flat VARCHAR(9), price DOUBLE, rooms INT, district VARCHAR(9)"


def rows_of(result):
    """The figures that count rows and files."""
    return {name: value for name, value in result.metrics.items() if not name.startswith("quality_")}


@pytest.fixture
def ingest(run_job):
    """ingest(source, road, *overrides) runs the job on the dataset above."""

    def run(source, road, *overrides, **options):
        told = [*TOLERANT, f"runtime.road={road}", *overrides]
        return run_job("ingest", {**DATASET, "source": source}, overrides=told, **options)

    return run


def table(result, name) -> pl.DataFrame:
    found = pl.from_arrow(DeltaTable(result.tables[name].location.removeprefix("file:")).to_pyarrow_table())
    assert isinstance(found, pl.DataFrame)
    return found


def kept(result) -> list[tuple[Any, ...]]:
    return table(result, "observations").sort("flat", "time").select("flat", "price", "district").rows()


def with_dates(rows) -> str:
    return ", ".join(f"({', '.join('NULL' if v is None else repr(v) for v in row)})" for row in rows)


@pytest.fixture(scope="session")
def sqlite_jar() -> Path:
    """SQLite's JDBC driver, fetched once into this environment."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(jars, "PINNED", SQLITE)
        try:
            (found,) = jars.resolve(Path(sys.prefix) / "jars-of-tests")
        except AssayError as error:
            pytest.skip(f"SQLite's JDBC driver cannot be had: {error}")
    return Path(found)


@pytest.fixture
def sqlite(tmp_path, sqlite_jar):
    """A SQLite database; execute(sql) changes it."""
    path = tmp_path / "flats é.db"

    def execute(sql: str) -> None:
        with sqlite3.connect(path) as connection:
            connection.execute(sql)

    jdbc = {"url": f"jdbc:sqlite:{path}", "driver": "org.sqlite.JDBC", "jars": [str(sqlite_jar)]}
    return SimpleNamespace(execute=execute, jdbc=jdbc)


@pytest.fixture(scope="session")
def derby_home(spark, tmp_path_factory) -> Path:
    """A folder for Apache Derby, the database whose driver comes with Spark; it writes its log there too."""
    home = tmp_path_factory.mktemp("derby")
    spark._jvm.java.lang.System.setProperty("derby.stream.error.file", str(home / "derby.log"))
    return home


@pytest.fixture
def derby(spark, derby_home, tmp_path, monkeypatch):
    """A Derby database that lets nobody in without the password."""
    url = f"jdbc:derby:{derby_home / tmp_path.name}"
    manager = spark._jvm.java.sql.DriverManager

    def execute(sql: str, options: str = ";user=keeper;password=hunter2") -> None:
        connection = manager.getConnection(url + options)
        try:
            connection.createStatement().execute(sql)
        finally:
            connection.close()

    execute("CALL SYSCS_UTIL.SYSCS_SET_DATABASE_PROPERTY('derby.user.keeper', 'hunter2')", ";create=true;user=keeper")
    for name in ("derby.connection.requireAuthentication", "derby.database.propertiesOnly"):  # whatever Spark sets
        execute(f"CALL SYSCS_UTIL.SYSCS_SET_DATABASE_PROPERTY('{name}', 'true')")
    with pytest.raises(Exception, match="shutdown"):  # the setting holds from the next start on
        manager.getConnection(f"{url};shutdown=true;user=keeper;password=hunter2")
    monkeypatch.setenv("FLATS_USER", "keeper")
    monkeypatch.setenv("FLATS_PASSWORD", "hunter2")
    jdbc = {"url": url, "user_env": "FLATS_USER", "password_env": "FLATS_PASSWORD"}
    yield SimpleNamespace(execute=execute, jdbc=jdbc)
    with pytest.raises(Exception, match="shutdown"):
        manager.getConnection(f"{url};shutdown=true;user=keeper;password=hunter2")


def test_a_database_is_read_until_its_rows_stay_the_same(sqlite, ingest, workspace):
    sqlite.execute(f"CREATE TABLE flats ({TYPES})")
    sqlite.execute(f"INSERT INTO flats VALUES {with_dates(ROWS)}")
    source = {"format": "jdbc", "jdbc": {**sqlite.jdbc, "table": "flats"}}
    first = ingest(source, "arrow")
    assert rows_of(first) == {"rows_in": 6, "rows_kept": 3, "rows_quarantined": 3}
    assert kept(first) == KEPT
    assert set(table(first, "observations")["source_file"]) == {"flats"}
    bad = table(first, "observations_quarantine")
    assert sorted(json.loads(raw)["price"] for raw in bad["raw"]) == [-5.0, 110.25, 210.0]
    assert bad["source_row"].n_unique() == 3
    query = {"query": "SELECT * FROM flats WHERE flat = 'a';", "partition_column": "ROOMS", "partitions": 2}
    part = ingest({"format": "jdbc", "jdbc": {**sqlite.jdbc, **query}}, "arrow", folder=workspace.parent / "part")
    assert kept(part) == KEPT[:2]

    sqlite.execute("DELETE FROM flats")
    sqlite.execute(f"INSERT INTO flats VALUES {with_dates(reversed(ROWS))}")
    again = ingest(source, "spark")  # neither the road nor the order of rows is part of their version
    assert (again.status, again.identity) == ("unchanged", first.identity)
    through_spark = ingest(source, "spark", folder=workspace.parent / "spark")
    for name in ("observations", "observations_quarantine"):
        assert table(through_spark, name).sort("source_row").equals(table(first, name).sort("source_row"))

    sqlite.execute("UPDATE flats SET price = 101.5 WHERE price = 100.5")
    sqlite.execute(f"INSERT INTO flats VALUES {with_dates(ROWS[4:5])}")  # the same row once more is another content
    changed = ingest(source, "arrow")
    assert changed.metrics["rows_in"] == 7
    assert kept(changed) == [("a", 101.5, "north"), *KEPT[1:]]


def test_what_is_wrong_with_a_database_is_told_in_one_line(sqlite, ingest):
    sqlite.execute(f"CREATE TABLE flats ({TYPES})")
    for changes, told in (
        ({"table": "fltas"}, r"no such table: fltas.*; change dataset\.source\.jdbc"),
        (
            {"query": "SELECT sold_on, flat, price, district FROM flats"},
            r"1 column\(s\) of dataset flats are missing: 'rooms'",
        ),
        (
            {"table": "flats", "partition_column": "room"},
            r"partition_column 'room': there is no such column; the table has sold",
        ),
        ({"table": "flats"}, r"source.jdbc.url .*: the table has no rows; change dataset\.source"),
        (
            {"table": "flats", "url": "jdbc:nosuch://host/db", "driver": ""},
            r"Spark has no driver for it .* name its jar in data",
        ),
        (
            {"table": "flats", "driver": "no.such.Driver"},
            r"Spark has no driver for it .*: name its jar in dataset\.source\.jdbc",
        ),
        (
            {"table": "flats", "jars": ["no/such.jar"]},
            r"dataset\.source\.jdbc\.jars no/such\.jar: there is no such file",
        ),
    ):
        with pytest.raises(DataError, match=told) as caught:
            ingest({"format": "jdbc", "jdbc": {**sqlite.jdbc, **changes}}, "arrow")
        assert "\n" not in str(caught.value)


def test_a_password_comes_from_the_environment_and_is_never_told(derby, ingest, workspace, monkeypatch):
    names = ", ".join(f'"{c}" {kind.split()[1]}' for c, kind in zip(COLUMNS, TYPES.split(", "), strict=True))
    derby.execute(f'CREATE TABLE "flats" ({names})')
    for row in ROWS:
        derby.execute(f'INSERT INTO "flats" VALUES {with_dates([row])}')
    source = {
        "format": "jdbc",
        "jdbc": {**derby.jdbc, "table": '"flats"', "partition_column": "rooms", "fetch_size": 2},
    }
    assert kept(ingest(source, "arrow")) == KEPT
    assert ingest(source, "arrow").status == "unchanged"
    for path in workspace.rglob("*"):
        assert not path.is_file() or b"hunter2" not in path.read_bytes()
    monkeypatch.setenv("FLATS_PASSWORD", "swordfish")
    with pytest.raises(DataError) as caught:
        ingest(source, "arrow")
    assert "cannot be read" in str(caught.value)
    assert "the environment variables that its user_env and password_env name" in str(caught.value)
    assert "swordfish" not in str(caught.value)
    monkeypatch.delenv("FLATS_PASSWORD")
    with pytest.raises(DataError, match=r"password_env: the environment variable FLATS_PASSWORD is not set"):
        ingest(source, "arrow")


@pytest.fixture
def frame(spark):
    rows = [(dt.date.fromisoformat(row[0]), *row[1:]) for row in ROWS]
    return spark.createDataFrame(rows, "sold_on date, flat string, price double, rooms int, district string")


def test_a_delta_table_is_read_at_a_version(ingest, frame, tmp_path, workspace):
    place = str(tmp_path / "flats ü")
    frame.where("price > 0").coalesce(1).write.format("delta").save(place)
    frame.coalesce(1).write.format("delta").mode("overwrite").save(place)
    source = {"format": "delta", "path": place}
    newest = ingest(source, "arrow")
    assert newest.metrics["rows_in"] == 6
    assert kept(newest) == KEPT
    old = ingest({**source, "version": 0}, "spark")
    assert (old.metrics["rows_in"], kept(old)) == (5, KEPT)
    frame.limit(1).coalesce(1).write.format("delta").mode("append").save(place)
    assert ingest({**source, "version": 0}, "arrow").status == "unchanged"
    assert ingest(source, "arrow").metrics["rows_in"] == 7
    with pytest.raises(DataError, match=r"there is no version 9, the newest is 2; change dataset\.source\.version"):
        ingest({**source, "version": 9}, "arrow")
    with pytest.raises(DataError, match=r"the folder is no Delta table; change dataset\.source\.path or \.format"):
        ingest({**source, "path": str(workspace)}, "arrow")


def test_a_table_of_a_catalog(spark, ingest, frame, tmp_path):
    spark.sql(f"CREATE DATABASE `order` LOCATION '{tmp_path.as_uri()}/order'")
    try:
        for name, kind, road in (("order.select", "delta", "spark"), ("spark_catalog.order.plain", "parquet", "arrow")):
            quoted = ".".join(f"`{part}`" for part in name.split("."))
            frame.coalesce(1).write.format(kind).saveAsTable(quoted)
            source = {"format": "table", "path": name}
            first = ingest(source, road)
            assert (first.status, kept(first)) == ("done", KEPT)
            assert ingest(source, road).status == "unchanged"
            frame.where("flat = 'a'").limit(1).write.insertInto(quoted)
            assert ingest(source, road).metrics["rows_in"] == 7
        for source, told in (
            ({"path": "order.select", "version": 7}, "there is no version 7, the newest is 1"),
            ({"path": "order.nothing"}, r"source\.path order\.nothing: there is no such table"),
            ({"path": "nowhere.order.plain"}, r"source\.path nowhere\.order\.plain"),
        ):
            with pytest.raises(DataError, match=told):
                ingest({"format": "table", **source}, "arrow")
    finally:
        spark.sql("DROP DATABASE `order` CASCADE")


@pytest.mark.parametrize("road", ROADS)
def test_a_folder_grows_and_only_its_months_are_written(ingest, run_in, road, tmp_path, workspace):
    raw = tmp_path / "raw"
    raw.mkdir()

    def put(name: str, *rows: str) -> None:
        (raw / name).write_text("\n".join([",".join(COLUMNS), *rows, ""]), encoding="utf-8")

    put("a.csv", "2015-01-05,a,1,3,north", "2015-02-05,a,2,3,north", "2015-03-05,a,3,3,north", "?,a,1,1,x")
    put("b.csv", "2015-01-05,a,4,3,north")
    source = {"path": str(raw)}
    first = ingest(source, "arrow")
    assert kept(first) == [("a", 4, "north"), ("a", 2, "north"), ("a", 3, "north")]
    before = set(DeltaTable(workspace / "lake" / "observations").file_uris())
    put("b.csv", "2015-04-05,a,4,3,north")  # it takes back that it beat a.csv in January
    (raw / "c.jsonl").write_text(
        '{"sold_on": "2015-03-05", "flat": "b", "price": 5, "rooms": 1, "district": "x"}\nbroken\n'
    )
    second = ingest(source, road)
    assert rows_of(second) == {
        "rows_in": 7,
        "rows_kept": 5,
        "rows_quarantined": 2,
        "files_read": 2,
        "files_removed": 0,
        "months_written": 3,
    }
    after = set(DeltaTable(workspace / "lake" / "observations").file_uris())
    assert {uri.split("month=")[1].split("/")[0] for uri in before & after} == {"2015-02"}
    fresh = run_in(tmp_path / "fresh", "ingest", {**DATASET, "source": source}, overrides=TOLERANT)
    for name in ("observations", "observations_quarantine"):
        order = ["source_file", "source_row"]
        assert table(second, name).sort(order).equals(table(fresh, name).sort(order))
    assert second.identity == fresh.identity
    assert ingest(source, "arrow").status == "unchanged"
