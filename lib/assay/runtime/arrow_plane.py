"""Consumes a lake on a file system that executors share, produces flows over its files and commits to its Delta logs.

Driver: plans shares from the Delta log, commits. Executors: read Parquet, run kernels, exchange Arrow IPC files,
write Parquet. No row passes through the JVM.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from assay import extensions
from assay.errors import DataError
from assay.runtime.arrow_commit import commit_files
from assay.runtime.arrow_files import Spilled, SpillFrame, arrow_schema, conform, dictionaries, spill_by_key
from assay.runtime.arrow_flow import ArrowFlow, Item, Memory
from assay.runtime.conditions import Condition, columns_of, may_hold
from assay.runtime.delta_log import DeltaLogs
from assay.runtime.plane import Commit, Flow, Output, Plane, Written
from assay.runtime.sharing import pieces_of
from assay.runtime.table_writer import DataFile
from assay.runtime.tables import Table
from assay.runtime.workers import prepare_worker

if TYPE_CHECKING:
    from deltalake import DeltaTable
    from pyspark import SparkContext
    from pyspark.sql import DataFrame

HANDED_BYTES = 4 << 20  # more goes through files: what Spark hands to tasks lies in Java's memory several times
SPILLED_ROWS = 65_536  # of a batch


class ArrowPlane(Plane):
    """Tables as folders below one root."""

    road = "arrow"

    def __init__(self, context: Callable[[], SparkContext], root: Path, *, rows_per_task: int = 250_000) -> None:
        self._context = context
        self.root = root
        self.rows_per_task = rows_per_task
        self._scratch = root / "_scratch" / f"{socket.gethostname()}-{os.getpid()}"
        self._exchanges = 0
        self._logs = DeltaLogs(root)

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

    def _delta(self, table: str) -> DeltaTable:
        found = self._logs.newest(table)
        if found is None:
            raise DataError(f"table {table} does not exist in {self.location(table)}")
        return found

    def version(self, table: str) -> int | None:
        """Newest version of a table."""
        found = self._logs.newest(table)
        return int(found.version()) if found is not None else None

    def schema(self, table: str) -> pa.Schema:
        """Schema of a table, as Arrow types."""
        return pa.schema(self._delta(table).schema())

    def rows(self, table: str, version: int) -> int:
        """Rows of a table at a version, from its log."""
        return sum(piece.rows for piece in pieces_of(self._logs.at(table, version), self.root / table))

    def partitions(self, table: str, version: int, column: str) -> set[str]:
        """Values of a partition column at a version."""
        return {str(p.partition[column]) for p in pieces_of(self._logs.at(table, version), self.root / table)}

    def changed(self, table: str, since: int, version: int, column: str) -> set[str] | None:
        """Values of a partition column whose files differ between two versions."""
        from deltalake.exceptions import DeltaError

        try:
            before, after = (
                {(p.path, str(p.partition[column])) for p in pieces_of(self._logs.at(table, v), self.root / table)}
                for v in (since, version)
            )
        except DeltaError:  # the log no longer goes back that far
            return None
        return {value for _, value in before ^ after}

    def last_commit(
        self, table: str, slot: str, *, identity: str | None = None, details: Mapping[str, Any] = MappingProxyType({})
    ) -> Commit | None:
        """Newest write of assay to this slot, or the newest with this identity and these details."""
        newest = self._logs.newest(table)
        for entry in newest.history() if newest is not None else []:
            found = Commit.parse(entry.get("userMetadata"), int(entry.get("version", -1)))
            if found is not None and found.is_of(slot, identity, details):
                return found
        return None

    def read(
        self,
        table: str,
        *,
        version: int,
        columns: Sequence[str] | None = None,
        where: Sequence[Condition] = (),
        encoded: Sequence[str] = (),
    ) -> ArrowFlow:
        """Rows of a table, cut into shares of about `rows_per_task` rows."""
        delta = self._logs.at(table, version)
        plain = {*columns_of(where), *delta.metadata().partition_columns}
        schema = dictionaries(pa.schema(delta.schema()), set(encoded) - plain)
        wanted = pa.schema([schema.field(name) for name in (columns if columns is not None else schema.names)])
        pieces = [p for p in pieces_of(delta, self.root / table) if may_hold(p.partition, where)]
        return ArrowFlow(self, wanted, pieces=pieces, table=schema, conditions=tuple(where))

    def rows_of(self, table: Table, schema: pa.Schema, rows: pa.Table) -> ArrowFlow:
        """A table of the driver's: handed to one task where it is small, else through files of the scratch folder."""
        fitted = pa.Table.from_batches([conform(b.select(schema.names), schema) for b in rows.to_batches()], schema)
        if fitted.nbytes <= HANDED_BYTES:
            return ArrowFlow(self, schema, sources=[Memory(fitted)])
        folder, sources, length = str(self.scratch()), [], max(self.rows_per_task, SPILLED_ROWS)
        for number, start in enumerate(range(0, fitted.num_rows, length)):
            part = iter(fitted.slice(start, length).to_batches(SPILLED_ROWS))
            spilled = spill_by_key(part, keys=(), buckets=1, folder=folder, name=f"{number:05d}", schema=schema)
            sources.append(Spilled(tuple(path for _, path, _ in spilled), schema))
        return ArrowFlow(self, schema, sources=sources)

    def inputs(
        self, items: Sequence[Any], kernel: Callable[[Iterator[Any]], Iterator[pa.RecordBatch]], schema: pa.Schema
    ) -> ArrowFlow:
        """One task per item."""
        return ArrowFlow(self, schema, sources=[Item(item, kernel) for item in items])

    def frame(self, frame: DataFrame) -> ArrowFlow:
        """Spark writes the rows as Arrow files to the scratch folder, from where this road goes on."""
        schema, folder = arrow_schema(frame), str(self.scratch())
        spilled = frame.mapInArrow(SpillFrame(folder, schema), "path string, rows long").collect()
        return ArrowFlow(
            self, schema, sources=[Spilled((path,), schema) for path in sorted(r["path"] for r in spilled)]
        )

    def train(self, reads: Sequence[Flow], task: Any, ranks: int, *, whole: bool = False) -> list[Any]:
        """One barrier stage in which each rank streams its own files, or all of them."""
        from assay.runtime.barrier import run_barrier

        per_flow = []
        for flow in reads:
            assert isinstance(flow, ArrowFlow)
            shares = flow.shares(1) * ranks if whole else flow.shares(ranks)
            per_flow.append([(share, flow.kernels) for share in shares])
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
        with contextlib.suppress(OSError):  # others use it, or were faster
            for folder in parent.iterdir():
                host, _, pid = folder.name.rpartition("-")
                if host == socket.gethostname() and pid.isdigit() and not psutil.pid_exists(int(pid)):
                    shutil.rmtree(folder, ignore_errors=True)
            parent.rmdir()

    def run_tasks(self, work: Sequence[Any], function: Callable[[int, Any], Any]) -> list[Any]:
        """Run `function(index, item)` as one Spark task per item; results in order."""
        if not work:
            return []

        extended = extensions.carried()

        def each(items: Iterator[tuple[int, Any]]) -> Iterator[Any]:
            prepare_worker(extended)
            for index, item in items:
                yield function(index, item)

        return list(self.spark.parallelize(list(enumerate(work)), len(work)).mapPartitions(each).collect())

    def commit(self, output: Output, files: Sequence[DataFile]) -> Written:
        """Replace what `output` owns by these files, in one Delta transaction."""
        return commit_files(self.root / output.table.name, output, files)
