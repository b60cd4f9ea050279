"""Consumes a daily panel of prices, compares ways from its table on disk to a table of what was known of each row.

Everybody makes the same columns, float32, of each row of `observations` (row_id, entity, region, kind, time, price):

* ``lag_{k}`` for 14 lags: the entity's k-th last price strictly before the row's time;
* ``age``: days since the entity's last price;
* ``{mean,std,min,max,count}_{d}`` for 5 windows: of the entity's prices in [time - d days, time), std with n - 1;
* ``level``, ``volume``: mean and number of the prices of the row's market (region and kind) in the last month that was
  over at the row's time, as of that time.

`assay`: the job build_features, Delta to Delta. `assay_spark_road`: the same through Spark's reader and writer.
`spark_windows`: Spark's range windows, Delta to Delta, with the same partitions and file statistics. `polars`: Polars
alone, Parquet to Parquet. `mlforecast`: lags, means, stds, minima and maxima alone, on windows of rows, which are those
of days because the panel has no gaps. `assay_market`, `polars_market`, `duckdb_market`: level and volume alone.
"""

from __future__ import annotations

import dataclasses
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks._session import CORES, open_warm, settings
from benchmarks.harness import Benchmark, Contender

if TYPE_CHECKING:
    import polars as pl

LAGS = (1, 2, 3, 4, 5, 6, 7, 14, 21, 28, 30, 56, 60, 90)
WINDOWS = (3, 7, 14, 30, 90)
STATISTICS = ("mean", "std", "min", "max", "count")
MARKET = ("region", "kind")
ENTITY = "entity"
OURS = {
    **{f"price__own__lag_{k}": f"lag_{k}" for k in LAGS},
    "price__own__age_days": "age",
    **{f"price__own__{s}_{d}d": f"{s}_{d}" for d in WINDOWS for s in STATISTICS},
    "price__region+kind__market_level": "level",
    "price__region+kind__market_volume": "volume",
}
MARKET_OF = {ours: name for ours, name in OURS.items() if name in {"level", "volume"}}
DATASET = {
    "name": "benchmark_features",
    "source": {"path": "market"},
    "time": {"column": "observed_at"},
    "entity": [ENTITY],
    "targets": [{"name": "price"}],
    "groups": [list(MARKET)],
    "features": {
        "lags": list(LAGS),
        "windows_days": list(WINDOWS),
        "statistics": list(STATISTICS),
        "market_momentum_months": [1],
    },
}
COMPARED_ROWS = 1_000_000


def generate(folder: Path, rows: int) -> None:
    """A synthetic market of 500 daily prices per entity, as ingest leaves it; seed 7."""
    import yaml

    from assay.synthetic.config import market_config
    from assay.synthetic.files import SOURCE, TRUTH, blocks_of, write_block

    config = market_config({"rows": rows, "missing": 0.0, "seed": 7})
    for name in (SOURCE, TRUTH):
        (folder / name).mkdir(parents=True, exist_ok=True)
    for block in blocks_of(config):
        write_block(config, folder, *block)
    (folder / "dataset.yml").write_text(yaml.safe_dump(DATASET), encoding="utf-8")
    told = ["ingest", "--dataset", str(folder / "dataset.yml"), "--workspace", str(folder / "prepared")]
    code = "import sys; from assay.cli import main; main(sys.argv[1:])"
    subprocess.run([sys.executable, "-c", code, *told], check=True, stdout=subprocess.DEVNULL)


def observations(data: Path) -> list[str]:
    """The Parquet files of the table."""
    return sorted(str(p) for p in (data / "prepared" / "lake" / "observations").rglob("*.parquet"))


def output_folder(data: Path, contender: str) -> Path:
    """An empty folder for what a contender writes."""
    folder = data / "runs" / contender
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder


def import_ours(_: int) -> str:
    """What our kernels import."""
    import deltalake  # noqa: F401
    import polars

    from assay.features import kernel
    from assay.runtime import arrow_plane

    return f"{polars.__version__} {kernel.__name__} {arrow_plane.__name__}"


# --- ours --------------------------------------------------------------------------------------------------------


