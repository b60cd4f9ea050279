"""Produces the Delta table that training starts from, and what its contenders share: our engines, Parquet, the loss."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from benchmarks._session import CORES

FEATURES = 64
DAYS = 731  # of each entity, a row a day: 24 months
ROUNDS = 60
NUMERIC = ("size", "age_years", "rooms", "condition")  # of every market
NAMES = [*NUMERIC, *(f"attribute_{i:03d}" for i in range(FEATURES - len(NUMERIC)))]


def _table(data: Path) -> Path:
    return data / "lake" / "features"


def generate(folder: Path, rows: int) -> None:
    """The numeric columns of a market that `generate` makes, without missing cells, as a Delta table `features`.

    float32 columns, the logarithm of the price as a double `y`, partitions by month; seed 7.
    """
    from deltalake import ColumnProperties, WriterProperties, write_deltalake

    from assay.runtime.table_writer import ROW_GROUP_ROWS
    from assay.synthetic.config import market_config
    from assay.synthetic.files import CHUNK_ROWS, chunk

    table = _table(folder)
    shutil.rmtree(table, ignore_errors=True)  # what a killed run left
    settings = {"rows": rows, "entities": -(-rows // DAYS), "attributes": FEATURES - len(NUMERIC)}
    config = market_config({**settings, "missing": 0.0, "seed": 7})
    types = {"row_id": pa.int64(), "time": pa.timestamp("us", "UTC"), "y": pa.float64()}
    schema = pa.schema({**types, **dict.fromkeys(NAMES, pa.float32()), "month": pa.string()})

    def batches() -> Iterator[pa.RecordBatch]:
        for start in range(0, rows, CHUNK_ROWS):
            source, _ = chunk(config, start, min(start + CHUNK_ROWS, rows))
            time = source.column("observed_at")
            columns = {
                "row_id": pa.array(np.arange(start, start + len(source))),
                "time": time,
                "y": pc.ln(source.column("price")),
                "rooms": source.column("rooms").cast(pa.string()).cast(pa.float32()),
                "month": pc.strftime(time, "%Y-%m"),
            }
            columns |= {name: source.column(name).cast(pa.float32()) for name in NAMES if name not in columns}
            yield from pa.table({name: columns[name] for name in schema.names}, schema=schema).to_batches()

    write_deltalake(
        table,
        pa.RecordBatchReader.from_batches(schema, batches()),
        partition_by=["month"],
        writer_properties=WriterProperties(
            max_row_group_size=ROW_GROUP_ROWS,
            default_column_properties=ColumnProperties(dictionary_enabled=False),
        ),
    )


def fitted(engine: Any, session: Any, data: Path, params: Mapping[str, Any], ranks: int) -> bytes:
    """Delta on disk to model, through an engine of ours."""
    from assay.model.encoding import Encoding
    from assay.model.scale import TargetScale
    from assay.runtime.arrow_plane import ArrowPlane
    from assay.training.engine import FitRequest

    plane = ArrowPlane(lambda: session.sparkContext, data / "lake")
    version = plane.version("features")
    assert version is not None
    request = FitRequest(
        train=plane.read("features", version=version, columns=[*NAMES, "y"]),
        tune=None,
        encoding=Encoding(tuple(NAMES), {}),
        scale=TargetScale("y"),
        params=params,
        rounds=ROUNDS,
        early_stopping_rounds=0,
        refit=False,
        seed=7,
        ranks=ranks,
        threads=max(1, CORES // ranks),
        driver_host=session.conf.get("spark.driver.host"),
    )
    stored: bytes = engine.fit(plane, request, lambda *_: None).stored
    return stored


def parquet(data: Path) -> Any:
    """Parquet on disk to inputs and outcome, as pandas has them."""
    table = pq.read_table(_table(data), columns=[*NAMES, "y"], partitioning=None)
    frame = table.to_pandas(self_destruct=True, split_blocks=True)
    label = frame.pop("y")
    return frame, label


def loss(data: Path, predict: Callable[[Any], Any]) -> dict[str, float]:
    """Training RMSE on the first month: what the contenders must agree on."""
    file = min(_table(data).rglob("*.parquet"))
    table = pq.read_table(file, columns=[*NAMES, "y"], partitioning=None)
    inputs = np.column_stack([table.column(n).to_numpy() for n in NAMES])
    return {"rmse": float(np.sqrt(np.mean((predict(inputs) - table.column("y").to_numpy()) ** 2)))}
