"""Produces the tables of the tests of planes: awkward names and values, and both roads on one lake."""

from __future__ import annotations

import datetime as dt
import math
from pathlib import Path
from typing import Any

import pyarrow as pa

from assay.runtime.arrow_plane import ArrowPlane
from assay.runtime.plane import Commit, Output, Plane
from assay.runtime.spark_plane import SparkPlane
from assay.runtime.tables import TIME, Table

ROADS = ["arrow", "spark"]
OTHER = {"arrow": "spark", "spark": "arrow"}
START = dt.datetime(2020, 1, 31, 23, 59, 59, 999_999, tzinfo=dt.timezone.utc)
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


def planes_on(spark, root: Path, rows_per_task: int = 5) -> dict[str, Any]:
    return {
        "arrow": ArrowPlane(lambda: spark.sparkContext, root, rows_per_task=rows_per_task),
        "spark": SparkPlane(lambda: spark, root.as_uri(), rows_per_task=rows_per_task),
    }


def commit_of(identity: str, slot: str = "all", **details: Any) -> Commit:
    return Commit(-1, "tests", slot, identity, details)


def rows_of(table: pa.Table) -> list[dict[str, Any]]:
    rows = table.to_pylist()
    for row in rows:
        if row.get("time") is not None:
            row["time"] = row["time"].astimezone(dt.timezone.utc)
    return sorted(rows, key=lambda row: (row.get("row", 0), str(row)))


def same(found: list[dict[str, Any]], expected: list[dict[str, Any]]) -> bool:
    """Equal rows, NaN being itself."""
    return str(found) == str(expected)


def put(plane: Plane, table: Table, rows, identity: str = "1", *, schema: pa.Schema | None = None, **output: Any):
    schema = schema or table.schema()
    flow = plane.rows_of(table, schema, pa.Table.from_pylist(rows, schema=schema))
    (done,) = flow.write([Output(table, schema, commit_of(identity, **output.pop("commit", {})), **output)])
    return done
