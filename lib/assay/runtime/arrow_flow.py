"""Consumes shares of tables, items or exchanged files, produces rows on their way through kernels, by Arrow alone."""

from __future__ import annotations

import dataclasses
import os
import uuid
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.ipc

from assay.runtime.arrow_files import Share, Spilled, conform, spill_by_key
from assay.runtime.conditions import Condition, columns_of, mask
from assay.runtime.plane import Approve, Aside, Flow, Kernel, Output, Written, tasks_for
from assay.runtime.sharing import Piece, deal
from assay.runtime.table_writer import DataFile, TableWriter

if TYPE_CHECKING:
    from assay.runtime.arrow_plane import ArrowPlane

LIGHT_ROWS = 10_000  # of files of a table, which the driver reads itself


@dataclasses.dataclass(frozen=True)
class Memory:
    """Rows that the driver hands to one task."""

    table: pa.Table

    def batches(self) -> Iterator[pa.RecordBatch]:
        """The rows."""
        yield from self.table.to_batches()


@dataclasses.dataclass(frozen=True)
class Item:
    """An item that a kernel of the stage's own turns into batches, such as a part of a source file."""

    value: Any
    kernel: Callable[[Iterator[Any]], Iterator[pa.RecordBatch]]

    def batches(self) -> Iterator[pa.RecordBatch]:
        """Batches of the item."""
        yield from self.kernel(iter([self.value]))


@dataclasses.dataclass(frozen=True)
class Joined:
    """Two exchanged sides of a join; the right one is held in memory."""

    left: Spilled
    right: Spilled
    on: tuple[str, ...]
    schema: pa.Schema

    def batches(self) -> Iterator[pa.RecordBatch]:
        """Inner join, left order kept."""
        import polars as pl

        right_batches = list(self.right.batches())
        left_batches = list(self.left.batches())
        if not right_batches or not left_batches:
            return
        right = pl.from_arrow(pa.Table.from_batches(right_batches))
        left = pl.from_arrow(pa.Table.from_batches(left_batches))
        assert isinstance(left, pl.DataFrame)
        assert isinstance(right, pl.DataFrame)
        joined = left.join(right, on=list(self.on), how="inner", maintain_order="left")
        for batch in joined.to_arrow().to_batches():
            yield conform(batch.select(self.schema.names), self.schema)


@dataclasses.dataclass(frozen=True)
class Several:
    """Sources that one task reads one after the other."""

    sources: tuple[Any, ...]

    def batches(self) -> Iterator[pa.RecordBatch]:
        """Batches of all of them."""
        for source in self.sources:
            yield from source.batches()


@dataclasses.dataclass(frozen=True)
class Piped:
    """A source and the kernels that its rows go through: flows with different kernels meet in one."""

    source: Any
    kernels: tuple[Kernel, ...]

    def batches(self) -> Iterator[pa.RecordBatch]:
        """Batches after the last kernel."""
        yield from _run(self.source, self.kernels)


def _run(source: Any, kernels: Sequence[Kernel]) -> Iterator[pa.RecordBatch]:
    batches: Iterator[pa.RecordBatch] = source.batches()
    for kernel in kernels:
        batches = kernel(batches)
    return batches


