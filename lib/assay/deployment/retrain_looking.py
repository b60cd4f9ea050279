"""Consumes what monitoring wrote of a target, and who serves, produces what speaks for retraining, and who loses."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime as dt
import hashlib
import math
from collections.abc import Mapping, Sequence
from typing import Any

import polars as pl
import pyarrow as pa

from assay.config import canonical_json
from assay.deployment.registry_context import versions_for
from assay.deployment.retrain_queue import Queue, last_retraining
from assay.deployment.retrain_table import JOB
from assay.deployment.retrain_triggers import Trigger, triggers_of
from assay.deployment.underperformers import Underperformer, underperformers_of
from assay.errors import Overtaken
from assay.model.deployments import read_deployments
from assay.model.versions import CHAMPION
from assay.runtime.conditions import Condition
from assay.runtime.deployment_tables import UNDERPERFORMERS
from assay.runtime.job import JobContext
from assay.runtime.monitoring_tables import DRIFT_DETECTIONS, HEALTH, PERFORMANCE
from assay.runtime.plane import NEVER, Output, Plane, Written

SCHEDULE = "schedule"


@dataclasses.dataclass(frozen=True)
class Looked:
    """A target as a run sees it.

    champion: model that serves, by the hash of its content; empty where none does.  today: day of the run; None where
    there is nothing to go by.  as_of: newest day of what speaks for a retraining.  lacks: what is missing, in words.
    """

    target: str
    champion: str
    today: dt.date | None = None
    as_of: dt.date | None = None
    triggers: Sequence[Trigger] = ()
    underperformers: Sequence[Underperformer] = ()
    numbers: Mapping[str, int] = dataclasses.field(default_factory=dict)
    lacks: str = ""

    @property
    def summary(self) -> list[str]:
        """Lines for a person: what is missing, and who keeps losing."""
        lines = [f"{self.target}: {self.lacks}"] if self.lacks else []
        for one in self.underperformers:
            number = self.numbers.get(one.model_version)
            named = f"version {number}" if number is not None else f"model {one.model_version[:12]}"
            lines.append(f"{self.target}: {named} ({one.role}) {'; '.join(one.reasons)}")
        return lines


class Looking:
    """What monitoring says, read without Spark where tables are files."""

    def __init__(self, context: JobContext, plane: Plane) -> None:
        """Raises DataError where monitoring has not run."""
        self.context, self.plane = context, plane
        self.config = context.config.profile.retraining
        self.versions = {
            table.name: context.version(table.name, made_by="monitor")
            for table in (HEALTH, DRIFT_DETECTIONS, PERFORMANCE)
        }

    def at(self, target: str, queue: Queue) -> Looked:
        """A target, as far as its champion goes."""
        versions = versions_for(self.context, target)
        champion = next((one for one in versions if CHAMPION in one.aliases), None)
        if champion is None:
            return Looked(target, "", lacks="no champion; run the job train first")
        model, as_of = champion.tag("model_version"), self.context.config.as_of
        until = f"{as_of:%Y-%m-%d}" if as_of is not None else "9999-12-31"
        health = [row for row in self.rows(HEALTH.name, target).to_dicts() if row["as_of"] <= until]
        newest = max((row["as_of"] for row in health), default=None)
        if as_of is None and newest is None:
            return Looked(target, model, lacks="no day was monitored; run the job monitor first")
        today = as_of.date() if as_of is not None else dt.date.fromisoformat(str(newest))
        under_way = [one for one in read_deployments(self.plane, target) if one.open and one.models[1] != model]
        if under_way:
            return Looked(
                target, model, today, lacks=f"{under_way[-1].told} is under way: nothing newer is learned yet"
            )
        mine = [row for row in health if row["model_version"] == model]
        seen = max((row["as_of"] for row in mine), default="")
        told = champion.tag("learned_until")
        days = [dt.datetime.fromisoformat(told).date() if told else None, last_retraining(queue, target)]
        triggers = triggers_of(
            mine,
            self.rows(DRIFT_DETECTIONS.name, target, Condition("as_of", "==", seen)).to_dicts(),
            learned=max((day for day in days if day is not None), default=None),
            today=today,
            config=self.config,
        )
        by_dates = any(trigger.kind != SCHEDULE for trigger in triggers)
        performance = self.rows(PERFORMANCE.name, target).filter(pl.col("day") <= today)
        return Looked(
            target,
            model,
            today,
            dt.date.fromisoformat(seen) if by_dates else today,
            triggers,
            underperformers_of(performance, model, self.config),
            {one.tag("model_version"): one.number for one in versions},
        )

    def rows(self, table: str, target: str, *where: Condition) -> pl.DataFrame:
        """Rows of a target."""
        where = (Condition("target", "==", target), *where)
        found = pl.from_arrow(self.plane.read(table, version=self.versions[table], where=where).collect())
        assert isinstance(found, pl.DataFrame)
        return found

    def put_on_record(self, looked: Looked) -> list[Written]:
        """Write the underperformers of a target at its day, unless they are on record as they are."""
        if looked.today is None:
            return []
        as_of = looked.today.isoformat()
        rows = [_row(one, looked, as_of) for one in looked.underperformers]
        identity = hashlib.sha256(canonical_json(rows).encode()).hexdigest()[:16]
        slot, schema = f"{looked.target}@{as_of}", UNDERPERFORMERS.schema()
        version = self.plane.version(UNDERPERFORMERS.name)
        last = self.plane.last_commit(UNDERPERFORMERS.name, slot)
        if last is not None and last.identity == identity:
            return []
        output = Output(
            UNDERPERFORMERS,
            schema,
            self.context.commit(JOB, slot, identity),
            owns={"target": looked.target, "as_of": as_of},
            expects=NEVER if version is None else version,
        )
        with contextlib.suppress(Overtaken):  # by a run that looked at the same things at the same time
            return self.plane.rows_of(UNDERPERFORMERS, schema, pa.Table.from_pylist(rows, schema)).write([output])
        return []


def _row(one: Underperformer, looked: Looked, as_of: str) -> dict[str, Any]:
    figures = dataclasses.asdict(one).items()
    known = {name: None if isinstance(value, float) and math.isnan(value) else value for name, value in figures}
    number = looked.numbers.get(one.model_version)
    return {**known, "reasons": list(one.reasons), "number": number, "target": looked.target, "as_of": as_of}
