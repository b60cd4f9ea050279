"""Consumes routed rows, produces the rows to build and, apart from them and slim, the past that they look back on.

A key is an entity, or a span of one that was cut: one task may hold several spans of an entity, each with its own
context. Of context nothing is kept but numbers: key, time, row_id, and the values whose past is wanted.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from assay.features.fill import filled_columns, filled_forward
from assay.features.plan import FeaturePlan
from assay.features.routing import CONTEXT, SPAN

if TYPE_CHECKING:
    import polars as pl

KEY = "__key"
LARGE_ROWS = 1_000_000  # a key with more rows is built by itself
FEW_ROWS = 10_000  # memory is of no concern


class Codes:
    """Numbers for the values of some columns, in order of first appearance."""

    def __init__(self, columns: Sequence[str]) -> None:
        """Start without any."""
        self.columns = list(columns)
        self._known: pl.DataFrame | None = None

    def of(self, frame: pl.DataFrame) -> pl.Series:
        """The number of each row, int32."""
        import polars as pl

        if not self.columns:
            return pl.repeat(0, frame.height, dtype=pl.Int32, eager=True)
        values = frame.select(self.columns)
        found = None if self._known is None else self._numbered(values)
        if found is None or found.null_count():
            new = values if found is None else values.filter(found.is_null())
            new = new.unique(maintain_order=True)
            first = 0 if self._known is None else self._known.height
            new = new.with_columns(pl.int_range(first, first + new.height, dtype=pl.Int32, eager=True).alias(KEY))
            self._known = new if self._known is None else pl.concat([self._known, new])
            found = self._numbered(values)
        return found

    def _numbered(self, values: pl.DataFrame) -> pl.Series:
        return values.join(self.table(), on=self.columns, how="left", maintain_order="left", nulls_equal=True)[KEY]

    def table(self) -> pl.DataFrame:
        """The columns, and `KEY`."""
        import polars as pl

        if self._known is None:
            return pl.DataFrame({KEY: pl.Series([0], dtype=pl.Int32)})
        return self._known

    def ranks(self) -> npt.NDArray[np.int32]:
        """Number -> its place in the order of the columns' values, nulls first."""
        order = self.table().sort(self.columns)[KEY].to_numpy() if self.columns else np.zeros(1, dtype=np.int32)
        ranks = np.empty(len(order), dtype=np.int32)
        ranks[order] = np.arange(len(order), dtype=np.int32)
        return ranks


@dataclasses.dataclass(frozen=True)
class EntityRows:
    """Rows of whole keys, in order of key, time and row_id.

    rows: to build, with all their columns and `KEY`.
    past: these and their context: `KEY`, time, values (doubles), and a column ``market {label}`` for each label.
    built: positions of `rows` in `past`, None where there is no context.
    """

    rows: pl.DataFrame
    past: pl.DataFrame
    built: npt.NDArray[np.int64] | None


def gathered(batches: Iterator[pa.RecordBatch], plan: FeaturePlan, markets: dict[str, Codes]) -> Iterator[EntityRows]:
    """All keys of the batches, those with very many rows by themselves.

    markets: label -> the numbers of its groups, to which those of the batches are added.
    """
    import polars as pl

    rows, context = list[pl.DataFrame](), list[pl.DataFrame]()
    keys: Codes | None = None
    for batch in batches:
        if not batch.num_rows:
            continue
        frame = pl.from_arrow(pa.Table.from_batches([batch]))
        assert isinstance(frame, pl.DataFrame)
        routed = CONTEXT in frame.columns
        keys = keys or Codes([*plan.entity, *([SPAN] if routed else [])])
        frame = frame.with_columns(keys.of(frame).alias(KEY))
        if routed:
            context.append(_slim(frame.filter(pl.col(CONTEXT)), plan, markets))
            frame = frame.filter(~pl.col(CONTEXT)).drop(CONTEXT, SPAN)
        rows.append(frame)
    if keys is None or not any(frame.height for frame in rows):
        return
    ranks = keys.ranks()
    whole, past = _ranked(rows, ranks), _ranked(context, ranks)
    counts = sum(np.bincount(frame[KEY].to_numpy(), minlength=len(ranks)) for frame in [*whole, *past])
    many = np.flatnonzero(counts > LARGE_ROWS)
    for key in many if len(ranks) > 1 else ():
        mine = pl.col(KEY) == int(key)
        part, before = ([frame.filter(mine) for frame in frames] for frames in (whole, past))
        whole, past = ([frame.filter(~mine) for frame in frames] for frames in (whole, past))
        yield _ordered(part, before, plan, markets)
    yield _ordered(whole, past, plan, markets)  # it empties the lists: nothing is held while it is being built


def _ranked(frames: list[pl.DataFrame], ranks: npt.NDArray[np.int32]) -> list[pl.DataFrame]:
    """The frames as one, with keys in their order, or none; the list is emptied, so that nothing is held twice."""
    import polars as pl

    if not frames:
        return []
    whole = pl.concat(frames)
    frames.clear()
    return [whole.with_columns(pl.Series(KEY, ranks[whole[KEY].to_numpy()]))]


def _ordered(
    frames: list[pl.DataFrame], context: list[pl.DataFrame], plan: FeaturePlan, markets: dict[str, Codes]
) -> EntityRows:
    """One frame of rows and at most one of context, which are taken out of their lists."""
    import polars as pl

    rows = _sorted([frames.pop()])
    past, built = _slim(rows, plan, markets), None
    if context and context[0].height:
        marked = [past.with_columns(pl.lit(False).alias(CONTEXT))]
        marked.append(context.pop().with_columns(pl.lit(True).alias(CONTEXT)))
        past = _sorted(marked)
        built = np.flatnonzero(~past[CONTEXT].to_numpy())
        past = past.drop(CONTEXT)
    filled = filled_columns(plan)
    if filled:
        past = filled_forward(past, plan, by=[KEY])
        rows = rows.with_columns(past[name] if built is None else past[name].gather(built) for name in filled)
    return EntityRows(rows, past.drop("row_id"), built)


def _sorted(frames: list[pl.DataFrame]) -> pl.DataFrame:
    """The frames as one in order; the list is emptied. Of many rows each column is let go of as soon as it is moved."""
    import polars as pl

    whole = pl.concat(frames)
    frames.clear()
    order = pl.Series(np.lexsort([whole[name].to_physical().to_numpy() for name in ("row_id", "time", KEY)]))
    if whole.height <= FEW_ROWS:
        return whole[order]
    return pl.DataFrame([whole.drop_in_place(name).rechunk().gather(order) for name in whole.columns])


def _slim(frame: pl.DataFrame, plan: FeaturePlan, markets: dict[str, Codes]) -> pl.DataFrame:
    """What the past needs of rows."""
    import polars as pl

    values = dict.fromkeys([*(h.column for h in plan.history), *filled_columns(plan)])
    return frame.select(
        KEY,
        "time",
        "row_id",
        *(pl.col(name).cast(pl.Float64) for name in values),
        *(codes.of(frame).alias(f"market {label}") for label, codes in markets.items()),
    )
