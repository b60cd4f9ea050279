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

import pyarrow as pa

from assay.features.kernel import Condense, condensed_schema, packed
from assay.features.plan import FeaturePlan
from assay.features.ranks import AddBins, CountBins, counted_bins_schema, rank_features
from assay.features.routing import past_columns
from assay.serving.groups import GroupSteps
from assay.serving.keyed import Keyed, polars_of

if TYPE_CHECKING:
    import polars as pl

STEP = "step"
Batches = Iterable[pa.RecordBatch]


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
        frames = {name: polars_of(table) for name, table in tables.items()}

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
    def _groups(self) -> dict[str, GroupSteps]:
        return {label: GroupSteps(self.plan, label, keyed) for label, keyed in self.cells.items()}

    def group_tables(self, rows: pl.DataFrame) -> dict[str, bytes]:
        """Label -> the groups' features at the steps of some rows, as `BuildFeatures` takes them.

        rows: the groups' columns, and `STEP` as `step_of` gives it.
        """
        import polars as pl

        step = pl.col(STEP).alias("time")
        return {
            label: group.at(rows.select(*self.plan.groups[label], step).unique())
            for label, group in self._groups.items()
        }

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
    return pl.concat([empty, *(polars_of(pa.Table.from_batches([batch])) for batch in batches)]).rechunk()


def _table(batches: Iterator[pa.RecordBatch], schema: pa.Schema) -> pa.Table:
    return pa.Table.from_batches(list(batches), schema)
