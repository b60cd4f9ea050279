"""Consumes aliases, deployments, shadows and predictions, produces why each registered version is still needed."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Mapping, Sequence

import pyarrow as pa

from assay.model.deployments import read_deployments
from assay.model.versions import Version, pick
from assay.runtime.conditions import Condition
from assay.runtime.job import JobContext
from assay.runtime.tables import PREDICTIONS, SHADOW_PREDICTIONS

MADE = pa.schema([("model_version", pa.string()), ("calibration_version", pa.string())])

Why = dict[int, str]  # number of a version -> why it is needed


def needs(context: JobContext, target: str, versions: Sequence[Version], now: dt.datetime) -> dict[int, list[str]]:
    """Why each version of a target is needed; those that nothing needs are not among them. now: as the run has it."""
    aliases = {one.number: f"alias {', '.join(one.aliases)}" for one in versions if one.aliases}
    found: dict[int, list[str]] = {}
    for why in (
        aliases,
        deployments_of(context, target, versions),
        shadows_named(context, target, versions),
        *(predicted(context, target, versions, now, table) for table in (PREDICTIONS.name, SHADOW_PREDICTIONS.name)),
        evaluated(context, target, versions),
    ):
        for number, told in why.items():
            found.setdefault(number, []).append(told)
    return found


def deployments_of(context: JobContext, target: str, versions: Sequence[Version]) -> Why:
    """Versions of deployments that have not ended."""
    found = {}
    for deployment in read_deployments(context.plane, target):
        for number in (deployment.champion, deployment.challenger) if deployment.open else ():
            one = pick(versions, number)
            if one is not None:
                found[one.number] = f"deployment {deployment.deployment_id} ({deployment.last.state})"
    return found


def shadows_named(context: JobContext, target: str, versions: Sequence[Version]) -> Why:
    """Versions that `scoring.shadows` names."""
    found = {}
    for told in map(str, context.config.profile.scoring.shadows):
        of, _, which = told.rpartition(":")
        one = pick(versions, which) if of in {"", target} else None
        if one is not None:
            found[one.number] = f"scoring.shadows names {told!r}"
    return found


def predicted(context: JobContext, target: str, versions: Sequence[Version], now: dt.datetime, table: str) -> Why:
    """Versions that made rows of a table of predictions which still count (`registry.keep_predictions_days`).

    Rows without a time of their own count as long as they are there.
    """
    plane, days = context.plane, context.config.profile.registry.keep_predictions_days
    version = plane.version(table)
    if version is None:
        return {}
    where = [Condition("target", "==", target)]
    if context.config.dataset.time.dated:
        where.append(Condition("time", ">=", now - dt.timedelta(days=days)))
    columns = [*MADE.names, "time"]
    rows = plane.read(table, version=version, columns=columns, where=where).map(made_by, MADE).collect()
    made = {(row["model_version"], row["calibration_version"]) for row in rows.to_pylist()}
    told = f"rows of {table} of the last {days:g} days are its" if len(where) > 1 else f"rows of {table} are its"
    return {one.number: told for one in versions if made & set(_contents(one.tags))}


def made_by(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """Kernel: distinct models and calibrations of a share of predictions."""
    found: set[tuple[str | None, str | None]] = set()
    for batch in batches:
        groups = pa.Table.from_batches([batch.select(MADE.names)]).group_by(MADE.names).aggregate([])
        found |= {(row["model_version"], row["calibration_version"]) for row in groups.to_pylist()}
    if found:
        yield pa.RecordBatch.from_pylist([dict(zip(MADE.names, one, strict=True)) for one in found], MADE)


def evaluated(context: JobContext, target: str, versions: Sequence[Version]) -> Why:
    """The newest version of the training run that the present predictions come from: `evaluate` reads its models."""
    commit = context.plane.last_commit(PREDICTIONS.name, target)
    run_id = commit.details.get("run_id") if commit is not None else None
    own = [one.number for one in versions if one.trained_run_id == run_id]
    return {own[-1]: "evaluate needs its training run, from which the present predictions come"} if own else {}


def _contents(tags: Mapping[str, str]) -> list[tuple[str, str]]:
    """Model and calibration of a version: those that serve, and those that were tested."""
    return [
        (tags.get(f"assay.{model}", ""), tags.get(f"assay.{calibration}", ""))
        for model, calibration in (
            ("model_version", "calibration_version"),
            ("tested_version", "tested_calibration_version"),
        )
    ]
