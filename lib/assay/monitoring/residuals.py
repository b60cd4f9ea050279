"""Consumes predictions and outcomes of two windows, produces how far apart their residuals are, as of other columns.

A residual is outcome - prediction, in the target's unit, of rows that have both. Days whose outcomes had no time to
come in are left out: early outcomes may be of another kind than late ones.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
from collections.abc import Iterator, Sequence

import pyarrow as pa
import pyarrow.compute as pc

from assay.config.dataset import stored_name
from assay.model.outcome_rows import OUTCOME, OutcomeRows
from assay.monitoring.columns import CompareColumns, marked
from assay.monitoring.compared import COMPARED
from assay.monitoring.held import WINDOW
from assay.monitoring.watching import Watching
from assay.monitoring.windows import Window
from assay.runtime.conditions import Condition, any_of
from assay.runtime.plane import Flow
from assay.runtime.tables import FEATURES, PREDICTIONS

RESIDUAL = "residual"


@dataclasses.dataclass(frozen=True)
class Residuals:
    """Kernel: joined rows -> the residual of those that have one, with their window's mark.

    starts: of the reference and of the current window.  ends: of both; None has no such end.
    """

    starts: tuple[dt.datetime | None, dt.datetime | None]
    ends: tuple[dt.datetime | None, dt.datetime | None]
    by: tuple[str, ...] = ()

    @property
    def schema(self) -> pa.Schema:
        """Of the rows after it."""
        return marked(pa.schema([(RESIDUAL, pa.float64()), *((name, pa.string()) for name in self.by)]))

    def __call__(self, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """The rows of each window; those of none are left out."""
        for batch in batches:
            found = pc.subtract(batch.column(OUTCOME), batch.column("prediction"))
            known = pc.fill_null(pc.is_finite(found), fill_value=False)
            for window, (start, end) in enumerate(zip(self.starts, self.ends, strict=True)):
                times, inside = batch.column("time"), known
                if start is not None:
                    inside = pc.and_(inside, pc.greater_equal(times, pa.scalar(start, times.type)))
                if end is not None:
                    inside = pc.and_(inside, pc.less(times, pa.scalar(end, times.type)))
                columns = {RESIDUAL: found, **{name: batch.column(name) for name in self.by}}
                columns[WINDOW] = pa.repeat(pa.scalar(window, pa.int8()), batch.num_rows)
                arrays = [columns[field.name] for field in self.schema]
                yield pa.RecordBatch.from_arrays(arrays, schema=self.schema).filter(inside)


def residuals_apart(watching: Watching, windows: Sequence[Window], by: tuple[str, ...]) -> Flow | None:
    """Rows of `COMPARED` of the residuals; None of classes, of a slice, and where windows are no spans of time."""
    config, context = watching.config, watching.context
    if watching.champion.model.outcome.decides or context.config.where or config.reference_version >= 0:
        return None
    if any(window.more for window in windows):
        return None
    known = context.config.dataset.known_until(watching.target.name, watching.now)
    ripe = dt.datetime.combine(known.date(), dt.time(), dt.timezone.utc)
    ends = [min(ripe, window.end) if window.end is not None else ripe for window in windows]
    starts = [window.start for window in windows]
    spans = [
        [*([Condition("time", ">=", start)] if start is not None else []), Condition("time", "<", end)]
        for start, end in zip(starts, ends, strict=True)
    ]
    plane, outcome = context.plane, OutcomeRows(stored_name(watching.target.name), texts=by)
    said = plane.read(
        PREDICTIONS.name,
        version=watching.predictions,
        columns=["row_id", "time", "prediction"],
        where=[watching.of_target, any_of(*spans)],
    )
    columns = list(dict.fromkeys(["row_id", "time", outcome.outcome, *by]))
    came = plane.read(FEATURES.name, version=watching.features, columns=columns, where=[any_of(*spans)])
    rows = plane.rows(PREDICTIONS.name, watching.predictions)
    joined = said.join(came.map(outcome, outcome.schema), ["row_id"], rows_hint=rows)
    kernel = Residuals((starts[0], starts[1]), (ends[0], ends[1]), by)
    compare = CompareColumns((RESIDUAL,), (), by, config.least_rows, (RESIDUAL, "category"))
    return joined.map(kernel, kernel.schema).by_key([], rows_hint=rows).map(compare, COMPARED)
