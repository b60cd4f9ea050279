"""Consumes feature batches, a model and its calibration, produces predictions with intervals. Pure; runs anywhere."""

from __future__ import annotations

import dataclasses
import datetime as dt
from collections.abc import Iterator
from functools import cached_property
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from assay.conformal.calibration import Calibration
from assay.conformal.class_calibration import read_calibration
from assay.conformal.intervals import score_batch
from assay.model.carried import Carried
from assay.runtime.arrow_files import conform
from assay.runtime.tables import PREDICTIONS, level_label


def prediction_schema(levels: tuple[float, ...], entity: tuple[str, ...], *, classes: bool = False) -> pa.Schema:
    """Schema of `predictions` for these levels and entity keys. classes: whether a target of the dataset has some."""
    ends = [pa.field(f"{end}_{level_label(level)}", pa.float64()) for level in levels for end in ("lower", "upper")]
    decided = [
        pa.field("predicted_class", pa.string()),
        pa.field("probabilities", pa.list_(pa.float64())),
        *(pa.field(f"set_{level_label(level)}", pa.list_(pa.string())) for level in levels),
    ]
    keys = (pa.field(name, pa.string()) for name in entity)
    return PREDICTIONS.schema([*keys, *ends, *(decided if classes else [])])


@dataclasses.dataclass(frozen=True)
class ScoreRows:
    """Kernel: rows of `predictions`. Model and calibration are loaded once per Python worker.

    tested: scores the rows that the model has learned from; None where there are no such rows.
    learned_column: the model has learned from rows that have a value there; None: from those up to `learned_until`.
    """

    carried: Carried
    calibration: dict[str, Any]
    calibration_version: str
    target: str
    entity: tuple[str, ...]
    classes: bool = False
    tested: ScoreRows | None = None
    learned_column: str | None = None

    @cached_property
    def fitted(self) -> Calibration:
        """The calibration, read once."""
        return read_calibration(self.calibration, classes=self.carried.model().outcome.decides)

    def __call__(self, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """Score every batch."""
        until = dt.datetime.fromisoformat(self.carried.model().learned_until) if self.tested is not None else None
        for batch in batches:
            if self.tested is None:
                yield self.scored(batch)
                continue
            if self.learned_column is not None:
                learned = pc.is_valid(batch.column(self.learned_column))
            else:
                learned = pc.less_equal(batch.column("time"), pa.scalar(until, batch.column("time").type))
            for scorer, part in ((self.tested, batch.filter(learned)), (self, batch.filter(pc.invert(learned)))):
                if part.num_rows:
                    yield scorer.scored(part)

    def scored(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """One batch of `predictions`, all by the model itself."""
        model, fitted = self.carried.model(), self.fitted
        schema = prediction_schema(fitted.levels, self.entity, classes=self.classes)
        rows = batch.num_rows
        columns = {name: batch.column(name) for name in ("row_id", "time", *self.entity, "month")}
        columns |= {field.name: pa.nulls(rows, field.type) for field in schema if field.name not in columns}
        scored = score_batch(model, fitted, batch)
        columns |= {k: v if isinstance(v, pa.Array) else pa.array(v) for k, v in scored.items()}
        columns["model_version"] = pa.array([model.version] * rows)
        columns["calibration_version"] = pa.array([self.calibration_version] * rows)
        columns["target"] = pa.array([self.target] * rows)
        return conform(pa.RecordBatch.from_pydict({name: columns[name] for name in schema.names}), schema)
