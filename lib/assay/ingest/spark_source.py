"""Consumes a Delta table, a table of a catalog or a database, produces a Spark DataFrame of its rows and their version.

A Delta table has a version of its own, which is recorded and read again. What other tables and databases hold has none:
their rows are read once, kept for the run, and the version is a hash of them.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import math
import os
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import pyarrow as pa

from assay.config import DatasetConfig, RunConfig
from assay.config.dataset import JdbcConfig
from assay.errors import AssayError, DataError, from_worker
from assay.ingest.csv_rows import RawChunk
from assay.ingest.files import IS_URI, find_place
from assay.ingest.rules import CheckRows
from assay.ingest.source import check_names, check_types, plain
from assay.runtime.arrow_files import arrow_schema
from assay.runtime.logs import redact
from assay.runtime.plane import Flow
from assay.runtime.spark_names import quoted

if TYPE_CHECKING:
    import polars as pl
    from pyspark.sql import DataFrame, SparkSession

DIGEST = pa.schema([("rows", pa.int64()), ("one", pa.int64()), ("other", pa.int64())])
HASH_KEYS = ("0123456789123456", "assay row digest")  # of pandas' hash; the first is its default


class Asking(Protocol):
    """Who looks for a table: a job's context, or anybody with a configuration and a session."""

    @property
    def config(self) -> RunConfig:
        """Which table."""

    def spark(self) -> SparkSession:
        """Who reads it."""


@dataclasses.dataclass(frozen=True)
class TableSource:
    """A table whose rows Spark reads.

    name: on record. place: in messages. location: of a Delta table in a folder or at a URI. version: of a Delta table.
    identity: what its content is known by, None where only its rows tell.
    """

    name: str
    place: str
    location: str = ""
    version: int | None = None
    identity: str | None = None


def find_table(context: Asking) -> TableSource:
    """The table that the dataset names, and its version.

    Raises:
        DataError: there is no such table or version.
    """
    source = context.config.dataset.source
    if source.format == "jdbc":
        jdbc = source.jdbc
        return TableSource(jdbc.table or "query", f"source.jdbc.url {redact(jdbc.url)}")
    if source.format == "table":
        return _catalog_table(context.spark(), source.path, source.version)
    place = find_place(context.config)
    location = source.path if place is None else str(place)
    version, table_id = _spark_delta(context.spark(), location) if place is None else _local_delta(place)
    name = location.rstrip("/").rpartition("/")[2]
    wanted = _existing(source.version, version, location)
    return TableSource(name, location, location, wanted, f"delta {table_id} version {wanted}")


def _existing(wanted: int | None, newest: int, place: str) -> int:
    if wanted is not None and wanted > newest:
        raise DataError(f"{place}: there is no version {wanted}, the newest is {newest}; change dataset.source.version")
    return newest if wanted is None else wanted


def _local_delta(place: Path) -> tuple[int, str]:
    from deltalake import DeltaTable

    if not DeltaTable.is_deltatable(str(place)):
        raise DataError(f"{place}: the folder is no Delta table; change dataset.source.path or .format")
    table = DeltaTable(str(place))
    return int(table.version()), str(table.metadata().id)


def _spark_delta(session: SparkSession, location: str) -> tuple[int, str]:
    return _delta(session, f"delta.{quoted(location)}", f"source.path {location}")


def _delta(session: SparkSession, identifier: str, place: str) -> tuple[int, str]:
    try:
        version = session.sql(f"DESCRIBE HISTORY {identifier} LIMIT 1").collect()[0]["version"]
        return int(version), str(session.sql(f"DESCRIBE DETAIL {identifier}").collect()[0]["id"])
    except Exception as error:
        raise DataError(f"{place}: is no Delta table that can be read: {reason_of(error)}") from None


def _catalog_table(session: SparkSession, path: str, version: int | None) -> TableSource:
    name = quoted(*path.split("."))
    try:
        there = bool(session.catalog.tableExists(name))
    except Exception as error:
        raise DataError(
            f"source.path {path}: cannot be looked up: {reason_of(error)}; change dataset.source.path"
        ) from None
    if not there:
        raise DataError(
            f"source.path {path}: there is no such table in Spark's catalogs; change dataset.source.path, or name the "
            "catalog in the Spark settings (--conf-file)"
        )
    if version is None and _provider(session, name) != "delta":
        return TableSource(path, f"source.path {path}")
    newest, table_id = _delta(session, name, f"source.path {path}")
    wanted = _existing(version, newest, f"source.path {path}")
    return TableSource(path, f"source.path {path}", version=wanted, identity=f"delta {table_id} version {wanted}")


