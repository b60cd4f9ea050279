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
from assay.model.row_sample import ROW, row_hash
from assay.model.scale import TargetScale, as_floats
from assay.runtime.tables import TIME
from assay.training.combination import equal_weights
from assay.training.ensemble_choice import OutOfTime
from assay.training.rows import LabelledRows
from assay.training.split import Period


def predicted_schema(members: int) -> pa.Schema:
    """Rows with their outcome and M predictions, on the model's scale."""
    numbers = [pa.field(name, pa.float64()) for name in ("truth", *(f"member_{i}" for i in range(members)))]
    return pa.schema([pa.field("time", pa.int64()), pa.field("hash", pa.int64()), *numbers])


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
        schema = predicted_schema(len(predictor.members))
        for batch in batches:
            hashes = row_hash(batch.column(ROW).to_numpy(zero_copy_only=False))
            take = np.flatnonzero(hashes <= np.uint64(self.threshold))
            if not len(take):
                continue
            rows = batch.take(pa.array(take))
            truth = model.scale.forward(as_floats(rows.column(model.scale.target)), rows)
            found = predictor.predict_members(model.encoding.matrix(rows))
            numbers = [pa.array(column) for column in (hashes[take].view(np.int64), truth, *found.T)]
            yield pa.record_batch([rows.column("time").cast(TIME).cast(pa.int64()), *numbers], schema=schema)


def predict_members(
    rows: LabelledRows,
    period: Period,
    members: Sequence[Member],
    encoding: Encoding,
    scale: TargetScale,
    *,
    threshold: int,
) -> pa.Table:
    """Rows of `predicted_schema` of a period: one pass over it, all members at once."""
    together = packed(members, Combination("average", equal_weights(len(members))))
    model = Model("ensemble", together, encoding, scale, {}, "", {})
    flow = rows.read(list(dict.fromkeys([*model.input_columns, ROW, "time", rows.column])), period)
    return flow.map(PredictMembers(Carried.of(model), threshold), predicted_schema(len(members))).collect()


def out_of_time(tables: Sequence[pa.Table], names: tuple[str, ...], *, most: int) -> OutOfTime:
    """Rows of several periods in order of time, whatever tasks they came from; at most `most`, by their hash."""
    table = pa.concat_tables(tables)
    hashes, times = table.column("hash").to_numpy().view(np.uint64), table.column("time").to_numpy()
    kept = np.argsort(hashes, kind="stable")[:most]
    order = kept[np.lexsort((hashes[kept], times[kept]))]
    members = [table.column(f"member_{i}").to_numpy() for i in range(len(names))]
    return OutOfTime(names, times[order], table.column("truth").to_numpy()[order], np.stack(members, axis=1)[order])
