"""Consumes the moments of sampled series, produces how they follow one another: order, gaps, age."""

from __future__ import annotations

import dataclasses
import datetime as dt
import re
from typing import TYPE_CHECKING, Any

import numpy as np

from assay.config import DatasetConfig

if TYPE_CHECKING:
    import polars as pl

SECOND = 1_000_000  # microseconds
DAY = 86_400 * SECOND
UNITS = {"m": 60 * SECOND, "h": 3_600 * SECOND, "d": DAY, "w": 7 * DAY}
MONTHS = {"mo": 1, "q": 3, "y": 12}
MIN_STEPS = 5  # below, a median step says little
STALE_STEPS = 5
FRIDAY = 5
EVEN, EVEN_SHARE = 0.2, 0.5  # months differ by less than a fifth; more than half of the steps must be alike
MOST_ROWS = 0.5  # share of all steps in even series, below which a few are even by chance


@dataclasses.dataclass(frozen=True)
class SeriesFacts:
    """What the sampled series say together.

    late, pairs: rows earlier than their entity's row before them in its file, of all that have one.
    gaps: moments without a row, of `expected` ones, in `even` series; longest: (name, from, to, moments missing).
    stale: series whose newest row is old, of `aged`; reference: the moment that ages are counted from.
    """

    series: int
    late: int
    pairs: int
    gaps: int
    expected: int
    even: int
    step_days: float | None
    longest: tuple[str, dt.datetime, dt.datetime, int] | None
    stale: int
    aged: int
    reference: dt.datetime | None
    stalest: str


def series_facts(series: pl.DataFrame, names: pl.DataFrame, dataset: DatasetConfig, now: dt.datetime) -> SeriesFacts:
    """Order, gaps and age. series, names: of a `Partial`; rows later than `now` are left out."""
    import polars as pl

    ordered = series.sort("entity", "file", "row")
    same = (pl.col("entity") == pl.col("entity").shift()) & (pl.col("file") == pl.col("file").shift())
    back = same & (pl.col("time") < pl.col("time").shift())
    pairs, late = ordered.select(same.sum().alias("pairs"), back.sum().alias("late")).row(0)
    if not dataset.source.in_files:
        pairs = late = 0  # rows of tables have no order
    moments = series.filter(pl.col("time") <= int(now.timestamp() * SECOND))
    steps = steps_of(moments)
    sizes = rhythm(steps, dataset)
    named = sizes.join(names, on="entity", how="left")
    counted = missing_moments(steps.join(sizes.filter("even"), on="entity"), dataset)
    longest = None
    if counted.height and (worst := counted.sort("missing", "time", descending=[True, False]).row(0, named=True)):
        name = named.filter(pl.col("entity") == worst["entity"])["name"].item()
        ends = (_moment(worst["time"] - worst["step"]), _moment(worst["time"]))
        longest = (str(name), *ends, int(worst["missing"])) if worst["missing"] else None
    gaps = int(counted["missing"].sum()) if counted.height else 0
    even = counted["entity"].n_unique()
    stale, aged, reference, stalest = _age(named, moments, names, dataset, now)
    return SeriesFacts(
        series=series["entity"].n_unique(),
        late=int(late or 0),
        pairs=int(pairs or 0),
        gaps=gaps,
        expected=counted.height + even + gaps,
        even=even,
        step_days=float(sizes.filter("even")["median"].median()) / DAY if even else None,  # type: ignore[arg-type]
        longest=longest,
        stale=stale,
        aged=aged,
        reference=reference,
        stalest=stalest,
    )


def steps_of(moments: pl.DataFrame) -> pl.DataFrame:
    """(entity, time, step): each moment of an entity but its first, with the microseconds since the one before it."""
    import polars as pl

    distinct = moments.select("entity", "time").unique().sort("entity", "time")
    step = pl.when(pl.col("entity") == pl.col("entity").shift()).then(pl.col("time").diff())
    return distinct.with_columns(step=step).drop_nulls("step")


