"""Consumes a lake on a file system that executors share, produces flows over its files and commits to its Delta logs.

Driver: plans shares from the Delta log, commits. Executors: read Parquet, run kernels, exchange Arrow IPC files,
write Parquet. No row passes through the JVM.
"""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import socket
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

import pyarrow as pa
import pyarrow.parquet as pq

from assay.errors import AssayError, DataError
from assay.runtime.arrow_files import DataFile, Piece, Share, Spilled, TableWriter, conform, spill_by_key
from assay.runtime.conditions import Condition, mask, may_hold
from assay.runtime.plane import COMMIT_KEY, Approve, Commit, Flow, Kernel, Output, Plane, Written, tasks_for
from assay.runtime.tables import Table

if TYPE_CHECKING:
    from deltalake import DeltaTable
    from pyspark import SparkContext

UNREADABLE_FEATURES = {"deletionVectors", "columnMapping"}


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


def _run(source: Any, kernels: Sequence[Kernel]) -> Iterator[pa.RecordBatch]:
    batches: Iterator[pa.RecordBatch] = source.batches()
    for kernel in kernels:
        batches = kernel(batches)
    return batches


class ArrowPlane(Plane):
    """Tables as folders below one root."""

    road = "arrow"

    def __init__(self, context: Callable[[], SparkContext], root: Path, *, rows_per_task: int = 250_000) -> None:
        self._context = context
        self.root = root
        self.rows_per_task = rows_per_task
        self._scratch = root / "_scratch" / f"{socket.gethostname()}-{os.getpid()}"
        self._exchanges = 0

    @property
    def spark(self) -> SparkContext:
        """The Spark context, started when the first task needs it."""
        return self._context()

    @property
    def slots(self) -> int:
        """Tasks that can run at once."""
        return max(1, int(self.spark.defaultParallelism) // int(self.spark.getConf().get("spark.task.cpus", "1")))

    def location(self, table: str) -> str:
        """Folder of a table."""
        return str(self.root / table)

    def _delta(self, table: str, version: int | None = None) -> DeltaTable:
        from deltalake import DeltaTable

        delta = DeltaTable(self.location(table), version=version)
        features = set(delta.protocol().reader_features or [])
        if features & UNREADABLE_FEATURES:
            raise DataError(
                f"table {table} uses {', '.join(sorted(features & UNREADABLE_FEATURES))}, which only Spark can read: "
                "set runtime.road=spark"
            )
        return delta

    def version(self, table: str) -> int | None:
        """Newest version of a table."""
        if not (self.root / table / "_delta_log").is_dir():
            return None
        return int(self._delta(table).version())

    def schema(self, table: str) -> pa.Schema:
        """Schema of a table, as Arrow types."""
        return pa.schema(self._delta(table).schema())

    def rows(self, table: str, version: int) -> int:
        """Rows of a table at a version, from its log."""
        return sum(piece.rows for piece in _pieces(self._delta(table, version), self.root / table))

    def last_commit(self, table: str, slot: str) -> Commit | None:
        """Newest write of assay to this slot."""
        if self.version(table) is None:
            return None
        for entry in self._delta(table).history():
            found = parse_commit(entry.get("userMetadata"), int(entry.get("version", -1)))
            if found is not None and found.slot == slot:
                return found
        return None

    def read(
        self, table: str, *, version: int, columns: Sequence[str] | None = None, where: Sequence[Condition] = ()
    ) -> ArrowFlow:
        """Rows of a table, cut into shares of about `rows_per_task` rows."""
        delta = self._delta(table, version)
        schema = pa.schema(delta.schema())
        wanted = pa.schema([schema.field(name) for name in (columns if columns is not None else schema.names)])
        pieces = [p for p in _pieces(delta, self.root / table) if may_hold(dict(p.partition), where)]
        return ArrowFlow(self, wanted, pieces=pieces, conditions=tuple(where))

    def rows_of(self, table: Table, schema: pa.Schema, rows: pa.Table) -> ArrowFlow:
        """A small table of the driver's as a flow of one task."""
        fitted = pa.Table.from_batches([conform(b.select(schema.names), schema) for b in rows.to_batches()], schema)
        return ArrowFlow(self, schema, sources=[Memory(fitted)])

    def inputs(
        self, items: Sequence[Any], kernel: Callable[[Iterator[Any]], Iterator[pa.RecordBatch]], schema: pa.Schema
    ) -> ArrowFlow:
        """One task per item."""
        return ArrowFlow(self, schema, sources=[Item(item, kernel) for item in items])

    def train(self, reads: Sequence[Flow], task: Any, ranks: int) -> list[Any]:
        """One barrier stage in which each rank streams its own files."""
        from assay.runtime.barrier import run_barrier

        per_flow = []
        for flow in reads:
            assert isinstance(flow, ArrowFlow)
            per_flow.append([(share, flow.kernels) for share in flow.shares(ranks)])
        work = [tuple(flow[rank] for flow in per_flow) for rank in range(ranks)]
        return run_barrier(self.spark, work, task)

    def scratch(self) -> Path:
        """A fresh folder for one exchange."""
        self._exchanges += 1
        folder = self._scratch / f"{self._exchanges:03d}"
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def clean(self) -> None:
        """Remove this process's exchange files, and those that dead processes of this machine left."""
        import psutil

        shutil.rmtree(self._scratch, ignore_errors=True)
        parent = self._scratch.parent
        if parent.is_dir():
            for folder in parent.iterdir():
                host, _, pid = folder.name.rpartition("-")
                if host == socket.gethostname() and pid.isdigit() and not psutil.pid_exists(int(pid)):
                    shutil.rmtree(folder, ignore_errors=True)
            if not any(parent.iterdir()):
                parent.rmdir()

    def run_tasks(self, work: Sequence[Any], function: Callable[[int, Any], Any]) -> list[Any]:
        """Run `function(index, item)` as one Spark task per item; results in order."""
        if not work:
            return []

        def each(items: Iterator[tuple[int, Any]]) -> Iterator[Any]:
            for index, item in items:
                yield function(index, item)

        return list(self.spark.parallelize(list(enumerate(work)), len(work)).mapPartitions(each).collect())

    def commit(self, output: Output, files: Sequence[DataFile]) -> Written:
        """Replace what `output` owns by these files, in one Delta transaction."""
        from deltalake import CommitProperties, DeltaTable
        from deltalake.transaction import AddAction

        location = self.location(output.table.name)
        partition_by = list(output.table.partition_by)
        schema = pa.schema([field.with_nullable(True) for field in output.schema])
        if self.version(output.table.name) is None:
            statistics = {"delta.dataSkippingStatsColumns": ",".join(output.table.statistics_columns)}
            DeltaTable.create(
                location,
                schema=schema,
                partition_by=partition_by,
                description=output.table.grain,
                configuration=statistics if output.table.statistics_columns else None,
            )
        for file in files:
            on_disk = self.root / output.table.name / unquote(file.path)
            if not on_disk.is_file() or on_disk.stat().st_size != file.size:
                raise AssayError(
                    f"executors wrote {file.path} of table {output.table.name}, but the driver does not see it: the "
                    "workspace is not on a file system that all share. Use one, or set runtime.road=spark"
                )
        delta = DeltaTable(location)
        changed = not pa.schema(delta.schema()).equals(schema)
        if changed and output.owns:
            raise DataError(
                f"table {output.table.name} has other columns than this run writes; rebuild it whole or use another "
                "--workspace"
            )
        actions = [
            AddAction(
                path=file.path,
                size=file.size,
                partition_values=dict(file.partition),
                modification_time=int((self.root / output.table.name / unquote(file.path)).stat().st_mtime * 1000),
                data_change=True,
                stats=file.stats,
            )
            for file in files
        ]
        delta.create_write_transaction(
            actions=actions,
            mode="overwrite",
            schema=schema,
            partition_by=partition_by,
            partition_filters=[(name, "=", value) for name, value in output.owns.items()] or None,
            commit_properties=CommitProperties(custom_metadata={"userMetadata": json.dumps(output.commit.payload())}),
        )
        return Written(output.table.name, int(DeltaTable(location).version()), sum(file.rows for file in files))


def parse_commit(text: Any, version: int) -> Commit | None:
    """Read back `Commit.payload()`; anything else in a commit's metadata is none of ours."""
    try:
        found = json.loads(text)[COMMIT_KEY] if text else None
    except (ValueError, KeyError, TypeError):
        return None
    return Commit(version, found["job"], found["slot"], found["identity"], found["details"]) if found else None


def _pieces(delta: DeltaTable, root: Path) -> list[Piece]:
    actions = pa.table(delta.get_add_actions(flatten=True)).to_pylist()
    pieces = []
    for action in actions:
        partition = {n.removeprefix("partition."): v for n, v in action.items() if n.startswith("partition.")}
        path = root / action["path"]
        if not path.is_file():
            path = root / unquote(action["path"])
        rows = action["num_records"]
        if rows is None:
            rows = pq.read_metadata(path).num_rows
        pieces.append(Piece(str(path), int(rows), partition))
    # Commit order and file names are random; rows per partition are not: sort so that shares are the same every time.
    return sorted(pieces, key=lambda p: (str(sorted(p.partition.items())), p.rows, p.path))


class ArrowFlow(Flow):
    """Rows of pieces (cut into shares late, when the number of tasks is known) or of ready sources, then kernels."""

    def __init__(
        self,
        plane: ArrowPlane,
        schema: pa.Schema,
        *,
        pieces: Sequence[Piece] = (),
        conditions: tuple[Condition, ...] = (),
        sources: Sequence[Any] | None = None,
        kernels: tuple[Kernel, ...] = (),
        read_schema: pa.Schema | None = None,
    ) -> None:
        self.plane = plane
        self._schema = schema
        self._read_schema = read_schema if read_schema is not None else schema
        self._pieces = pieces
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
            conditions=self._conditions,
            sources=self._sources,
            kernels=(*self.kernels, kernel),
            read_schema=self._read_schema,
        )

    def shares(self, tasks: int | None = None) -> list[Any]:
        """The sources of the tasks: `tasks` of them, or as many as the rows are worth."""
        if self._sources is not None:
            return list(self._sources)
        rows = sum(piece.rows for piece in self._pieces)
        if not rows and not tasks:
            return []
        wanted = tasks or tasks_for(rows, rows_per_task=self.plane.rows_per_task, slots=self.plane.slots)
        parts = deal(self._pieces, wanted)
        return [Share(tuple(part), self._read_schema, self._conditions) for part in parts if part or tasks]

    def by_key(self, keys: Sequence[str], *, rows_hint: int) -> ArrowFlow:
        """Exchange through Arrow IPC files on the shared file system."""
        buckets = tasks_for(rows_hint, rows_per_task=self.plane.rows_per_task, slots=self.plane.slots) if keys else 1
        spilled = self._spill(keys, buckets)
        return ArrowFlow(self.plane, self._schema, sources=[s for s in spilled if s.paths])

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
                name=f"{index:05d}-{os.getpid()}",
                schema=schema,
            )

        parts = self.plane.run_tasks(self.shares(), spill)
        paths: list[list[str]] = [[] for _ in range(buckets)]
        for task in parts:
            for bucket, path, _ in task:
                paths[bucket].append(path)
        return [Spilled(tuple(found), schema) for found in paths]

    def collect(self) -> pa.Table:
        """Run and bring all rows to the driver."""
        kernels, schema = self.kernels, self._schema

        def gather(_: int, source: Any) -> bytes:
            sink = pa.BufferOutputStream()
            with pa.ipc.new_stream(sink, schema) as writer:
                for batch in _run(source, kernels):
                    writer.write_batch(conform(batch, schema))
            return bytes(sink.getvalue())

        parts = [pa.ipc.open_stream(buffer).read_all() for buffer in self.plane.run_tasks(self.shares(), gather)]
        return pa.concat_tables(parts) if parts else schema.empty_table()

    def write(self, outputs: Sequence[Output], *, approve: Approve | None = None) -> list[Written]:
        """Run once, write Parquet on executors, commit each output on the driver."""
        kernels, plans = self.kernels, [(self.plane.location(o.table.name), o) for o in outputs]

        def write(_: int, source: Any) -> list[list[DataFile]]:
            writers = [
                TableWriter(root, o.schema, o.table.partition_by, o.table.statistics_columns) for root, o in plans
            ]
            for batch in _run(source, kernels):
                for writer, (__, output) in zip(writers, plans, strict=True):
                    condition = []
                    if output.only is not None:
                        condition = [Condition(output.only, "is_null" if output.keep == "null" else "not_null")]
                    part = mask(batch, condition)
                    if part.num_rows:
                        writer.write(conform(part.select(output.schema.names), output.schema))
            return [writer.close() for writer in writers]

        for _, output in plans:
            os.makedirs(self.plane.location(output.table.name), exist_ok=True)
        done = self.plane.run_tasks(self.shares(), write)
        files = [[file for task in done for file in task[i]] for i in range(len(outputs))]
        counts = {o.table.name: sum(file.rows for file in found) for o, found in zip(outputs, files, strict=True)}
        approved = set(approve(counts)) if approve is not None else set(counts)
        return [
            self.plane.commit(output, found)
            for output, found in zip(outputs, files, strict=True)
            if output.table.name in approved
        ]


