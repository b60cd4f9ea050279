"""Consumes the training period, produces the strongest simple alternatives: what a model must beat to be worth it."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence

import pyarrow as pa

from assay.model.baselines import MIN_GROUP_ROWS, Baselines
from assay.runtime.conditions import Condition
from assay.runtime.plane import Plane


def fit_baselines(
    plane: Plane,
    *,
    version: int,
    where: Sequence[Condition],
    target: str,
    group_columns: Sequence[str],
    last_value: str | None,
    rows_hint: int,
) -> Baselines:
    """Exact medians over the training period: one task for all rows' target, one shuffle for the groups'."""
    from assay.runtime.tables import FEATURES

    columns = list(dict.fromkeys([*group_columns, target]))
    flow = plane.read(FEATURES.name, version=version, columns=columns, where=where)
    whole = flow.by_key([], rows_hint=rows_hint).map(Medians((), target), _median_schema(())).collect()
    median = float(whole.column("median")[0].as_py())
    medians: dict[tuple[str | None, ...], float] = {}
    if group_columns:
        groups = flow.by_key(group_columns, rows_hint=rows_hint)
        found = groups.map(Medians(tuple(group_columns), target), _median_schema(group_columns)).collect()
        for row in found.to_pylist():
            medians[tuple(row[c] for c in group_columns)] = row["median"]
    return Baselines(median, tuple(group_columns), medians, last_value)


def _median_schema(group_columns: Sequence[str]) -> pa.Schema:
    return pa.schema([*(pa.field(c, pa.string()) for c in group_columns), pa.field("median", pa.float64())])


@dataclasses.dataclass(frozen=True)
class Medians:
    """Kernel over whole groups: the median target of each that has enough rows."""

    group_columns: tuple[str, ...]
    target: str

    def __call__(self, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """One row per group."""
        import polars as pl

        from assay.runtime.arrow_files import conform_table

        found = list(batches)
        if not found:
            return
        frame = pl.from_arrow(pa.Table.from_batches(found))
        assert isinstance(frame, pl.DataFrame)
        median = pl.col(self.target).median().alias("median")
        if not self.group_columns:
            result = frame.select(median)
        else:
            grouped = frame.group_by(list(self.group_columns)).agg(median, pl.len().alias("rows"))
            result = grouped.filter(pl.col("rows") >= MIN_GROUP_ROWS)
        yield from conform_table(result.to_arrow(), _median_schema(self.group_columns))
