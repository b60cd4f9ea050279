"""Consumes evaluated rows of classes and segment columns, produces the long table of their metrics per segment.

`rows` is one scored observation with a known class per row: `time` (UTC), `actual` (its code), `probabilities` (a list
in the order of the classes), per level `set_<label>` (a list of classes), and one text column per segment column.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import polars as pl

from assay.class_metrics import class_metrics, set_metrics
from assay.evaluation.segments import MISSING_SEGMENT
from assay.metrics import binomial_band
from assay.runtime.tables import level_label

SCHEMA = {
    "segment_column": pl.String,
    "segment": pl.String,
    "metric": pl.String,
    "value": pl.Float64,
    "low": pl.Float64,
    "high": pl.Float64,
    "rows": pl.Int64,
}


def probabilities_of(rows: pl.DataFrame, classes: int) -> npt.NDArray[np.float64]:
    """Probabilities (n, K) of rows."""
    return rows["probabilities"].explode().to_numpy().astype(np.float64).reshape(-1, classes)


def sets_of(rows: pl.DataFrame, level: float, classes: Sequence[str]) -> npt.NDArray[np.bool_]:
    """Which classes are in each row's set, (n, K)."""
    column = pl.col(f"set_{level_label(level)}")
    found = rows.select(column.list.contains(name).fill_null(False).alias(f"{k}") for k, name in enumerate(classes))
    return found.to_numpy().astype(bool)


def class_segment_table(
    rows: pl.DataFrame, segment_columns: Sequence[str], levels: Sequence[float], classes: Sequence[str]
) -> pl.DataFrame:
    """Every metric of `class_metrics` and of sets for all rows together and for each value of each segment column.

    Grain, columns and the band of coverages as in `segment_table`; set metrics end in the level's label.
    """
    found = _lines(rows, "", "", levels, classes)
    for column in dict.fromkeys(segment_columns):
        named = rows.with_columns(pl.col(column).cast(pl.String).fill_null(MISSING_SEGMENT).alias("\0segment"))
        for (name,), part in sorted(named.partition_by("\0segment", as_dict=True).items()):
            found += _lines(part, column, str(name), levels, classes)
    return pl.DataFrame(found, schema=SCHEMA, orient="row").with_columns(pl.col("value").fill_nan(None))


def _lines(
    rows: pl.DataFrame, column: str, segment: str, levels: Sequence[float], classes: Sequence[str]
) -> list[tuple[str, str, str, float, float | None, float | None, int]]:
    actual = rows["actual"].to_numpy()
    metrics = class_metrics(actual, probabilities_of(rows, len(classes)))
    bands: dict[str, tuple[float | None, float | None]] = {}
    for level in levels:
        label = level_label(level)
        metrics |= {f"{n}_{label}": v for n, v in set_metrics(actual, sets_of(rows, level, classes)).items()}
        bands[f"coverage_{label}"] = binomial_band(level, rows.height)
    return [
        (column, segment, name, value, *bands.get(name, (None, None)), rows.height)
        for name, value in sorted(metrics.items())
    ]
