"""Datasets for tests of ingest, and its two kernels run one after the other without Spark."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pytest

from assay.config import DatasetConfig
from assay.config.strict import check
from assay.ingest.rules import CheckRows, ResolveDuplicates, checked_schema
from assay.ingest.source import SourcePart

NOW = dt.datetime(2020, 1, 1, tzinfo=dt.timezone.utc)
Dataset = Callable[..., DatasetConfig]
Ingest = Callable[..., tuple[pl.DataFrame, pl.DataFrame]]


@pytest.fixture(scope="session")
def dataset() -> Dataset:
    """dataset(time={...}, duplicates="allow", ...) is a small dataset with these keys changed."""

    def make(**changes: Any) -> DatasetConfig:
        tree: dict[str, Any] = {
            "name": "flats",
            "source": {"path": "flats.csv"},
            "time": {"column": "sold_on"},
            "entity": ["flat"],
            "targets": [{"name": "price", "transform": "log"}],
            "columns": {"numeric": ["rooms"], "categorical": ["district"]},
        }
        config: DatasetConfig = check(DatasetConfig, {**tree, **changes}, origin="test")
        return config

    return make


@pytest.fixture(scope="session")
def ingest() -> Ingest:
    """ingest(dataset, parts) -> observations and quarantine, months resolved one by one as a shuffle would."""

    def run(dataset: DatasetConfig, parts: Sequence[SourcePart | Path]) -> tuple[pl.DataFrame, pl.DataFrame]:
        schema = checked_schema(dataset)
        found = [p if isinstance(p, SourcePart) else SourcePart(str(p), p.name, "csv") for p in parts]
        table = pa.Table.from_batches(list(CheckRows(dataset, NOW)(iter(found))), schema)
        frame = pl.from_arrow(table)
        assert isinstance(frame, pl.DataFrame)
        resolved = [
            batch
            for part in frame.partition_by("month", maintain_order=True)
            for batch in ResolveDuplicates(dataset)(iter(_batches(part, schema)))
        ]
        rows = pl.from_arrow(pa.Table.from_batches(resolved, schema))
        assert isinstance(rows, pl.DataFrame)
        return rows.filter(pl.col("reasons").is_null()), rows.filter(pl.col("reasons").is_not_null())

    return run


def _batches(frame: pl.DataFrame, schema: pa.Schema) -> list[pa.RecordBatch]:
    return frame.to_arrow().cast(schema).to_batches(max_chunksize=7)
