"""Consumes a flow of rows with a time, produces the newest time among them, or their dates."""

from __future__ import annotations

import dataclasses
import datetime as dt
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from assay.runtime.plane import Flow
from assay.runtime.tables import TIME

NEWEST = pa.schema([pa.field("time", TIME)])
DATES = pa.schema([pa.field("date", pa.date32())])


def newest_time(rows: Flow) -> dt.datetime | None:
    """The newest `time` (UTC) of rows; None without rows. One row a task comes to the driver."""
    times = rows.map(NewestTime(), NEWEST).collect().column("time")
    newest: dt.datetime | None = pc.max(times).as_py()
    return newest


def dates_of(rows: Flow) -> npt.NDArray[np.datetime64]:
    """Dates (UTC) that rows have, rising, each once. Those of a task come to the driver."""
    found = rows.map(Dates(), DATES).collect().column("date")
    return np.unique(found.to_numpy().astype("datetime64[D]"))


@dataclasses.dataclass(frozen=True)
class Dates:
    """Kernel: each date of a task's rows once."""

    def __call__(self, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """Rows of `DATES`."""
        found = [pc.unique(batch.column("time").cast(TIME).cast(pa.date32())) for batch in batches if batch.num_rows]
        if found:
            yield pa.record_batch([pa.concat_arrays(found).unique()], schema=DATES)


@dataclasses.dataclass(frozen=True)
class NewestTime:
    """Kernel: the newest time of a task's rows, in one row; none of none."""

    def __call__(self, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """Rows of `NEWEST`."""
        found = [pc.max(batch.column("time")).as_py() for batch in batches if batch.num_rows]
        if found:
            yield pa.record_batch([pa.array([max(found)], TIME)], schema=NEWEST)
