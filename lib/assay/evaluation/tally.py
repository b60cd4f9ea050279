"""Consumes evaluated rows of one task, produces what is summed of them: small frames that add up across tasks.

Sums, counts and moments add up; medians come from counts of logarithmic buckets (DDSketch: Masson, Rim and Lee, 2019),
right to `ACCURACY` of themselves; what needs single rows gets those with the smallest hashes of `row_id`, which are the
same however the rows were cut. So ten million rows leave their executors as some megabytes.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Iterable, Iterator

import polars as pl
import pyarrow as pa

from assay.evaluation.parts import DAY, KEYS, PARTS, blocks, packed, sample_of, unpacked
from assay.evaluation.row_figures import REFERENCE, additive, per_row
from assay.model.row_sample import EVERY_ROW, ROW
from assay.runtime.tables import level_label

__all__ = ["DAY", "KEYS", "PARTS", "Tally", "TallyRows", "TallySpec", "medians"]

MISSING_SEGMENT = "(missing)"
RIVAL = "\0rival"  # kept apart from segments: no column is called so
ACCURACY = 0.001
GAMMA = (1 + ACCURACY) / (1 - ACCURACY)
LEAST, MOST = 1e-9, 1e9  # relative errors outside count as these
ZERO_BUCKET = -(1 << 30)
MERGED = 8


@dataclasses.dataclass(frozen=True)
class TallySpec:
    """What is summed, and which rows are kept.

    segment_columns: text columns that split the rows.  rivals: columns of other predictions, NaN where they have none.
    kept: columns of sampled rows.  threshold: greatest hash of those.  most: how many at most.
    relative: whether a return is a share of `reference`.
    """

    levels: tuple[float, ...]
    segment_columns: tuple[str, ...] = ()
    rivals: tuple[str, ...] = ()
    kept: tuple[str, ...] = ()
    threshold: int = EVERY_ROW
    most: int = 200_000
    relative: bool = True

    @property
    def labels(self) -> dict[str, float]:
        """Levels by the suffix of their columns."""
        return {level_label(level): level for level in self.levels}


@dataclasses.dataclass(frozen=True)
class Tally:
    """What was summed of some rows.

    sums: `additive` per segment_column and segment (both empty: all rows), per day, and per rival as if it were the
    model.  buckets: rows per bucket of the relative error, likewise, but for days.  days: per day and rival, of the
    rows that it predicts: rows, squared errors of the model and of the rival.  sample: hash and kept columns.
    """

    sums: pl.DataFrame
    buckets: pl.DataFrame
    days: pl.DataFrame
    sample: pl.DataFrame

    def frames(self) -> dict[str, pl.DataFrame]:
        """All frames by name."""
        return {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}

    @functools.cached_property
    def rows(self) -> int:
        """All rows that were summed."""
        whole = self.sums.filter((pl.col("segment_column") == "") & (pl.col("segment") == ""))
        return int(whole["rows"].sum())

    @property
    def complete(self) -> bool:
        """Whether the sample is all rows."""
        return self.sample.height == self.rows

    def of(self, column: str) -> pl.DataFrame:
        """Sums of one segment column (or `DAY`, `RIVAL`, or empty for all rows), by segment."""
        return self.sums.filter(pl.col("segment_column") == column).sort("segment")

    @classmethod
    def measure(cls, rows: pl.DataFrame, spec: TallySpec) -> Tally:
        """Sum rows, as in `segments.py`. One group_by per segment column, one pass per rival."""
        labels = spec.labels
        figures = rows.lazy().select(
            pl.col("time").dt.date().cast(pl.String).alias(DAY),
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
        schema = {"day": pl.String, "rival": pl.String, "rows": pl.Int64, "model": pl.Float64, "other": pl.Float64}
        days = [_losses(rows, rival) for rival in spec.rivals] or [pl.DataFrame(schema=schema)]
        sample = sample_of(rows, spec.kept, spec.threshold, spec.most)
        return cls(pl.concat(sums, how="diagonal_relaxed"), pl.concat(buckets), pl.concat(days), sample)

    @classmethod
    def merge(cls, parts: Iterable[Tally], spec: TallySpec) -> Tally:
        """Several as one; any order and any grouping give the same, sums of floats to rounding."""
        frames = [part.frames() for part in parts]
        stacked = {name: pl.concat([each[name] for each in frames], how="diagonal_relaxed") for name in frames[0]}
        return cls(
            _added(stacked["sums"]),
            stacked["buckets"].group_by(*KEYS, "bucket").agg(pl.col("count").sum()).sort(*KEYS, "bucket"),
            stacked["days"].group_by("day", "rival").agg(pl.col("rows", "model", "other").sum()).sort("rival", "day"),
            stacked["sample"].sort("hash", ROW).head(spec.most),
        )

    def packed(self) -> pa.RecordBatch:
        """Rows of `PARTS`."""
        return packed(self.frames())

    @classmethod
    def unpacked(cls, table: pa.Table, spec: TallySpec) -> Tally | None:
        """Rows of `PARTS` of all tasks as one; None without rows."""
        whole: list[Tally] = []
        for frames in unpacked(table):
            whole.append(cls(**frames))
            if len(whole) == MERGED:  # so that the driver holds no more of them at once
                whole = [cls.merge(whole, spec)]
        return cls.merge(whole, spec) if whole else None


@dataclasses.dataclass(frozen=True)
class TallyRows:
    """Kernel: the tally of a task's rows, as rows of `PARTS`."""

    spec: TallySpec

    def __call__(self, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """Sum in blocks, so that a task holds no more than one of them."""
        whole: Tally | None = None
        for block in blocks(batches):
            found = Tally.measure(self.prepared(block), self.spec)
            whole = found if whole is None else Tally.merge([whole, found], self.spec)
        if whole is not None:
            yield whole.packed()

    def prepared(self, rows: pl.DataFrame) -> pl.DataFrame:
        """A block's rows as they are summed."""
        return rows


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
        .group_by(pl.col("time").dt.date().cast(pl.String).alias("day"))
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
