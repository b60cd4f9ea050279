"""Consumes the Delta table of `train`, compares ways from the table on disk to a trained CatBoost model.

`assay`: our engine, one rank with all cores.  `native_catboost`: one process that reads the same Parquet files into a
`Pool`.  `assay_shards`: our engine, a rank per core on its own share, merged. Parameters, rounds and cores are alike.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks._market import ROUNDS, fitted, generate, loss, parquet
from benchmarks._session import CORES, open_warm
from benchmarks.harness import Benchmark, Contender

PARAMS: dict[str, Any] = {"loss_function": "RMSE", "depth": 6, "learning_rate": 0.1, "bootstrap_type": "No"}


def prepare_ours(data: Path) -> Any:
    """Start Spark, import what is needed here and in one Python worker per core."""
    return open_warm(_import_libraries), data


def _import_libraries(_: int) -> str:
    import catboost
    import deltalake  # noqa: F401
    import pandas  # noqa: F401

    from assay.runtime import arrow_plane
    from assay.training import catboost_engine

    return f"{catboost.__version__} {arrow_plane.__name__} {catboost_engine.__name__}"


def run_ours(state: Any, ranks: int) -> Any:
    """Delta on disk to model, through our engine."""
    from assay.training.catboost_engine import CatBoostEngine

    session, data = state
    return fitted(CatBoostEngine(), session, data, PARAMS, ranks), data


def prepare_native(data: Path) -> Any:
    """Import what is needed."""
    import catboost  # noqa: F401
    import pandas  # noqa: F401

    return data


def run_native(data: Path) -> Any:
    """Parquet on disk to model, in one process with a thread per core."""
    import catboost

    frame, label = parquet(data)
    model = catboost.CatBoost(
        {**PARAMS, "iterations": ROUNDS, "thread_count": CORES, "random_seed": 7, "logging_level": "Silent"}
        | {"allow_writing_files": False}
    )
    model.fit(catboost.Pool(frame, label))
    path = data / f"native-{os.getpid()}.cbm"
    model.save_model(str(path))
    stored = path.read_bytes()
    path.unlink()
    return stored, data


def outputs(result: Any) -> Mapping[str, float]:
    """Loss of the model."""
    import catboost

    stored, data = result
    model = catboost.CatBoost()
    model.load_model(blob=stored)
    return loss(data, model.predict)


BENCHMARK = Benchmark(
    name="train_catboost",
    rows=1_000_000,
    data="market",
    generate=generate,
    contenders={
        "assay": Contender(prepare_ours, partial(run_ours, ranks=1), outputs),
        "native_catboost": Contender(prepare_native, run_native, outputs),
        "assay_shards": Contender(prepare_ours, partial(run_ours, ranks=CORES), outputs),
    },
)
