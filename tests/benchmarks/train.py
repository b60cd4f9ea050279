"""Consumes a synthetic Delta table, compares ways from the table on disk to a trained booster.

`assay`: our engine, one rank per core.  `native_xgboost`: one process that reads the same Parquet files into a
`QuantileDMatrix`.  `spark_xgboost`: `SparkXGBRegressor` on the Delta table. Parameters, rounds and cores are the same.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.harness import Benchmark, Contender

FEATURES = 30
MONTHS = 24
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
NAMES = [f"f{i:02d}" for i in range(FEATURES)]
ROW_GROUP_ROWS = 131_072


def generate(folder: Path, rows: int) -> None:
    """A table `features` of float32 columns and a double target, 24 monthly partitions; seed 7."""
    from deltalake import write_deltalake

    rng = np.random.default_rng(7)
    for month in range(MONTHS):
        size = rows // MONTHS + (month < rows % MONTHS)
        x = rng.standard_normal((size, FEATURES), dtype=np.float32)
        y = 3 * x[:, 0] + np.sin(2 * x[:, 1]) * x[:, 2] + np.abs(x[:, 3]) + rng.standard_normal(size)
        label = f"{2015 + month // 12}-{month % 12 + 1:02d}"
        time = np.full(size, np.datetime64(f"{label}-15", "us"))
        columns = {
            "row_id": pa.array(np.arange(size) + month * rows),
            "time": pa.array(time, pa.timestamp("us", "UTC")),
            "y": pa.array(y),
            **{name: pa.array(x[:, i]) for i, name in enumerate(NAMES)},
            "month": pa.array([label] * size),
        }
        write_deltalake(folder / "lake" / "features", pa.table(columns), mode="append", partition_by=["month"])


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
    rows=4_000_000,
    generate=generate,
    contenders={
        "assay": Contender(prepare_ours, run_ours, outputs),
        "native_xgboost": Contender(prepare_native, run_native, outputs),
        "spark_xgboost": Contender(prepare_ours, run_spark_xgboost, outputs),
    },
)
