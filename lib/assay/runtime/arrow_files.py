"""Consumes shares of table files, produces batches; consumes batches, produces files of an exchange. On executors."""

from __future__ import annotations

import dataclasses
import os
import sys
import uuid
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.ipc
import pyarrow.parquet as pq

from assay.runtime.conditions import Condition, mask
from assay.runtime.sharing import Piece

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

BATCH_ROWS = 65_536
SMALL_BYTES = 1 << 19  # of a file that is read at once
CHUNK_ROWS = 131_072


@dataclasses.dataclass(frozen=True)
class Share:
    """What one task reads: pieces, and the conditions on rows.

    schema: the columns wanted. types: those of `schema` and the columns that conditions look at.
    """

    pieces: tuple[Piece, ...]
    schema: pa.Schema
    types: pa.Schema
    conditions: tuple[Condition, ...] = ()

    @property
    def rows(self) -> int:
        """Rows in the files, before conditions."""
        return sum(piece.rows for piece in self.pieces)

    def batches(self) -> Iterator[pa.RecordBatch]:
        """Stream the share; at most one row group is decoded at a time."""
        for piece in self.pieces:
            for batch in _decoded(piece, self.types):
                kept = mask(batch, self.conditions)
                if kept.num_rows:
                    yield conform(kept.select(self.schema.names), self.schema)


def _decoded(piece: Piece, types: pa.Schema) -> Iterator[pa.RecordBatch]:
    """The piece's rows with the columns of `types`; a column that is younger than the file is null."""
    with _opened(piece.path, [field.name for field in types if pa.types.is_dictionary(field.type)]) as file:
        stored = set(file.schema_arrow.names)
        columns = [name for name in types.names if name in stored and name not in piece.partition]
        groups = list(piece.row_groups) if piece.row_groups is not None else None
        position, (start, stop) = 0, piece.span or (0, sys.maxsize)
        for batch in file.iter_batches(BATCH_ROWS, row_groups=groups, columns=columns, use_threads=False):
            first, last = max(start - position, 0), min(stop - position, batch.num_rows)
            position += batch.num_rows
            if first < last:
                yield _completed(batch.slice(first, last - first), piece.partition, types)
            if position >= stop:
                return


def _opened(path: str, encoded: Sequence[str]) -> pq.ParquetFile:
    """The file, whose columns `encoded`, as far as it has them, come as dictionaries."""
    source = _source(path)
    if not encoded:
        return pq.ParquetFile(source)
    metadata = pq.read_metadata(source)
    there = set(metadata.schema.names)
    return pq.ParquetFile(source, metadata=metadata, read_dictionary=[name for name in encoded if name in there])


def _source(path: str) -> str | pa.BufferReader:
    """The file, or what is in it: a small one of many columns takes longer to read column by column than to decode."""
    with open(path, "rb") as file:
        small = os.fstat(file.fileno()).st_size <= SMALL_BYTES
        return pa.BufferReader(file.read()) if small else path


def _completed(batch: pa.RecordBatch, partition: Mapping[str, str | None], types: pa.Schema) -> pa.RecordBatch:
    columns, places = [], {name: place for place, name in enumerate(batch.schema.names)}
    for field in types:
        if field.name in partition:
            column = pa.repeat(pa.scalar(partition[field.name], pa.string()), batch.num_rows)
        elif field.name in places:
            column = batch.column(places[field.name])
        else:
            column = pa.nulls(batch.num_rows, field.type)
        columns.append(column if column.type == field.type else pc.cast(column, field.type))
    return pa.RecordBatch.from_arrays(columns, schema=types)


@dataclasses.dataclass(frozen=True)
class Spilled:
    """Arrow IPC files of an exchange, read back as one share."""

    paths: tuple[str, ...]
    schema: pa.Schema

    def batches(self) -> Iterator[pa.RecordBatch]:
        """Stream the files in a fixed order."""
        for path in self.paths:
            with pa.memory_map(path) as source, pa.ipc.open_stream(source) as reader:
                yield from reader


