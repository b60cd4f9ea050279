"""Consumes feature batches, models and their calibrations, produces rows of `predictions`. Pure; runs anywhere."""

from __future__ import annotations

import dataclasses
import datetime as dt
import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

import pyarrow as pa
import pyarrow.compute as pc

from assay.model.isolation import rebatched
from assay.runtime.conditions import Condition, mask
from assay.runtime.tables import PREDICTIONS, SHADOW_PREDICTIONS
from assay.scoring.deployed import Arms
from assay.scoring.quality import counted
from assay.scoring.scorer import Scorer, class_fields, level_fields

SHADOW = "shadow"  # column with the number of a shadow; null for the champion
NOTE = "_counts"  # column of the one row per task that goes to the driver: counts by shadow, as JSON


def prediction_schema(
    levels: Sequence[float], entity: tuple[str, ...], *, classes: bool = False, shadow: bool = False
) -> pa.Schema:
    """Schema of `predictions` for these levels and entity keys, or of `shadow_predictions`.

    classes: whether a target of the dataset has some.
    """
    keys = (pa.field(name, pa.string()) for name in entity)
    extra = [*keys, *level_fields(tuple(levels)), *(class_fields(tuple(levels)) if classes else [])]
    return (SHADOW_PREDICTIONS if shadow else PREDICTIONS).schema(extra)


@dataclasses.dataclass(frozen=True)
class ScoreRows:
    """One model's rows of `predictions`.

    where: which rows it scores.  shadow: its number, where it is one.
    tested: scores the rows that the model has learned from; None where there are no such rows.
    learned_column: the model has learned from rows that have a value there; None: from those up to `learned_until`.
    """

    scorer: Scorer
    target: str
    entity: tuple[str, ...]
    where: tuple[Condition, ...] = ()
    shadow: str | None = None
    tested: ScoreRows | None = None
    learned_column: str | None = None

    def scored(self, given: pa.RecordBatch, schema: pa.Schema) -> Iterator[pa.RecordBatch]:
        """The rows of a batch; columns of `schema` that this model has nothing for are null."""
        batch = mask(given, self.where)
        if self.tested is None:
            if batch.num_rows:
                yield self._rows(batch, schema)
            return
        learned = self._learned(batch)
        of_tested = learned.true_count
        if of_tested:
            part = batch if of_tested == batch.num_rows else batch.filter(learned)
            yield from self.tested.scored(part, schema)
        if of_tested < batch.num_rows:
            yield self._rows(batch.filter(pc.invert(learned)) if of_tested else batch, schema)

    def _learned(self, batch: pa.RecordBatch) -> pa.Array:
        if self.learned_column is not None:
            return pc.is_valid(batch.column(self.learned_column))
        until = dt.datetime.fromisoformat(self.scorer.model.learned_until)
        return pc.less_equal(batch.column("time"), pa.scalar(until, batch.column("time").type))

    def _rows(self, batch: pa.RecordBatch, schema: pa.Schema) -> pa.RecordBatch:
        rows, scored = batch.num_rows, self.scorer(batch)
        columns = {name: batch.column(name) for name in ("row_id", "time", *self.entity, "month")}
        columns |= {name: scored.column(name) for name in scored.schema.names}
        told = {
            "model_version": self.scorer.model.version,
            "calibration_version": self.scorer.calibration_version,
            "target": self.target,
            SHADOW: self.shadow,
        }
        columns |= {name: pa.repeat(pa.scalar(text, pa.string()), rows) for name, text in told.items()}
        arrays = [columns[f.name] if f.name in columns else pa.nulls(rows, f.type) for f in schema]
        return pa.RecordBatch.from_arrays(arrays, schema=schema)


@dataclasses.dataclass(frozen=True)
class ScoreAll:
    """Kernel: the rows of every model, batch by batch, and at the end one row with what was counted.

    schema: of all of them, with `NOTE`, and with `SHADOW` where there are shadows.  batch_rows: for a model at once.
    arms: who serves which row, where a challenger serves some.
    """

    models: tuple[ScoreRows, ...]
    schema: pa.Schema
    batch_rows: int
    arms: Arms | None = None

    def __call__(self, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """Score every batch by every model."""
        counts: dict[str, Counter[str]] = {model.shadow or "": Counter() for model in self.models}
        for batch in rebatched(batches, self.batch_rows):
            for model in self.models:
                for scored in model.scored(batch, self.schema):
                    counts[model.shadow or ""] += counted(scored.column("quality"), scored.column("quality_reasons"))
                    yield self._parted(scored, model.shadow)
        yield pa.RecordBatch.from_pylist([{NOTE: json.dumps(counts)}], schema=self.schema)

    def _parted(self, scored: pa.RecordBatch, shadow: str | None) -> pa.RecordBatch:
        """Rows of a model with its number in those that it does not serve."""
        if self.arms is None or shadow not in {None, self.arms.challenger}:
            return scored
        place = scored.schema.get_field_index(SHADOW)
        return scored.set_column(place, scored.schema.field(place), self.arms.others(scored, shadow))


def merged_counts(notes: pa.Table) -> Mapping[str, Counter[str]]:
    """Number of a shadow, or nothing for the champion -> what all tasks counted."""
    found: dict[str, Counter[str]] = {}
    for text in notes.column(NOTE).to_pylist():
        for shadow, counts in json.loads(text).items():
            found.setdefault(shadow, Counter()).update(counts)
    return found
