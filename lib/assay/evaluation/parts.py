"""Consumes frames that tasks have summed, produces rows that travel to the driver, and frames again; samples rows."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping, Sequence
from typing import Protocol

import numpy as np
import polars as pl
import pyarrow as pa

from assay.model.row_sample import ROW, row_hash

DAY = "\0day"  # kept apart from segments: no column is called so
KEYS = ("segment_column", "segment")
PARTS = pa.schema([pa.field("name", pa.string()), pa.field("frame", pa.binary())])
BLOCK_ROWS = 200_000


class Sums(Protocol):
    """What was summed of evaluated rows, of numbers or of classes."""

    @property
    def rows(self) -> int:
        """All rows that were summed."""
        ...

    @property
    def sample(self) -> pl.DataFrame:
        """Hash and kept columns of some rows, or of all."""
        ...

    @property
    def days(self) -> pl.DataFrame:
        """Per day and rival, of the rows that it predicts: rows, losses of the model and of the rival."""
        ...

    def of(self, column: str) -> pl.DataFrame:
        """Sums of one segment column (or `DAY`, or empty for all rows), by segment."""
        ...


def packed(frames: Mapping[str, pl.DataFrame]) -> pa.RecordBatch:
    """Frames by name -> rows of `PARTS`."""
    names, bodies = [], []
    for name, frame in frames.items():
        sink = io.BytesIO()
        frame.write_ipc_stream(sink, compression="zstd")
        names.append(name)
        bodies.append(sink.getvalue())
    return pa.record_batch([pa.array(names), pa.array(bodies, pa.binary())], schema=PARTS)


def unpacked(table: pa.Table) -> Iterator[dict[str, pl.DataFrame]]:
    """Rows of `PARTS` of all tasks -> the frames of one after the other."""
    bodies: dict[str, list[bytes]] = {}
    for name, body in zip(table["name"].to_pylist(), table["frame"].to_pylist(), strict=True):
        bodies.setdefault(name, []).append(body)
    for each in zip(*bodies.values(), strict=True):
        yield {name: pl.read_ipc_stream(io.BytesIO(body)) for name, body in zip(bodies, each, strict=True)}


def blocks(batches: Iterator[pa.RecordBatch]) -> Iterator[pl.DataFrame]:
    """The same rows in frames of about `BLOCK_ROWS`, so that a task holds no more than one of them."""
    held: list[pa.RecordBatch] = []
    for batch in batches:
        held.append(batch)
        if sum(each.num_rows for each in held) >= BLOCK_ROWS:
            yield _frame(held)
            held = []
    if any(each.num_rows for each in held):
        yield _frame(held)


def _frame(held: Sequence[pa.RecordBatch]) -> pl.DataFrame:
    found = pl.from_arrow(pa.Table.from_batches(held))
    assert isinstance(found, pl.DataFrame)
    return found


def sample_of(rows: pl.DataFrame, kept: Sequence[str], threshold: int, most: int) -> pl.DataFrame:
    """`hash` and kept columns of the rows with the least hashes of `row_id`, at most so many of them."""
    # Rows without an id, as small frames in memory may be, are taken in their order.
    ids = rows[ROW] if ROW in rows.columns else pl.Series(ROW, np.arange(rows.height), pl.Int64)
    columns = [name for name in dict.fromkeys(kept) if name in rows.columns and name != ROW]
    found = rows.select(pl.Series("hash", row_hash(ids.to_numpy())), ids, *columns)
    return found.filter(pl.col("hash") <= threshold).sort("hash", ROW).head(most)