def _provider(session: SparkSession, name: str) -> str:
    """Format of a table; a view has none."""
    rows = session.sql(f"DESCRIBE EXTENDED {name}").collect()
    found = [row["data_type"] for row in rows if row["col_name"] == "Provider"]
    return str(found[-1]).lower() if found else ""


def open_table(context: Asking, table: TableSource) -> DataFrame:
    """The dataset's columns of the table, after checking that they are there and of usable types.

    Raises:
        DataError: the table cannot be read, or lacks a column.
    """
    session, dataset = context.spark(), context.config.dataset
    try:
        if dataset.source.format == "jdbc":
            frame = _jdbc(session, dataset.source.jdbc)
        else:
            reader = session.read.format("delta") if table.version is not None else session.read
            reader = reader.option("versionAsOf", table.version) if table.version is not None else reader
            frame = reader.load(table.location) if table.location else reader.table(quoted(*table.name.split(".")))
    except AssayError:
        raise
    except Exception as error:
        raise unreadable(error, table, dataset) from None
    check_names(table.place, frame.columns, dataset)
    schema = pa.schema([_arrow_field(frame, name, table.place) for name in dataset.source_columns])
    check_types(table.place, schema, dataset)
    return frame.select([quoted(name) for name in dataset.source_columns])


def _arrow_field(frame: DataFrame, name: str, place: str) -> pa.Field:
    try:
        return arrow_schema(frame.select(quoted(name))).field(0)
    except Exception as error:
        raise DataError(
            f"{place}: column {name!r} cannot be used: {reason_of(error)}; change it in the source"
        ) from None


def _jdbc(session: SparkSession, jdbc: JdbcConfig) -> DataFrame:
    for given in jdbc.jars:
        local = None if IS_URI.match(given) else Path(given).expanduser().absolute()
        if local is not None and not local.is_file():  # Spark would only log it
            raise DataError(f"dataset.source.jdbc.jars {given}: there is no such file")
        jar = str(local or given)
        session.sql("ADD JAR '" + jar.replace("\\", "\\\\").replace("'", "\\'") + "'")
    options = {
        "url": jdbc.url,
        "dbtable": jdbc.table or f"({jdbc.query.strip().rstrip(';')}) assay_source",
        **jdbc.options,
    }
    options |= {"driver": jdbc.driver} if jdbc.driver else {}
    options |= {"fetchsize": str(jdbc.fetch_size)} if jdbc.fetch_size else {}
    for option, key in (("user", "user_env"), ("password", "password_env")):
        variable = getattr(jdbc, key)
        if variable and variable not in os.environ:
            raise DataError(f"dataset.source.jdbc.{key}: the environment variable {variable} is not set")
        options |= {option: os.environ[variable]} if variable else {}
    frame = session.read.format("jdbc").options(**options).load()
    if not jdbc.partition_column:
        return frame
    named = {name.casefold(): name for name in frame.columns}.get(jdbc.partition_column.casefold())
    if named is None:
        raise DataError(
            f"dataset.source.jdbc.partition_column {jdbc.partition_column!r}: there is no such column; the table has "
            f"{', '.join(frame.columns[:30])}"
        )
    column = _quoted_for(session, jdbc.url, named)
    ends = f"(SELECT MIN({column}) AS low, MAX({column}) AS high FROM {options['dbtable']}) assay_ends"  # noqa: S608  of the person's own words
    low, high = session.read.format("jdbc").options(**{**options, "dbtable": ends}).load().collect()[0]
    if low is None:
        return frame
    # Databases that compute types as they go say decimal of a whole number; Spark wants whole bounds for all numbers.
    bounds = [str(math.floor(end)) if isinstance(end, int | float | Decimal) else str(end) for end in (low, high)]
    cut = {"partitionColumn": named, "lowerBound": bounds[0], "upperBound": bounds[1]}
    return session.read.format("jdbc").options(**options, **cut, numPartitions=jdbc.partitions).load()


def _quoted_for(session: SparkSession, url: str, name: str) -> str:
    """A column as the database quotes it; where a session has no JVM to ask for its dialect, as standard SQL does."""
    try:
        dialects = session._jvm.org.apache.spark.sql.jdbc.JdbcDialects
    except Exception:
        return '"' + name.replace('"', '""') + '"'
    return str(dialects.get(url).quoteIdentifier(name))