def rhythm(steps: pl.DataFrame, dataset: DatasetConfig) -> pl.DataFrame:
    """(entity, steps, median, last, even, working) of every entity with a step.

    even: whether its gaps can be counted: the dataset says how often it has rows, or most of its steps are alike, as
    they are in the other series. working: whether its days leave out all weekends.
    """
    import polars as pl

    median = pl.col("step").median()
    alike = ((pl.col("step") - median).abs() <= EVEN * median).mean() > EVEN_SHARE
    known = pl.lit(dataset.quality.frequency is not None)
    local = pl.from_epoch("time", "us").dt.replace_time_zone("UTC").dt.convert_time_zone(dataset.time.zone)
    found = (
        steps.group_by("entity")
        .agg(
            pl.len().alias("steps"),
            median.alias("median"),
            pl.col("time").max().alias("last"),
            (known | ((pl.len() >= MIN_STEPS) & alike)).first().alias("even"),
            ((median == DAY) & (local.dt.weekday() <= FRIDAY).all()).alias("working"),
        )
        .sort("entity")
    )
    in_even, in_all = found.select(pl.col("steps").filter("even").sum().alias("even"), pl.col("steps").sum()).row(0)
    if dataset.quality.frequency is None and in_even < MOST_ROWS * in_all:
        return found.with_columns(even=pl.lit(False))
    return found


def missing_moments(steps: pl.DataFrame, dataset: DatasetConfig) -> pl.DataFrame:
    """`steps` with `missing`: how many moments lie between the two ends of each step, by the series' frequency.

    steps: with the entity's `median` and `working`, as `rhythm` has them. The frequency is the dataset's, else the
    series' own median step; a series of days without any weekend is one of business days (holidays count as gaps).
    """
    import polars as pl

    if not steps.height:
        return steps.with_columns(missing=pl.lit(0, dtype=pl.Int64))
    frequency = dataset.quality.frequency
    local = steps.select(
        pl.from_epoch(end, "us").dt.replace_time_zone("UTC").dt.convert_time_zone(dataset.time.zone).dt.date().alias(n)
        for n, end in (("start", pl.col("time") - pl.col("step")), ("end", pl.col("time")))
    )
    start, end = (local[n].to_numpy().astype("datetime64[D]") for n in ("start", "end"))
    found = re.match(r"(\d+)(\D+)$", frequency or "")
    if frequency == "business_day":
        periods = _business_days(start, end)
    elif found and found[2] in MONTHS:
        month = [day.astype("datetime64[M]").astype(np.int64) for day in (start, end)]
        periods = np.rint((month[1] - month[0]) / (int(found[1]) * MONTHS[found[2]]))
    elif found:
        periods = np.rint(steps["step"].to_numpy() / (int(found[1]) * UNITS[found[2]]))
    else:
        periods = np.rint(steps["step"].to_numpy() / steps["median"].to_numpy())
        periods = np.where(steps["working"].to_numpy(), _business_days(start, end), periods)
    missing = np.maximum(periods - 1, 0).astype(np.int64)
    return steps.with_columns(missing=pl.Series(missing, dtype=pl.Int64))


def _business_days(start: np.ndarray[Any, Any], end: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    return np.busday_count(start, end).astype(np.float64)


def _age(
    named: pl.DataFrame, moments: pl.DataFrame, names: pl.DataFrame, dataset: DatasetConfig, now: dt.datetime
) -> tuple[int, int, dt.datetime | None, str]:
    import polars as pl

    if not moments.height:
        return 0, 0, None, ""
    limit = dataset.quality.max_age_days
    if limit is not None:
        reference = int(now.timestamp() * SECOND)
        last = moments.group_by("entity").agg(pl.col("time").max().alias("last")).join(names, on="entity", how="left")
        aged = last.with_columns(old=pl.lit(reference) - pl.col("last") > limit * DAY)
    else:
        reference = int(moments["time"].max())  # type: ignore[arg-type]
        aged = named.filter(pl.col("even") & (pl.col("steps") >= MIN_STEPS))
        aged = aged.with_columns(old=pl.lit(reference) - pl.col("last") > STALE_STEPS * pl.col("median"))
    old = aged.filter("old").sort("last", "name")
    return old.height, aged.height, _moment(reference), str(old["name"][0]) if old.height else ""


def _moment(microseconds: int) -> dt.datetime:
    return dt.datetime(1970, 1, 1, tzinfo=dt.timezone.utc) + dt.timedelta(microseconds=microseconds)