def deal(pieces: Sequence[Piece], hands: int) -> list[list[Piece]]:
    """Deal pieces to tasks so that rows are even: whole files while that is fair, else row groups.

    The order within a hand is the order of `pieces`, so that a table's time order is kept.
    """
    if hands <= 1:
        return [list(pieces)]
    total = sum(piece.rows for piece in pieces)
    fair = -(-total // hands)
    fine: list[Piece] = []
    for piece in pieces:
        fine.extend(_row_groups(piece) if piece.rows > max(fair // 4, 1) else [piece])
    loads = [0] * hands
    hands_of: list[list[tuple[int, Piece]]] = [[] for _ in range(hands)]
    for order, piece in sorted(enumerate(fine), key=lambda item: (-item[1].rows, item[0])):
        lightest = min(range(hands), key=lambda h: (loads[h], h))
        loads[lightest] += piece.rows
        hands_of[lightest].append((order, piece))
    return [[piece for _, piece in sorted(hand, key=lambda item: item[0])] for hand in hands_of]


def _row_groups(piece: Piece) -> list[Piece]:
    meta = pq.read_metadata(piece.path)
    wanted = piece.row_groups if piece.row_groups is not None else range(meta.num_row_groups)
    return [dataclasses.replace(piece, rows=meta.row_group(g).num_rows, row_groups=(g,)) for g in wanted]
