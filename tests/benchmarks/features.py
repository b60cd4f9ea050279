"""Consumes a daily panel of prices, compares ways from its table on disk to a table of what was known of each row.

Everybody makes the same 87 columns, float32, of each row of `observations` (row_id, entity, region, kind, time, price),
as the job build_features does with the data set below (whose lags begin with 2, because with the last value come
figures, such as its rank in the market, that only we have):

* the entity's history (40): ``lag_{k}``, its k-th last price strictly before the row's time, for 14 lags; ``age_days``
  since the last one; mean, std (n - 1), min, max and count of its prices in [time - d days, time) for 5 windows d;
* its market's history (27), the market being region and kind: ``lag_2`` (the mean of its last day but one),
  ``age_days``, and the same windows over all its prices;
* the entity's share in its market's prices over the longest window (1);
* ``level``, ``volume``, ``dispersion``: mean, number, and std over mean of the market's prices in the last month that
  was over at the row's time, as of that time (3);
* the calendar (16).

`assay`: the job, Delta to Delta. `assay_spark_road`: the same through Spark's reader and writer. `spark_windows`:
Spark's range windows, Delta to Delta, with the same partitions and file statistics. `polars`: Polars alone, Parquet to
Parquet. `mlforecast`: the entity's lags, means, stds, minima and maxima alone (34), on windows of rows, which are those
of days because the panel has no gaps. `assay_market`, `polars_market`, `duckdb_market`: the last month's figures alone.
"""

from __future__ import annotations

import math
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

