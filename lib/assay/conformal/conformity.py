"""Consumes labelled feature rows and a model that did not learn from them, produces conformity scores and a scale."""

from __future__ import annotations

import dataclasses
import datetime as dt
from collections.abc import Iterator, Sequence

import numpy as np
import pyarrow as pa

from assay.config.conformal import missing_quantiles
from assay.conformal.difficulty import Difficulty
from assay.conformal.intervals import forecast_of, labels_of
from assay.conformal.scores import AbsoluteResidual, ConformalisedQuantiles, score_named
from assay.conformal.unpriced import UNPRICED, told_apart
from assay.model.bundle import Model
from assay.model.carried import Carried
from assay.model.encoding import Encoding
from assay.model.row_sample import SampleRows, row_hash
from assay.runtime.tables import TIME

SCORED = pa.schema(
    [
        pa.field("row_id", pa.int64()),
        pa.field("time", TIME),
        pa.field("label", pa.string()),
        pa.field("scores", pa.list_(pa.float64())),
        pa.field("own_width", pa.float64()),  # of the model's own interval at the widest level; 0 where it has none
        pa.field("scale", pa.float64()),  # how large an error is usual for the row; 1 where nobody says
    ]
)
ERRORS = pa.schema([pa.field("inputs", pa.list_(pa.float32())), pa.field("error", pa.float64())])
OUTCOMES = pa.schema(
    [pa.field("row_id", pa.int64()), pa.field("inputs", pa.list_(pa.float32())), pa.field("outcome", pa.float64())]
)
BEST = "best"
SCORED_APART, ERRORS_APART, OUTCOMES_APART = (each.append(UNPRICED) for each in (SCORED, ERRORS, OUTCOMES))


def score_of(model: Model, asked: str, levels: Sequence[float]) -> str:
    """The kind of conformity score for a model of a number, or `BEST` of two. asked: `conformal.score`.

    Raises ValueError where the model did not learn the quantiles that `cqr` needs.
    """
    missing = missing_quantiles(levels, model.outcome.levels)
    if asked == ConformalisedQuantiles.name and missing:
        raise ValueError(
            f"conformal.score=cqr needs the model's quantiles at {', '.join(f'{end:g}' for end in missing)}: name them "
            "in engine.quantiles (engines xgboost and catboost), or choose another score"
        )
    if asked not in ("auto", BEST):
        return asked
    if not missing:
        return ConformalisedQuantiles.name
    return BEST if asked == BEST else AbsoluteResidual.name


@dataclasses.dataclass(frozen=True)
class Older:
    """Rows that are set apart from those that calibrate: older than a time, or, where rows have none, drawn.

    before: the time; None draws `share` of the rows by a hash of `row_id`.
    """

    share: float
    before: dt.datetime | None = None

    @classmethod
    def of(cls, scored: pa.Table, share: float, *, drawn: bool) -> Older:
        """So that at most `share` of these rows, which are of `SCORED`, are older; rows of one time stay together."""
        if drawn or not scored.num_rows:
            return cls(share)
        times = np.sort(scored.column("time").to_numpy())
        cut = times[int(share * len(times))]
        return cls(
            share, dt.datetime.fromtimestamp(int(cut.astype("datetime64[us]").astype(np.int64)) / 1e6, dt.timezone.utc)
        )

    def mask(self, row_ids: pa.Array, times: pa.Array) -> np.ndarray:
        """Which rows they are, (n,)."""
        if self.before is None:
            return np.asarray(row_hash(row_ids.to_numpy()) <= np.uint64(int(self.share * (2**64 - 1))))
        limit = np.datetime64(self.before.replace(tzinfo=None), "us")
        return np.asarray(times.to_numpy(zero_copy_only=False).astype("datetime64[us]") < limit)

    def without(self, scored: pa.Table) -> pa.Table:
        """The rows of `SCORED` that are none of them."""
        return self.parted(scored)[1]

    def parted(self, scored: pa.Table) -> tuple[pa.Table, pa.Table]:
        """The rows of `SCORED` that are some of them, and the others."""
        if not scored.num_rows:
            return scored, scored
        ids, times = (scored.column(name).combine_chunks() for name in ("row_id", "time"))
        older = self.mask(ids, times)
        return scored.filter(pa.array(older)), scored.filter(pa.array(~older))