def dictionaries(schema: pa.Schema, names: Collection[str]) -> pa.Schema:
    """The schema with these columns, where they are of texts, as dictionaries: what is read of it is decoded once."""
    kind = pa.dictionary(pa.int32(), pa.string())
    return pa.schema([pa.field(f.name, kind) if f.name in names and pa.types.is_string(f.type) else f for f in schema])


def arrow_schema(frame: DataFrame) -> pa.Schema:
    """Schema of a Spark DataFrame as Arrow types."""
    from pyspark.sql.pandas.types import to_arrow_schema

    return to_arrow_schema(frame.schema)


@dataclasses.dataclass(frozen=True)
class SpillFrame:
    """Kernel that writes a task's batches to one Arrow IPC file. Emits its path and rows; nothing where it has none."""

    folder: str
    schema: pa.Schema

    def __call__(self, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """One row: path, rows."""
        name = uuid.uuid4().hex  # a task may be tried again while its first try still writes
        for _, path, rows in spill_by_key(
            batches, keys=(), buckets=1, folder=self.folder, name=name, schema=self.schema
        ):
            yield pa.record_batch({"path": pa.array([path]), "rows": pa.array([rows], pa.int64())})


def conform(batch: pa.RecordBatch, schema: pa.Schema) -> pa.RecordBatch:
    """Cast a batch to a schema by column name (large to plain strings, time units); a no-op where it fits already."""
    if batch.schema.equals(schema):
        return batch
    columns = [
        column if (column := batch.column(field.name)).type == field.type else pc.cast(column, field.type)
        for field in schema
    ]
    return pa.RecordBatch.from_arrays(columns, schema=schema)


def conform_table(table: pa.Table, schema: pa.Schema) -> Iterator[pa.RecordBatch]:
    """A table as batches of exactly this schema."""
    for batch in table.to_batches(max_chunksize=CHUNK_ROWS):
        if batch.num_rows:
            yield conform(batch.select(schema.names), schema)


def spill_by_key(
    batches: Iterator[pa.RecordBatch], *, keys: Sequence[str], buckets: int, folder: str, name: str, schema: pa.Schema
) -> list[tuple[int, str, int]]:
    """Write batches to one Arrow IPC file per bucket of the keys' hash; equal keys, nulls too, share a bucket.

    Returns:
        (bucket, path, rows) of each file; empty buckets have none.
    """
    os.makedirs(folder, exist_ok=True)
    writers: dict[int, tuple[str, Any, Any]] = {}
    counts: dict[int, int] = {}
    try:
        for batch in batches:
            if not batch.num_rows:
                continue
            for bucket, part in _by_bucket(conform(batch, schema), keys, buckets):
                if bucket not in writers:
                    path = f"{folder}/{name}-{bucket:05d}.arrow"
                    sink = pa.OSFile(path, "wb")
                    writers[bucket] = (path, sink, pa.ipc.new_stream(sink, schema))
                writers[bucket][2].write_batch(part)
                counts[bucket] = counts.get(bucket, 0) + part.num_rows
    finally:
        for _, sink, writer in writers.values():
            writer.close()
            sink.close()
    return [(bucket, writers[bucket][0], counts[bucket]) for bucket in sorted(writers)]


def _by_bucket(batch: pa.RecordBatch, keys: Sequence[str], buckets: int) -> Iterator[tuple[int, pa.RecordBatch]]:
    """The batch's rows by bucket, in their order; sorted once, not filtered per bucket."""
    import polars as pl

    if buckets == 1:
        yield 0, batch
        return
    frame = pl.from_arrow(pa.Table.from_batches([batch.select(list(keys))]))
    assert isinstance(frame, pl.DataFrame)
    code = (frame.select(pl.struct(pl.all()).hash(seed=11)).to_series() % buckets).to_numpy()
    order = np.argsort(code, kind="stable")
    together = batch.take(pa.array(order))
    starts = np.flatnonzero(np.diff(code[order].astype(np.int64), prepend=-1))
    for start, stop in zip(starts, np.append(starts[1:], batch.num_rows), strict=True):
        yield int(code[order[start]]), together.slice(start, stop - start)
