"""Consumes rows of whole entities, produces them with missing attributes filled from what the entity had before."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from assay.features.condensed import cell_starts
from assay.features.plan import FeaturePlan

if TYPE_CHECKING:
    import polars as pl


def filled_columns(plan: FeaturePlan) -> tuple[str, ...]:
    """The attributes that are filled from the past; none where the past is not looked at."""
    return tuple(plan.settings.forward_fill) if plan.temporal else ()


def filled_forward(frame: pl.DataFrame, plan: FeaturePlan, *, by: Sequence[str]) -> pl.DataFrame:
    """Rows in order of key, time and row_id, with `features.forward_fill` where it is null or no finite number.

    An attribute is known at its own time: a missing one takes the entity's last known value before the row's time,
    unless it is older than `max_history_days`.
    """
    import polars as pl

    columns = filled_columns(plan)
    if not columns:
        return frame
    entities, cells = cell_starts(frame, by), cell_starts(frame, [*by, "time"])
    rows = np.arange(frame.height)
    first = entities[np.searchsorted(entities, rows, side="right") - 1]
    now = cells[np.searchsorted(cells, rows, side="right") - 1]
    time = frame.select(pl.col("time").dt.timestamp("us")).to_series().to_numpy()

    def filled(name: str) -> pl.Series:
        values = frame[name].cast(pl.Float64).fill_null(np.nan).to_numpy()
        known = np.isfinite(values)
        # Position of the last known value before each row's time, which may be another entity's.
        last = np.append(-1, np.maximum.accumulate(np.where(known, rows, -1)))[now]
        there = ~known & (last >= first)
        if plan.oldest_us is not None:
            there &= time - time[last] <= plan.oldest_us
        return pl.Series(name, np.where(there, values[last], values), nan_to_null=True)

    return frame.with_columns(filled(name) for name in columns)
