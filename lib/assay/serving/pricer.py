"""Consumes a workspace, produces prices of raw rows: its champions, what it knows of the past, the rules of batch.

While a challenger serves a share of the entities, each row has the price of the model that batch would have used.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import logging
from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa

from assay.config import DatasetConfig
from assay.config.dataset import EPOCHS, stored_name
from assay.config.profile import ScoringConfig
from assay.errors import AssayError, DataError
from assay.features.job import champion_plan
from assay.features.kernel import observation_columns
from assay.ingest.rules import source_names, told
from assay.model.registry import Champion, champion, model_name
from assay.model.versions import CHAMPION
from assay.runtime.arrow_flow import ArrowFlow
from assay.runtime.conditions import Condition
from assay.runtime.deployment_tables import DEPLOYMENTS
from assay.runtime.job import JobContext
from assay.runtime.logs import redact
from assay.runtime.tables import FEATURES, OBSERVATIONS, observation_fields
from assay.scoring.deployed import Deployed, deployed_of
from assay.serving.building import features_of_rows
from assay.serving.request import Asked, BadRequest, Limits, Raw, Reader, Records
from assay.serving.scores import Scores
from assay.serving.state import Batches, State

LOG = logging.getLogger("assay.serving")
# What a pricer is made of; of the features outcomes alone.
TABLES = (OBSERVATIONS.name, FEATURES.name, DEPLOYMENTS.name)


@dataclasses.dataclass(frozen=True)
class Priced:
    """What is said of a request's rows: one answer per row and target, in order."""

    answers: Sequence[Mapping[str, Any]]
    rows: int
    wrong: int


@dataclasses.dataclass(frozen=True)
class Pricer:
    """Everything that pricing needs; it does not change, and threads share it.

    scores: target -> what scores its feature rows.  about: what it is, for people.  scoring: rules
    of quality.  example: a raw row.
    """

    reader: Reader
    state: State
    scores: Mapping[str, Scores]
    about: Mapping[str, Any]
    scoring: ScoringConfig = dataclasses.field(default_factory=ScoringConfig)
    example: Mapping[str, Any] | None = None

    @property
    def versions(self) -> dict[str, Any]:
        """What `versions` of the workspace was when this was loaded."""
        numbers = {name: found["registry_version"] for name, found in self.about["targets"].items()}
        tables = {name: self.about[f"{name}_version"] for name in TABLES}
        return {**tables, **numbers}

    def price(self, rows: Records, history: Records) -> Priced:
        """Prediction, ends and segment of each raw row. The model sees only what was known before a row's time.

        Raises:
            BadRequest: the request cannot be answered; see `Reader`.
        """
        (found,) = self.price_together([self.reader.raw(rows, history)])
        if isinstance(found, BadRequest):
            raise found
        return found

    def price_together(self, requests: Sequence[Raw]) -> list[Priced | BadRequest]:
        """Answers of requests that go with each other, or what is wrong with them.

        Rows see nothing of one another, so that the company of a row changes nothing of its answer.
        """
        read = self.reader.read(requests)
        asked = [found for found in read if isinstance(found, Asked)]
        answers = iter(self._answers(asked)) if asked else iter(())
        return [next(answers) if isinstance(found, Asked) else found for found in read]

    def _answers(self, requests: Sequence[Asked]) -> list[Priced]:
        import polars as pl

        rows = pl.concat([asked.rows for asked in requests])
        features = features_of_rows(rows, requests[0].history, self.state)
        # Draws of sets go by the rows' own ids, of which two may be equal; the month carries each row's place.
        own, places = rows["row_id"].to_arrow(), pa.array(map(str, range(rows.height)), pa.string())
        for name, column in (("row_id", own), ("month", places)):
            features = features.set_column(features.schema.get_field_index(name), features.schema.field(name), column)
        owner = [(number, place) for number, asked in enumerate(requests) for place in asked.rows["place"].to_list()]
        found: list[list[dict[str, Any]]] = [
            [{"row": place, "error": why} for place, why in asked.wrong.items()] for asked in requests
        ]
        for target, scores in self.scores.items():
            for row, answer in scores.answers(features):
                number, place = owner[row]
                found[number].append({"row": place, "target": target, **answer})
        for answers in found:
            answers.sort(key=lambda answer: int(answer["row"]))  # stable: targets stay in their order
        return [Priced(answers, asked.total, len(asked.wrong)) for answers, asked in zip(found, requests, strict=True)]

    def check(self) -> None:
        """Price the example, by the champions and by each challenger, whoever it is that serves it.

        Raises:
            AssayError: it has no price.
        """
        if self.example is None:
            return
        champions = {target: dataclasses.replace(one, split=None) for target, one in self.scores.items()}
        challengers = {target: one.split.challenger for target, one in self.scores.items() if one.split is not None}
        for scores in (champions, challengers):
            if not scores:
                continue
            (answer, *_) = dataclasses.replace(self, scores=scores).price([self.example], []).answers
            if "prediction" not in answer:
                raise AssayError(f"the newest row of the workspace has no price: {answer}")


