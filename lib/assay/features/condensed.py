"""Consumes dated rows, produces condensed ones: per key and time what history needs, in parts that add up exactly.

A condensed row has ``{v}|n {v}|s {v}|q {v}|lo {v}|hi`` of each value v: how many, sum, sum of squares, least and
greatest. A key and time has one row, and more where a sum needs more than one double to be exact (the others then have
``n`` 0 and ``lo``, ``hi`` null). So the order of rows and the way in which they were dealt to tasks change nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from assay.features.exact import ExactSums

if TYPE_CHECKING:
    import polars as pl

MOMENTS = ("n", "s", "q", "lo", "hi")
EMPTY = {"n": 0, "s": 0.0, "q": 0.0, "lo": np.nan, "hi": np.nan}
LARGEST, SMALLEST = 1e100, 1e-100


def condense(
    frame: pl.DataFrame, by: Sequence[str], values: Sequence[str], *, in_order: bool = False, lean: bool = False
) -> pl.DataFrame:
    """Condensed rows of `frame`, in order of key and time. Values that are no finite number count as missing.

    Those beyond 1e100 count as 1e100, those below 1e-100 as 0.

    in_order: `frame` is known to be in order of key and time.  lean: where no key has two rows at a time, give ``n``
    and ``s`` alone, which tell the others; `Timeline` takes both.
    """
    import polars as pl

    def moments(v: str) -> list[pl.Expr]:
        number = pl.col(v).cast(pl.Float64)
        usable = number.is_finite().fill_null(False)
        number = pl.when(number.abs() >= SMALLEST).then(number.clip(-LARGEST, LARGEST)).otherwise(0.0)
        known = pl.when(usable).then(number)
        forms = (usable.cast(pl.Int64), known.fill_null(0.0), (known * known).fill_null(0.0), known, known)
        return [form.alias(f"{v}|{m}") for m, form in zip(MOMENTS, forms, strict=True)]

    if lean and in_order and len(cell_starts(frame, [*by, "time"])) == frame.height:
        forms = [(n.cast(pl.Int8), s) for n, s, *_ in map(moments, values)]
        return frame.select(*by, "time", *(form for both in forms for form in both))
    single = frame.select(*by, "time", *(form for v in values for form in moments(v)))
    return _added_up(single if in_order else single.sort([*by, "time"]), by, values)


def merge(parts: pl.DataFrame, by: Sequence[str], values: Sequence[str]) -> pl.DataFrame:
    """Condensed rows of several parts as those of the whole, in order of key and time."""
    return _added_up(parts.sort([*by, "time"]), by, values)


def cell_starts(ordered: pl.DataFrame, columns: Sequence[str]) -> np.ndarray:
    """First row of each stretch of equal values in `columns`, nulls being equal; int64, empty for no rows."""
    import polars as pl

    if not ordered.height:
        return np.zeros(0, dtype=np.int64)
    if not columns:
        return np.zeros(1, dtype=np.int64)
    changes = ordered.select(pl.any_horizontal(pl.col(c).ne_missing(pl.col(c).shift()) for c in columns))
    new = changes.to_series().to_numpy().copy()
    new[0] = True
    return np.flatnonzero(new)


def _added_up(rows: pl.DataFrame, by: Sequence[str], values: Sequence[str]) -> pl.DataFrame:
    import polars as pl

    starts = cell_starts(rows, [*by, "time"])
    lengths = np.diff(starts, append=rows.height)
    if (lengths == 1).all():
        return rows
    numbered = rows.with_columns(pl.Series("cell", np.repeat(np.arange(len(starts)), lengths)))
    shared = np.repeat(lengths > 1, lengths)
    alone, together = numbered.filter(pl.Series(~shared)), numbered.filter(pl.Series(shared))
    return pl.concat([alone, *_sums(together, by, values)]).sort("cell", maintain_order=True).drop("cell")


def _sums(rows: pl.DataFrame, by: Sequence[str], values: Sequence[str]) -> list[pl.DataFrame]:
    """Sums over equal `cell`s: one frame with a row for each, then frames of what their sums need beside it."""
    import polars as pl

    starts = cell_starts(rows, ["cell"])
    columns = {v: _moments(rows, v, starts) for v in values}
    depth = max((len(column[m]) for column in columns.values() for m in ("s", "q")), default=1)
    keys, frames = rows[starts].select(*by, "time", "cell"), []
    for level in range(depth):
        found = {
            f"{v}|{m}": column[m][level] if level < len(column[m]) else np.full(len(starts), EMPTY[m])
            for v, column in columns.items()
            for m in MOMENTS
        }
        filled = np.any([found[f"{v}|{m}"] != 0 for v in values for m in ("s", "q")], axis=0)
        frame = keys.with_columns(pl.Series(name, array, nan_to_null=True) for name, array in found.items())
        frames.append((frame.filter(pl.Series(filled)) if level else frame).select(rows.columns))
    return frames


def _moments(rows: pl.DataFrame, value: str, starts: np.ndarray) -> dict[str, list[np.ndarray]]:
    """Moment -> its parts, each of one number per cell."""
    n, s, q, low, high = (rows[f"{value}|{m}"].to_numpy() for m in MOMENTS)
    return {
        "n": [np.add.reduceat(n, starts)],
        "s": ExactSums.of(s).grouped(starts).parts(),
        "q": ExactSums.of(q).grouped(starts).parts(),
        "lo": [np.fmin.reduceat(low, starts)],
        "hi": [np.fmax.reduceat(high, starts)],
    }
