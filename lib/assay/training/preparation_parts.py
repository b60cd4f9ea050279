"""Consumes arrays that a task made of its share, produces the one row in which they come to the driver."""

from __future__ import annotations

from typing import Any

import pyarrow as pa

from assay.model.arrays import to_bytes

PARTS = pa.schema([pa.field("arrays", pa.binary())])


def pack(**arrays: Any) -> pa.RecordBatch:
    """One row of `PARTS`."""
    return pa.record_batch([pa.array([to_bytes(**arrays)], pa.binary())], schema=PARTS)
