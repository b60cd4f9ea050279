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
LARGEST = 1e100


def condense(frame: pl.DataFrame, by: Sequence[str], values: Sequence[str], *, in_order: bool = False) -> pl.DataFrame:
    """Condensed rows of `frame`, in order of key and time. Values that are no finite number count as missing.

    in_order: `frame` is known to be in order of key and time.
    """
    import polars as pl

    def known(v: str) -> pl.Expr:
        return pl.when(pl.col(v).is_finite()).then(pl.col(v).cast(pl.Float64).clip(-LARGEST, LARGEST))

    single = frame.select(
        *by,
        "time",
        *(
            moment
            for v in values
            for moment in (
                pl.col(v).is_finite().fill_null(False).cast(pl.Int64).alias(f"{v}|n"),
                known(v).fill_null(0.0).alias(f"{v}|s"),
                (known(v) ** 2).fill_null(0.0).alias(f"{v}|q"),
                known(v).alias(f"{v}|lo"),
                known(v).alias(f"{v}|hi"),
            )
        ),
    )
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
    if len(starts) == rows.height:
        return rows
    levels: list[dict[str, np.ndarray]] = []
    for v in values:
        columns = {m: rows[f"{v}|{m}"].to_numpy() for m in MOMENTS}
        heads = {
            f"{v}|n": np.add.reduceat(columns["n"], starts),
            f"{v}|lo": np.fmin.reduceat(columns["lo"], starts),
            f"{v}|hi": np.fmax.reduceat(columns["hi"], starts),
        }
        _put(levels, 0, heads)
        for moment in ("s", "q"):
            for level, part in enumerate(ExactSums.of(columns[moment]).grouped(starts).parts()):
                _put(levels, level, {f"{v}|{moment}": part})
    cells = rows.select(*by, "time")[starts]
    frames = [_level(cells, found, values, level) for level, found in enumerate(levels)]
    whole = frames[0] if len(frames) == 1 else pl.concat(frames).sort("cell", maintain_order=True)
    return whole.drop("cell")


def _put(levels: list[dict[str, np.ndarray]], level: int, columns: dict[str, np.ndarray]) -> None:
    while len(levels) <= level:
        levels.append({})
    levels[level].update(columns)


def _level(cells: pl.DataFrame, found: dict[str, np.ndarray], values: Sequence[str], level: int) -> pl.DataFrame:
    """The level-th row of each cell that has one."""
    import polars as pl

    defaults = {"n": pl.Int64, "s": pl.Float64, "q": pl.Float64, "lo": pl.Float64, "hi": pl.Float64}
    ...
