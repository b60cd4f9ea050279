"""Consumes `features` and the champion, produces `predictions` for every row later than its calibration."""

from __future__ import annotations

import dataclasses

import pyarrow as pa

from assay.config import TargetConfig
from assay.config.dataset import stored_name
from assay.errors import DataError
from assay.model.carried import Carried
from assay.model.registry import Calibrated, Champion, champion
from assay.runtime.conditions import Condition, any_of, period_conditions
from assay.runtime.job import Done, JobContext, Plan
from assay.runtime.plane import Output
from assay.runtime.tables import FEATURES, PREDICTIONS
from assay.scoring.kernel import ScoreRows, prediction_schema

JOB = "score"


def plan(context: JobContext, target: TargetConfig) -> Plan:
    """What scoring is about to do.

    Raises:
        DataError: there is no champion, or the features were built by another plan than the champion's.
    """
    version = context.version(FEATURES.name, made_by="build_features")
    found = champion(context.tracking, target.name)
    commit = context.plane.last_commit(FEATURES.name, "all")
    built = str(commit.details.get("plan_hash", "")) if commit is not None else ""
    if built != found.model.plan_hash:
        raise DataError(
            f"the features were built by plan {built}, the champion of {target.name} learned from plan "
            f"{found.model.plan_hash}: run `build_features --plan champion`, or train again"
        )
    return Plan(
        job=JOB,
        inputs={FEATURES.name: version},
        sections=("where",),
        slots=[(PREDICTIONS.name, target.name)],
        extra={
            "target": target.name,
            "model": found.model.version,
            "calibration": found.calibration_version,
            "tested": [found.tested.model.version, found.tested.calibration_version] if found.tested else [],
            "entity": list(context.config.dataset.entity),
        },
        execute=lambda identity: _execute(context, identity, target, found, version),
    )


def _execute(context: JobContext, identity: str, target: TargetConfig, found: Champion, version: int) -> Done:
    config, plane = context.config, context.plane
    entity = tuple(stored_name(name) for name in config.dataset.entity)
    levels = tuple(found.calibration["levels"])
    segments = found.calibration["segment_columns"]
    inputs = [*found.model.input_columns, *found.judged.input_columns]
    columns = list(dict.fromkeys(["row_id", "time", *entity, *inputs, *segments, "month"]))
    where = [
        *(Condition(stored_name(c), "==", v) for c, v in config.where),
        *_scored(found, stored_name(target.name)),
    ]
    classes = any(one.decides for one in config.dataset.targets)
    kernel = _scorer(found, target, entity, classes)
    if found.tested is not None:
        unknown = stored_name(target.name) if found.model.drawn else None
        tested = _scorer(found.tested, target, entity, classes)
        kernel = dataclasses.replace(kernel, tested=tested, learned_column=unknown)
        columns = list(dict.fromkeys([*columns, *([unknown] if unknown is not None else [])]))
    schema = prediction_schema(levels, entity, classes=classes)
    commit = context.commit(JOB, target.name, identity, model=found.model.version, run_id=found.run_id)
    with context.reporter.step("scoring"):
        written = (
            plane.read(FEATURES.name, version=version, columns=columns, where=where)
            .map(kernel, schema)
            .write([Output(PREDICTIONS, schema, commit, owns=_owned(context, schema, target))])
        )
    rows = written[0].rows
    return Done(
        metrics={"predictions": float(rows)},
        written=written,
        summary=[f"{rows:,} predictions of {target.name} by model {found.model.version} (version {found.number})"],
    )


def _scored(found: Champion, target: str) -> list[Condition]:
    """Rows of the test period and after it; where parts were drawn, those of test and all with an unknown outcome."""
    test = period_conditions(found.model.facts["split"]["test"])
    return [any_of(test, [Condition(target, "is_null")])] if found.model.drawn else test


def _scorer(found: Calibrated, target: TargetConfig, entity: tuple[str, ...], classes: bool) -> ScoreRows:
    carried = Carried.of(found.model)
    return ScoreRows(carried, found.calibration, found.calibration_version, target.name, entity, classes)


def _owned(context: JobContext, schema: pa.Schema, target: TargetConfig) -> dict[str, str]:
    """What this write replaces: the target's rows. New levels or keys mean new columns, which only a whole table takes.

    Where several targets share the table, that would drop the others' rows: there the write is refused instead.
    """
    version = context.plane.version(PREDICTIONS.name)
    fits = version is None or set(context.plane.schema(PREDICTIONS.name).names) == set(schema.names)
    return {"target": target.name} if fits or len(context.config.dataset.targets) > 1 else {}
