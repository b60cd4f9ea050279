"""Consumes what earlier runs stored, produces rows as they were when they were checked: quality is to see all of them.

A run that adds files looks at new rows, at observations of the months that change, and at the whole quarantine.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from assay.config import DatasetConfig, RunConfig
from assay.config.dataset import stored_name
from assay.ingest.labels import as_code
from assay.ingest.quality_partial import is_broken
from assay.ingest.rules import checked_schema
from assay.ingest.values import as_number, as_text, without
from assay.runtime.arrow_files import conform_table
from assay.runtime.plane import Flow, Plane
from assay.runtime.tables import ingested_table

if TYPE_CHECKING:
    import polars as pl


def untouched_rows(plane: Plane, config: RunConfig, version: int, months: tuple[str, ...]) -> Flow | None:
    """Observations of the months that a run does not write; None where quality is not measured over them."""
    quality = config.profile.quality
    if not quality.enabled or quality.scope != "all":
        return None
    stored = plane.read(ingested_table(config.dataset).name, version=version)
    return stored.map(Untouched(config.dataset, months), checked_schema(config.dataset))


@dataclasses.dataclass(frozen=True)
class Untouched:
    """Kernel over observations: those of other months, as rows of `checked_schema`."""

    dataset: DatasetConfig
    months: tuple[str, ...]

    def __call__(self, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """Good rows."""
        import polars as pl

        schema, nothing = checked_schema(self.dataset), pl.lit(None, dtype=pl.String)
        for batch in batches:
            frame = pl.from_arrow(pa.Table.from_batches([batch]))
            assert isinstance(frame, pl.DataFrame)
            kept = frame.filter(~pl.col("month").is_in(self.months)).with_columns(reasons=nothing, raw=nothing)
            yield from conform_table(kept.to_arrow(), schema)


def restored(frame: pl.DataFrame, dataset: DatasetConfig) -> pl.DataFrame:
    """Rows of `checked_schema` with the values of those that come from the quarantine, which has them as JSON only.

    Such rows have no id. Their times are those that the quarantine has.
    """
    import polars as pl

    stored = frame.select((pl.col("row_id").is_null() & pl.col("raw").is_not_null() & ~is_broken()).alias("old"))
    if not stored["old"].any():
        return frame
    old = frame.filter(stored["old"])
    rows = [json.loads(text) for text in old["raw"]]
    unknown = dataset.unknown_values
    columns = [
        without(as_text(_values(rows, name)), unknown.get(name, ())).alias(stored_name(name))
        for name in dataset.text_columns
    ]
    for name, target in dataset.labels.items():
        code, _ = as_code(_values(rows, target.source_column), target)
        columns.append(code.alias(stored_name(name)))
    for name in dataset.numeric_columns:
        if name in dataset.labels:
            continue
        number, _ = as_number(pl.Series(name, _texts(rows, name), dtype=pl.String))
        columns.append(without(number, unknown.get(name, ())).fill_nan(None).alias(stored_name(name)))
    return pl.concat([frame.filter(~stored["old"]), old.with_columns(columns)])


def _values(rows: list[dict[str, Any]], name: str) -> pl.Series:
    """Values as JSON had them, where they are of one type, else as texts."""
    import polars as pl

    values = [row.get(name) for row in rows]
    kinds = {type(value) for value in values if value is not None}
    if len(kinds) == 1 and kinds <= {int, float, bool}:
        return pl.Series(name, values)
    return pl.Series(name, _texts(rows, name), dtype=pl.String)


def _texts(rows: list[dict[str, Any]], name: str) -> list[str | None]:
    return [None if row.get(name) is None else str(row[name]) for row in rows]
