"""Consumes a size, produces a Delta table whose first and second half of a year are the two windows of `drift`.

Of every three numeric columns one is skewed or tied, a third have missing values, one in five moves in the second
window; every twelfth column is categorical. The same rows have a `segment`, drawn so that few segments have many rows.
"""

from __future__ import annotations

import datetime as dt
import math
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

START, MONTHS = (2024, 1), 12
SPLIT, END = (dt.datetime(year, month, 1, tzinfo=dt.timezone.utc) for year, month in ((2024, 7), (2025, 1)))
CHUNK_ROWS = 131_072
CATEGORIES = (3, 12, 60, 800)
KINDS = ("continuous", "skewed", "tied", "rounded")
TABLE = "features"


def categorical(columns: int) -> list[str]:
    """Names of the columns of texts."""
    return [f"kind_{i:03d}" for i in range(columns // 12)]


def numeric(columns: int) -> list[str]:
    """Names of the columns of numbers."""
    return [f"number_{i:03d}" for i in range(columns - columns // 12)]


def generate_table(lake: Path, rows: int, columns: int, segments: int = 0) -> None:
    """A table `features` of `rows` rows in each window, a file a month, as our own writer makes it; seed 7."""
    from assay.runtime.local_plane import LocalPlane
    from assay.runtime.plane import Commit, Output
    from assay.runtime.tables import FEATURES

    shutil.rmtree(lake, ignore_errors=True)  # what a killed run left
    texts = [*categorical(columns), *(["segment"] if segments else [])]
    extra = [*(pa.field(name, pa.float32()) for name in numeric(columns)), *(pa.field(n, pa.string()) for n in texts)]
    schema = FEATURES.schema(extra)

    def batches(months: Iterator[int]) -> Iterator[pa.RecordBatch]:
        for month in months:
            first, stop = (math.ceil(2 * rows * m / MONTHS) for m in (month, month + 1))
            for start in range(first, stop, CHUNK_ROWS):
                yield _chunk(month, start, min(start + CHUNK_ROWS, stop), segments, schema)

    plane = LocalPlane(lake)
    output = Output(FEATURES, schema, Commit(-1, "build_features", "all", "benchmark"))
    plane.inputs(range(MONTHS), batches, schema).write([output])


def _chunk(month: int, start: int, stop: int, segments: int, schema: pa.Schema) -> pa.RecordBatch:
    draw, rows, later = np.random.default_rng([7, start]), stop - start, month >= MONTHS // 2
    begins = dt.datetime(START[0], START[1] + month, 1, tzinfo=dt.timezone.utc)
    found: dict[str, Any] = {
        "row_id": np.arange(start, stop),
        "time": np.datetime64(begins.replace(tzinfo=None), "us") + draw.integers(0, 28 * 86_400_000_000, rows),
        "month": pa.repeat(pa.scalar(f"{begins:%Y-%m}"), rows),
        "segment": _text("segment", (draw.random(rows) ** 1.5 * segments).astype(int)) if segments else None,
    }
    for index, name in enumerate(n for n in schema.names if n.startswith("number_")):
        found[name] = _numbers(draw, rows, index, moved=later and index % 5 == 0)
    for index, name in enumerate(n for n in schema.names if n.startswith("kind_")):
        size = CATEGORIES[index % len(CATEGORIES)]
        codes = (draw.random(rows) ** (1.3 if later and index % 2 else 1.2) * size).astype(int)
        found[name] = _text("category", codes)
    return pa.record_batch([pa.array(found[f.name], f.type) for f in schema], schema=schema)


def _numbers(draw: np.random.Generator, rows: int, index: int, *, moved: bool) -> pa.Array:
    values = draw.standard_normal(rows, dtype=np.float32) + np.float32(0.1 * moved)
    kind = KINDS[index % len(KINDS)]
    if kind == "skewed":
        values = np.exp(values)
    elif kind == "tied":
        values = np.floor(2 * values)
    elif kind == "rounded":
        values = np.round(20 * values, 1)
    if index % 3:
        return pa.array(values)
    return pa.array(values, mask=draw.random(rows, dtype=np.float32) < 0.02 * (1 + index % 10))


def _text(prefix: str, codes: np.ndarray) -> pa.Array:
    names = [f"{prefix} {code}" for code in range(int(codes.max()) + 1)]
    return pa.DictionaryArray.from_arrays(pa.array(codes, pa.int32()), names).cast(pa.string())


def files(lake: Path, window: int) -> list[str]:
    """Parquet files of one window."""
    months = sorted((lake / TABLE).glob("month=*"))
    half = months[: MONTHS // 2] if window == 0 else months[MONTHS // 2 :]
    return [str(file) for month in half for file in sorted(month.glob("*.parquet"))]


def watched(plane: Any, columns: int) -> Any:
    """What the job would make of a champion with these columns."""
    from assay.monitoring.comparison import Side, Watched
    from assay.runtime.conditions import Condition

    version = plane.version(TABLE)
    before, after = Condition("time", "<", SPLIT), Condition("time", ">=", SPLIT)
    sides = (Side(version, (before,)), Side(version, (after, Condition("time", "<", END))))
    return Watched(TABLE, tuple(numeric(columns)), tuple(categorical(columns)), sides)


def values_of(paths: Sequence[str], name: str) -> np.ndarray:
    """A column of numbers, NaN where one is missing."""
    import pyarrow.parquet as pq

    parts = [pq.read_table(path, columns=[name], partitioning=None)[name].to_numpy() for path in paths]
    return np.concatenate(parts)
