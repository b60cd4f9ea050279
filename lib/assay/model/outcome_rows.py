"""Consumes rows of `features`, produces what came true of them, under names that no table of predictions has."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import pyarrow as pa

OUTCOME = "__outcome"


@dataclasses.dataclass(frozen=True)
class OutcomeRows:
    """Kernel: `row_id`, the outcome, and what else is wanted beside it, to be joined with predictions.

    outcome: its column.  numbers: name after it and column of further numbers; without a column they are null.  texts:
    columns that are taken as texts.
    """

    outcome: str
    numbers: tuple[tuple[str, str | None], ...] = ()
    texts: tuple[str, ...] = ()

    @property
    def schema(self) -> pa.Schema:
        """Of the rows after it."""
        numbers = [(name, pa.float64()) for name in (OUTCOME, *(name for name, _ in self.numbers))]
        return pa.schema([("row_id", pa.int64()), *numbers, *((name, pa.string()) for name in self.texts)])

    def __call__(self, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """The same rows."""
        names = ["row_id", self.outcome, *(column for _, column in self.numbers), *self.texts]
        for batch in batches:
            columns = [
                batch.column(name).cast(field.type) if name is not None else pa.nulls(batch.num_rows, field.type)
                for name, field in zip(names, self.schema, strict=True)
            ]
            yield pa.RecordBatch.from_arrays(columns, schema=self.schema)
