"""Consumes columns, time and entity, produces what each column varies with: a row of its own, its entity, its time."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any, Literal

import numpy as np

from assay.describing.columns import Codes, Column, count_distinct, determined, joined, ranks
from assay.describing.roles import EntityRole, TimeRole
from assay.describing.times import microseconds

Grain = Literal["own", "entity", "time", "part", "held", "clock"]
SAME = 0.999
HELD = 0.85  # share of rows with the value of the row before
MONOTONE = 0.98


@dataclasses.dataclass(frozen=True)
class Looked:
    """What is known of a source once rows are known by entity and time.

    part: of each row, which part of the sample it is from; (rows,). grains: column -> what it varies with. whys: the
    same in words, where it is not the row itself.
    """

    columns: Mapping[str, Column]
    time: TimeRole | None
    entity: EntityRole
    part: Codes
    grains: Mapping[str, Grain] = dataclasses.field(default_factory=dict)
    whys: Mapping[str, str] = dataclasses.field(default_factory=dict)

    @property
    def rows(self) -> int:
        """Rows looked at."""
        return len(self.part)

    @property
    def keys(self) -> tuple[str, ...]:
        """Columns of the entity and the time."""
        return (*self.entity.columns, *((self.time.column.name,) if self.time else ()))

    @functools.cached_property
    def in_order(self) -> tuple[Codes, Codes]:
        """Places of the rows by entity, part and time; and which of them but the first follows one of its entity."""
        time_us = microseconds(self.time.column.values) if self.time else np.arange(self.rows)
        order = np.lexsort((time_us, self.part, self.entity.codes))
        follows = (np.diff(self.entity.codes[order]) == 0) & (np.diff(self.part[order]) == 0)
        return order, follows


def with_grains(looked: Looked) -> Looked:
    """The same, with what each column but the keys varies with."""
    grains: dict[str, Grain] = {}
    whys: dict[str, str] = {}
    for name, column in looked.columns.items():
        if name not in looked.keys and column.kind != "time" and not column.constant:
            grains[name], why = _grain(column, looked)
            if why:
                whys[name] = why
    return dataclasses.replace(looked, grains=grains, whys=whys)


def _grain(column: Column, looked: Looked) -> tuple[Grain, str]:
    entity, time = looked.entity, looked.time.column if looked.time else None
    if time is not None and _is_clock(column, time, looked):
        return "clock", f"goes with {time.name!r}, which is known"
    if not entity.has_history:
        return "own", ""
    assert time is not None
    names = " and ".join(map(repr, entity.columns))
    if entity.shape != "series" and determined(entity.codes, column.codes, SAME) >= SAME:
        return "entity", f"one value per {names}"
    together = looked.rows / max(1, time.distinct)
    if together >= 2 and determined(time.codes, column.codes, SAME) >= SAME:
        return "time", "one value for all rows of a time"
    if len(entity.columns) > 1:
        for name in entity.columns:
            codes = joined(looked.columns[name].codes, time.codes)
            if count_distinct(codes) < 0.5 * looked.rows and determined(codes, column.codes, SAME) >= SAME:
                return "part", f"one value for all rows of a {name!r} at a time"
    share = _held(column, looked)
    return ("held", f"as in the row before in {share:.0%} of rows") if share >= HELD else ("own", "")


def _is_clock(column: Column, time: Column, looked: Looked) -> bool:
    """Another writing of the time: it rises with it, and is one value at each time."""
    if column.kind != "number" or not column.whole or column.missing > 0 or column.distinct < 3:
        return False
    if determined(time.codes, column.codes, SAME) < SAME and time.distinct < 0.999 * looked.rows:
        return False
    return abs(_correlation(ranks(column.numbers), ranks(microseconds(time.values).astype(float)))) > MONOTONE


def _held(column: Column, looked: Looked) -> float:
    """Share of rows whose value is that of the row before: of their series, or, of one series cut up, in time."""
    if looked.entity.shape == "panel" and looked.time and looked.time.column.distinct >= SAME * looked.rows:
        order = np.argsort(microseconds(looked.time.column.values), kind="stable")
        follows = np.ones(len(order) - 1, dtype=bool)
    else:
        order, follows = looked.in_order
    values = column.codes[order]
    both = follows & (values[1:] > 0) & (values[:-1] > 0)
    return float(np.mean(values[1:][both] == values[:-1][both])) if both.any() else 0.0


def _correlation(one: Codes, other: Codes) -> float:
    both = np.isfinite(one) & np.isfinite(other)
    if both.sum() < 10 or not one[both].std() or not other[both].std():
        return 0.0
    return float(np.corrcoef(one[both], other[both])[0, 1])


def rank_correlation(one: Codes, other: Codes) -> float:
    """Spearman's, of rows that have both; 0 where there are fewer than ten. Both: (rows,)."""
    both = np.isfinite(one) & np.isfinite(other)
    found: Any = _correlation(ranks(one[both]), ranks(other[both])) if both.sum() >= 10 else 0.0
    return float(found)
