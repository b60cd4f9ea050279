"""Consumes evaluated rows of classes of one task, produces what is summed of them: small frames that add up.

`rows` is one scored observation with a known class per row: `time` (UTC), `actual` (its code), `probabilities` (a list
in the order of the classes), per level `set_<label>` (a list of classes), one text column per segment column, and per
rival the log loss of its probabilities. Losses, sets, confusions and bins of probability add up exactly. AUC and
average precision need an order of all rows: exact where the sample is all rows, else they are of fine buckets.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
import polars as pl

from assay.class_counts import bucket_of
from assay.class_metrics import binned, brier_scores, checked, log_losses
from assay.evaluation.parts import DAY, KEYS, MISSING_SEGMENT, SumRows, Sums, TallySpec
from assay.runtime.tables import level_label

CLASS = "\0class"  # kept apart from segments: no column is called so
OF_SETS = ("coverage", "set_size", "empty_share", "single_share", "full_share")
ADDED = {"marks": ("actual", "said"), "bins": ("bin",), "scores": ("actual", "bucket")}  # keys beside those of segments


@dataclasses.dataclass(frozen=True)
class ClassSpec(TallySpec):
    """What is summed, and which rows are kept. rivals: columns of log losses.  classes: in their order."""

    classes: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class ClassTally(Sums[ClassSpec]):
    """What was summed of rows with a class.

    sums: per segment, per day, and per class that came true: rows, first and last time, and sums of losses, hits and
    sets.  marks: rows by the class that came true and the likeliest one.  bins: of probability, rows with their summed
    probability and how many came true.  scores: of two classes, rows by class and bucket of probability.  days: losses
    are log losses.
    """

    marks: pl.DataFrame
    bins: pl.DataFrame
    scores: pl.DataFrame

    @classmethod
    def sum_up(cls, rows: pl.DataFrame, spec: ClassSpec) -> tuple[dict[str, pl.DataFrame], list[pl.DataFrame]]:
        """Sum rows. Raises ValueError for outcomes and probabilities that mean nothing (`class_metrics`)."""
        each = probabilities_of(rows, len(spec.classes))
        p, codes = checked(rows["actual"].to_numpy(), each)
        losses = log_losses(codes, p)
        figures = _figures(rows, p, codes, losses, spec)
        columns = {"": pl.lit(""), **{name: pl.col(f"\0{name}") for name in spec.segment_columns}}
        beside = {DAY: pl.col(DAY), CLASS: pl.col(CLASS)}
        sums = [_summed(figures, name, by, spec.labels) for name, by in (columns | beside).items()]
        groups: dict[str, list[pl.DataFrame]] = {name: [] for name in ADDED}
        for name, by in columns.items():
            groups["marks"].append(_grouped(figures, name, by, "marks", pl.len().cast(pl.Int64).alias("count")))
            of_bin = pl.len().cast(pl.Int64).alias("rows"), pl.col("p").sum(), pl.col("held").sum().cast(pl.Int64)
            groups["bins"].append(_grouped(figures, name, by, "bins", *of_bin))
            told = figures if len(spec.classes) == 2 else figures.head(0)
            groups["scores"].append(_grouped(told, name, by, "scores", pl.len().cast(pl.Int64).alias("count")))
        frames = {"sums": pl.concat(sums), **{name: pl.concat(parts) for name, parts in groups.items()}}
        return frames, [_losses(rows, losses, rival) for rival in spec.rivals]

    @classmethod
    def added(cls, stacked: Mapping[str, pl.DataFrame]) -> dict[str, pl.DataFrame]:
        """Sums, marks, bins and scores of the whole."""
        ends = [pl.col("first").min(), pl.col("last").max()]
        sums = stacked["sums"].group_by(KEYS).agg(pl.exclude(*KEYS, "first", "last").sum(), *ends)
        counted = {
            name: stacked[name].group_by(*KEYS, *by).agg(pl.exclude(*KEYS, *by).sum()).sort(*KEYS, *by)
            for name, by in ADDED.items()
        }
        return {"sums": sums.select(stacked["sums"].columns).sort(KEYS), **counted}


@dataclasses.dataclass(frozen=True)
class TallyClasses(SumRows[ClassSpec]):
    """Kernel: the tally of a task's rows, as rows of `PARTS`."""

    summed = ClassTally


