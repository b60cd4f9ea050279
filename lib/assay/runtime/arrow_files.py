"""Consumes shares of table files, produces batches; consumes batches, produces table files. Runs on executors.

Parquet is read by row group and written one file per task and partition. Nothing here talks to the Delta log.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import json
import os
import uuid
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.ipc
import pyarrow.parquet as pq

from assay.runtime.conditions import Condition, mask

BATCH_ROWS = 65_536
ROW_GROUP_ROWS = 131_072
BUFFERED_ROWS = 1_000_000


@dataclasses.dataclass(frozen=True)
class Piece:
    """Part of one Parquet file: the named row groups (None: all), and partition values, which are not in the file."""

    path: str
    rows: int
    partition: Mapping[str, str | None]
    row_groups: tuple[int, ...] | None = None


@dataclasses.dataclass(frozen=True)
class Share:
    """What one task reads: pieces, the columns wanted and the conditions on rows."""

    pieces: tuple[Piece, ...]
    schema: pa.Schema
    conditions: tuple[Condition, ...] = ()

    @property
    def rows(self) -> int:
        """Rows in the files, before conditions."""
        return sum(piece.rows for piece in self.pieces)

    def batches(self) -> Iterator[pa.RecordBatch]:
        """Stream the share; at most one row group is decoded at a time."""
        needed = list(dict.fromkeys([*self.schema.names, *(c.column for c in self.conditions)]))
        for piece in self.pieces:
            in_file = [name for name in needed if name not in piece.partition]
            with pq.ParquetFile(piece.path) as file:
                groups = list(piece.row_groups) if piece.row_groups is not None else None
                for batch in file.iter_batches(BATCH_ROWS, row_groups=groups, columns=in_file, use_threads=False):
                    full = _with_partition(batch, piece.partition, needed)
                    kept = mask(full, self.conditions)
                    if kept.num_rows:
                        yield conform(kept.select(self.schema.names), self.schema)


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


def _with_partition(batch: pa.RecordBatch, partition: Mapping[str, str | None], names: Sequence[str]) -> pa.RecordBatch:
    columns, fields = [], []
    for name in names:
        if name in partition:
            columns.append(pa.repeat(pa.scalar(partition[name], pa.string()), batch.num_rows))
        else:
            columns.append(batch.column(name))
        fields.append(pa.field(name, columns[-1].type))
    return pa.RecordBatch.from_arrays(columns, schema=pa.schema(fields))


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
    for batch in table.to_batches(max_chunksize=ROW_GROUP_ROWS):
        if batch.num_rows:
            yield conform(batch.select(schema.names), schema)


def spill_by_key(
    batches: Iterator[pa.RecordBatch], *, keys: Sequence[str], buckets: int, folder: str, name: str, schema: pa.Schema
) -> list[tuple[int, str, int]]:
    """Write batches to one Arrow IPC file per bucket of the keys' hash.

    Returns:
        (bucket, path, rows) of each file; empty buckets have none.
    """
    import polars as pl

    os.makedirs(folder, exist_ok=True)
    writers: dict[int, tuple[str, Any, Any]] = {}
    counts: dict[int, int] = {}
    try:
        for batch in batches:
            if not batch.num_rows:
                continue
            parts: list[tuple[int, pa.RecordBatch]] = [(0, batch)]
            if buckets > 1:
                frame = pl.from_arrow(pa.Table.from_batches([batch.select(list(keys))]))
                assert isinstance(frame, pl.DataFrame)
                code = (frame.select(pl.struct(pl.all()).hash(seed=11)).to_series() % buckets).to_numpy()
                parts = [(b, batch.filter(pa.array(code == b))) for b in range(buckets)]
            for bucket, part in parts:
                if not part.num_rows:
                    continue
                if bucket not in writers:
                    path = f"{folder}/{name}-{bucket:05d}.arrow"
                    sink = pa.OSFile(path, "wb")
                    writers[bucket] = (path, sink, pa.ipc.new_stream(sink, schema))
                writers[bucket][2].write_batch(conform(part, schema))
                counts[bucket] = counts.get(bucket, 0) + part.num_rows
    finally:
        for _, sink, writer in writers.values():
            writer.close()
            sink.close()
    return [(bucket, writers[bucket][0], counts[bucket]) for bucket in sorted(writers)]


@dataclasses.dataclass(frozen=True)
class DataFile:
    """A Parquet file that waits for its commit. path: relative to the table, as the Delta log wants it (escaped)."""

    path: str
    size: int
    rows: int
    partition: Mapping[str, str | None]
    stats: str


class TableWriter:
    """Writes batches into Parquet files below a table's folder, one per partition, with bounded buffering."""

    def __init__(self, root: str, schema: pa.Schema, partition_by: Sequence[str], statistics: Sequence[str]) -> None:
        self.root = root
        self.partition_by = tuple(partition_by)
        self.file_schema = pa.schema([field for field in schema if field.name not in partition_by])
        self.statistics = [name for name in statistics if name in self.file_schema.names]
        self.buffers: dict[tuple[str | None, ...], list[pa.RecordBatch]] = {}
        self.buffered = 0
        self.open: dict[tuple[str | None, ...], tuple[str, pq.ParquetWriter]] = {}
        self.rows: dict[tuple[str | None, ...], int] = {}
        self.bounds: dict[tuple[str | None, ...], dict[str, tuple[Any, Any]]] = {}

    def write(self, batch: pa.RecordBatch) -> None:
        """Take one batch, in any order of partitions."""
        for values, part in self._split(batch):
            self.buffers.setdefault(values, []).append(part)
            self.buffered += part.num_rows
            self.rows[values] = self.rows.get(values, 0) + part.num_rows
        if self.buffered >= BUFFERED_ROWS:
            for values in list(self.buffers):
                self._flush(values)

    def close(self) -> list[DataFile]:
        """Finish all files and return what a commit needs to know of them."""
        for values in list(self.buffers):
            self._flush(values)
        files = []
        for values, (relative, writer) in sorted(self.open.items(), key=lambda item: str(item[0])):
            writer.close()
            partition = dict(zip(self.partition_by, values, strict=True))
            files.append(
                DataFile(
                    path=quote(relative, safe="/=-_."),
                    size=os.path.getsize(f"{self.root}/{relative}"),
                    rows=self.rows[values],
                    partition=partition,
                    stats=self._stats(values),
                )
            )
        return files

    def _split(self, batch: pa.RecordBatch) -> Iterator[tuple[tuple[str | None, ...], pa.RecordBatch]]:
        body = batch.select(self.file_schema.names)
        if not self.partition_by or not batch.num_rows:
            yield (), body
            return
        keys = pa.Table.from_batches([batch.select(list(self.partition_by))])
        distinct = keys.group_by(list(self.partition_by)).aggregate([]).to_pylist()
        for row in sorted(distinct, key=str):
            keep = None
            for name in self.partition_by:
                column, value = batch.column(name), row[name]
                hit = pc.is_null(column) if value is None else pc.equal(column, pa.scalar(value, column.type))
                keep = hit if keep is None else pc.and_(keep, hit)
            values = tuple(row[name] for name in self.partition_by)
            yield values, body if len(distinct) == 1 else body.filter(keep)

    def _flush(self, values: tuple[str | None, ...]) -> None:
        parts = self.buffers.pop(values, [])
        if not parts:
            return
        table = pa.Table.from_batches(parts).combine_chunks()
        self.buffered -= table.num_rows
        if values not in self.open:
            folder = "/".join(_hive(n, v) for n, v in zip(self.partition_by, values, strict=True))
            relative = f"{folder}/part-{uuid.uuid4().hex}.parquet" if folder else f"part-{uuid.uuid4().hex}.parquet"
            Path(f"{self.root}/{relative}").parent.mkdir(parents=True, exist_ok=True)
            text = [f.name for f in self.file_schema if pa.types.is_string(f.type)]
            writer = pq.ParquetWriter(
                f"{self.root}/{relative}",
                self.file_schema,
                compression="snappy",
                use_dictionary=text,
                write_statistics=self.statistics,
            )
            self.open[values] = (relative, writer)
        self.open[values][1].write_table(table, row_group_size=ROW_GROUP_ROWS)
        bounds = self.bounds.setdefault(values, {})
        for name in self.statistics:
            extremes = pc.min_max(table.column(name)).as_py()
            low, high = extremes["min"], extremes["max"]
            if low is not None:
                seen = bounds.get(name, (low, high))
                bounds[name] = (min(low, seen[0]), max(high, seen[1]))

    def _stats(self, values: tuple[str | None, ...]) -> str:
        bounds = self.bounds.get(values, {})
        low = {name: _json_value(pair[0], up=False) for name, pair in bounds.items()}
        high = {name: _json_value(pair[1], up=True) for name, pair in bounds.items()}
        return json.dumps({"numRecords": self.rows[values], "minValues": low, "maxValues": high, "nullCount": {}})


def _hive(name: str, value: str | None) -> str:
    return f"{name}={quote(value, safe='-_.')}" if value is not None else f"{name}=__HIVE_DEFAULT_PARTITION__"


def _json_value(value: Any, *, up: bool) -> Any:
    """Delta keeps times in statistics to the millisecond; an upper bound is rounded up so that it stays one."""
    if isinstance(value, dt.datetime):
        moment = value.astimezone(dt.timezone.utc)
        if up and moment.microsecond % 1000:
            moment += dt.timedelta(milliseconds=1)
        return moment.strftime("%Y-%m-%dT%H:%M:%S.") + f"{moment.microsecond // 1000:03d}Z"
    return value
