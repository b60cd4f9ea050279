"""Consumes evaluated rows and segment columns, produces the long table of metrics per segment, and its extremes.

`rows` here and in `plots.py` is one scored observation with a known outcome per row: `time` (UTC), `actual`,
`prediction`, per level `lower_<label>` and `upper_<label>` (null: no interval; infinite: no bound), in the target's
unit, and one text column per segment column.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import polars as pl

from assay.metrics import WITHIN_PERCENTS, binomial_bands, check_level
from assay.runtime.tables import level_label

MISSING_SEGMENT = "(missing)"
POINT_METRICS = (
    *("r2", "rmse", "mae", "bias", "median_ape", "mape"),
    *(f"within_{percent}pct" for percent in WITHIN_PERCENTS),
    "zero_actuals",
)
INTERVAL_METRICS = (
    *("coverage", "width", "interval_score", "below_share", "above_share", "infinite_share", "missing_share"),
)


def segment_table(rows: pl.DataFrame, segment_columns: Sequence[str], levels: Sequence[float]) -> pl.DataFrame:
    """Every metric of `metrics.py` for all rows together and for each value of each segment column.

    Grain: one metric of one segment. Columns: `segment_column` and `segment` (both empty for all rows together; a null
    value is the segment "(missing)"), `metric` (interval metrics end in the level's label: coverage_80), `value` (units
    as in `metrics.py`; null where undefined), `low` and `high` (95 % binomial band around the promise, for coverage
    only), `rows` (Int64). Cost: one group_by per segment column, no loop over segments.

    Raises ValueError for no rows, missing columns, NaN, null or infinite outcomes and predictions, crossed bounds.
    """
    _check(rows, segment_columns, levels)
    parts = [_long(rows, "", pl.lit(""), levels)]
    for column in dict.fromkeys(segment_columns):
        parts.append(_long(rows, column, pl.col(column).cast(pl.String).fill_null(MISSING_SEGMENT), levels))
    return pl.concat(parts)


@dataclasses.dataclass(frozen=True)
class SegmentValue:
    """One metric of one segment. value: unit of the metric; rows: sample size behind it."""

    segment_column: str
    segment: str
    value: float
    rows: int


@dataclasses.dataclass(frozen=True)
class BestAndWorst:
    """The two ends of a metric. segments: how many were compared; left_out: how many had too few rows for that."""

    metric: str
    best: SegmentValue
    worst: SegmentValue
    segments: int
    left_out: int


def best_and_worst(
    table: pl.DataFrame, metric: str = "median_ape", min_rows: int = 30, segment_column: str | None = None
) -> BestAndWorst | None:
    """Best and worst segment of `segment_table` by `metric`, among those with at least `min_rows` rows.

    Best is high for r2 and within_*, near 0 for bias, near the promise for coverage_*, and low for every other metric.
    segment_column: compare only its segments; None takes all columns together. Ties go to the larger sample, then to
    the name. None where fewer than two segments differ.
    """
    chosen = pl.col("segment_column") != "" if segment_column is None else pl.col("segment_column") == segment_column
    known = table.filter(chosen & (pl.col("metric") == metric) & pl.col("value").is_finite())
    ranked = (
        known.filter(pl.col("rows") >= min_rows)
        .with_columns(_loss(metric).alias("loss"))
        .sort("loss", "rows", "segment_column", "segment", descending=[False, True, False, False])
    )
    if ranked.is_empty():
        return None
    # Among equally bad segments the largest is the one worth looking at, so "worst" is not simply the last row.
    ends = (ranked.filter(pl.col("loss") == ranked["loss"][place]).row(0, named=True) for place in (0, -1))
    best, worst = (SegmentValue(end["segment_column"], end["segment"], end["value"], end["rows"]) for end in ends)
    if best == worst:
        return None
    return BestAndWorst(metric, best, worst, ranked.height, known.height - ranked.height)


def _loss(metric: str) -> pl.Expr:
    value = pl.col("value")
    if metric == "r2" or metric.startswith("within_"):
        return -value
    if metric.startswith("coverage_"):
        return (value - float(metric.removeprefix("coverage_").replace("_", ".")) / 100).abs()
    return value.abs() if metric == "bias" else value


def _long(rows: pl.DataFrame, segment_column: str, segment: pl.Expr, levels: Sequence[float]) -> pl.DataFrame:
    labels = {level_label(level): level for level in levels}
    # The select renames as it goes: a segment column may be called like a metric, and cannot clash from here on.
    wide = (
        rows.lazy()
        .select(segment.alias("segment"), *_per_row(labels))
        .group_by("segment")
        .agg(pl.len().cast(pl.Int64).alias("rows"), *_point_aggregates(), *_interval_aggregates(labels))
        .sort("segment")
        .collect()
    )
    bands = {
        f"coverage_{label}": binomial_bands(level, wide[f"intervals_{label}"].to_numpy())
        for label, level in labels.items()
    }
    names = [*POINT_METRICS, *(f"{name}_{label}" for label in labels for name in INTERVAL_METRICS)]
    no_band = pl.Series([None] * wide.height, dtype=pl.Float64)
    return pl.concat(
        wide.select(
            pl.lit(segment_column).alias("segment_column"),
            "segment",
            pl.lit(name).alias("metric"),
            pl.col(name).cast(pl.Float64).fill_nan(None).alias("value"),
            (pl.Series(bands[name][0]) if name in bands else no_band).alias("low"),
            (pl.Series(bands[name][1]) if name in bands else no_band).alias("high"),
            "rows",
        )
        for name in names
    ).sort("segment", "metric")


def _per_row(labels: dict[str, float]) -> list[pl.Expr]:
    """Columns per row, computed once, so that the aggregates below are plain sums and means. Null: left out."""
    actual, error = pl.col("actual"), pl.col("prediction") - pl.col("actual")
    columns = [
        actual,
        error.alias("error"),
        pl.when(actual != 0).then(error.abs() / actual.abs()).alias("ape"),
    ]
    for label, level in labels.items():
        low, high = pl.col(f"lower_{label}").fill_nan(None), pl.col(f"upper_{label}").fill_nan(None)
        given = low.is_not_null() & high.is_not_null()
        finite = low.is_finite() & high.is_finite()
        miss = (low - actual).clip(lower_bound=0) + (actual - high).clip(lower_bound=0)
        per_level = {
            "coverage": pl.when(given).then((low <= actual) & (actual <= high)),
            "width": pl.when(finite).then(high - low),
            "interval_score": pl.when(finite).then(high - low + 2 / (1 - level) * miss),
            "below_share": pl.when(given).then(actual < low),
            "above_share": pl.when(given).then(actual > high),
            "infinite_share": pl.when(given).then(~finite),
            "missing_share": ~given,
        }
        columns += [expression.alias(f"{name}_{label}") for name, expression in per_level.items()]
    return columns


def _point_aggregates() -> list[pl.Expr]:
    actual, error, ape = pl.col("actual"), pl.col("error"), pl.col("ape")
    squared = error.pow(2).mean()
    constant = actual.min() == actual.max()
    return [
        pl.when(~constant).then(1 - squared / actual.var(ddof=0)).alias("r2"),
        squared.sqrt().alias("rmse"),
        error.abs().mean().alias("mae"),
        error.mean().alias("bias"),
        ape.median().alias("median_ape"),
        ape.mean().alias("mape"),
        *(((ape <= percent / 100).mean() * 100).alias(f"within_{percent}pct") for percent in WITHIN_PERCENTS),
        ape.null_count().alias("zero_actuals"),
    ]


def _interval_aggregates(labels: dict[str, float]) -> list[pl.Expr]:
    return [
        *(pl.col(f"{name}_{label}").mean() for label in labels for name in INTERVAL_METRICS),
        *(pl.col(f"coverage_{label}").count().alias(f"intervals_{label}") for label in labels),
    ]


def _check(rows: pl.DataFrame, segment_columns: Sequence[str], levels: Sequence[float]) -> None:
    for level in levels:
        check_level(level)
    bounds = [(f"lower_{label}", f"upper_{label}") for label in map(level_label, levels)]
    needed = ["actual", "prediction", *(name for pair in bounds for name in pair), *segment_columns]
    missing = [name for name in needed if name not in rows.columns]
    if missing:
        raise ValueError(f"rows lack the columns {', '.join(map(repr, missing))}")
    if rows.is_empty():
        raise ValueError("no rows to evaluate: no prediction has a known outcome")
    for name in ("actual", "prediction"):
        bad = rows.height - rows[name].is_finite().sum()
        if bad:
            raise ValueError(f"{name} is null, NaN or infinite in {bad} of {rows.height} rows")
    for low, high in bounds:
        crossed = rows.filter(pl.col(low).fill_nan(None) > pl.col(high).fill_nan(None)).height
        if crossed:
            raise ValueError(f"{crossed} of {rows.height} intervals have {low} above {high}")
