"""Consumes tables written along each road, checks the Parquet files inside: what other readers pay for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from assay.runtime.arrow_plane import ArrowPlane
from assay.runtime.plane import Commit, Output
from assay.runtime.spark_plane import SparkPlane
from assay.runtime.tables import Table

pytestmark = pytest.mark.spark

PRICES = Table("prices", "tests", "one price", ("row",), (), {"row": (pa.int64(), "number"), "city": (pa.string(), "")})
KEY = "parquet.enable.dictionary"


@pytest.fixture(params=["arrow", "spark"])
def written(request, spark, tmp_path) -> Any:
    """The columns of the only file of a table: path in schema -> encodings."""
    planes = {
        "arrow": lambda: ArrowPlane(lambda: spark.sparkContext, tmp_path),
        "spark": lambda: SparkPlane(lambda: spark, tmp_path.as_uri()),
    }
    plane, schema = planes[request.param](), PRICES.schema([pa.field("x", pa.float32())])
    rows = [{"row": i, "city": "ab"[i % 2], "x": float(i % 3)} for i in range(500)]
    flow = plane.rows_of(PRICES, schema, pa.Table.from_pylist(rows, schema=schema))
    flow.write([Output(PRICES, schema, Commit(-1, "tests", "all", "first", {}))])
    plane.clean()
    (file,) = Path(tmp_path / "prices").glob("*.parquet")
    group = pq.ParquetFile(file).metadata.row_group(0)
    return {group.column(i).path_in_schema: set(group.column(i).encodings) for i in range(group.num_columns)}


def test_texts_have_dictionaries_and_numbers_have_none(written):
    """A dictionary of a number's many values is built in vain, which takes half of the time of a wide table."""
    assert {name for name, encodings in written.items() if any("DICTIONARY" in e for e in encodings)} == {"city"}


def test_spark_is_left_with_the_settings_that_it_had(spark, tmp_path):
    plane, schema = SparkPlane(lambda: spark, tmp_path.as_uri()), PRICES.schema([])
    spark.conf.set(KEY, "true")
    try:
        rows = pa.Table.from_pylist([{"row": 1, "city": "a"}], schema=schema)
        plane.rows_of(PRICES, schema, rows).write([Output(PRICES, schema, Commit(-1, "tests", "all", "first", {}))])
        assert spark.conf.get(KEY) == "true"
        assert spark.conf.get(f"{KEY}#city", None) is None
    finally:
        spark.conf.unset(KEY)