def prepare_ours(data: Path, contender: str, road: str, wanted: Mapping[str, str], *flags: str) -> Any:
    """A workspace of its own with the observations in it, Spark started, the MLflow store open."""
    from assay.config import load_run
    from assay.runtime.job import JobContext
    from assay.runtime.progress import Reporter

    session = open_warm(import_ours)
    workspace = output_folder(data, contender)
    table = data / "prepared" / "lake" / "observations"
    shutil.copytree(table, workspace / "lake" / "observations", copy_function=os.link)
    config = load_run(dataset=data / "dataset.yml", workspace=workspace, overrides=[f"runtime.road={road}", *flags])
    context = JobContext(config, settings(), Reporter(quiet=True))
    assert context.spark() is session
    _ = context.tracking
    return context, wanted


def run_ours(state: Any) -> Any:
    """The job, for the columns wanted: the others that the configuration asks for are made and left out."""
    from assay.features import job
    from assay.features.plan import Feature, FeaturePlan
    from assay.runtime.job import run_stage

    context, wanted = state
    plan = job.plan(context)

    class Chosen(FeaturePlan):
        def features(self) -> list[Feature]:
            return [feature for feature in super().features() if feature.name in wanted]

    chosen = Chosen(**vars(FeaturePlan.of(context.config)))
    version = int(plan.inputs["observations"])
    plan = dataclasses.replace(
        plan,
        extra={"plan": chosen.hash},
        execute=lambda identity: job._execute(context, identity, chosen, version),
    )
    result = run_stage(context, plan)
    context.close()
    return result.tables["features"].location


# --- Spark windows -----------------------------------------------------------------------------------------------


def prepare_spark(data: Path, contender: str) -> Any:
    """Spark started, as for ours."""
    return open_warm(import_ours), data, output_folder(data, contender)


def run_spark_windows(state: Any) -> str:
    """Range windows in seconds; of the market's months the one before the row's, which no market lacks here."""
    from pyspark.sql import Window
    from pyspark.sql import functions as F

    session, data, folder = state
    frame = session.read.format("delta").load(str(data / "prepared" / "lake" / "observations"))
    frame = frame.withColumn("second", F.unix_timestamp("time")).withColumn("price", F.col("price").cast("double"))
    ordered = Window.partitionBy(ENTITY).orderBy("second")
    made = {f"lag_{k}": F.lag("price", k).over(ordered) for k in LAGS}
    made["age"] = (F.col("second") - F.lag("second", 1).over(ordered)) / 86_400
    functions = {"mean": F.avg, "std": F.stddev_samp, "min": F.min, "max": F.max, "count": F.count}
    for days in WINDOWS:
        window = ordered.rangeBetween(-days * 86_400, -1)
        made |= {f"{s}_{days}": functions[s]("price").over(window) for s in STATISTICS}
    index = F.year("time") * 12 + F.month("time")
    months = frame.groupBy(*MARKET, (index + 1).alias("seen")).agg(
        F.avg("price").alias("level"), F.count("price").alias("volume")
    )
    features = [F.col(name).cast("float").alias(name) for name in OURS.values()]
    joined = frame.withColumns(made).withColumn("seen", index).join(F.broadcast(months), [*MARKET, "seen"], "left")
    result = joined.select("row_id", "time", ENTITY, *MARKET, F.col("price"), *features, "month")
    writer = result.write.format("delta").partitionBy("month")
    writer.option("delta.dataSkippingStatsColumns", "row_id,time").save(str(folder / "features"))
    return str(folder / "features")


# --- Polars, mlforecast, DuckDB ----------------------------------------------------------------------------------


def prepare_files(data: Path, contender: str) -> Any:
    """Import what is needed."""
    import polars  # noqa: F401

    if contender == "duckdb_market":
        import duckdb  # noqa: F401
    if contender == "mlforecast":
        import mlforecast  # noqa: F401
    return data, output_folder(data, contender) / "features.parquet"


