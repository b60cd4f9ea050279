"""Consumes `observations`, produces `features`: what was known of each row strictly before its time."""

from __future__ import annotations

import datetime as dt
from typing import Literal

from assay.errors import DataError
from assay.features.calendar import check_calendar
from assay.features.catalog import check_names, features_of
from assay.features.kernel import (
    BuildFeatures,
    Condense,
    GroupHistory,
    condensed_schema,
    feature_schema,
    group_schema,
    observation_columns,
    packed,
)
from assay.features.plan import PLAN_VERSION, FeaturePlan
from assay.model.registry import champion
from assay.runtime.conditions import Condition
from assay.runtime.job import Done, JobContext, Plan
from assay.runtime.plane import Output
from assay.runtime.tables import FEATURES, OBSERVATIONS

JOB = "build_features"


def plan(context: JobContext, *, of: Literal["config", "champion"] = "config") -> Plan:
    """What the job is about to build: what the configuration asks for, or what the champion learned from."""
    feature_plan = FeaturePlan.of(context.config) if of == "config" else champion_plan(context)
    check_names(feature_plan, features_of(feature_plan))
    check_calendar(feature_plan.calendar.country, feature_plan.calendar.subdivision)
    version = context.version(OBSERVATIONS.name, made_by="ingest")
    missing = set(observation_columns(feature_plan)) - set(context.plane.schema(OBSERVATIONS.name).names)
    if missing:
        raise DataError(
            f"table observations has no column {sorted(missing)[0]!r}, which the feature plan of the {of} reads: "
            "name it in the dataset and run ingest again"
        )
    return Plan(
        job=JOB,
        inputs={OBSERVATIONS.name: version},
        sections=("as_of",),
        slots=[(FEATURES.name, "all")],
        extra={"plan": feature_plan.hash},
        execute=lambda identity: _execute(context, identity, feature_plan, version),
    )


def champion_plan(context: JobContext) -> FeaturePlan:
    """The plan that every target's champion carries.

    Raises:
        DataError: there is no champion, champions differ, or one is of a version that builds features in another way.
    """
    plans: dict[str, FeaturePlan] = {}
    for target in context.config.dataset.targets:
        model = champion(context.tracking, target.name).model
        if model.plan.get("version") != PLAN_VERSION:
            raise DataError(f"the champion of {target.name} learned from features of another version: train again")
        plans[target.name] = FeaturePlan.from_dict(model.plan)
    if len({found.hash for found in plans.values()}) > 1:
        raise DataError(f"the champions of {', '.join(plans)} learned from different features: train again")
    return next(iter(plans.values()))


def _execute(context: JobContext, identity: str, plan: FeaturePlan, version: int) -> Done:
    plane, rows_hint = context.plane, context.plane.rows(OBSERVATIONS.name, version)
    where = []
    if context.config.as_of is not None:
        where = [Condition("time", "<", context.config.as_of + dt.timedelta(microseconds=1))]
    groups: dict[str, bytes] = {}
    values = list(dict.fromkeys(h.column for h in plan.history))
    if plan.temporal or plan.market:
        for label, columns in plan.groups.items():
            with context.reporter.step(f"history of the market {label}"):
                table = (
                    plane.read(OBSERVATIONS.name, version=version, columns=[*columns, "time", *values], where=where)
                    .map(Condense(plan, label), condensed_schema(plan, label))
                    .by_key(columns, rows_hint=rows_hint // 10)
                    .map(GroupHistory(plan, label), group_schema(plan, label))
                    .collect()
                )
                groups[label] = packed(table)
    schema, features = feature_schema(plan), features_of(plan)
    with context.reporter.step(f"{len(features)} features per row"):
        written = (
            plane.read(OBSERVATIONS.name, version=version, columns=observation_columns(plan), where=where)
            .by_key(plan.entity, rows_hint=rows_hint)
            .map(BuildFeatures(plan, groups), schema)
            .write(
                [
                    Output(
                        FEATURES,
                        schema,
                        context.commit(
                            JOB, "all", identity, plan_hash=plan.hash, plan=plan.to_dict(), observations=version
                        ),
                    )
                ]
            )
        )
    context.tracking.json(plan.to_dict(), "feature_plan.json")
    rows = written[0].rows
    return Done(
        metrics={"features": len(features), "rows": rows},
        written=written,
        summary=[f"{len(features)} features for {rows:,} rows"],
    )
