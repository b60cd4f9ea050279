"""Consumes arrays that a task made of its share, produces the one row in which they come to the driver, and back."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pyarrow as pa

PARTS = pa.schema([pa.field("arrays", pa.binary())])


def pack(**arrays: Any) -> pa.RecordBatch:
    """One row of `PARTS`."""
    sink = io.BytesIO()
    np.savez(sink, allow_pickle=False, **arrays)
    return pa.record_batch([pa.array([sink.getvalue()], pa.binary())], schema=PARTS)


def unpack(stored: bytes) -> dict[str, Any]:
    """The arrays by name."""
    with np.load(io.BytesIO(stored), allow_pickle=False) as archive:
        return {name: archive[name] for name in archive.files}