def load_pricer(context: JobContext, limits: Limits) -> Pricer:
    """The champions of a workspace and what is known there, every file checked against the hashes on record.

    A challenger that serves a share comes along; one that is broken does not, and the log says so.

    Raises:
        DataError: there is no champion, no observations, or tables that only Spark can read.
    """
    dataset = context.config.dataset
    there = {name: context.plane.version(name) for name in TABLES}  # first: what changes meanwhile is loaded again
    plan = champion_plan(context)
    version = context.version(OBSERVATIONS.name, made_by="ingest")
    schema = context.plane.schema(OBSERVATIONS.name)
    missing = set(observation_columns(plan)) - set(schema.names)
    if missing:
        raise DataError(
            f"table observations has no column {sorted(missing)[0]!r}, which the champion reads: run the pipeline again"
        )
    as_of = context.config.as_of
    where = () if as_of is None else (Condition("time", "<", as_of + dt.timedelta(microseconds=1)),)

    def read(columns: Sequence[str]) -> Batches:
        flow = context.plane.read(OBSERVATIONS.name, version=version, columns=columns, where=where)
        if not isinstance(flow, ArrowFlow):
            batches: Batches = flow.collect().to_batches()
            return batches
        return (batch for share in flow.shares(1) for batch in share.batches() if batch.num_rows)

    champions = {target.name: champion(context.tracking, target.name) for target in dataset.targets}
    deployed = {one.name: deployed_of(context, one, champions[one.name], _warn) for one in dataset.targets}
    pasts = {h.column for h in plan.history}
    past = tuple(dataset.source_name(name) for name in dataset.numeric_columns if stored_name(name) in pasts)
    return Pricer(
        reader=Reader(dataset, past, limits),
        state=State.of(plan, read),
        scores={
            target.name: Scores.of(context, target, champions[target.name], deployed[target.name])
            for target in dataset.targets
        },
        about={
            **{f"{name}_version": version for name, version in there.items()},
            "plan": plan.hash,
            "targets": {name: {**_about(found), **_split(deployed[name])} for name, found in champions.items()},
        },
        scoring=context.config.profile.scoring,
        example=_example(dataset, read(["row_id", *(field.name for field in observation_fields(dataset)), "time"])),
    )


def versions(context: JobContext) -> dict[str, Any]:
    """What `load_pricer` would find: versions of tables, and the champions' numbers in the registry."""
    client, config = context.tracking.client, context.config
    numbers = {
        target.name: str(client.get_model_version_by_alias(model_name(config, target.name), CHAMPION).version)
        for target in context.config.dataset.targets
    }
    return {**{name: context.plane.version(name) for name in TABLES}, **numbers}


def _about(found: Champion) -> dict[str, Any]:
    return {
        "model_version": found.model.version,
        "calibration_version": found.calibration_version,
        "registry_version": found.number,
        "semantic_version": found.semantic,
        "engine": found.model.engine,
        "learned_until": found.model.learned_until,
    }


def _split(deployed: Deployed | None) -> dict[str, Any]:
    """The challenger that serves a share of the entities, 0 to 1, and since when; nothing where there is none."""
    if deployed is None or deployed.arms is None:
        return {}
    since, _ = deployed.arms.steps[-1]
    told = {"deployment": deployed.arms.deployment, "share": deployed.deployment.last.share, "since": since.isoformat()}
    return {"split": {**told, "challenger": _about(deployed.other)}}


def _warn(text: str) -> None:
    LOG.warning("%s", redact(text))


def _example(dataset: DatasetConfig, batches: Batches) -> dict[str, Any] | None:
    """The newest row of the workspace as a raw row; None where there is none."""
    import polars as pl

    newest: pl.DataFrame | None = None
    for batch in batches:
        frame = pl.from_arrow(pa.Table.from_batches([batch]))
        assert isinstance(frame, pl.DataFrame)
        last = frame.sort("time").tail(1)
        newest = last if newest is None else pl.concat([newest, last]).sort("time").tail(1)
    if newest is None:
        return None
    row = told(newest, source_names(dataset), dataset).row(0, named=True)
    if dataset.time.dated:
        moment = row[dataset.time.column]
        row[dataset.time.column] = moment.isoformat() if dataset.time.format is None else _written(moment, dataset)
    return row


def _written(moment: dt.datetime, dataset: DatasetConfig) -> str:
    from zoneinfo import ZoneInfo

    if dataset.time.format in EPOCHS:
        since = moment - dt.datetime(1970, 1, 1, tzinfo=dt.timezone.utc)
        return str(since // dt.timedelta(microseconds=1) * EPOCHS[dataset.time.format] // 1_000_000)
    return moment.astimezone(ZoneInfo(dataset.time.zone)).strftime(str(dataset.time.format))
