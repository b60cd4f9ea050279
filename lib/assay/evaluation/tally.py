"""Consumes evaluated rows of one task, produces what is summed of them: small frames that add up across tasks.

Sums, counts and moments add up; medians come from counts of logarithmic buckets (DDSketch: Masson, Rim and Lee, 2019),
right to `ACCURACY` of themselves; what needs single rows gets those with the smallest hashes of `row_id`, which are the
same however the rows were cut. So ten million rows leave their executors as some megabytes.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping

import polars as pl

from assay.evaluation.parts import DAY, KEYS, MISSING_SEGMENT, SumRows, Sums, TallySpec
from assay.evaluation.row_figures import REFERENCE, additive, per_row

RIVAL = "\0rival"  # kept apart from segments: no column is called so
ACCURACY = 0.001
GAMMA = (1 + ACCURACY) / (1 - ACCURACY)
LEAST, MOST = 1e-9, 1e9  # relative errors outside count as these
ZERO_BUCKET = -(1 << 30)


@dataclasses.dataclass(frozen=True)
class Tally(Sums[TallySpec]):
    """What was summed of rows with a number.

    sums: `additive` per segment, per day, and per rival as if it were the model.  buckets: rows per bucket of the
    relative error, likewise, but for days.  days: losses are squared errors.
    """

    buckets: pl.DataFrame

    @classmethod
    def sum_up(cls, rows: pl.DataFrame, spec: TallySpec) -> tuple[dict[str, pl.DataFrame], list[pl.DataFrame]]:
        """Sum rows, as in `segments.py`. One group_by per segment column, one pass per rival."""
        labels = spec.labels
        figures = rows.lazy().select(
            DAY,
            *(pl.col(c).cast(pl.String).fill_null(MISSING_SEGMENT).alias(f"\0{c}") for c in spec.segment_columns),
            *per_row(labels, reference=REFERENCE in rows.columns, relative=spec.relative),
        )
        figures = figures.collect().lazy()
        sums, buckets = [], []
        columns = {"": pl.lit(""), DAY: pl.col(DAY), **{c: pl.col(f"\0{c}") for c in spec.segment_columns}}
        for column, segment in columns.items():
            sums.append(_summed(figures, column, segment, labels))
            if column != DAY:
                buckets.append(_bucketed(figures, column, segment))
        for rival in spec.rivals:
            told = rows.lazy().filter(pl.col(rival).is_finite()).with_columns(pl.col(rival).alias("prediction"))
            other = told.select(*per_row({}, reference=REFERENCE in rows.columns, relative=spec.relative)).collect()
            if other.height:
                sums.append(_summed(other.lazy(), RIVAL, pl.lit(rival), labels))
                buckets.append(_bucketed(other.lazy(), RIVAL, pl.lit(rival)))
        frames = {"sums": pl.concat(sums, how="diagonal_relaxed"), "buckets": pl.concat(buckets)}
        return frames, [_losses(rows, rival) for rival in spec.rivals]

    @classmethod
    def added(cls, stacked: Mapping[str, pl.DataFrame]) -> dict[str, pl.DataFrame]:
        """Sums and buckets of the whole."""
        buckets = stacked["buckets"].group_by(*KEYS, "bucket").agg(pl.col("count").sum()).sort(*KEYS, "bucket")
        return {"sums": _added(stacked["sums"]), "buckets": buckets}


@dataclasses.dataclass(frozen=True)
class TallyRows(SumRows[TallySpec]):
    """Kernel: the tally of a task's rows, as rows of `PARTS`."""

    summed = Tally


def medians(buckets: pl.DataFrame) -> pl.DataFrame:
    """segment_column, segment and `median_ape` (null without a row), from merged buckets."""
    ranked = buckets.sort(*KEYS, "bucket").with_columns(
        pl.col("count").cum_sum().over(KEYS).alias("upto"), pl.col("count").sum().over(KEYS).alias("all")
    )
    value = (
        pl.when(pl.col("bucket") == ZERO_BUCKET)
        .then(0.0)
        .otherwise((pl.col("bucket") * math.log(GAMMA)).exp() * 2 / (1 + GAMMA))
    )
    low = pl.col("value").filter(pl.col("upto") > (pl.col("all") - 1) // 2).first()
    high = pl.col("value").filter(pl.col("upto") > pl.col("all") // 2).first()
    return ranked.with_columns(value.alias("value")).group_by(KEYS).agg(((low + high) / 2).alias("median_ape"))


def _summed(figures: pl.LazyFrame, column: str, segment: pl.Expr, labels: dict[str, float]) -> pl.DataFrame:
    known = labels if column != RIVAL else {}
    found = figures.group_by(segment.alias("segment")).agg(*additive(known, figures.collect_schema().names()))
    return found.select(pl.lit(column).alias("segment_column"), pl.all()).collect()


def _bucketed(figures: pl.LazyFrame, column: str, segment: pl.Expr) -> pl.DataFrame:
    ape = pl.col("ape").clip(LEAST, MOST)
    bucket = pl.when(pl.col("ape") == 0).then(ZERO_BUCKET).otherwise((ape.log() / math.log(GAMMA)).ceil())
    return (
        figures.filter(pl.col("ape").is_not_null())
        .group_by(segment.alias("segment"), bucket.cast(pl.Int32).alias("bucket"))
        .agg(pl.len().cast(pl.Int64).alias("count"))
        .select(pl.lit(column).alias("segment_column"), "segment", "bucket", "count")
        .collect()
    )


def _losses(rows: pl.DataFrame, rival: str) -> pl.DataFrame:
    squared = [(pl.col(name) - pl.col("actual")).pow(2).sum() for name in ("prediction", rival)]
    return (
        rows.filter(pl.col(rival).is_finite())
        .group_by(pl.col(DAY).alias("day"))
        .agg(pl.len().cast(pl.Int64).alias("rows"), squared[0].alias("model"), squared[1].alias("other"))
        .select("day", pl.lit(rival).alias("rival"), "rows", "model", "other")
    )


def _added(sums: pl.DataFrame) -> pl.DataFrame:
    """Sums that add up; of moments by their own rule (Chan, Golub and LeVeque, 1983)."""
    whole = (pl.col("rows") * pl.col("mean")).sum().over(KEYS) / pl.col("rows").sum().over(KEYS)
    sums = sums.with_columns((pl.col("m2") + pl.col("rows") * (pl.col("mean") - whole).pow(2)).alias("m2"))
    sums = sums.with_columns(whole.alias("mean"))
    special = {"mean": "mean", "lowest": "min", "highest": "max", "first": "min", "last": "max"}
    others = [name for name in sums.columns if name not in {*KEYS, *special}]
    chosen = [getattr(pl.col(name), how)() for name, how in special.items() if name in sums.columns]
    return sums.group_by(KEYS).agg(*(pl.col(name).sum() for name in others), *chosen).sort(*KEYS)
