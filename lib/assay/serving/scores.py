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
from assay.scoring.adapted import adapted, adapted_shadow, follows
from assay.scoring.deployed import Arms, Deployed
from assay.scoring.job import Scoring
from assay.scoring.kernel import ScoreRows, prediction_schema

AHEAD = dt.timedelta(days=400)  # rows still later have the intervals of that time
VERSIONS = ("model_version", "calibration_version")


@dataclasses.dataclass(frozen=True)
class Scores:
    """One target's champion, and the challenger that serves a share of its entities.

    model: scores rows as batch does; those of the time that it has learned from go to the model that was tested.
    (Where parts were drawn, that goes by whether a row's outcome is known, which of a request's row it never is.)
    schema: of `predictions`.  last: the latest time that its intervals know of, None where they stand still.
    split: who serves which row, where the champion does not serve all.
    """

    model: ScoreRows
    schema: pa.Schema
    last: dt.datetime | None = None
    split: Split | None = None

    @classmethod
    def of(cls, context: JobContext, target: TargetConfig, found: Champion, deployed: Deployed | None = None) -> Scores:
        """What the job `score` scores with. deployed: what is under way."""
        arms = deployed.arms if deployed is not None else None
        models = [found] if deployed is None or arms is None else [found, deployed.other]
        moving = any(map(follows, models))
        version = context.version(FEATURES.name, made_by="build_features") if moving else 0
        work = Scoring(context, target, version, found, ())
        where = work.scored_rows(found)
        state = adapted(context, target, found, version, where, ahead=AHEAD)
        own = cls.made(work.scorer(found, state.following if state is not None else None), classes=work.classes)
        if deployed is None or arms is None:
            return own
        rows = work.shadow(deployed.other, adapted_shadow(context, target, deployed.other, version, where, ahead=AHEAD))
        # The arms give it no row of before its own test.
        challenger = cls.made(dataclasses.replace(rows, where=()), classes=work.classes)
        return dataclasses.replace(own, split=Split(arms, challenger))

    @classmethod
    def made(cls, model: ScoreRows, *, classes: bool) -> Scores:
        """The same of a model. classes: whether a target of the dataset has some."""
        schema = prediction_schema(tuple(model.scorer.calibration["levels"]), model.entity, classes=classes)
        following, last = model.scorer.following, None
        if following is not None:
            last = following.origin + dt.timedelta(days=following.step_days) * (following.timeline.stop - 1)
        return cls(model, schema, last)

    def answers(self, features: pa.Table) -> Iterator[tuple[int, dict[str, Any]]]:
        """Rows whose `month` is their place -> (place, answer), in any order: each row's by the model that serves it.

        What has no finite value is null: JSON has none.
        """
        for batch in features.combine_chunks().to_batches():
            for one, rows in self._parted(batch):
                yield from one._answered(rows)

    def _parted(self, batch: pa.RecordBatch) -> list[tuple[Scores, pa.RecordBatch]]:
        """Each model with the rows that it serves."""
        if self.split is None:
            return [(self, batch)]
        its = self.split.arms.of_challenger(batch)
        parts = [(self, batch.filter(pc.invert(its))), (self.split.challenger, batch.filter(its))]
        return [(one, rows) for one, rows in parts if rows.num_rows]

    def _answered(self, batch: pa.RecordBatch) -> Iterator[tuple[int, dict[str, Any]]]:
        """What this very model says of rows."""
        if self.last is not None:
            index, field = batch.schema.get_field_index("time"), batch.schema.field("time")
            time, last = batch.column(index), pa.scalar(self.last, field.type)
            batch = batch.set_column(index, field, pc.if_else(pc.greater(time, last), last, time))
        names = [name for name in self.schema.names if name in {*self.model.scorer.schema.names, *VERSIONS}]
        for scored in self.model.scored(batch, self.schema):
            columns = {name: scored.column(name).to_pylist() for name in names}
            for row, place in enumerate(scored.column("month").to_pylist()):
                found = {name: column[row] for name, column in columns.items()}
                yield int(place), {k: None if _endless(v) else v for k, v in found.items()}


@dataclasses.dataclass(frozen=True)
class Split:
    """A challenger that serves a share of the entities. arms: who serves which row."""

    arms: Arms
    challenger: Scores


def _endless(value: Any) -> bool:
    return isinstance(value, float) and not math.isfinite(value)
