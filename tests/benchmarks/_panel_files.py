"""Consumes the panel, produces all or some of its features with Polars, mlforecast and DuckDB on this machine alone."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks._panel import (
    CALENDAR_COLUMNS,
    COLUMNS,
    ENTITY,
    GROUP,
    LAGS,
    MARKET,
    MARKET_COLUMNS,
    OWN,
    SHARE,
    SHARE_PARTS,
    STATISTICS,
    WINDOWS,
    observations,
    output_folder,
)
from benchmarks._session import CORES

if TYPE_CHECKING:
    import polars as pl


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
