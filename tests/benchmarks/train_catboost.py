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

import numpy as np
import pyarrow.parquet as pq

from benchmarks import train
from benchmarks.harness import Benchmark, Contender
from benchmarks.train import CORES, NAMES, generate

ROUNDS = 60
PARAMS: dict[str, Any] = {"loss_function": "RMSE", "depth": 6, "learning_rate": 0.1, "bootstrap_type": "No"}


def prepare_ours(data: Path) -> Any:
    """Start Spark, import what is needed here and in one Python worker per core."""
    session = train._session()
    _import_libraries(0)
    session.sparkContext.parallelize(range(CORES), CORES).map(_import_libraries).collect()
    return session, data


def _import_libraries(_: int) -> str:
    import catboost
    import deltalake  # noqa: F401
    import pandas  # noqa: F401

    from assay.runtime import arrow_plane
    from assay.training import catboost_engine

    return f"{catboost.__version__} {arrow_plane.__name__} {catboost_engine.__name__}"


def run_ours(state: Any, ranks: int) -> Any:
    """Delta on disk to model, through our engine."""
    from assay.model.encoding import Encoding
    from assay.model.scale import TargetScale
    from assay.runtime.arrow_plane import ArrowPlane
    from assay.training.catboost_engine import CatBoostEngine
    from assay.training.engine import FitRequest

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
        ranks=ranks,
        threads=max(1, CORES // ranks),
        driver_host=session.conf.get("spark.driver.host"),
    )
    return CatBoostEngine().fit(plane, request, lambda *_: None).stored, data


def prepare_native(data: Path) -> Any:
    """Import what is needed."""
    import catboost  # noqa: F401
    import pandas  # noqa: F401

    return data


def run_native(data: Path) -> Any:
    """Parquet on disk to model, in one process with a thread per core."""
    import catboost

    table = pq.read_table(data / "lake" / "features", columns=[*NAMES, "y"], partitioning=None)
    frame = table.to_pandas(self_destruct=True, split_blocks=True)
    del table
    label = frame.pop("y")
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
    """Training RMSE on the first month: what the contenders must agree on."""
    import catboost

    stored, data = result
    model = catboost.CatBoost()
    model.load_model(blob=stored)
    file = sorted((data / "lake" / "features").rglob("*.parquet"))[0]
    table = pq.read_table(file, columns=[*NAMES, "y"], partitioning=None)
    x = np.column_stack([table.column(n).to_numpy() for n in NAMES])
    return {"rmse": float(np.sqrt(np.mean((model.predict(x) - table.column("y").to_numpy()) ** 2)))}


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
