"""Consumes a generated market's Delta table, compares ways from the table on disk to a trained booster.

`assay`: our engine, one rank per core.  `native_xgboost`: one process that reads the same Parquet files into a
`QuantileDMatrix`.  `spark_xgboost`: `SparkXGBRegressor` on the Delta table. Parameters, rounds and cores are the same.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from benchmarks.harness import Benchmark, Contender

FEATURES = 64
DAYS = 731  # of each entity, a row a day: 24 months
ROUNDS = 60
CORES = max(1, len(os.sched_getaffinity(0)))
PARAMS: dict[str, Any] = {
    "objective": "reg:squarederror",
    "tree_method": "hist",
    "max_depth": 6,
    "eta": 0.1,
    "max_bin": 256,
    "min_child_weight": 1,
    "subsample": 1.0,
    "colsample_bytree": 1.0,
}
NUMERIC = ("size", "age_years", "rooms", "condition")  # of every market
NAMES = [*NUMERIC, *(f"attribute_{i:03d}" for i in range(FEATURES - len(NUMERIC)))]


def generate(folder: Path, rows: int) -> None:
    """The numeric columns of a market that `generate` makes, without missing cells, as a Delta table `features`.

    float32 columns, the logarithm of the price as a double `y`, partitions by month; seed 7.
    """
    from deltalake import ColumnProperties, WriterProperties, write_deltalake

    from assay.runtime.table_writer import ROW_GROUP_ROWS
    from assay.synthetic.config import market_config
    from assay.synthetic.files import CHUNK_ROWS, chunk

    table = folder / "lake" / "features"
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


def loss(stored: bytes, data: Path) -> dict[str, float]:
    """Training RMSE on the first month: what the contenders must agree on."""
    import xgboost as xgb

    booster = xgb.Booster()
    booster.load_model(bytearray(stored))
    file = sorted((data / "lake" / "features").rglob("*.parquet"))[0]
    table = pq.read_table(file, columns=[*NAMES, "y"], partitioning=None)
    x = np.column_stack([table.column(n).to_numpy() for n in NAMES])
    error = booster.inplace_predict(x, validate_features=False) - table.column("y").to_numpy()
    return {"rmse": float(np.sqrt(np.mean(error**2)))}


def _session() -> Any:
    from assay.runtime.session import SparkSettings, open_session

    return open_session(SparkSettings(f"local[{CORES}]"), app="benchmark", log_file=Path("build/benchmarks/spark.log"))


def prepare_ours(data: Path) -> Any:
    """Start Spark, import what is needed here and in one Python worker per core."""
    session = _session()
    _import_libraries(0)
    session.sparkContext.parallelize(range(CORES), CORES).map(_import_libraries).collect()
    return session, data


def _import_libraries(_: int) -> str:
    import deltalake  # noqa: F401
    import xgboost

    from assay.runtime import arrow_plane
    from assay.training import xgboost_engine

    return f"{xgboost.__version__} {arrow_plane.__name__} {xgboost_engine.__name__}"


def run_ours(state: Any) -> Any:
    """Delta on disk to booster, through our engine."""
    from assay.model.encoding import Encoding
    from assay.model.scale import TargetScale
    from assay.runtime.arrow_plane import ArrowPlane
    from assay.training.engine import FitRequest
    from assay.training.xgboost_engine import XGBoostEngine

    session, data = state
    plane = ArrowPlane(lambda: session.sparkContext, data / "lake")
    version = plane.version("features")
    assert version is not None
    request = FitRequest(
        train=plane.read("features", version=version, columns=[*NAMES, "y"]),
        tune=None,
        encoding=Encoding(tuple(NAMES), {}),
        scale=TargetScale("y"),
        params=PARAMS,
        rounds=ROUNDS,
        early_stopping_rounds=0,
        refit=False,
        seed=7,
        ranks=int(os.environ.get("ASSAY_BENCHMARK_RANKS", CORES)),
        threads=max(1, CORES // int(os.environ.get("ASSAY_BENCHMARK_RANKS", CORES))),
        driver_host=session.conf.get("spark.driver.host"),
    )
    return XGBoostEngine().fit(plane, request, lambda *_: None).stored, data


def prepare_native(data: Path) -> Any:
    """Import what is needed."""
    import pandas  # noqa: F401
    import xgboost  # noqa: F401

    return data


def run_native(data: Path) -> Any:
    """Parquet on disk to booster, in one process with a thread per core."""
    import xgboost as xgb

    table = pq.read_table(data / "lake" / "features", columns=[*NAMES, "y"], partitioning=None)
    frame = table.to_pandas(self_destruct=True, split_blocks=True)
    del table
    label = frame.pop("y")
    matrix = xgb.QuantileDMatrix(frame, label=label, max_bin=PARAMS["max_bin"], nthread=CORES)
    del frame
    booster = xgb.train({**PARAMS, "nthread": CORES, "seed": 7}, matrix, ROUNDS)
    return bytes(booster.save_raw("ubj")), data


def run_spark_xgboost(state: Any) -> Any:
    """Delta on disk to booster, through xgboost.spark."""
    from xgboost.spark import SparkXGBRegressor

    session, data = state
    frame = session.read.format("delta").load(str(data / "lake" / "features")).select(*NAMES, "y")
    estimator = SparkXGBRegressor(
        features_col=NAMES, label_col="y", num_workers=CORES, n_estimators=ROUNDS, seed=7,
        **{("learning_rate" if k == "eta" else k): v for k, v in PARAMS.items()},
    )  # fmt: skip
    return bytes(estimator.fit(frame).get_booster().save_raw("ubj")), data


def outputs(result: Any) -> Mapping[str, float]:
    """Loss of the booster."""
    return loss(*result)


BENCHMARK = Benchmark(
    name="train",
    rows=5_000_000,
    data="market",
    generate=generate,
    contenders={
        "assay": Contender(prepare_ours, run_ours, outputs),
        "native_xgboost": Contender(prepare_native, run_native, outputs),
        "spark_xgboost": Contender(prepare_ours, run_spark_xgboost, outputs),
    },
)
