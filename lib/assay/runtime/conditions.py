"""Consumes simple row conditions, produces Arrow masks, Spark columns and month ranges from the same description."""

from __future__ import annotations

import dataclasses
import datetime as dt
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

import pyarrow as pa
import pyarrow.compute as pc

if TYPE_CHECKING:
    from pyspark.sql import Column

Value = str | float | int | dt.datetime | tuple[str, ...] | None


@dataclasses.dataclass(frozen=True)
class Condition:
    """`column op value`; a null never holds, except for `is_null`, and neither does a NaN. Times carry a zone.

    The value of `in` is a tuple of texts.
    """

    column: str
    op: Literal["==", ">=", "<", "in", "not_null", "is_null"]
    value: Value = None

    def __post_init__(self) -> None:
        if isinstance(self.value, dt.datetime) and self.value.tzinfo is None:
            raise ValueError(f"condition on {self.column}: {self.value} has no time zone")


def mask(batch: pa.RecordBatch, conditions: Sequence[Condition]) -> pa.RecordBatch:
    """Rows of a batch for which every condition holds."""
    for condition in conditions:
        if batch.num_rows == 0:
            break
        column = batch.column(condition.column)
        if condition.op == "not_null":
            keep = pc.is_valid(column)
        elif condition.op == "is_null":
            keep = pc.is_null(column)
        elif condition.op == "in":
            keep = pc.is_in(column, value_set=pa.array(condition.value, column.type))
        else:
            scalar = pa.scalar(condition.value, type=column.type)
            compare = {"==": pc.equal, ">=": pc.greater_equal, "<": pc.less}[condition.op]
            keep = compare(column, scalar)
        batch = batch.filter(keep, null_selection_behavior="drop")
    return batch


def spark_column(condition: Condition) -> Column:
    """The same condition as a Spark column."""
    from pyspark.sql import functions as F  # noqa: N812

    column = F.col("`" + condition.column.replace("`", "``") + "`")
    if condition.op == "not_null":
        return column.isNotNull()
    if condition.op == "is_null":
        return column.isNull()
    if condition.op == "in":
        assert isinstance(condition.value, tuple)
        return column.isin(list(condition.value))
    value = F.lit(condition.value)
    holds = {"==": column == value, ">=": column >= value, "<": column < value}[condition.op]
    if isinstance(condition.value, float | int):
        return holds & ~F.isnan(column)  # to Spark, NaN equals itself and is greater than any number
    return holds


def may_hold(partition: Mapping[str, str | None], conditions: Sequence[Condition]) -> bool:
    """Whether a file of this partition can have rows that fulfil the conditions (time is pruned by its month)."""
    for condition in conditions:
        if condition.column in partition and condition.op == "==" and partition[condition.column] != condition.value:
            return False
        if condition.column in partition and condition.op == "in":
            assert isinstance(condition.value, tuple)
            if partition[condition.column] not in condition.value:
                return False
        month = partition.get("month")
        if condition.column == "time" and month is not None and isinstance(condition.value, dt.datetime):
            bound = condition.value.astimezone(dt.UTC)
            label = month_label(bound)
            if condition.op == ">=" and month < label:
                return False
            starts_month = bound == bound.replace(day=1, hour=0, minute=0, second=0, microsecond=0)
            if condition.op == "<" and (month > label or (month == label and starts_month)):
                return False
    return True


def month_label(moment: dt.datetime) -> str:
    """Partition value of a time: `2015-06`."""
    return f"{moment.year:04d}-{moment.month:02d}"


def period_conditions(period: dict[str, Any]) -> list[Condition]:
    """Row conditions of a period that is kept as data: ISO times `start` and `end`, either may be None."""
    bounds: list[tuple[str, Literal[">=", "<"]]] = [("start", ">="), ("end", "<")]
    return [Condition("time", op, dt.datetime.fromisoformat(period[k])) for k, op in bounds if period.get(k)]
