"""Consumes the panel, produces its features as Spark range windows: what one would write without assay.

And the table of features once more, unchanged: what Spark's reader and writer cost whoever computes.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

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
    import_ours,
    observations_table,
    output_folder,
)
from benchmarks._session import open_warm


def prepare_spark(data: Path, contender: str) -> Any:
    """Spark started, as for ours."""
    return open_warm(import_ours), data, output_folder(data, contender)


def prepare_copy(data: Path, contender: str) -> Any:
    """The features that `assay` made, which must have run before."""
    made = data / "runs" / "assay" / "lake" / "features"
    if not made.exists():
        raise SystemExit(f"{contender} copies the table that assay makes: let assay run before it")
    return open_warm(import_ours), made, output_folder(data, contender)


def run_spark_copy(state: Any) -> str:
    """Read and write, numbers without Parquet dictionaries as our Spark road writes them."""
    session, made, folder = state
    session.conf.set("parquet.enable.dictionary", "false")
    writer = session.read.format("delta").load(str(made)).write.format("delta").partitionBy("month")
    writer.option("delta.dataSkippingStatsColumns", "row_id,time").save(str(folder / "features"))
    return str(folder / "features")


def run_spark_windows(state: Any) -> str:
    """Range windows in seconds; of the market's months the one before the row's, which no market lacks here."""
    from pyspark.sql import Window
    from pyspark.sql import functions as F

    session, data, folder = state
    day = 86_400
    frame = session.read.format("delta").load(str(observations_table(data)))
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