def probabilities_of(rows: pl.DataFrame, classes: int) -> npt.NDArray[np.float64]:
    """Probabilities (n, K) of rows."""
    return rows["probabilities"].explode().to_numpy().astype(np.float64).reshape(-1, classes)


def sets_of(rows: pl.DataFrame, level: float, classes: Sequence[str]) -> npt.NDArray[np.bool_]:
    """Which classes are in each row's set, (n, K)."""
    column = pl.col(f"set_{level_label(level)}")
    found = rows.select(column.list.contains(name).fill_null(False).alias(f"{k}") for k, name in enumerate(classes))
    return found.to_numpy().astype(bool)


def _figures(
    rows: pl.DataFrame,
    p: npt.NDArray[np.float64],
    codes: npt.NDArray[np.intp],
    losses: npt.NDArray[np.float64],
    spec: ClassSpec,
) -> pl.DataFrame:
    """Columns per row, so that all that follows is plain sums and counts."""
    said, (place, told, held) = p.argmax(axis=1), binned(codes, p)
    columns = {
        "actual": codes.astype(np.int64),
        "said": said.astype(np.int64),
        "bin": place.astype(np.int64),
        "p": told,
        "held": held,
        "bucket": bucket_of(told).astype(np.int64),
        "log_loss": losses,
        "brier": brier_scores(codes, p),
        "right": said == codes,
    }
    for level in spec.levels:
        sets, label = sets_of(rows, level, spec.classes), level_label(level)
        sizes = sets.sum(axis=1)
        of_sets = (sets[np.arange(len(codes)), codes], sizes, sizes == 0, sizes == 1, sizes == sets.shape[1])
        columns |= {f"{name}_{label}": found.astype(np.int64) for name, found in zip(OF_SETS, of_sets, strict=True)}
    names = pl.Series(list(spec.classes), dtype=pl.String)
    texts = (pl.col(c).cast(pl.String).fill_null(MISSING_SEGMENT).alias(f"\0{c}") for c in spec.segment_columns)
    return rows.select("time", DAY, *texts).with_columns(
        pl.Series(CLASS, names.gather(codes)), *(pl.Series(name, values) for name, values in columns.items())
    )


def _summed(figures: pl.DataFrame, column: str, by: pl.Expr, labels: Mapping[str, float]) -> pl.DataFrame:
    of_sets = [f"{name}_{label}" for label in labels for name in OF_SETS]
    added = ["log_loss", "brier", "right", *of_sets]
    found = figures.group_by(by.alias("segment")).agg(
        pl.len().cast(pl.Int64).alias("rows"),
        pl.col("time").min().alias("first"),
        pl.col("time").max().alias("last"),
        *(pl.col(name).cast(pl.Float64).sum().alias(f"{name}_sum") for name in added),
        *(pl.len().cast(pl.Int64).alias(f"coverage_{label}_rows") for label in labels),
    )
    return found.select(pl.lit(column).alias("segment_column"), pl.all())


def _grouped(figures: pl.DataFrame, column: str, by: pl.Expr, name: str, *found: pl.Expr) -> pl.DataFrame:
    counted = figures.group_by(by.alias("segment"), *ADDED[name]).agg(*found)
    return counted.select(pl.lit(column).alias("segment_column"), pl.all())


def _losses(rows: pl.DataFrame, losses: npt.NDArray[np.float64], rival: str) -> pl.DataFrame:
    told = rows.select(pl.col(DAY).alias("day"), pl.col(rival).alias("other"), pl.Series("model", losses))
    found = told.filter(pl.col("other").is_finite()).group_by("day")
    summed = found.agg(pl.len().cast(pl.Int64).alias("rows"), pl.col("model").sum(), pl.col("other").sum())
    return summed.select("day", pl.lit(rival).alias("rival"), "rows", "model", "other")
