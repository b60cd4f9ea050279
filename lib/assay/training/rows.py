"""Consumes `features`, produces the labelled rows of a run: their times and categories, and periods as flows."""

from __future__ import annotations

import dataclasses
import datetime as dt
from collections.abc import Iterator, Sequence

import pyarrow as pa

from assay.config import TargetConfig
from assay.config.dataset import stored_name
from assay.errors import DataError
from assay.model.encoding import Encoding
from assay.runtime.conditions import Condition
from assay.runtime.job import JobContext
from assay.runtime.plane import Flow
from assay.runtime.tables import FEATURES, TIME
from assay.training.preparation_sample import TrainingRows
from assay.training.split import Period, together


@dataclasses.dataclass(frozen=True)
class LabelledRows:
    """Rows of one version of `features` that have the target, of the run's slice (`--where`)."""

    context: JobContext
    target: TargetConfig
    version: int

    @property
    def column(self) -> str:
        """The target's column."""
        return stored_name(self.target.name)

    def type_of(self, column: str) -> pa.DataType:
        """Type of a column of the features."""
        return self.context.plane.schema(FEATURES.name).field(column).type

    def where(self, *periods: Period) -> list[Condition]:
        """Conditions of the labelled rows in consecutive periods, or in all of time."""
        known = [
            *(Condition(stored_name(c), "==", v) for c, v in self.context.config.where),
            Condition(self.column, "not_null"),
        ]
        if not periods:
            return known
        return [*known, *together(periods).conditions()]

    def read(self, columns: Sequence[str], *periods: Period) -> Flow:
        """Some columns of the labelled rows in consecutive periods, or in all of time."""
        return self.context.plane.read(
            FEATURES.name, version=self.version, columns=list(columns), where=self.where(*periods)
        )

    def training_rows(self, *periods: Period) -> TrainingRows:
        """Rows of periods, without the gaps between them: nobody learns from those."""
        return TrainingRows(
            lambda columns: [self.read(columns, period) for period in periods], sum(period.rows for period in periods)
        )

    def times(self) -> dict[dt.datetime, int]:
        """Rows with a known target at each time, in order.

        Raises:
            DataError: there is none.
        """
        flow = self.read(["time"])
        found = flow.map(count_times, COUNTS).collect().group_by("time").aggregate([("rows", "sum")]).sort_by("time")
        times: list[dt.datetime] = found.column("time").to_pylist()
        if not times:
            where = " and ".join(f"{c}={v}" for c, v in self.context.config.where)
            raise DataError(
                f"no row has a known target {self.target.name!r}"
                + (f" where {where} (--where)" if where else "")
                + "; nothing can be learned"
            )
        return dict(zip(times, found.column("rows_sum").to_pylist(), strict=True))

    def encoding(self, *periods: Period) -> Encoding:
        """Numeric features, and the vocabulary that each category has in the periods.

        Raises:
            DataError: the features have no input at all.
        """
        dataset = self.context.config.dataset
        categorical = [stored_name(c) for c in dataset.columns.categorical]
        schema = self.context.plane.schema(FEATURES.name)
        numeric = [f.name for f in schema if pa.types.is_float32(f.type)]
        values: dict[str, set[str]] = {c: set() for c in categorical}
        for period in periods if categorical else ():  # not the gap between them: nobody learns from it
            for row in self.read(categorical, period).map(distinct_values, VALUES).collect().to_pylist():
                values[row["column"]].add(row["value"])
        if not numeric and not categorical:
            raise DataError(
                f"dataset {dataset.name} has no feature: list columns under dataset.columns, or set "
                "training.enable_advanced_features=true for history and calendar"
            )
        return Encoding(tuple(numeric), {c: tuple(sorted(v)) for c, v in values.items()})


COUNTS = pa.schema([pa.field("time", TIME), pa.field("rows", pa.int64())])
VALUES = pa.schema([pa.field("column", pa.string()), pa.field("value", pa.string())])


def count_times(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """Kernel: rows per distinct time of a share."""
    found = [pa.Table.from_batches([b]).group_by("time").aggregate([([], "count_all")]) for b in batches if b.num_rows]
    if found:
        merged = pa.concat_tables(found).group_by("time").aggregate([("count_all", "sum")])
        table = pa.table({"time": merged.column("time"), "rows": merged.column("count_all_sum")}, schema=COUNTS)
        yield from table.combine_chunks().to_batches()


def distinct_values(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """Kernel: the distinct values of each text column of a share, missing left out."""
    seen: dict[str, set[str]] = {}
    for batch in batches:
        for name in batch.schema.names:
            values = batch.column(name).unique().drop_null().to_pylist()
            seen.setdefault(name, set()).update(values)
    pairs = [(name, value) for name, values in seen.items() for value in sorted(values)]
    if pairs:
        names, values = zip(*pairs, strict=True)
        yield pa.record_batch([pa.array(names, pa.string()), pa.array(values, pa.string())], schema=VALUES)
