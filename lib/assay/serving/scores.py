"""Consumes feature rows of requests, produces what the job `score` would say of them, as answers."""

from __future__ import annotations

import dataclasses
import datetime as dt
import math
from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from assay.config import TargetConfig
from assay.model.registry import Champion
from assay.runtime.job import JobContext
from assay.runtime.tables import FEATURES
from assay.scoring.adapted import adapted
from assay.scoring.job import Scoring
from assay.scoring.kernel import ScoreRows, prediction_schema

AHEAD = dt.timedelta(days=400)  # rows still later have the intervals of that time
VERSIONS = ("model_version", "calibration_version")


@dataclasses.dataclass(frozen=True)
class Scores:
    """One target's champion.

    model: scores rows as batch does; those of the time that it has learned from go to the model that was tested.
    (Where parts were drawn, that goes by whether a row's outcome is known, which of a request's row it never is.)
    schema: of `predictions`.  last: the latest time that its intervals know of, None where they stand still.
    """

    model: ScoreRows
    schema: pa.Schema
    last: dt.datetime | None = None

    @classmethod
    def of(cls, context: JobContext, target: TargetConfig, found: Champion) -> Scores:
        """What the job `score` scores with."""
        follows = "pace" in found.calibration
        version = context.version(FEATURES.name, made_by="build_features") if follows else 0
        work = Scoring(context, target, version, found, ())
        state = adapted(context, target, found, version, work.scored_rows(found), ahead=AHEAD) if follows else None
        following = state.following if state is not None else None
        return cls.made(work.scorer(found, following), classes=work.classes)

    @classmethod
    def made(cls, model: ScoreRows, *, classes: bool) -> Scores:
        """The same of a model. classes: whether a target of the dataset has some."""
        schema = prediction_schema(tuple(model.scorer.calibration["levels"]), model.entity, classes=classes)
        following, last = model.scorer.following, None
        if following is not None:
            last = following.origin + dt.timedelta(days=following.step_days) * (following.timeline.stop - 1)
        return cls(model, schema, last)

    def answers(self, features: pa.Table) -> Iterator[tuple[int, dict[str, Any]]]:
        """Rows whose `month` is their place -> (place, answer). What has no finite value is null: JSON has none."""
        if self.last is not None:
            index, kind = features.schema.get_field_index("time"), features.schema.field("time").type
            time, last = features.column("time"), pa.scalar(self.last, kind)
            time = pc.if_else(pc.greater(time, last), last, time)
            features = features.set_column(index, features.schema.field("time"), time)
        names = [name for name in self.schema.names if name in {*self.model.scorer.schema.names, *VERSIONS}]
        for batch in features.combine_chunks().to_batches():
            for scored in self.model.scored(batch, self.schema):
                columns = {name: scored.column(name).to_pylist() for name in names}
                for row, place in enumerate(scored.column("month").to_pylist()):
                    found = {name: column[row] for name, column in columns.items()}
                    yield int(place), {k: None if _endless(v) else v for k, v in found.items()}


def _endless(value: Any) -> bool:
    return isinstance(value, float) and not math.isfinite(value)
