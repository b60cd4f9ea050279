"""Consumes the mixed, packed batches that one rank gets from Spark, produces local files that it can read again."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.ipc

from assay.runtime.arrow_files import Spilled
from assay.runtime.barrier import Batches, RankContext, rank_context


def run_spooled(
    batches: Iterator[pa.RecordBatch],
    schemas: Sequence[pa.Schema],
    task: Callable[[RankContext, list[Batches]], Any],
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
        return context.rank, task(context, shares)
