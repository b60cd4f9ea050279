"""Consumes predictions beside their outcomes, produces what is summed of each day: frames that add up across tasks."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence

import polars as pl
import pyarrow as pa

from assay.class_metrics import log_losses
from assay.model.outcome_rows import OUTCOME
from assay.runtime.tables import level_label

ANCHOR = "__anchor"  # column of joined rows: where the entity stood before
WITHIN = 0.2  # of the outcome, as the gates have it
KEYS = ("day", "model_version")
SUMS = (
    "rows",
    "unscored",
    "bad",
    "awaited",
    "awaited_width",
    "known",
    "loss",
    "absolute",
    "size",
    "error",
    "hits",
    "moves",
    "wins",
    "gain",
)
COLUMNS = ["row_id", "time", "model_version", "prediction", "quality"]  # of the predictions


def columns_of(levels: Sequence[float], *, classes: bool) -> list[str]:
    """What is read of the predictions."""
    names = ["probabilities", "predicted_class"] if classes else []
    ends = ["set"] if classes else ["lower", "upper"]
    return [*COLUMNS, *names, *(f"{end}_{level_label(level)}" for level in levels for end in (*ends, "width"))]


def day_schema(levels: Sequence[float]) -> pa.Schema:
    """Schema of `DaySums`."""
    sums = [*SUMS, *(f"{name}_{level_label(level)}" for level in levels for name in ("held", "width"))]
    return pa.schema([("day", pa.date32()), ("model_version", pa.string()), *((name, pa.float64()) for name in sums)])


@dataclasses.dataclass(frozen=True)
class DaySums:
    """Kernel: joined rows of a task -> one row per day (UTC) and model, of `day_schema`.

    rows: all that were to be scored; `unscored` have no prediction, `bad` a quality of that name, `awaited` a
    prediction and no outcome yet (`awaited_width` adds up their widths at the first level). `known` have both, and only
    those are in what follows: `loss` (squared error, of classes log loss), `absolute` (|error|, of classes 1 where the
    class is wrong), `size` (|outcome|), `error` (prediction - outcome), `hits` (within 20 % of the outcome, of classes
    the right one), `held_L` and `width_L` of level L. Where an anchor is known, the value before: `moves` are outcomes
    that differ from it, `wins` those whose direction was foreseen, `gain` the relative change in that direction.
    """

    levels: tuple[float, ...]
    classes: tuple[str, ...] = ()

    def __call__(self, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """Sums of the whole share."""
        found = [self._summed(pl.from_arrow(pa.Table.from_batches([batch]))) for batch in batches if batch.num_rows]
        if found:
            schema = day_schema(self.levels)
            table = added(pl.concat(found)).select(schema.names).to_arrow().cast(schema)
            yield from table.combine_chunks().to_batches()

    def _summed(self, rows: pl.DataFrame | pl.Series) -> pl.DataFrame:
        assert isinstance(rows, pl.DataFrame)
        rows = rows.with_columns(pl.col("time").dt.date().alias("day"))
        width = pl.col(f"width_{level_label(self.levels[0])}")
        awaited = pl.col("prediction").is_finite() & ~pl.col(OUTCOME).is_finite().fill_null(False)
        every = rows.group_by(*KEYS).agg(
            pl.len().cast(pl.Float64).alias("rows"),
            pl.col("prediction").is_null().sum().cast(pl.Float64).alias("unscored"),
            (pl.col("quality") == "bad").sum().cast(pl.Float64).alias("bad"),
            awaited.sum().cast(pl.Float64).alias("awaited"),
            width.filter(awaited).sum().cast(pl.Float64).alias("awaited_width"),
        )
        known = rows.filter(pl.col("prediction").is_finite() & pl.col(OUTCOME).is_finite())
        figures = self._of_classes(known) if self.classes else self._of_numbers(known)
        summed = figures.group_by(*KEYS).agg(pl.len().cast(pl.Float64).alias("known"), pl.exclude(*KEYS).sum())
        return every.join(summed, on=list(KEYS), how="left").fill_null(0.0)

    def _of_numbers(self, known: pl.DataFrame) -> pl.DataFrame:
        p, y, anchor = pl.col("prediction"), pl.col(OUTCOME), pl.col(ANCHOR)
        stood = anchor.is_finite() & (anchor != 0) & (y != anchor)
        change = (y - anchor) / anchor.abs()
        ends = [level_label(level) for level in self.levels]
        return known.select(
            *KEYS,
            (p - y).pow(2).alias("loss"),
            (p - y).abs().alias("absolute"),
            y.abs().alias("size"),
            (p - y).alias("error"),
            ((p - y).abs() <= WITHIN * y.abs()).cast(pl.Float64).alias("hits"),
            stood.cast(pl.Float64).alias("moves"),
            (stood & ((p - anchor).sign() == (y - anchor).sign())).cast(pl.Float64).alias("wins"),
            pl.when(stood).then((p - anchor).sign() * change).otherwise(0.0).alias("gain"),
            *(y.is_between(f"lower_{end}", f"upper_{end}").cast(pl.Float64).alias(f"held_{end}") for end in ends),
            *(pl.col(f"width_{end}").alias(f"width_{end}") for end in ends),
        )

    def _of_classes(self, known: pl.DataFrame) -> pl.DataFrame:
        codes = known[OUTCOME].cast(pl.Int64)
        names = pl.Series(list(self.classes), dtype=pl.String).gather(codes)
        p = known["probabilities"].explode().to_numpy().reshape(-1, len(self.classes))
        rows = known.with_columns(
            pl.Series("loss", log_losses(codes.to_numpy(), p)), names.alias(OUTCOME), pl.lit(0.0).alias("zero")
        )
        y = pl.col(OUTCOME)
        right = pl.col("predicted_class") == y
        ends = [level_label(level) for level in self.levels]
        return rows.select(
            *KEYS,
            "loss",
            (~right).cast(pl.Float64).alias("absolute"),
            *(pl.col("zero").alias(name) for name in ("size", "error")),
            right.cast(pl.Float64).alias("hits"),
            *(pl.col("zero").alias(name) for name in ("moves", "wins", "gain")),
            *(pl.col(f"set_{end}").list.contains(y).cast(pl.Float64).alias(f"held_{end}") for end in ends),
            *(pl.col(f"width_{end}").cast(pl.Float64) for end in ends),
        )


def added(sums: pl.DataFrame) -> pl.DataFrame:
    """Sums of the same day and model added up, in order."""
    return sums.group_by(*KEYS).agg(pl.exclude(*KEYS).sum()).sort(*KEYS)