LAGS = (2, 3, 4, 5, 6, 7, 8, 14, 21, 28, 30, 56, 60, 90)
WINDOWS = (3, 7, 14, 30, 90)
STATISTICS = ("mean", "std", "min", "max", "count")
MARKET = ("region", "kind")
ENTITY = "entity"
OWN, GROUP, CALENDAR = "price__own__", "price__region+kind__", "calendar__"
ENTITY_COLUMNS = [
    *(f"{OWN}lag_{k}" for k in LAGS),
    f"{OWN}age_days",
    *(f"{OWN}{s}_{d}d" for d in WINDOWS for s in STATISTICS),
]
GROUP_COLUMNS = [
    f"{GROUP}lag_{LAGS[0]}",
    f"{GROUP}age_days",
    *(f"{GROUP}{s}_{d}d" for d in WINDOWS for s in STATISTICS),
]
MARKET_COLUMNS = [f"{GROUP}market_{name}" for name in ("level", "volume", "dispersion")]
CALENDAR_COLUMNS = [
    CALENDAR + name
    for name in (
        *("year", "quarter", "month_of_year", "week_of_year", "day_of_year", "day_of_month", "day_of_week"),
        *("is_weekend", "is_month_start", "is_month_end", "days_in_month", "epoch_days"),
        *("year_sin", "year_cos", "week_sin", "week_cos"),
    )
]
SHARE = f"{GROUP}share_{max(WINDOWS)}d"
SHARE_PARTS = [f"{whose}{s}_{max(WINDOWS)}d" for whose in (OWN, GROUP) for s in ("mean", "count")]
COLUMNS = [*ENTITY_COLUMNS, *GROUP_COLUMNS, *MARKET_COLUMNS, SHARE, *CALENDAR_COLUMNS]
OFF = ("halflives_days", "expanding", "trend_days", "seasonality_days", "beta_days")
DATASET: dict[str, Any] = {
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
        "market_standing": ["share"],
        "market_momentum_months": [],
        "market_trend_months": [],
        **{name: [] for name in OFF},
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


def prepare_ours(data: Path, contender: str, road: str, *flags: str) -> Any:
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
    return context


def run_ours(context: Any) -> str:
    """The job, MLflow's record of it among what it does."""
    from assay.pipeline import JOBS

    result = JOBS["build_features"].run(context)
    context.close()
    return str(result.tables["features"].location)


# --- Spark windows -----------------------------------------------------------------------------------------------


def prepare_spark(data: Path, contender: str) -> Any:
    """Spark started, as for ours."""
    return open_warm(import_ours), data, output_folder(data, contender)


def run_spark_windows(state: Any) -> str:
    """Range windows in seconds; of the market's months the one before the row's, which no market lacks here."""
    from pyspark.sql import Window
    from pyspark.sql import functions as F

    session, data, folder = state
    day = 86_400
    frame = session.read.format("delta").load(str(data / "prepared" / "lake" / "observations"))
    frame = frame.withColumn("second", F.unix_timestamp("time"))
    own = Window.partitionBy(ENTITY).orderBy("second")
    made = {f"{OWN}lag_{k}": F.lag("price", k).over(own) for k in LAGS}
    made[f"{OWN}age_days"] = (F.col("second") - F.lag("second", 1).over(own)) / day
    functions = {"mean": F.avg, "std": F.stddev_samp, "min": F.min, "max": F.max, "count": F.count}
    for days in WINDOWS:
        window = own.rangeBetween(-days * day, -1)
        made |= {f"{OWN}{s}_{days}d": functions[s]("price").over(window) for s in STATISTICS}

    sums = [F.count("price").alias("n"), F.sum("price").alias("s"), F.sum(F.col("price") ** 2).alias("q")]
    steps = frame.groupBy(*MARKET, "second").agg(*sums, F.min("price").alias("lo"), F.max("price").alias("hi"))
    whole = Window.partitionBy(*MARKET).orderBy("second")
    group = {f"{GROUP}lag_{LAGS[0]}": F.lag(F.col("s") / F.col("n"), LAGS[0]).over(whole)}
    group[f"{GROUP}age_days"] = (F.col("second") - F.lag("second", 1).over(whole)) / day
    for days in WINDOWS:
        window = whole.rangeBetween(-days * day, -1)
        n, s, q = (F.sum(name).over(window) for name in ("n", "s", "q"))
        group[f"{GROUP}mean_{days}d"] = s / n
        group[f"{GROUP}std_{days}d"] = F.when(n > 1, F.sqrt((q - s * s / n) / (n - 1)))
        group[f"{GROUP}min_{days}d"] = F.min("lo").over(window)
        group[f"{GROUP}max_{days}d"] = F.max("hi").over(window)
        group[f"{GROUP}count_{days}d"] = F.coalesce(n, F.lit(0))
    steps = steps.withColumns(group).drop("n", "s", "q", "lo", "hi")

    index = F.year("time") * 12 + F.month("time")
    level = F.avg("price")
    figures = (level, F.count("price"), F.stddev_samp("price") / F.abs(level))
    months = frame.groupBy(*MARKET, (index + 1).alias("seen")).agg(
        *(figure.alias(name) for figure, name in zip(figures, MARKET_COLUMNS, strict=True))
    )
    joined = frame.withColumns(made).withColumn("seen", index).join(F.broadcast(steps), [*MARKET, "second"], "left")
    joined = joined.join(F.broadcast(months), [*MARKET, "seen"], "left").withColumns(_spark_calendar())
    own_mean, own_count, mean, count = (F.col(name) for name in SHARE_PARTS)
    share = F.when(mean * count > 0, own_mean * own_count / (mean * count))
    joined = joined.withColumn(SHARE, share)
    features = [F.col(f"`{name}`").cast("float").alias(name) for name in COLUMNS]
    result = joined.select("row_id", "time", ENTITY, *MARKET, "price", *features, "month")
    writer = result.write.format("delta").partitionBy("month")
    writer.option("delta.dataSkippingStatsColumns", "row_id,time").save(str(folder / "features"))
    return str(folder / "features")


def _spark_calendar() -> dict[str, Any]:
    from pyspark.sql import functions as F

    time, last = F.col("time"), F.dayofmonth(F.last_day("time"))
    day, weekday = F.dayofyear(time), F.weekday(time) + 1
    year, week = 2 * math.pi * (day - 1) / 365.25, 2 * math.pi * (weekday - 1) / 7
    parts = [F.year(time), F.quarter(time), F.month(time), F.weekofyear(time), day, F.dayofmonth(time), weekday]
    parts += [weekday >= 6, F.dayofmonth(time) == 1, F.dayofmonth(time) == last, last, F.unix_date(F.to_date(time))]
    parts += [F.sin(year), F.cos(year), F.sin(week), F.cos(week)]
    return dict(zip(CALENDAR_COLUMNS, parts, strict=True))


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
    """One lazy plan: rolling windows by time within each entity and market, joins, calendar; streamed to Parquet."""
    import polars as pl

    data, path = state
    rows = pl.scan_parquet(observations(data), hive_partitioning=False).select(
        "row_id", ENTITY, *MARKET, "time", "price"
    )
    price = pl.col("price")
    made = [price.shift(k).alias(f"{OWN}lag_{k}") for k in LAGS]
    made.append((pl.col("time").diff().dt.total_hours() / 24).alias(f"{OWN}age_days"))
    for days in WINDOWS:
        window = _before(days)
        names = [s for s in STATISTICS if s != "count"]
        made += [getattr(price, f"rolling_{s}_by")(**window).alias(f"{OWN}{s}_{days}d") for s in names]
        made.append(pl.col("one").rolling_sum_by(**window).alias(f"{OWN}count_{days}d"))
    history = (
        rows.sort(ENTITY, "time")
        .with_columns(one=pl.lit(1.0))
        .group_by(ENTITY, maintain_order=True)
        .agg("row_id", *MARKET, "time", "price", *(expression.cast(pl.Float32) for expression in made))
        .explode(pl.exclude(ENTITY))
    )
    joined = history.join(_group_history(rows).lazy(), on=[*MARKET, "time"], how="left")
    own_mean, own_count, mean, count = (pl.col(name).cast(pl.Float64) for name in SHARE_PARTS)
    share = pl.when(mean * count > 0).then(own_mean * own_count / (mean * count)).cast(pl.Float32).alias(SHARE)
    result = _with_months(joined, rows).with_columns(*_polars_calendar(), share)
    result.select("row_id", "time", ENTITY, *MARKET, "price", *COLUMNS).sink_parquet(path, engine="streaming")
    return str(path)


def _before(days: int) -> dict[str, Any]:
    return {"by": "time", "window_size": f"{days}d", "closed": "left"}


def _group_history(rows: pl.LazyFrame) -> pl.DataFrame:
    """Small: one row per market and day."""
    import polars as pl

    price = pl.col("price")
    steps = rows.group_by(*MARKET, "time").agg(
        n=pl.len().cast(pl.Float64), s=price.sum(), q=(price**2).sum(), lo=price.min(), hi=price.max()
    )
    made = [(pl.col("s") / pl.col("n")).shift(LAGS[0]).alias(f"{GROUP}lag_{LAGS[0]}")]
    made.append((pl.col("time").diff().dt.total_hours() / 24).alias(f"{GROUP}age_days"))
    for days in WINDOWS:
        n, s, q = (pl.col(name).rolling_sum_by(**_before(days)) for name in ("n", "s", "q"))
        made += [
            (s / n).alias(f"{GROUP}mean_{days}d"),
            pl.when(n > 1).then(((q - s * s / n) / (n - 1)).sqrt()).alias(f"{GROUP}std_{days}d"),
            pl.col("lo").rolling_min_by(**_before(days)).alias(f"{GROUP}min_{days}d"),
            pl.col("hi").rolling_max_by(**_before(days)).alias(f"{GROUP}max_{days}d"),
            n.alias(f"{GROUP}count_{days}d"),
        ]
    grouped = steps.sort(*MARKET, "time").group_by(*MARKET, maintain_order=True)
    return grouped.agg("time", *(e.cast(pl.Float32) for e in made)).explode(pl.exclude(*MARKET)).collect()


def _with_months(left: pl.LazyFrame, rows: pl.LazyFrame) -> pl.LazyFrame:
    import polars as pl

    price = pl.col("price")
    figures = (price.mean(), pl.len(), price.std() / price.mean().abs())
    months = (
        rows.group_by(*MARKET, pl.col("time").dt.truncate("1mo").dt.offset_by("1mo").alias("known"))
        .agg(f.cast(pl.Float32).alias(name) for f, name in zip(figures, MARKET_COLUMNS, strict=True))
        .sort("known")
    )
    return left.sort("time").join_asof(
        months, left_on="time", right_on="known", by=list(MARKET), strategy="backward", check_sortedness=False
    )


def _polars_calendar() -> list[pl.Expr]:
    import polars as pl

    time, last = pl.col("time"), pl.col("time").dt.month_end().dt.day()
    day, weekday, of_month = time.dt.ordinal_day(), time.dt.weekday(), time.dt.day()
    year, week = 2 * math.pi * (day - 1) / 365.25, 2 * math.pi * (weekday - 1) / 7
    parts = [time.dt.year(), time.dt.quarter(), time.dt.month(), time.dt.week(), day, of_month, weekday]
    parts += [weekday >= 6, of_month == 1, of_month == last, last, time.dt.epoch("d")]
    parts += [year.sin(), year.cos(), week.sin(), week.cos()]
    return [part.cast(pl.Float32).alias(name) for part, name in zip(parts, CALENDAR_COLUMNS, strict=True)]


def run_polars_market(state: Any) -> str:
    """The as-of join alone."""
    import polars as pl

    data, path = state
    rows = pl.scan_parquet(observations(data), hive_partitioning=False).select("row_id", *MARKET, "time", "price")
    _with_months(rows, rows).select("row_id", *MARKET_COLUMNS).sink_parquet(path, engine="streaming")
    return str(path)


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
    names = {f"lag{k}": f"{OWN}lag_{k}" for k in LAGS}
    for days in WINDOWS:
        for name in kinds:
            names[f"rolling_{name}_lag1_window_size{days}_min_samples1"] = f"{OWN}{name}_{days}d"
    found.select("row_id", *(pl.col(old).alias(new) for old, new in names.items())).write_parquet(path)
    return str(path)


def run_duckdb_market(state: Any) -> str:
    """Its ASOF join."""
    import duckdb

    data, path = state
    connection = duckdb.connect()
    connection.execute("SET TimeZone = 'UTC'")
    connection.execute(f"SET threads = {CORES}")
    level, volume, dispersion = (f'"{name}"' for name in MARKET_COLUMNS)
    connection.execute(
        f"""
        COPY (
          WITH rows AS (
            SELECT row_id, region, kind, "time", price FROM read_parquet($files, hive_partitioning = false)
          ),
          months AS (
            SELECT region, kind, date_trunc('month', "time") + INTERVAL 1 MONTH AS known,
                   avg(price)::FLOAT AS {level}, count(price)::FLOAT AS {volume},
                   (stddev_samp(price) / abs(avg(price)))::FLOAT AS {dispersion}
            FROM rows GROUP BY ALL
          )
          SELECT r.row_id, m.{level}, m.{volume}, m.{dispersion}
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

    path = location.removeprefix("file://")
    return DeltaTable(path).file_uris() if Path(path).is_dir() else [path]


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
        shared = [c for c in COLUMNS if c in theirs.columns and c in ours.columns]
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
    names = [c for c in COLUMNS if c in frame.collect_schema().names()]
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


def _files_contender(name: str, run: Any, *, against: str = "assay", needs: str | None = None) -> Contender:
    return Contender(lambda data: prepare_files(data, name), run, outputs, against=against, needs=needs)


BENCHMARK = Benchmark(
    name="features",
    rows=1_000_000,
    generate=generate,
    contenders={
        "assay": Contender(lambda d: prepare_ours(d, "assay", "arrow"), run_ours, outputs),
        "assay_spark_road": Contender(lambda d: prepare_ours(d, "assay_spark_road", "spark"), run_ours, outputs),
        "spark_windows": Contender(lambda d: prepare_spark(d, "spark_windows"), run_spark_windows, outputs),
        "polars": _files_contender("polars", run_polars),
        "mlforecast": _files_contender("mlforecast", run_mlforecast, needs="mlforecast"),
        "assay_market": Contender(
            lambda d: prepare_ours(d, "assay_market", "arrow", NO_HISTORY), run_ours, outputs, against="assay_market"
        ),
        "polars_market": _files_contender("polars_market", run_polars_market, against="assay_market"),
        "duckdb_market": _files_contender("duckdb_market", run_duckdb_market, against="assay_market", needs="duckdb"),
    },
    differences=differences,
    tolerance=1e-4,
)
