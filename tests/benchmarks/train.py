"""Consumes a generated market's Delta table, compares ways from the table on disk to a trained booster.

`assay`: our engine, one rank per core.  `native_xgboost`: one process that reads the same Parquet files into a
`QuantileDMatrix`.  `spark_xgboost`: `SparkXGBRegressor` on the Delta table. Parameters, rounds and cores are the same.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks._market import NAMES, ROUNDS, fitted, generate, loss, parquet
from benchmarks._session import CORES, open_warm
from benchmarks.harness import Benchmark, Contender

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


def prepare_ours(data: Path) -> Any:
    """Start Spark, import what is needed here and in one Python worker per core."""
    return open_warm(_import_libraries), data


def _import_libraries(_: int) -> str:
    import deltalake  # noqa: F401
    import xgboost

    from assay.runtime import arrow_plane
    from assay.training import xgboost_engine

    return f"{xgboost.__version__} {arrow_plane.__name__} {xgboost_engine.__name__}"


def run_ours(state: Any) -> Any:
    """Delta on disk to booster, through our engine."""
    from assay.training.xgboost_engine import XGBoostEngine

    session, data = state
    ranks = int(os.environ.get("ASSAY_BENCHMARK_RANKS", CORES))
    return fitted(XGBoostEngine(), session, data, PARAMS, ranks), data


def prepare_native(data: Path) -> Any:
    """Import what is needed."""
    import pandas  # noqa: F401
    import xgboost  # noqa: F401

    return data


def run_native(data: Path) -> Any:
    """Parquet on disk to booster, in one process with a thread per core."""
    import xgboost as xgb

    frame, label = parquet(data)
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
    import xgboost as xgb

    stored, data = result
    booster = xgb.Booster()
    booster.load_model(bytearray(stored))
    return loss(data, lambda inputs: booster.inplace_predict(inputs, validate_features=False))


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