@dataclasses.dataclass(frozen=True)
class ConformityScores:
    """Kernel: segment label and conformity scores of labelled rows of a number, on the model's scale."""

    carried: Carried
    segments: tuple[str, ...]
    levels: tuple[float, ...]
    score: str
    difficulty: Difficulty | None = None

    def __call__(self, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """Rows of `SCORED_APART`."""
        model = self.carried.model()
        return told_apart(lambda batch: self.price(model, batch), batches, SCORED_APART, "scores")

    def price(self, model: Model, batch: pa.RecordBatch) -> pa.RecordBatch:
        """Rows of `SCORED`."""
        own = np.zeros(batch.num_rows)
        forecast, _ = forecast_of(model, batch, self.difficulty)
        score = score_named(self.score)
        found = score.score(model.truth(batch), forecast, self.levels)
        if self.score == ConformalisedQuantiles.name:
            lower, upper = score.interval(forecast, np.zeros(len(self.levels)), self.levels)
            own = (upper - lower)[:, int(np.argmax(self.levels))]
        lists = pa.FixedSizeListArray.from_arrays(found.ravel(), found.shape[1]).cast(SCORED.field("scores").type)
        keys = [batch.column("row_id"), batch.column("time"), labels_of(batch, self.segments)]
        scale = np.ones(batch.num_rows) if forecast.scale is None else forecast.scale
        return pa.record_batch([*keys, lists, pa.array(own), pa.array(scale)], schema=SCORED)


@dataclasses.dataclass(frozen=True)
class ErrorRows:
    """Kernel: inputs and absolute errors of a sample of the rows that are set apart.

    encoding: of the inputs, one for the models of all blocks.
    threshold: greatest hash of `row_id` that is in the sample (`sample_threshold`).
    """

    carried: Carried
    encoding: Encoding
    older: Older
    threshold: int

    def __call__(self, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """Rows of `ERRORS_APART`."""
        model = self.carried.model()
        chosen = (part for part in map(self.chosen, batches) if part.num_rows)
        return told_apart(lambda batch: self.price(model, batch), chosen, ERRORS_APART, "error")

    def chosen(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """The rows that are set apart and in the sample."""
        ids = batch.column("row_id")
        # Hashed twice: where rows are drawn, the first hash has chosen those that are set apart.
        sampled = row_hash(row_hash(ids.to_numpy()).view(np.int64)) <= np.uint64(self.threshold)
        return batch.filter(pa.array(self.older.mask(ids, batch.column("time")) & sampled))

    def price(self, model: Model, batch: pa.RecordBatch) -> pa.RecordBatch:
        """Rows of `ERRORS`."""
        error = np.abs(model.truth(batch) - model.predict_scaled(batch))
        return pa.record_batch([inputs_of(batch, self.encoding), pa.array(error)], schema=ERRORS)


@dataclasses.dataclass(frozen=True)
class OutcomeRows:
    """Kernel: inputs and outcomes on the model's scale of a sample of rows. threshold: see `ErrorRows`."""

    carried: Carried
    encoding: Encoding
    threshold: int

    def __call__(self, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """Rows of `OUTCOMES_APART`."""
        model = self.carried.model()
        rows = SampleRows(self.threshold)(batches)
        chosen = (part for part in rows if part.num_rows)
        return told_apart(lambda batch: self.taught(model, batch), chosen, OUTCOMES_APART, "outcome")

    def taught(self, model: Model, batch: pa.RecordBatch) -> pa.RecordBatch:
        """Rows of `OUTCOMES`."""
        outcome = pa.array(model.truth(batch))
        return pa.record_batch([batch.column("row_id"), inputs_of(batch, self.encoding), outcome], schema=OUTCOMES)


def inputs_of(batch: pa.RecordBatch, encoding: Encoding) -> pa.Array:
    """A list of inputs for each row."""
    matrix = encoding.matrix(batch)
    return pa.FixedSizeListArray.from_arrays(matrix.ravel(), matrix.shape[1]).cast(ERRORS.field("inputs").type)
