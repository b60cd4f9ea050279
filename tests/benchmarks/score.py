"""Consumes a market's Delta table and a booster of 300 trees, compares ways to predictions with two intervals each.

`assay`: the job's own kernel, Delta to `predictions` with all that a row says (bounds, widths, confidence, risk,
quality).  `native`: `inplace_predict` and NumPy in one process with a thread per core, Parquet files to a Parquet file
with predictions and bounds.  `pandas_udf`: the usual pandas UDF that predicts, bounds by Spark's columns, to Delta.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks._market import NAMES, generate
from benchmarks._session import CORES, open_warm
from benchmarks.harness import Benchmark, Contender

TREES = 300
TAUGHT = 100_000  # rows that the booster learns from; what is compared is predicting
LEVELS = (0.8, 0.9)
ENDS = ("lower_80", "upper_80", "lower_90", "upper_90")
TARGET = "price"


def prepared(data: Path) -> tuple[Path, dict[str, float]]:
    """The booster's file and the quantile of each level, made once; of residuals on the logarithm of the price."""
    import xgboost as xgb

    folder = data / "scoring"
    booster, told = folder / "booster.ubj", folder / "quantiles.json"
    if not told.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        tables, held = [], 0
        for file in sorted((data / "lake" / "features").rglob("*.parquet")):
            tables.append(pq.read_table(file, columns=[*NAMES, "y"], partitioning=None))
            held += tables[-1].num_rows
            if held >= 2 * TAUGHT:
                break
        table = pa.concat_tables(tables)
        taught, later = table.slice(0, table.num_rows // 2), table.slice(table.num_rows // 2)
        params = {"max_depth": 6, "eta": 0.1, "tree_method": "hist", "nthread": CORES, "seed": 7}
        found = xgb.train(params, xgb.QuantileDMatrix(_matrix(taught), taught["y"].to_numpy()), TREES)
        residuals = np.abs(later["y"].to_numpy() - found.inplace_predict(_matrix(later), validate_features=False))
        found.save_model(booster)
        told.write_text(json.dumps({f"{level * 100:.0f}": float(np.quantile(residuals, level)) for level in LEVELS}))
    return booster, json.loads(told.read_text())


def _matrix(table: pa.Table) -> Any:
    return np.column_stack([table[name].to_numpy() for name in NAMES])


def _emptied(folder: Path) -> Path:
    shutil.rmtree(folder, ignore_errors=True)
    return folder


def prepare_ours(data: Path) -> Any:
    """Start Spark, import what is needed, say what the model saw."""
    session = open_warm(_import_libraries)
    return session, data, _model(data)


def _import_libraries(_: int) -> str:
    import deltalake  # noqa: F401
    import xgboost

    from assay.runtime import arrow_plane
    from assay.scoring import kernel

    return f"{xgboost.__version__} {arrow_plane.__name__} {kernel.__name__}"


def _model(data: Path) -> Any:
    from assay.conformal.calibration import Calibration, SegmentQuantiles
    from assay.model.bundle import Model
    from assay.model.encoding import Encoding
    from assay.model.registry import Calibrated
    from assay.model.scale import TargetScale
    from assay.training.seen_values import VALUES, seen, seen_values

    booster, quantiles = prepared(data)
    file = min((data / "lake" / "features").rglob("*.parquet"))
    batches = pq.read_table(file, columns=NAMES, partitioning=None).to_batches()
    ranges = seen(pa.Table.from_batches(list(seen_values(iter(batches))), VALUES))
    encoding = Encoding(tuple(NAMES), {}, seen=ranges)
    facts = {"target": TARGET, "split": {}}
    model = Model("xgboost", booster.read_bytes(), encoding, TargetScale(TARGET, "log"), {}, "", facts)
    everyone = {"": SegmentQuantiles(1_000, tuple(quantiles.values()))}
    calibration = Calibration(LEVELS, (), "absolute", 20, everyone)
    return Calibrated(model, calibration.to_dict(), calibration.version)


def run_ours(state: Any) -> Path:
    """Delta to Delta, as the job does it."""
    from assay.config.profile import ScoringConfig
    from assay.runtime.arrow_plane import ArrowPlane
    from assay.runtime.plane import Aside, Commit, Output
    from assay.runtime.tables import PREDICTIONS
    from assay.scoring.job import NOTES
    from assay.scoring.kernel import NOTE, ScoreAll, ScoreRows, prediction_schema
    from assay.scoring.scorer import Scorer

    session, data, model = state
    config = ScoringConfig()
    plane = ArrowPlane(lambda: session.sparkContext, data / "lake")
    version = plane.version("features")
    assert version is not None
    schema = prediction_schema(LEVELS, ())
    every = prediction_schema(LEVELS, (), shadow=True).append(pa.field(NOTE, pa.string()))
    kernel = ScoreAll((ScoreRows(Scorer.of(model, config), TARGET, ()),), every, config.batch_rows)
    output = Output(PREDICTIONS, schema, Commit(-1, "score", TARGET, "benchmark"), owns={"target": TARGET})
    read = plane.read("features", version=version, columns=["row_id", "time", *NAMES, "month"])
    read.map(kernel, every).write([output], aside=Aside(NOTES, NOTE, lambda _: None))
    return data / "lake" / "predictions"


def prepare_native(data: Path) -> Any:
    """The booster with a thread per core."""
    import xgboost as xgb

    path, quantiles = prepared(data)
    booster = xgb.Booster(params={"nthread": CORES})
    booster.load_model(path)
    booster.set_param({"nthread": CORES})
    return booster, quantiles, data, _emptied(data / "native")


def run_native(state: Any) -> Path:
    """File by file, so that no more than one is held."""
    booster, quantiles, data, folder = state
    folder.mkdir(parents=True)
    writer = None
    for file in sorted((data / "lake" / "features").rglob("*.parquet")):
        table = pq.read_table(file, columns=["row_id", "time", *NAMES], partitioning=None)
        scaled = booster.inplace_predict(_matrix(table), validate_features=False).astype(np.float64)
        columns = {"row_id": table["row_id"], "time": table["time"], "prediction": np.exp(scaled)}
        for label, quantile in quantiles.items():
            columns |= {f"lower_{label}": np.exp(scaled - quantile), f"upper_{label}": np.exp(scaled + quantile)}
        found = pa.table(columns)
        writer = writer or pq.ParquetWriter(folder / "predictions.parquet", found.schema)
        writer.write_table(found)
    assert writer is not None
    writer.close()
    return Path(folder)


def prepare_spark(data: Path) -> Any:
    """Start Spark with workers that know XGBoost."""
    path, quantiles = prepared(data)
    return open_warm(_import_xgboost), path, quantiles, data, _emptied(data / "pandas_udf")


def _import_xgboost(_: int) -> str:
    import pandas
    import xgboost

    return f"{xgboost.__version__} {pandas.__version__}"


def run_spark(state: Any) -> Path:
    """Read Delta, predict in an iterator pandas UDF, write Delta."""
    from pyspark.sql import functions as F
    from pyspark.sql.functions import pandas_udf

    session, path, quantiles, data, folder = state
    stored = path.read_bytes()

    def predict(frames: Iterator[pd.DataFrame]) -> Iterator[pd.Series]:
        import xgboost as xgb

        booster = xgb.Booster(params={"nthread": 1})
        booster.load_model(bytearray(stored))
        booster.set_param({"nthread": 1})
        for frame in frames:
            yield pd.Series(booster.inplace_predict(frame.to_numpy(), validate_features=False))

    frame = session.read.format("delta").load(str(data / "lake" / "features"))
    scored = frame.withColumn("scaled", pandas_udf(predict, "double")(F.struct(*NAMES)))
    ends = [
        F.exp(F.col("scaled") + sign * quantile).alias(f"{end}_{label}")
        for label, quantile in quantiles.items()
        for end, sign in (("lower", -1), ("upper", 1))
    ]
    told = scored.select("row_id", "time", F.exp("scaled").alias("prediction"), *ends, "month")
    told.write.format("delta").partitionBy("month").save(str(folder))
    return Path(folder)


def outputs(folder: Path) -> Mapping[str, float]:
    """Rows, and the mean of predictions and of every bound."""
    names = ["prediction", *ENDS]
    if (folder / "_delta_log").is_dir():
        from deltalake import DeltaTable

        table = DeltaTable(folder).to_pyarrow_table(columns=names)
    else:
        table = pq.read_table(folder / "predictions.parquet", columns=names)
    return {"rows": float(len(table)), **{name: float(np.mean(table[name].to_numpy())) for name in names}}


BENCHMARK = Benchmark(
    name="score",
    rows=5_000_000,
    data="market",
    generate=generate,
    contenders={
        "assay": Contender(prepare_ours, run_ours, outputs),
        "native": Contender(prepare_native, run_native, outputs),
        "pandas_udf": Contender(prepare_spark, run_spark, outputs),
    },
    tolerance=1e-6,
)
