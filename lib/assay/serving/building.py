"""Consumes typed request rows and what is known of the past, produces their feature rows by the kernels of batch."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pyarrow as pa

from assay.features.fill import filled_columns
from assay.features.kernel import BuildFeatures, feature_schema, observation_columns, step_of
from assay.features.plan import FeaturePlan
from assay.features.routing import CONTEXT, SPAN, past_columns
from assay.serving.state import STEP, State

if TYPE_CHECKING:
    import polars as pl


def features_of_rows(rows: pl.DataFrame, history: pl.DataFrame, state: State) -> pa.Table:
    """One row of the features table per row to be priced, in order; `row_id` is the row's place.

    Rows see nothing of one another: what is known of an entity is its history. Their own targets and outcomes,
    and those of the same time, are not looked at.

    Args:
        rows: columns of `observations`.
        history: the same, rows that were sent along. Each takes the place of stored rows of its entity and time.
        state: stored rows of entities, and the markets. History that was sent along does not change these.
    """
    import polars as pl

    plan = state.plan
    rows = rows.with_columns(
        pl.int_range(pl.len(), dtype=pl.Int64).alias("row_id"),
        *(pl.lit(None, dtype=pl.Float64).alias(h.column) for h in plan.history),
        step_of(plan).alias(STEP),
    )
    groups, ranks = state.group_tables(rows), state.rank_tables(rows)
    # Attributes are filled from the rows before: there each row is a key of its own, beside its own copy of the past.
    apart = bool(filled_columns(plan))
    span = (pl.col("row_id") if apart else pl.lit(0)).cast(pl.Int32).alias(SPAN)
    rows = rows.with_columns(span, pl.lit(False).alias(CONTEXT))
    past = context_of(rows, history, state)
    entity = list(plan.entity)
    if apart:
        past = rows.select(*entity, SPAN).join(past.drop(SPAN), on=entity, nulls_equal=True)
    names = [*observation_columns(plan), CONTEXT, SPAN]
    whole = pl.concat([rows.select(names), past.select(pl.col(n) for n in past.columns)], how="diagonal")
    made = BuildFeatures(plan, groups, ranks)(iter(whole.select(names).to_arrow().to_batches()))
    table = pa.Table.from_batches(list(made), feature_schema(plan))
    return table.sort_by("row_id").combine_chunks()


def context_of(rows: pl.DataFrame, history: pl.DataFrame, state: State) -> pl.DataFrame:
    """The past of the rows' entities: `past_columns` of the plan, marked as context."""
    import polars as pl

    plan: FeaturePlan = state.plan
    names, key = past_columns(plan), [*plan.entity, "time"]
    stored = state.past.of(rows)
    if history.height:
        stored = stored.join(history, on=key, how="anti", nulls_equal=True, maintain_order="left")
        stored = pl.concat([stored, history.select(names).cast(stored.schema)])
    return stored.with_columns(pl.lit(True).alias(CONTEXT), pl.lit(0, dtype=pl.Int32).alias(SPAN))
