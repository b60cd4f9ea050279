"""Consumes a frame, produces one commit of it to a Delta table, made by Spark's writer."""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from assay.errors import AssayError, Overtaken
from assay.runtime.plane import LATEST_COMMITS, NO_VALUE, Output, Written
from assay.runtime.spark_names import literal, quoted

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

    from assay.runtime.spark_plane import SparkPlane

# A write that changes no row is a statement about its inputs all the same.
SKIP_EMPTY = "spark.databricks.delta.skipRecordingEmptyCommits"
ATTEMPTS = 10  # of a write that expects its slot as it was, while others write other slots of the table


def write_frame(plane: SparkPlane, frame: DataFrame, output: Output) -> Written:
    """Replace what `output` owns by the frame's rows, in one Delta transaction.

    Raises:
        Overtaken: the slot was written since the version that the output expects.
    """
    frame = _described(frame, output)
    if output.expects is None:
        return _written(plane, output, _save(plane, frame, output, {}))
    conflicts = _conflicts()
    for _ in range(ATTEMPTS):
        number = _transaction_number(plane, output)
        try:
            metadata = _save(plane, frame, output, {"txnAppId": output.transaction, "txnVersion": str(number)})
        except conflicts:
            continue
        return _written(plane, output, metadata)
    raise AssayError(
        f"table {output.table.name}: others wrote it {ATTEMPTS} times while {output.commit.job} did; run it again"
    )


def _described(frame: DataFrame, output: Output) -> DataFrame:
    """The table's columns, each declared one with its meaning as a comment."""
    from pyspark.sql import functions as F  # noqa: N812

    told = {field.name: field.metadata for field in output.table.described(output.schema)}
    columns = []
    for name, metadata in told.items():
        comment = {key.decode(): value.decode() for key, value in (metadata or {}).items()}
        columns.append(F.col(quoted(name)).alias(name, metadata=comment))
    return frame.select(columns)


def _conflicts() -> tuple[type[Exception], ...]:
    """What Delta raises where another transaction was faster; the Python classes have no base of their own."""
    from delta import exceptions

    return (
        exceptions.ConcurrentAppendException,
        exceptions.ConcurrentDeleteDeleteException,
        exceptions.ConcurrentDeleteReadException,
        exceptions.ConcurrentTransactionException,
        exceptions.ConcurrentWriteException,
        exceptions.DeltaConcurrentModificationException,
        exceptions.MetadataChangedException,
        exceptions.ProtocolChangedException,
    )


def _transaction_number(plane: SparkPlane, output: Output) -> int:
    """The number that all writes have which found the slot as it is now. Delta takes it once, and none below it later.

    Raises:
        Overtaken: the slot was written since the version that the output expects.
    """
    name = output.table.name
    newest = plane.last_commit(name, output.commit.slot)
    output.check_expected(newest)
    if newest is not None:
        return newest.version + 1
    if plane.version(name) is None:
        return 0
    # Either the slot was never written, or its commit is older than the log goes back.
    history = plane.session.sql(f"DESCRIBE HISTORY {plane.identifier(name)}").select("version").collect()
    return min(int(row["version"]) for row in history)


def _save(plane: SparkPlane, frame: DataFrame, output: Output, options: dict[str, Any]) -> str:
    """Run the writer; the commit's user metadata."""
    name, metadata = output.table.name, output.user_metadata()
    writer = frame.write.format("delta").mode("overwrite").option("userMetadata", metadata).options(**options)
    if output.table.partition_by:
        writer = writer.partitionBy(*output.table.partition_by)
    exists = plane.version(name) is not None
    if exists and output.owns:
        writer = writer.option("replaceWhere", _replaced(output))
    elif exists:
        writer = writer.option("overwriteSchema", "true")
    else:
        writer = writer.options(**output.properties)
    with _settings(plane.session, {SKIP_EMPTY: "false", **_dictionaries_of_texts(output.schema)}) as taken:
        if SKIP_EMPTY not in taken and not options:
            # With a transaction of its own no commit is empty. The table keeps such a number for every write.
            writer = writer.options(txnAppId=f"assay/{uuid.uuid4().hex}", txnVersion="0")
        if plane.catalog:
            writer.saveAsTable(plane.identifier(name))
        else:
            writer.save(plane.location(name))
    return metadata


def _written(plane: SparkPlane, output: Output, metadata: str) -> Written:
    """The commit that a write made, though others may have followed.

    Raises:
        Overtaken: there is none, as Delta had another write of the same number.
    """
    name = output.table.name
    history = plane.session.sql(f"DESCRIBE HISTORY {plane.identifier(name)} LIMIT {LATEST_COMMITS}")
    for row in history.select("version", "userMetadata", "operationMetrics").collect():
        if row["userMetadata"] == metadata:
            return Written(name, int(row["version"]), int(row["operationMetrics"].get("numOutputRows", 0)))
    if output.expects is not None:
        raise Overtaken(f"table {name}: others wrote {output.commit.slot} while {output.commit.job} did")
    raise AssayError(f"table {name}: its newest {LATEST_COMMITS} commits do not show what was written")


def _dictionaries_of_texts(schema: pa.Schema) -> dict[str, str]:
    """Settings for Parquet dictionaries of texts alone, as the Arrow road writes them.

    Numbers of many values fill a dictionary and are then written again without it: half of the time of a wide table.
    """
    key = "parquet.enable.dictionary"
    return {key: "false", **{f"{key}#{f.name}": "true" for f in schema if pa.types.is_string(f.type)}}


@contextlib.contextmanager
def _settings(session: SparkSession, wanted: Mapping[str, str]) -> Iterator[frozenset[str]]:
    """Settings of a session while the block lasts, and which of them it took: some sessions let nobody set anything."""
    from py4j.protocol import Py4JError
    from pyspark.errors import PySparkException

    before: dict[str, str | None] = {}
    try:
        for name, value in wanted.items():
            with contextlib.suppress(PySparkException, Py4JError):
                former = session.conf.get(name, None)
                session.conf.set(name, value)
                before[name] = former
        yield frozenset(before)
    finally:
        for name, former in before.items():
            session.conf.unset(name) if former is None else session.conf.set(name, former)


def _replaced(output: Output) -> str:
    """SQL condition of the partitions that an output replaces."""
    listed = {c: ", ".join(literal(v) for v in values or NO_VALUE) for c, values in output.owned().items()}
    return " AND ".join(f"{quoted(c)} IN ({values})" for c, values in listed.items())
