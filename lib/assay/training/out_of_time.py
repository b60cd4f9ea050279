"""Consumes a period and learners that had not seen it, produces their predictions beside the outcomes."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence

import numpy as np
import pyarrow as pa

from assay.model.bundle import Model
from assay.model.carried import Carried
from assay.model.encoding import Encoding
from assay.model.ensemble import Combination, Ensemble, Member, packed
from assay.model.outcome import VALUE, Outcome
from assay.model.row_sample import ROW, sampled
from assay.model.scale import Floats, TargetScale, as_floats
from assay.runtime.tables import TIME
from assay.training.combination import equal_weights
from assay.training.ensemble_choice import OutOfTime
from assay.training.rows import LabelledRows
from assay.training.split import Period


def predicted_schema(members: int, outcome: Outcome = VALUE) -> pa.Schema:
    """Rows with their outcome and the predictions of M members, on the model's scale."""
    names = [name for member in range(members) for name in columns_of(member, outcome)]
    numbers = [pa.field(name, pa.float64()) for name in ("truth", *names)]
    return pa.schema([pa.field("time", pa.int64()), pa.field("hash", pa.int64()), *numbers])


def columns_of(member: int, outcome: Outcome) -> list[str]:
    """Where a member's predictions are: of classes the probability of each, of quantiles one per level."""
    wide = len(outcome.classes) or len(outcome.levels)
    return [f"member_{member}_{k}" for k in range(wide)] if wide else [f"member_{member}"]


@dataclasses.dataclass(frozen=True)
class PredictMembers:
    """Kernel: rows of `predicted_schema`, of those whose hash is at most `threshold`."""

    carried: Carried
    threshold: int

    def __call__(self, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """Time in microseconds since 1970, hash of the row's id, outcome and predictions on the model's scale."""
        model = self.carried.model()
        predictor = model.predictor
        assert isinstance(predictor, Ensemble)
        schema = predicted_schema(len(predictor.members), model.outcome)
        for rows, hashes in sampled(batches, self.threshold):
            truth = model.scale.forward(as_floats(rows.column(model.scale.target)), rows)
            found = predictor.predict_members(model.encoding.matrix(rows))
            flat = found.reshape(len(hashes), -1).T
            numbers = [pa.array(column) for column in (hashes.view(np.int64), truth, *flat)]
            yield pa.record_batch([rows.column("time").cast(TIME).cast(pa.int64()), *numbers], schema=schema)


def predict_members(
    rows: LabelledRows,
    period: Period,
    members: Sequence[Member],
    encoding: Encoding,
    scale: TargetScale,
    *,
    outcome: Outcome,
    threshold: int,
) -> pa.Table:
    """Rows of `predicted_schema` of a period: one pass over it, all members at once."""
    together = packed(members, Combination("average", equal_weights(len(members)), kind=outcome.kind))
    model = Model("ensemble", together, encoding, scale, {}, "", {}, outcome=outcome)
    flow = rows.read(list(dict.fromkeys([*model.input_columns, ROW, "time", rows.column])), period)
    schema = predicted_schema(len(members), outcome)
    return flow.map(PredictMembers(Carried.of(model), threshold), schema).collect()


def out_of_time(
    tables: Sequence[pa.Table], names: tuple[str, ...], *, most: int, outcome: Outcome = VALUE, drawn: bool = False
) -> OutOfTime:
    """Rows of several periods in order of time, whatever tasks they came from; at most `most`, by their hash.

    drawn: in order of their hash, which is none.
    """
    table = pa.concat_tables(tables)
    hashes, times = table.column("hash").to_numpy().view(np.uint64), table.column("time").to_numpy()
    kept = np.argsort(hashes, kind="stable")[:most]
    order = kept if drawn else kept[np.lexsort((hashes[kept], times[kept]))]
    truth = table.column("truth").to_numpy()[order]

    def predictions(name: str) -> Floats:
        return np.asarray(table.column(name).to_numpy()[order])

    named = [columns_of(member, outcome) for member in range(len(names))]
    if outcome.kind == "value":
        members = np.stack([predictions(name) for (name,) in named], axis=1)
    else:
        members = np.stack([np.stack([predictions(name) for name in own], axis=1) for own in named], axis=1)
    return OutOfTime(names, times[order], truth, members, outcome)
