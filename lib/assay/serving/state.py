"""Consumes `observations`, produces what a server knows of the past: rows by entity, and the markets' condensed steps.

It is what `build_features` starts from, kept in memory: condensed steps of every group, counted values for ranks, and
of each row key, time and the values whose past is wanted. Nothing in it depends on when a row is priced: the kernels
look at what was known strictly before the row's own time, however much later the newest observation is.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from assay.features.condensed import merge
from assay.features.kernel import Condense, GroupHistory, condensed_schema, group_schema, packed
from assay.features.plan import FeaturePlan
from assay.features.ranks import AddBins, CountBins, counted_bins_schema, rank_features
from assay.features.routing import past_columns

if TYPE_CHECKING:
    import polars as pl

STEP = "step"
EMPTY = {"n": 0, "s": 0.0, "q": 0.0, "lo": None, "hi": None}  # condensed, of no value
Batches = Iterable[pa.RecordBatch]


class Keyed:
    """Rows that are asked for by key, each key's in their order: a hash of the key finds them without a scan."""

    def __init__(self, rows: pl.DataFrame, columns: Sequence[str]) -> None:
        """rows: any, with the key's columns as text; without columns all rows are one key's."""
        self.columns = list(columns)
        self._rows, self._hashes, self._starts = rows, np.zeros(0, dtype=np.uint64), np.zeros(1, dtype=np.int64)
        if self.columns:
            hashes = self._hashed(rows)
            order = np.argsort(hashes, kind="stable")
            self._rows = rows[order]
            self._hashes, starts = np.unique(hashes[order], return_index=True)
            self._starts = np.append(starts, rows.height).astype(np.int64)

    @property
    def rows(self) -> pl.DataFrame:
        """All of them."""
        return self._rows

    def _hashed(self, frame: pl.DataFrame) -> np.ndarray:
        return frame.select(self.columns).hash_rows(seed=0).to_numpy()

    def of(self, keys: pl.DataFrame) -> pl.DataFrame:
        """Rows of the keys of a frame, null being a key like any other."""
        if not self.columns or not self._rows.height:
            return self._rows
        wanted = np.unique(self._hashed(keys))
        place = np.minimum(np.searchsorted(self._hashes, wanted), len(self._hashes) - 1)
        found = place[self._hashes[place] == wanted]
        spans = [np.arange(self._starts[p], self._starts[p + 1]) for p in found]
        rows = self._rows[np.concatenate(spans)] if spans else self._rows.clear()
        mine = keys.select(self.columns).unique()
        return rows.join(mine, on=self.columns, how="semi", nulls_equal=True, maintain_order="left")


@dataclasses.dataclass(frozen=True)
class State:
    """What is known of the past.

    past: rows with `past_columns` of the plan, by entity.  cells: label -> condensed rows, by group.  bins: label ->
    counted values, by group, of markets with ranks.
    """

    plan: FeaturePlan
    past: Keyed
    cells: Mapping[str, Keyed]
    bins: Mapping[str, Keyed]

    @classmethod
    def of(cls, plan: FeaturePlan, read: Callable[[Sequence[str]], Batches]) -> State:
        """The state that rows of `observations` make.  read: the columns wanted -> their batches."""
        columns = past_columns(plan)
        past = _frame(read(columns), columns, plan).sort("time", "row_id")
        tables: dict[str, pa.Table] = {}
        values = list(dict.fromkeys(h.column for h in plan.history))
        for label, group in plan.groups.items() if plan.temporal or plan.market else ():
            names = list(dict.fromkeys([*group, "time", *values]))
            tables[f"cells {label}"] = _table(Condense(plan, label)(iter(read(names))), condensed_schema(plan, label))
        for label in plan.markets:
            if rank_features(plan, label):
                names = list(dict.fromkeys([*plan.groups[label], "time", *plan.targets]))
                counted = AddBins(plan, label)(CountBins(plan, label)(iter(read(names))))
                tables[f"bins {label}"] = _table(counted, counted_bins_schema(plan, label))
        return cls.from_tables(plan, {"past": past.to_arrow(), **tables})

    @classmethod
    def from_tables(cls, plan: FeaturePlan, tables: Mapping[str, pa.Table]) -> State:
        """Read back `tables`."""
        frames = {name: _polars(table) for name, table in tables.items()}

        def keyed(kind: str) -> dict[str, Keyed]:
            return {
                name.removeprefix(kind): Keyed(frame, plan.groups[name.removeprefix(kind)])
                for name, frame in frames.items()
                if name.startswith(kind)
            }

        return cls(plan, Keyed(frames["past"], plan.entity), keyed("cells "), keyed("bins "))

    def tables(self) -> dict[str, pa.Table]:
        """The state as tables: ``past``, ``cells LABEL``, ``bins LABEL``."""
        named = {"past": self.past}
        named |= {f"cells {label}": keyed for label, keyed in self.cells.items()}
        named |= {f"bins {label}": keyed for label, keyed in self.bins.items()}
        return {name: keyed.rows.to_arrow() for name, keyed in named.items()}

    @cached_property
    def values(self) -> list[str]:
        """Columns with a history."""
        return list(dict.fromkeys(h.column for h in self.plan.history))

    def group_tables(self, rows: pl.DataFrame) -> dict[str, bytes]:
        """Label -> the groups' features at the steps of some rows, as `BuildFeatures` takes them.

        A step of which nothing is known yet is a cell without values, which is what the row itself is in a batch.
        rows: the groups' columns, and `STEP` as `step_of` gives it.
        """
        import polars as pl

        found = {}
        for label, keyed in self.cells.items():
            columns = list(self.plan.groups[label])
            asked = rows.select(*columns, pl.col(STEP).alias("time")).unique()
            empty = [pl.lit(nothing).alias(f"{v}|{m}") for v in self.values for m, nothing in EMPTY.items()]
            cells = keyed.of(asked)
            marks = asked.with_columns(empty).select(cells.columns).cast(cells.schema)
            first = asked["time"].dt.timestamp("us").min()
            assert isinstance(first, int)
            whole = merge(pl.concat([cells, marks]), columns, self.values)
            made = GroupHistory(self.plan, label, since=first)(iter(whole.to_arrow().to_batches()))
            found[label] = packed(_table(made, group_schema(self.plan, label)))
        return found

    def rank_tables(self, rows: pl.DataFrame) -> dict[str, bytes]:
        """Label -> the counted values of some rows' groups."""
        return {
            label: packed(keyed.of(rows).to_arrow().cast(counted_bins_schema(self.plan, label)))
            for label, keyed in self.bins.items()
        }


def _frame(batches: Batches, columns: Sequence[str], plan: FeaturePlan) -> pl.DataFrame:
    import polars as pl

    kinds = {"row_id": pl.Int64(), "time": pl.Datetime("us", "UTC"), **dict.fromkeys(plan.texts, pl.String())}
    empty = pl.DataFrame(schema={name: kinds.get(name, pl.Float64()) for name in columns})
    return pl.concat([empty, *(_polars(pa.Table.from_batches([batch])) for batch in batches)]).rechunk()


def _table(batches: Iterator[pa.RecordBatch], schema: pa.Schema) -> pa.Table:
    return pa.Table.from_batches(list(batches), schema)


def _polars(table: pa.Table) -> pl.DataFrame:
    import polars as pl

    frame = pl.from_arrow(table)
    assert isinstance(frame, pl.DataFrame)
    return frame
