"""Consumes batches, produces Parquet files below a table's folder, ready to be committed. Runs on executors.

One file per task and partition. Nothing here talks to the Delta log: files that are never committed are never seen.
"""

from __future__ import annotations

import dataclasses
import json
import math
import os
import uuid
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

ROW_GROUP_ROWS = 131_072
BUFFERED_BYTES = 128 << 20
OPEN_FILES = 256
LONG_STRETCH = 256  # rows of one partition that come one after the other, on average

Values = tuple[str | None, ...]


@dataclasses.dataclass(frozen=True)
class DataFile:
    """A Parquet file that waits for its commit. path: relative to the table, as it is on disk (the log escapes it)."""

    path: str
    size: int
    rows: int
    partition: Mapping[str, str | None]
    stats: str


class TableWriter:
    """Writes batches, in any order of partitions, with bounded buffering.

    root: folder of the table. statistics: columns whose least and greatest values go into the Delta log.
    """

    def __init__(self, root: str, schema: pa.Schema, partition_by: Sequence[str], statistics: Sequence[str]) -> None:
        self.root = root
        self.schema = schema
        self.partition_by = tuple(partition_by)
        self.statistics = tuple(name for name in statistics if name not in self.partition_by)
        self._buffer: list[pa.RecordBatch] = []
        self._buffered = 0
        self._open: dict[Values, _OpenFile] = {}
        self._done: list[DataFile] = []

    def write(self, batch: pa.RecordBatch) -> None:
        """Take one batch of the table's schema."""
        if not batch.num_rows:
            return
        self._buffer.append(batch)
        self._buffered += batch.nbytes
        if self._buffered >= BUFFERED_BYTES:
            self._flush()
            if len(self._open) > OPEN_FILES:
                self._finish()

    def close(self) -> list[DataFile]:
        """Finish all files and return what a commit needs to know of them."""
        self._flush(last=True)
        self._finish()
        return self._done

    def _flush(self, *, last: bool = False) -> None:
        if not self._buffer:
            return
        table = pa.Table.from_batches(self._buffer, self.schema)
        self._buffer, self._buffered = [], 0
        for values, part in split(table, self.partition_by):
            if values not in self._open:
                self._open[values] = _OpenFile(self, values, part.schema)
            self._open[values].write(part)
            if last:
                self._done.append(self._open.pop(values).finish())

    def _finish(self) -> None:
        for values in sorted(self._open, key=str):
            self._done.append(self._open.pop(values).finish())


def split(table: pa.Table, partition_by: Sequence[str]) -> Iterator[tuple[Values, pa.Table]]:
    """Partition values and the other columns of their rows, in the rows' order. Rows are sorted once, not per value,
    and where equal values lie together in long stretches they are not moved at all.

    An empty text is no partition value: Delta takes it for null.
    """
    body = table.drop_columns(list(partition_by))
    if not partition_by:
        yield (), body
        return
    code, labels = np.zeros(table.num_rows, dtype=np.int64), []
    for name in partition_by:
        column = table.column(name).combine_chunks()
        encoded = pc.if_else(pc.equal(column, ""), None, column).dictionary_encode()
        labels.append([*encoded.dictionary.to_pylist(), None])
        index = encoded.indices.fill_null(len(encoded.dictionary))
        code = code * len(labels[-1]) + index.to_numpy(zero_copy_only=False)
    changes = np.flatnonzero(np.diff(code, prepend=-1))
    if len(changes) * LONG_STRETCH <= table.num_rows:
        stretches: dict[int, list[pa.Table]] = {}
        for start, stop in zip(changes, np.append(changes[1:], table.num_rows), strict=True):
            stretches.setdefault(int(code[start]), []).append(body.slice(start, stop - start))
        for number in sorted(stretches):
            yield _values_of(number, labels), pa.concat_tables(stretches[number])
        return
    order, body = np.argsort(code, kind="stable"), body.combine_chunks()
    starts = np.flatnonzero(np.diff(code[order], prepend=-1))
    for start, stop in zip(starts, np.append(starts[1:], table.num_rows), strict=True):
        yield _values_of(int(code[order[start]]), labels), body.take(pa.array(order[start:stop]))


def _values_of(number: int, labels: Sequence[Sequence[str | None]]) -> Values:
    values: list[str | None] = []
    for known in reversed(labels):
        number, index = divmod(number, len(known))
        values.insert(0, known[index])
    return tuple(values)


class _OpenFile:
    """One Parquet file while it is being written."""

    def __init__(self, writer: TableWriter, values: Values, schema: pa.Schema) -> None:
        self.root = writer.root
        self.partition = dict(zip(writer.partition_by, values, strict=True))
        self.statistics = [name for name in writer.statistics if name in schema.names]
        folder = "".join(f"{_hive(name, value)}/" for name, value in self.partition.items())
        self.relative = f"{folder}part-{uuid.uuid4().hex}.parquet"
        path = Path(self.root) / self.relative
        path.parent.mkdir(parents=True, exist_ok=True)
        self.file = pq.ParquetWriter(
            path,
            schema,
            compression="snappy",
            use_dictionary=[field.name for field in schema if pa.types.is_string(field.type)],
            write_statistics=self.statistics,
        )
        self.schema = schema
        self.rows = 0
        self.bounds: dict[str, list[Any]] = {name: [] for name in self.statistics}

    def write(self, table: pa.Table) -> None:
        self.file.write_table(table, row_group_size=ROW_GROUP_ROWS)
        self.rows += table.num_rows
        for name in self.statistics:
            self.bounds[name] += _extremes(table.column(name))

    def finish(self) -> DataFile:
        self.file.close()
        low: dict[str, Any] = {}
        high: dict[str, Any] = {}
        for name, found in self.bounds.items():
            if not found or any(isinstance(bound, float) and not math.isfinite(bound) for bound in found):
                continue
            kind = self.schema.field(name).type
            ends = _json(min(found), kind, up=False), _json(max(found), kind, up=True)
            if None not in ends:
                low[name], high[name] = ends
        return DataFile(
            path=self.relative,
            size=os.path.getsize(f"{self.root}/{self.relative}"),
            rows=self.rows,
            partition=self.partition,
            stats=json.dumps({"numRecords": self.rows, "minValues": low, "maxValues": high, "nullCount": {}}),
        )


def _hive(name: str, value: str | None) -> str:
    return f"{name}={quote(value, safe='-_.')}" if value is not None else f"{name}=__HIVE_DEFAULT_PARTITION__"


def _extremes(column: pa.ChunkedArray) -> list[Any]:
    """Least and greatest value (times as microseconds), nothing where all are null; NaN where they bound nothing."""
    kind = column.type
    if pa.types.is_timestamp(kind) and kind.tz is not None:
        column = column.cast(pa.timestamp("us", kind.tz)).cast(pa.int64())
    elif not (pa.types.is_integer(kind) or pa.types.is_string(kind) or pa.types.is_floating(kind)):
        return [math.nan]
    if pa.types.is_floating(kind) and pc.any(pc.is_nan(column)).as_py():
        return [math.nan]
    found = pc.min_max(column).as_py()
    return [] if found["min"] is None else [found["min"], found["max"]]


def _json(value: Any, kind: pa.DataType, *, up: bool) -> Any:
    """A bound as the Delta log keeps it: times to the millisecond, an upper one rounded up so that it stays a bound."""
    if pa.types.is_timestamp(kind):
        text = str(np.datetime64(-(-value // 1000) if up else value // 1000, "ms"))
        return f"{text}Z" if text[:4].isdigit() and text[4] == "-" else None  # years that JSON readers know
    return value
