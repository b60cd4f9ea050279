"""Consumes simple row conditions, produces Arrow masks, Spark columns and month ranges from the same description."""

from __future__ import annotations

import dataclasses
import datetime as dt
import functools
import operator
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

import pyarrow as pa
import pyarrow.compute as pc

if TYPE_CHECKING:
    from pyspark.sql import Column

Alternatives = tuple[tuple["Condition", ...], ...]
Value = str | float | int | dt.datetime | tuple[str, ...] | Alternatives | None


@dataclasses.dataclass(frozen=True)
class Condition:
    """`column op value`; a null never holds, except for `is_null`, and neither does a NaN. Times carry a zone.

    The value of `in` is a tuple of texts. `any` has no column of its own; its value is a tuple of alternatives, and it
    holds where all conditions of one of them hold.
    """

    column: str
    op: Literal["==", ">=", "<", "in", "not_null", "is_null", "any"]
    value: Value = None

    def __post_init__(self) -> None:
        if isinstance(self.value, dt.datetime) and self.value.tzinfo is None:
            raise ValueError(f"condition on {self.column}: {self.value} has no time zone")


def any_of(*alternatives: Sequence[Condition]) -> Condition:
    """A condition that holds where all of one of these hold."""
    return Condition("", "any", tuple(tuple(one) for one in alternatives))


def columns_of(conditions: Sequence[Condition]) -> list[str]:
    """Columns that conditions look at, each once."""
    found: dict[str, None] = {}
    for condition in conditions:
        if condition.op == "any":
            found |= dict.fromkeys(name for one in _alternatives(condition) for name in columns_of(one))
        else:
            found[condition.column] = None
    return list(found)


def mask(batch: pa.RecordBatch, conditions: Sequence[Condition]) -> pa.RecordBatch:
    """Rows of a batch for which every condition holds; the batch itself where that is so for all rows."""
    if not conditions:
        return batch
    # Copied at most once: files of a month are mostly inside a period as a whole.
    kept = functools.reduce(pc.and_, (_holds(batch, condition).fill_null(False) for condition in conditions))
    return batch if kept.true_count == batch.num_rows else batch.filter(kept)


def _holds(batch: pa.RecordBatch, condition: Condition) -> pa.Array:
    """Per row whether a condition holds; null is no."""
    if condition.op == "any":
        whole = [[_holds(batch, one).fill_null(False) for one in every] for every in _alternatives(condition)]
        nothing, everything = (pa.repeat(pa.scalar(value), batch.num_rows) for value in (False, True))
        return functools.reduce(pc.or_, (functools.reduce(pc.and_, each, everything) for each in whole), nothing)
    column = batch.column(condition.column)
    if condition.op == "not_null":
        return pc.is_valid(column)
    if condition.op == "is_null":
        return pc.is_null(column)
    if condition.op == "in":
        return pc.is_in(column, value_set=pa.array(condition.value, column.type))
    compare = {"==": pc.equal, ">=": pc.greater_equal, "<": pc.less}[condition.op]
    return compare(column, pa.scalar(condition.value, type=column.type))


def _alternatives(condition: Condition) -> Alternatives:
    assert isinstance(condition.value, tuple)
    return tuple(one for one in condition.value if isinstance(one, tuple))


def spark_column(condition: Condition) -> Column:
    """The same condition as a Spark column."""
    from pyspark.sql import functions as F  # noqa: N812

    if condition.op == "any":
        whole = [[spark_column(one) for one in every] for every in _alternatives(condition)]
        each = (functools.reduce(operator.and_, every, F.lit(True)) for every in whole)
        return functools.reduce(operator.or_, (F.coalesce(one, F.lit(False)) for one in each), F.lit(False))
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
        if condition.op == "any":
            if not any(may_hold(partition, every) for every in _alternatives(condition)):
                return False
            continue
        if condition.column in partition and condition.op == "==" and partition[condition.column] != condition.value:
            return False
        if condition.column in partition and condition.op == "in":
            assert isinstance(condition.value, tuple)
            if partition[condition.column] not in condition.value:
                return False
        month = partition.get("month")
        if condition.column == "time" and month is not None and isinstance(condition.value, dt.datetime):
            bound = condition.value.astimezone(dt.timezone.utc)
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


def period_conditions(period: Mapping[str, Any]) -> list[Condition]:
    """Row conditions of a period that is kept as data.

    ISO times `start` and `end`, either may be None; `drawn`: alternatives of (column, op, value), or None.
    """
    bounds: list[tuple[str, Literal[">=", "<"]]] = [("start", ">="), ("end", "<")]
    found = [Condition("time", op, dt.datetime.fromisoformat(period[k])) for k, op in bounds if period.get(k)]
    if period.get("drawn"):
        found.append(any_of(*([Condition(*told) for told in every] for every in period["drawn"])))
    return found


def as_data(condition: Condition) -> list[list[list[Any]]]:
    """An `any` of plain conditions as the `drawn` of `period_conditions`."""
    return [[[one.column, one.op, one.value] for one in every] for every in _alternatives(condition)]
