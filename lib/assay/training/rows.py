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
from assay.training.seen_values import VALUES, seen, seen_values, vocabulary
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
        """Numeric features, and what the periods have in each: of a category its vocabulary, of a number its range.

        Raises:
            DataError: the features have no input at all.
        """
        dataset = self.context.config.dataset
        categorical = [stored_name(c) for c in dataset.columns.categorical]
        schema = self.context.plane.schema(FEATURES.name)
        numeric = [f.name for f in schema if pa.types.is_float32(f.type)]
        if not numeric and not categorical:
            raise DataError(
                f"dataset {dataset.name} has no feature: list columns under dataset.columns, or set "
                "training.enable_advanced_features=true for history and calendar"
            )
        found = pa.concat_tables(  # not of the gap between periods: nobody learns from it
            self.read([*numeric, *categorical], period).map(seen_values, VALUES).collect() for period in periods
        )
        return Encoding(tuple(numeric), vocabulary(found, categorical), seen=seen(found))


COUNTS = pa.schema([pa.field("time", TIME), pa.field("rows", pa.int64())])


def count_times(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """Kernel: rows per distinct time of a share."""
    found = [pa.Table.from_batches([b]).group_by("time").aggregate([([], "count_all")]) for b in batches if b.num_rows]
    if found:
        merged = pa.concat_tables(found).group_by("time").aggregate([("count_all", "sum")])
        table = pa.table({"time": merged.column("time"), "rows": merged.column("count_all_sum")}, schema=COUNTS)
        yield from table.combine_chunks().to_batches()