def run_polars(state: Any) -> str:
    """One lazy plan: rolling windows by time within each entity, then an as-of join."""
    import polars as pl

    data, path = state
    price = pl.col("price")
    made = [price.shift(k).alias(f"lag_{k}") for k in LAGS]
    made.append((pl.col("time").diff().dt.total_hours() / 24).alias("age"))
    for days in WINDOWS:
        window: dict[str, Any] = {"by": "time", "window_size": f"{days}d", "closed": "left"}
        made += [getattr(price, f"rolling_{s}_by")(**window).alias(f"{s}_{days}") for s in STATISTICS if s != "count"]
        made.append(pl.col("one").rolling_sum_by(**window).alias(f"count_{days}"))
    rows = pl.scan_parquet(observations(data), hive_partitioning=False).select(
        "row_id", ENTITY, *MARKET, "time", "price"
    )
    history = (
        rows.sort(ENTITY, "time")
        .with_columns(one=pl.lit(1.0))
        .group_by(ENTITY, maintain_order=True)
        .agg("row_id", *MARKET, "time", "price", *(expression.cast(pl.Float32) for expression in made))
        .explode(pl.exclude(ENTITY))
    )
    _with_market(history, rows).sink_parquet(path, engine="streaming")
    return str(path)


def run_polars_market(state: Any) -> str:
    """The as-of join alone."""
    import polars as pl

    data, path = state
    rows = pl.scan_parquet(observations(data), hive_partitioning=False).select("row_id", *MARKET, "time", "price")
    _with_market(rows, rows).select("row_id", "level", "volume").sink_parquet(path, engine="streaming")
    return str(path)


def _with_market(left: pl.LazyFrame, rows: pl.LazyFrame) -> pl.LazyFrame:
    import polars as pl

    months = (
        rows.group_by(*MARKET, pl.col("time").dt.truncate("1mo").dt.offset_by("1mo").alias("known"))
        .agg(level=pl.col("price").mean().cast(pl.Float32), volume=pl.len().cast(pl.Float32))
        .sort("known")
    )
    joined = left.sort("time").join_asof(
        months, left_on="time", right_on="known", by=list(MARKET), strategy="backward", check_sortedness=False
    )
    return joined.drop("known", strict=False)


def run_mlforecast(state: Any) -> str:
    """Its lags and rolling statistics, on as many threads as there are cores; Polars reads and writes."""
    import polars as pl
    from mlforecast import MLForecast
    from mlforecast.lag_transforms import RollingMax, RollingMean, RollingMin, RollingStd

    data, path = state
    kinds = {"mean": RollingMean, "std": RollingStd, "min": RollingMin, "max": RollingMax}
    rolling = [kind(days, min_samples=1) for days in WINDOWS for kind in kinds.values()]
    rows = pl.scan_parquet(observations(data), hive_partitioning=False).select("row_id", ENTITY, "time", "price")
    frame = rows.with_columns(pl.col("time").dt.replace_time_zone(None)).collect()
    forecast = MLForecast(models=[], freq="1d", lags=list(LAGS), lag_transforms={1: rolling}, num_threads=CORES)
    found = forecast.preprocess(
        frame, id_col=ENTITY, time_col="time", target_col="price", dropna=False, static_features=[], as_numpy=False
    )
    names = {f"lag{k}": f"lag_{k}" for k in LAGS}
    for days in WINDOWS:
        for name in kinds:
            names[f"rolling_{name}_lag1_window_size{days}_min_samples1"] = f"{name}_{days}"
    found.select("row_id", *(pl.col(old).alias(new) for old, new in names.items())).write_parquet(path)
    return str(path)


def run_duckdb_market(state: Any) -> str:
    """Its ASOF join."""
    import duckdb

    data, path = state
    connection = duckdb.connect()
    connection.execute("SET TimeZone = 'UTC'")
    connection.execute(f"SET threads = {CORES}")
    connection.execute(
        """
        COPY (
          WITH rows AS (
            SELECT row_id, region, kind, "time", price FROM read_parquet($files, hive_partitioning = false)
          ),
          months AS (
            SELECT region, kind, date_trunc('month', "time") + INTERVAL 1 MONTH AS known,
                   avg(price)::FLOAT AS level, count(price)::FLOAT AS volume
            FROM rows GROUP BY ALL
          )
          SELECT r.row_id, m.level, m.volume
          FROM rows r ASOF LEFT JOIN months m ON r.region = m.region AND r.kind = m.kind AND r."time" >= m.known
        ) TO $path (FORMAT parquet)
        """,
        {"files": observations(data), "path": str(path)},
    )
    return str(path)


