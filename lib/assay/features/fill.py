"""Consumes rows of whole entities, produces them with missing attributes filled from what the entity had before."""

from __future__ import annotations

from typing import TYPE_CHECKING

from assay.features.plan import FeaturePlan

if TYPE_CHECKING:
    import polars as pl


def filled_forward(frame: pl.DataFrame, plan: FeaturePlan) -> pl.DataFrame:
    """Rows in order of entity, time and row_id, with `features.forward_fill` where it is null or no finite number.

    An attribute is known at its own time: a missing one takes the entity's last known value at or before the row's
    own time (of rows at one time, from those of lower row_id), unless it is older than `max_history_days`.
    """
    import polars as pl

    columns = plan.settings.forward_fill
    if not plan.temporal or not columns:
        return frame
    by = list(plan.entity)

    def filled(name: str) -> pl.Expr:
        known = pl.when(pl.col(name).is_finite()).then(pl.col(name))
        last = known.forward_fill().over(by)
        if plan.oldest_us is not None:
            since = pl.when(known.is_not_null()).then(pl.col("time")).forward_fill().over(by)
            last = pl.when(pl.col("time") - since <= pl.duration(microseconds=plan.oldest_us)).then(last)
        return pl.coalesce(known, last, pl.col(name)).alias(name)

    return frame.with_columns(filled(name) for name in columns)
