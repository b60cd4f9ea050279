"""Consumes what was summed of evaluated rows, produces the long table of metrics per segment, and its extremes.

`rows` here and in `plots.py` is one scored observation with a known outcome per row: `time` (UTC), `actual`,
`prediction`, per level `lower_<label>` and `upper_<label>` (null: no interval; infinite: no bound), in the target's
unit, and one text column per segment column.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np
import polars as pl

from assay.evaluation.parts import KEYS, MISSING_SEGMENT, TallySpec
from assay.evaluation.row_figures import figures
from assay.evaluation.tally import RIVAL, Tally, medians
from assay.metrics import adjusted_p_values, binomial_bands, check_level, wilson_bands
from assay.runtime.tables import level_label

__all__ = ["MISSING_SEGMENT", "BestAndWorst", "SegmentValue", "best_and_worst", "segment_table", "table_of"]

CONFIDENCE, ADJUSTED = "confidence", "adjusted_p"


def segment_table(rows: pl.DataFrame, segment_columns: Sequence[str], levels: Sequence[float]) -> pl.DataFrame:
    """`table_of` rows that are all here.

    Raises ValueError for no rows, missing columns, NaN, null or infinite outcomes and predictions, crossed bounds.
    """
    check_rows(rows, segment_columns, levels)
    columns = tuple(dict.fromkeys(segment_columns))
    spec = TallySpec(tuple(levels), columns, kept=("actual", "prediction", *columns), most=rows.height)
    return table_of(Tally.merge([Tally.measure(rows, spec)], spec), spec)


def table_of(tally: Tally, spec: TallySpec) -> pl.DataFrame:
    """Every metric of all rows together and of each value of each segment column.

    Grain: one metric of one segment. Columns: `segment_column` and `segment` (both empty for all rows together; a null
    value is the segment "(missing)"), `metric` (interval metrics end in the level's label: coverage_80), `value` (units
    as in `metrics.py`; null where undefined), `low` and `high`, `rows` (Int64).

    Of `coverage_80` low and high are the 95 % binomial band around the promise. `coverage_80_confidence` is the same
    share with its own 95 % band (Wilson, 1927). `coverage_80_adjusted_p` is how likely a coverage so far off would be
    if the promise held, adjusted for the many segments of its column (Benjamini and Hochberg, 1995).
    """
    wide = _wide(tally, spec, ("", *spec.segment_columns))
    point = [name for name in figures(spec.labels, wide.columns) if name in wide.columns]
    parts = [_long(wide, name) for name in ["median_ape", *point] if not name.startswith("coverage_")]
    for label, level in spec.labels.items():
        parts += _coverages(wide, label, level)
    return pl.concat(parts).with_columns(pl.col("value").fill_nan(None)).sort("segment_column", "segment", "metric")


def rival_table(tally: Tally, spec: TallySpec) -> pl.DataFrame:
    """Point metrics of each rival, wide: `segment` is its column in the rows; on the rows that it predicts."""
    return _wide(tally, spec, (RIVAL,)) if spec.rivals else pl.DataFrame({"segment": []}, schema={"segment": pl.String})


def _wide(tally: Tally, spec: TallySpec, columns: Sequence[str]) -> pl.DataFrame:
    sums = tally.sums.filter(pl.col("segment_column").is_in(list(columns)))
    labels = spec.labels if RIVAL not in columns else {}
    found = sums.select(*KEYS, "rows", *(e.alias(n) for n, e in figures(labels, sums.columns).items()), *_given(labels))
    exact = _exact_medians(tally, columns, spec.rivals) if tally.complete else medians(tally.buckets)
    return found.join(exact, on=list(KEYS), how="left", maintain_order="left")


def _given(labels: Mapping[str, float]) -> list[pl.Expr]:
    """Rows with an interval, and those of them inside, by level."""
    found = []
    for label in labels:
        found += [pl.col(f"coverage_{label}_rows").alias(f"intervals_{label}")]
        found += [pl.col(f"coverage_{label}_sum").alias(f"inside_{label}")]
    return found


def _exact_medians(tally: Tally, columns: Sequence[str], rivals: Sequence[str]) -> pl.DataFrame:
    parts = []
    for column in columns:
        if column == RIVAL:
            parts += [_medians(tally.sample, RIVAL, pl.lit(rival), rival) for rival in rivals]
        else:
            segment = pl.col(column).cast(pl.String).fill_null(MISSING_SEGMENT) if column else pl.lit("")
            parts.append(_medians(tally.sample, column, segment, "prediction"))
    return pl.concat(parts)


def _medians(sample: pl.DataFrame, column: str, segment: pl.Expr, predicted: str) -> pl.DataFrame:
    # The select renames as it goes: a segment column may be called like a metric, and cannot clash from here on.
    rows = sample.lazy().filter(pl.col(predicted).is_finite() & (pl.col("actual") != 0))
    ape = (pl.col(predicted) - pl.col("actual")).abs() / pl.col("actual").abs()
    found = rows.select(pl.lit(column).alias("segment_column"), segment.alias("segment"), ape.alias("median_ape"))
    return found.group_by(KEYS).agg(pl.col("median_ape").median()).collect()


def _long(wide: pl.DataFrame, name: str) -> pl.DataFrame:
    none = pl.lit(None, pl.Float64)
    value = pl.col(name).cast(pl.Float64).alias("value")
    return wide.select(*KEYS, pl.lit(name).alias("metric"), value, none.alias("low"), none.alias("high"), "rows")


def _coverages(wide: pl.DataFrame, label: str, level: float) -> list[pl.DataFrame]:
    """A level's coverages with what chance allows, with their own bands, and how far off the promise they are."""
    inside, given = wide[f"inside_{label}"].to_numpy(), wide[f"intervals_{label}"].to_numpy()
    name = f"coverage_{label}"
    adjusted = np.full(wide.height, np.nan)
    for column in wide["segment_column"].unique():
        part = ((wide["segment_column"] == column).to_numpy()) & (given > 0)
        adjusted[part] = adjusted_p_values(inside[part], given[part], level)
    found = []
    for metric, value, (low, high) in (
        (name, wide[name].to_numpy(), binomial_bands(level, given)),
        (f"{name}_{CONFIDENCE}", wide[name].to_numpy(), wilson_bands(inside, given)),
        (f"{name}_{ADJUSTED}", adjusted, (np.full(wide.height, np.nan),) * 2),
    ):
        ends = {"value": value, "low": low, "high": high}
        columns = [pl.Series(end, numbers, pl.Float64).fill_nan(None) for end, numbers in ends.items()]
        found.append(wide.with_columns(*columns).select(*KEYS, pl.lit(metric).alias("metric"), *ends, "rows"))
    return found


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


def check_rows(rows: pl.DataFrame, segment_columns: Sequence[str], levels: Sequence[float]) -> None:
    """Refuse rows that mean nothing.

    Raises ValueError for no rows, missing columns, NaN, null or infinite outcomes and predictions, crossed bounds.
    """
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