# --- comparing ---------------------------------------------------------------------------------------------------


def outputs(location: str) -> Mapping[str, float]:
    """Rows written."""
    import polars as pl

    return {"rows": float(pl.scan_parquet(_files(location), hive_partitioning=False).select(pl.len()).collect().item())}


def _files(location: str) -> list[str]:
    from deltalake import DeltaTable

    return DeltaTable(location).file_uris() if Path(location).is_dir() else [location]


def differences(data: Path, names: Sequence[str]) -> dict[str, float]:
    """Per contender: the largest difference of any figure from ours on the same row id, relative to the larger one.

    A figure that one has and the other lacks is an infinite difference. Figures near 0 are compared with a thousandth
    of their column's usual size. All rows up to a million, of more a fixed sample of a million or less.
    """
    reference = next((n for n in ("assay", "polars", *names) if n in names), None)
    if reference is None:
        return {}
    ours = _sample(data, reference)
    found = {}
    for name in names:
        if name == reference or (name.endswith("_market") and reference not in {"assay", "polars", "spark_windows"}):
            continue
        theirs = _sample(data, name)
        shared = [c for c in OURS.values() if c in theirs.columns and c in ours.columns]
        if not shared or not ours["row_id"].equals(theirs["row_id"]):
            found[name] = float("inf")
            continue
        found[name] = max(_difference(ours[c].to_numpy(), theirs[c].to_numpy()) for c in shared)
    return found


def _sample(data: Path, contender: str) -> pl.DataFrame:
    import polars as pl

    folder = data / "runs" / contender
    table = next((p for p in (folder / "lake" / "features", folder / "features") if p.exists()), None)
    location = str(table or folder / "features.parquet")
    frame = pl.scan_parquet(_files(location), hive_partitioning=False)
    frame = frame.rename({ours: name for ours, name in OURS.items() if ours in frame.collect_schema().names()})
    names = [c for c in OURS.values() if c in frame.collect_schema().names()]
    every = -(-int(data.name.rsplit("-", 1)[1]) // COMPARED_ROWS)
    chosen = frame.filter(pl.col("row_id") % every == 0) if every > 1 else frame
    return chosen.select("row_id", pl.col(names).cast(pl.Float32).fill_nan(None)).sort("row_id").collect()


def _difference(ours: np.ndarray, theirs: np.ndarray) -> float:
    """Largest relative difference of two columns, NaN being no figure."""
    if (np.isnan(ours) != np.isnan(theirs)).any():
        return float("inf")
    there = ~np.isnan(ours)
    one, other = ours[there].astype(np.float64), theirs[there].astype(np.float64)
    size = np.maximum(np.maximum(np.abs(one), np.abs(other)), 1e-3 * np.median(np.abs(one))) if len(one) else one
    return float(np.max(np.divide(np.abs(one - other), size, out=np.zeros_like(one), where=size > 0), initial=0.0))


NO_HISTORY = "training.enable_temporal_features=false"
BENCHMARK = Benchmark(
    name="features",
    rows=1_000_000,
    generate=generate,
    contenders={
        "assay": Contender(lambda d: prepare_ours(d, "assay", "arrow", OURS), run_ours, outputs),
        "assay_spark_road": Contender(lambda d: prepare_ours(d, "assay_spark_road", "spark", OURS), run_ours, outputs),
        "spark_windows": Contender(lambda d: prepare_spark(d, "spark_windows"), run_spark_windows, outputs),
        "polars": Contender(lambda d: prepare_files(d, "polars"), run_polars, outputs),
        "mlforecast": Contender(lambda d: prepare_files(d, "mlforecast"), run_mlforecast, outputs, needs="mlforecast"),
        "assay_market": Contender(
            lambda d: prepare_ours(d, "assay_market", "arrow", MARKET_OF, NO_HISTORY), run_ours, outputs
        ),
        "polars_market": Contender(
            lambda d: prepare_files(d, "polars_market"), run_polars_market, outputs, against="assay_market"
        ),
        "duckdb_market": Contender(
            lambda d: prepare_files(d, "duckdb_market"),
            run_duckdb_market,
            outputs,
            against="assay_market",
            needs="duckdb",
        ),
    },
    differences=differences,
    tolerance=1e-4,
)