def unreadable(error: Exception, table: TableSource, dataset: DatasetConfig) -> AssayError:
    """What to tell a person about a table that Spark cannot read; never with the password in it."""
    ours = from_worker(error)
    if ours is not None:
        return ours
    reason = reason_of(error)
    if dataset.source.format != "jdbc":
        return DataError(f"{table.place}: cannot be read: {reason}; change dataset.source.path or .version")
    secret = os.environ.get(dataset.source.jdbc.password_env, "") if dataset.source.jdbc.password_env else ""
    reason = reason.replace(secret, "***") if secret else reason
    if "No suitable driver" in reason or "ClassNotFoundException" in reason:
        return DataError(
            f"{table.place}: Spark has no driver for it ({reason}): name its jar in dataset.source.jdbc.jars and its "
            "class in dataset.source.jdbc.driver"
        )
    return DataError(
        f"{table.place}: cannot be read: {reason}; change dataset.source.jdbc (url, table or query), or the "
        "environment variables that its user_env and password_env name"
    )


def reason_of(error: Exception) -> str:
    """The first line of an error of Spark's or of Java's that says something, without secrets."""
    lines = [line.strip().removeprefix(": ").strip() for line in str(error).splitlines()]
    told = next((line for line in lines if line and not line.startswith("An error occurred while calling")), "")
    return redact(told or type(error).__name__)[:300]


@dataclasses.dataclass(frozen=True)
class CheckTable:
    """Kernel over a table's rows: type and check each row by itself. Emits as many rows as it gets."""

    dataset: DatasetConfig
    now: dt.datetime
    name: str

    def __call__(self, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """Typed rows of `checked_schema`. A row's number is a hash of its content, as tables have no order."""
        check = CheckRows(self.dataset, self.now).check
        for batch in batches:
            if batch.num_rows:
                frame = _frame(batch, self.name)
                yield from check(RawChunk(frame, row_hashes(frame, HASH_KEYS[0]).view(np.int64)), self.name)


@dataclasses.dataclass(frozen=True)
class DigestRows:
    """Kernel: how many rows there are, and two sums of their hashes, which no order or cut of the rows changes.

    hashed: whether the sums are wanted; else they are 0.
    """

    name: str
    hashed: bool = True

    def __call__(self, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """One row of `DIGEST`."""
        rows, sums = 0, [np.uint64(0), np.uint64(0)]
        for batch in batches:
            rows += batch.num_rows
            if not self.hashed:
                continue
            frame = _frame(batch, self.name)
            with np.errstate(over="ignore"):
                sums = [s + row_hashes(frame, key).sum(dtype=np.uint64) for s, key in zip(sums, HASH_KEYS, strict=True)]
        values: list[Any] = [pa.array([rows], pa.int64()), *(pa.array(np.array([s]).view(np.int64)) for s in sums)]
        yield pa.RecordBatch.from_arrays(values, schema=DIGEST)


def digest(flow: Flow, table: TableSource) -> tuple[int, str]:
    """Rows of a flow, and a hash of them as a set with repeats: 2 x 64 bits, sums modulo 2^64 of the rows' hashes.

    Without hash where the table has a version.
    """
    found = flow.map(DigestRows(table.name, hashed=table.identity is None), DIGEST).collect()
    rows, one, other = (sum(found.column(name).to_pylist()) for name in DIGEST.names)
    return rows, f"{rows} rows {one % 2**64:016x}{other % 2**64:016x}"


def _frame(batch: pa.RecordBatch, place: str) -> pl.DataFrame:
    import polars as pl

    frame = pl.from_arrow(plain(pa.Table.from_batches([batch]), place))
    assert isinstance(frame, pl.DataFrame)
    return frame


def row_hashes(frame: pl.DataFrame, key: str) -> np.ndarray[Any, Any]:
    """A 64-bit hash per row, (n,) uint64: of the values' texts, which do not depend on what rows come together."""
    import pandas as pd
    import polars as pl

    if not frame.height:
        return np.zeros(0, dtype=np.uint64)
    texts = frame.select(pl.all().cast(pl.String).fill_null("\0"))
    columns = {name: texts[name].to_numpy() for name in texts.columns}
    hashes: np.ndarray[Any, Any] = pd.util.hash_pandas_object(
        pd.DataFrame(columns), index=False, hash_key=key
    ).to_numpy()
    return hashes
