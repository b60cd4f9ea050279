"""Consumes batches of several flows, produces packed parts for the ranks, and on each rank files to read again."""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.ipc

from assay.runtime.arrow_files import Spilled, conform
from assay.runtime.barrier import Batches, Task, rank_context, run_rank

PACKED = "flow long, task long, part long, rank int, batch binary"


@dataclasses.dataclass(frozen=True)
class Pack:
    """Kernel that cuts each batch of a flow into one part per rank, as Arrow bytes with what is needed to sort them.

    whole: every rank gets all of each batch instead.
    """

    flow: int
    schema: pa.Schema
    ranks: int
    whole: bool = False

    def __call__(self, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """Rows of `PACKED`."""
        from pyspark import TaskContext

        context = TaskContext.get()
        task = context.partitionId() if context is not None else 0
        for number, batch in enumerate(batches):
            bounds = [batch.num_rows * rank // self.ranks for rank in range(self.ranks + 1)]
            ranks = [rank for rank in range(self.ranks) if bounds[rank] < bounds[rank + 1]]
            fitted = conform(batch, self.schema)
            packed = [_bytes(fitted.slice(bounds[rank], bounds[rank + 1] - bounds[rank])) for rank in ranks]
            if self.whole:
                ranks, packed = list(range(self.ranks)), [_bytes(fitted)] * self.ranks
            yield pa.record_batch(
                {
                    "flow": pa.array([self.flow] * len(ranks), pa.int64()),
                    "task": pa.array([task] * len(ranks), pa.int64()),
                    "part": pa.array([number] * len(ranks), pa.int64()),
                    "rank": pa.array(ranks, pa.int32()),
                    "batch": pa.array(packed, pa.binary()),
                }
            )


def _bytes(batch: pa.RecordBatch) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, batch.schema) as writer:
        writer.write_batch(batch)
    return bytes(sink.getvalue())


def run_spooled(
    batches: Iterator[pa.RecordBatch],
    schemas: Sequence[pa.Schema],
    task: Task,
    ranks: int,
) -> tuple[int, Any]:
    """Spool each flow's batches to an Arrow file, then run the rank's task on them. Returns (rank, result)."""
    from pyspark import BarrierTaskContext

    with tempfile.TemporaryDirectory(prefix="assay-spool-") as folder:
        paths = [str(Path(folder) / f"{index}.arrow") for index in range(len(schemas))]
        sinks = [pa.OSFile(path, "wb") for path in paths]
        writers = [pa.ipc.new_stream(sink, schema) for sink, schema in zip(sinks, schemas, strict=True)]
        for packed in batches:
            for flow, cell in zip(packed.column("flow").to_pylist(), packed.column("batch"), strict=True):
                for batch in pa.ipc.open_stream(cell.as_buffer()):
                    writers[flow].write_batch(batch)
        for writer, sink in zip(writers, sinks, strict=True):
            writer.close()
            sink.close()
        context = rank_context(BarrierTaskContext.get(), ranks)
        shares: list[Batches] = [Spilled((path,), schema).batches for path, schema in zip(paths, schemas, strict=True)]
        return context.rank, run_rank(context, shares, task)
