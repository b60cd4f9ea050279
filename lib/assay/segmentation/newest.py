"""Consumes features of whole entities, produces the newest row of each, what is similar in it, and its segment."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa

from assay.model.clusters import Clusters
from assay.model.row_sample import ROW, hashes_of
from assay.model.scale import Floats, as_floats


@dataclasses.dataclass(frozen=True)
class NewestRows:
    """Kernel over whole entities: the newest row of each; of several at one time that with the highest id.

    most: at most so many per task, those whose hashes of `row_id` are smallest; None for all. What is among the `most`
    smallest of all tasks does not depend on which task had it.
    """

    entity: tuple[str, ...]
    most: int | None = None

    def __call__(self, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """The rows as they are."""
        import polars as pl

        table = pa.Table.from_batches(kept) if (kept := list(batches)) else None
        if table is None or not table.num_rows:
            return
        frame = pl.from_arrow(table.select([*self.entity, "time", ROW]))
        assert isinstance(frame, pl.DataFrame)
        order = frame.with_row_index("\0place").sort(*self.entity, "time", ROW)
        places = order.group_by(list(self.entity), maintain_order=True).last()["\0place"].to_numpy()
        newest = table.take(pa.array(places)).combine_chunks().to_batches()
        for batch in newest:
            if self.most is not None and batch.num_rows > self.most:
                hashes = hashes_of(batch)
                batch = batch.take(pa.array(np.argsort(hashes, kind="stable")[: self.most]))  # noqa: PLW2901
            yield batch


@dataclasses.dataclass(frozen=True)
class Inputs:
    """Which columns say what is similar, and of which the logarithm is looked at."""

    columns: tuple[str, ...]
    logarithm: tuple[str, ...]

    def of(self, rows: pa.RecordBatch, columns: tuple[str, ...] | None = None) -> Floats:
        """Inputs (n, m) of some columns, by default all: sign(x) log(1 + |x|) of those that are logarithmic."""
        found = [self._one(rows, name) for name in (self.columns if columns is None else columns)]
        return np.column_stack(found) if found else np.empty((rows.num_rows, 0))

    def _one(self, rows: pa.RecordBatch, name: str) -> Floats:
        values = as_floats(rows.column(name))
        return np.sign(values) * np.log1p(np.abs(values)) if name in self.logarithm else values


@dataclasses.dataclass(frozen=True)
class AssignSegments:
    """Kernel over newest rows: segment (1 for the largest when they were found), its name, and how far off it is."""

    clusters: Clusters
    inputs: Inputs
    schema: pa.Schema

    def __call__(self, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """Rows of `segments`."""
        names = np.array(self.clusters.names, dtype=object)
        for batch in batches:
            place, distance = self.clusters.nearest(self.inputs.of(batch, self.clusters.columns))
            made: dict[str, Any] = {
                "segment": pa.array(place + 1, pa.int64()),
                "name": pa.array(names[place], pa.string()),
                "distance": pa.array(distance, pa.float64()),
            }
            columns = [made[f.name] if f.name in made else batch.column(f.name).cast(f.type) for f in self.schema]
            yield pa.RecordBatch.from_arrays(columns, schema=self.schema)


@dataclasses.dataclass(frozen=True)
class SumSegments:
    """Kernel over `segments`: per segment its rows, and per input how many values it has and their sum."""

    columns: tuple[str, ...]

    @property
    def schema(self) -> pa.Schema:
        """Columns that it gives."""
        kinds = {"segment": pa.int64(), "name": pa.string(), "input": pa.string(), "rows": pa.int64()}
        kinds |= {"values": pa.int64(), "total": pa.float64(), "distance": pa.float64()}
        return pa.schema(list(kinds.items()))

    def __call__(self, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """A row per batch, segment and input."""
        import polars as pl

        for batch in batches:
            frame = pl.from_arrow(pa.Table.from_batches([batch]))
            assert isinstance(frame, pl.DataFrame)
            for name in self.columns:
                value = pl.col(name).fill_nan(None)
                found = frame.group_by("segment", "name").agg(
                    pl.lit(name).alias("input").first(),
                    pl.len().cast(pl.Int64).alias("rows"),
                    value.count().cast(pl.Int64).alias("values"),
                    value.sum().alias("total"),
                    pl.col("distance").sum(),
                )
                yield from found.select(self.schema.names).to_arrow().cast(self.schema).to_batches()


def profiles(summed: pa.Table) -> pa.Table:
    """Rows of `segment_profiles`: per segment and input its mean, that of all entities, and the segment's size.

    Args:
        summed: rows of `SumSegments`, from any number of tasks.
    """
    import polars as pl

    frame = pl.from_arrow(summed)
    assert isinstance(frame, pl.DataFrame)
    sums = pl.col("rows", "values", "total", "distance").sum()
    each = frame.group_by("segment", "name", "input").agg(sums)
    every = (
        frame.group_by("input").agg(sums).select("input", all="rows", mean_of_all=pl.col("total") / pl.col("values"))
    )
    made = each.join(every, on="input").sort("segment", "input")
    return made.select(
        "segment",
        "name",
        "input",
        "rows",
        share=pl.col("rows") / pl.col("all"),
        mean=pl.col("total") / pl.col("values"),
        mean_of_all="mean_of_all",
        distance=pl.col("distance") / pl.col("rows"),
    ).to_arrow()