class ArrowFlow(Flow):
    """Rows of pieces (cut into shares late, when the number of tasks is known) or of ready sources, then kernels."""

    def __init__(
        self,
        plane: ArrowPlane,
        schema: pa.Schema,
        *,
        pieces: Sequence[Piece] = (),
        table: pa.Schema | None = None,
        conditions: tuple[Condition, ...] = (),
        sources: Sequence[Any] = (),
        kernels: tuple[Kernel, ...] = (),
        read_schema: pa.Schema | None = None,
    ) -> None:
        """Rows of `pieces` of a table whose schema is `table`, or of `sources`."""
        self.plane = plane
        self._schema = schema
        self._read_schema = read_schema if read_schema is not None else schema
        self._pieces = pieces
        self._table = table
        self._conditions = conditions
        self._sources = sources
        self.kernels = kernels

    @property
    def schema(self) -> pa.Schema:
        """Schema after the last kernel."""
        return self._schema

    def map(self, kernel: Kernel, schema: pa.Schema) -> ArrowFlow:
        """Append a kernel."""
        return ArrowFlow(
            self.plane,
            schema,
            pieces=self._pieces,
            table=self._table,
            conditions=self._conditions,
            sources=self._sources,
            kernels=(*self.kernels, kernel),
            read_schema=self._read_schema,
        )

    def shares(self, tasks: int | None = None) -> list[Any]:
        """The sources of the tasks: `tasks` of them, or as many as the rows are worth."""
        if self._table is None:
            if tasks is None:
                return list(self._sources)
            return [Several(tuple(self._sources[rank::tasks])) for rank in range(tasks)]
        rows = sum(piece.rows for piece in self._pieces)
        if not rows and not tasks:
            return []
        wanted = tasks or tasks_for(rows, rows_per_task=self.plane.rows_per_task, slots=self.plane.slots)
        needed = dict.fromkeys([*self._read_schema.names, *columns_of(self._conditions)])
        types = pa.schema([self._table.field(name) for name in needed])
        parts = deal(self._pieces, wanted)
        return [Share(tuple(part), self._read_schema, types, self._conditions) for part in parts if part or tasks]

    def by_key(self, keys: Sequence[str], *, rows_hint: int) -> ArrowFlow:
        """Exchange through Arrow IPC files on the shared file system."""
        buckets = tasks_for(rows_hint, rows_per_task=self.plane.rows_per_task, slots=self.plane.slots) if keys else 1
        spilled = self._spill(keys, buckets)
        return ArrowFlow(self.plane, self._schema, sources=[s for s in spilled if s.paths])

    def in_few(self, tasks: int) -> ArrowFlow:
        """One source a task, which reads all of its own."""
        sources = [Piped(source, self.kernels) for source in self.shares(tasks)]
        return ArrowFlow(self.plane, self._schema, sources=sources)

    def join(self, other: Flow, on: Sequence[str], *, rows_hint: int) -> ArrowFlow:
        """Exchange both sides by `on`, then join bucket by bucket."""
        assert isinstance(other, ArrowFlow)
        buckets = tasks_for(rows_hint, rows_per_task=self.plane.rows_per_task, slots=self.plane.slots)
        left, right = self._spill(on, buckets), other._spill(on, buckets)
        schema = pa.schema([*self._schema, *(f for f in other.schema if f.name not in on)])
        sources = [Joined(a, b, tuple(on), schema) for a, b in zip(left, right, strict=True) if a.paths and b.paths]
        return ArrowFlow(self.plane, schema, sources=sources)

    def _spill(self, keys: Sequence[str], buckets: int) -> list[Spilled]:
        folder, schema, kernels, names = str(self.plane.scratch()), self._schema, self.kernels, tuple(keys)

        def spill(index: int, source: Any) -> list[tuple[int, str, int]]:
            return spill_by_key(
                _run(source, kernels),
                keys=names,
                buckets=buckets,
                folder=folder,
                name=f"{index:05d}-{uuid.uuid4().hex}",  # a task may be tried again while its first try still writes
                schema=schema,
            )

        parts = self._run_tasks(spill)
        paths: list[list[str]] = [[] for _ in range(buckets)]
        for task in parts:
            for bucket, path, _ in task:
                paths[bucket].append(path)
        return [Spilled(tuple(found), schema) for found in paths]

    def union(self, other: Flow) -> ArrowFlow:
        """Tasks of both."""
        assert isinstance(other, ArrowFlow)
        sources = [Piped(source, flow.kernels) for flow in (self, other) for source in flow.shares()]
        return ArrowFlow(self.plane, self._schema, sources=sources)

    def _run_tasks(self, function: Callable[[int, Any], Any]) -> list[Any]:
        """Run a function of each share: on executors, or here, where a task would take longer to start than to run."""
        shares = self.shares()
        if not self.kernels and len(shares) == 1 and _is_light(shares[0]):
            return [function(0, shares[0])]
        return self.plane.run_tasks(shares, function)

    def collect(self) -> pa.Table:
        """Run and bring all rows to the driver."""
        kernels, schema = self.kernels, self._schema

        def gather(_: int, source: Any) -> bytes:
            sink = pa.BufferOutputStream()
            with pa.ipc.new_stream(sink, schema) as writer:
                for batch in _run(source, kernels):
                    writer.write_batch(conform(batch, schema))
            return bytes(sink.getvalue())

        parts = [pa.ipc.open_stream(buffer).read_all() for buffer in self._run_tasks(gather)]
        return pa.concat_tables(parts) if parts else schema.empty_table()

    def write(
        self, outputs: Sequence[Output], *, approve: Approve | None = None, aside: Aside | None = None
    ) -> list[Written]:
        """Run once, write Parquet on executors, commit each output on the driver."""
        kernels, plans = self.kernels, [(self.plane.location(o.table.name), o) for o in outputs]

        wanted = (aside.only, aside.schema) if aside is not None else None

        def write(_: int, source: Any) -> tuple[list[tuple[int, list[DataFile]]], bytes]:
            writers = [TableWriter(root, o.schema, o.table.partition_by, o.statistics) for root, o in plans]
            weights = [0] * len(plans)
            notes: list[pa.RecordBatch] = []
            for given in _run(source, kernels):
                batch = given if wanted is None else _set_aside(given, *wanted, notes)
                for index, (__, output) in enumerate(plans):
                    part = mask(batch, output.conditions)
                    if part.num_rows:
                        writers[index].write(conform(part.select(output.schema.names), output.schema))
                        weights[index] += pc.sum(part.column(output.weight)).as_py() if output.weight else part.num_rows
            return [(weight, writer.close()) for weight, writer in zip(weights, writers, strict=True)], _packed(notes)

        for output in outputs:
            if output.owns and self.plane.version(output.table.name) is not None:
                output.check_schema(self.plane.schema(output.table.name))
            os.makedirs(self.plane.location(output.table.name), exist_ok=True)
        results = self._run_tasks(write)
        done = [files for files, _ in results]
        if aside is not None:
            aside.take(_unpacked([notes for _, notes in results], aside.schema))
        files = [[file for task in done for file in task[i][1]] for i in range(len(outputs))]
        for output, found in zip(outputs, files, strict=True):
            for file in found:
                output.check_owned(file.partition)
        counts = {o.table.name: sum(task[i][0] for task in done) for i, o in enumerate(outputs)}
        approved = set(approve(counts)) if approve is not None else set(counts)
        return [
            self.plane.commit(output, found)
            for output, found in zip(outputs, files, strict=True)
            if output.table.name in approved
        ]


def _is_light(source: Any) -> bool:
    """Whether the driver has the rows, or would get them for as little as a task costs."""
    return isinstance(source, Memory) or (isinstance(source, Share) and source.rows <= LIGHT_ROWS)


def _set_aside(batch: pa.RecordBatch, only: str, schema: pa.Schema, notes: list[pa.RecordBatch]) -> pa.RecordBatch:
    """The batch without the rows that go to the driver, which are put into `notes`."""
    found = mask(batch, [Condition(only, "not_null")])
    if not found.num_rows:
        return batch
    notes.append(conform(found.select(schema.names), schema))
    return mask(batch, [Condition(only, "is_null")])


def _packed(batches: Sequence[pa.RecordBatch]) -> bytes:
    if not batches:
        return b""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, batches[0].schema) as writer:
        for batch in batches:
            writer.write_batch(batch)
    return bytes(sink.getvalue())


def _unpacked(buffers: Sequence[bytes], schema: pa.Schema) -> pa.Table:
    tables = [pa.ipc.open_stream(buffer).read_all() for buffer in buffers if buffer]
    return pa.concat_tables(tables) if tables else schema.empty_table()
