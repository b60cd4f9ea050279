"""Consumes `observations`, produces `features`: what was known of each row strictly before its time."""

from __future__ import annotations

import dataclasses
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
from assay.features.ranks import AddBins, CountBins, counted_bins_schema, rank_features
from assay.features.routing import (
    HOT_ROWS,
    SPAN,
    CountDays,
    Route,
    Widen,
    any_hot,
    context_rows,
    counted_schema,
    cuts_of,
    lookback_days,
    month_start,
    past_columns,
    routed_schema,
)
from assay.model.registry import champion
from assay.runtime.conditions import Condition
from assay.runtime.job import Done, JobContext, Plan
from assay.runtime.plane import Flow, Output
from assay.runtime.tables import FEATURES, OBSERVATIONS

JOB = "build_features"


@dataclasses.dataclass(frozen=True)
class Extent:
    """Which part of the features is built.

    version: of `observations`.  where: rows that exist for the run.  months: partitions that are replaced, None
    for all.
    """

    version: int
    where: tuple[Condition, ...] = ()
    months: tuple[str, ...] | None = None

    @property
    def since(self) -> dt.datetime | None:
        """First moment of the first month that is built."""
        return month_start(min(self.months)) if self.months else None

    @property
    def since_us(self) -> int | None:
        """The same in microseconds since 1970."""
        return None if self.since is None else int(self.since.timestamp()) * 1_000_000


def plan(context: JobContext, *, of: Literal["config", "champion"] = "config") -> Plan:
    """What the job is about to build: what the configuration asks for, or what the champion learned from."""
    feature_plan = checked(FeaturePlan.of(context.config) if of == "config" else champion_plan(context))
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
        execute=lambda identity: _execute(context, identity, feature_plan, extent_of(context, feature_plan, version)),
    )


def checked(plan: FeaturePlan) -> FeaturePlan:
    """The plan itself.

    Raises:
        ConfigError: it has two features of one name, one of what is not there, or a calendar that is not known.
    """
    check_names(plan, features_of(plan))
    check_calendar(plan.calendar.country, plan.calendar.subdivision, plan.calendar.market)
    return plan


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


def extent_of(context: JobContext, plan: FeaturePlan, version: int) -> Extent:
    """All months, or those from the first one on that changed since the features were built by the same plan."""
    as_of = context.config.as_of
    if as_of is not None:
        return Extent(version, (Condition("time", "<", as_of + dt.timedelta(microseconds=1)),))
    last = context.plane.last_commit(FEATURES.name, "all")
    details = last.details if last is not None else {}
    if details.get("plan_hash") != plan.hash or details.get("as_of") is not None or "observations" not in details:
        return Extent(version)
    changed = context.plane.changed(OBSERVATIONS.name, int(details["observations"]), version, "month")
    if changed is None:
        return Extent(version)
    built = context.plane.version(FEATURES.name)
    assert built is not None
    months = context.plane.partitions(OBSERVATIONS.name, version, "month")
    months |= context.plane.partitions(FEATURES.name, built, "month")
    later = tuple(sorted(m for m in months if changed and m >= min(changed)))
    return Extent(version, months=later)


def _execute(context: JobContext, identity: str, plan: FeaturePlan, extent: Extent) -> Done:
    plane = context.plane
    features, schema = features_of(plan), feature_schema(plan)
    if extent.months is not None:
        context.reporter.note(f"{len(extent.months)} month(s) to build, the others are as they were")
    commit = context.commit(
        JOB,
        "all",
        identity,
        plan_hash=plan.hash,
        plan=plan.to_dict(),
        observations=extent.version,
        as_of=context.config.as_of.isoformat() if context.config.as_of else None,
    )
    owns: dict[str, str | tuple[str, ...]] = {} if extent.months is None else {"month": extent.months}
    output = Output(FEATURES, schema, commit, owns=owns)
    if extent.months == ():
        written = plane.rows_of(FEATURES, schema, schema.empty_table()).write([output])
    else:
        rows = plane.rows(OBSERVATIONS.name, extent.version)
        groups, ranks = _groups(context, plan, extent, rows), _ranks(context, plan, extent)
        with context.reporter.step(f"{len(features)} features per row"):
            routed = _routed(context, plan, extent, rows)
            written = routed.map(BuildFeatures(plan, groups, ranks), schema).write([output])
    context.tracking.json(plan.to_dict(), "feature_plan.json")
    built = written[0].rows
    said = f"{len(features)} features for {built:,} rows"
    if extent.months is not None:
        said += f" of {len(extent.months)} month(s); nothing before them has changed"
    return Done(metrics={"features": len(features), "rows": built}, written=written, summary=[said])


def _groups(context: JobContext, plan: FeaturePlan, extent: Extent, rows: int) -> dict[str, bytes]:
    """Label -> the group's features at each of its steps."""
    plane, groups = context.plane, {}
    values = list(dict.fromkeys(h.column for h in plan.history))
    for label, columns in plan.groups.items() if plan.temporal or plan.market else ():
        with context.reporter.step(f"history of the market {label}"):
            names = list(dict.fromkeys([*columns, "time", *values]))
            table = (
                plane.read(OBSERVATIONS.name, version=extent.version, columns=names, where=extent.where)
                .map(Condense(plan, label), condensed_schema(plan, label))
                .by_key(columns, rows_hint=rows // 10)
                .map(GroupHistory(plan, label, extent.since_us), group_schema(plan, label))
                .collect()
            )
            groups[label] = packed(table)
    return groups


def _ranks(context: JobContext, plan: FeaturePlan, extent: Extent) -> dict[str, bytes]:
    """Label -> the counted values of each group by month."""
    plane, ranks = context.plane, {}
    for label in plan.markets:
        if rank_features(plan, label):
            columns = plan.groups[label]
            names = list(dict.fromkeys([*columns, "time", *plan.targets]))
            schema = counted_bins_schema(plan, label)
            with context.reporter.step(f"ranks in the market {label}"):
                flow = plane.read(OBSERVATIONS.name, version=extent.version, columns=names, where=extent.where)
                counted = flow.map(CountBins(plan, label), schema).by_key(columns, rows_hint=1)
                ranks[label] = packed(counted.map(AddBins(plan, label), schema).collect())
    return ranks


def _routed(context: JobContext, plan: FeaturePlan, extent: Extent, rows: int) -> Flow:
    """Rows of whole entities, or of spans of very large ones, each with the context that it needs."""
    plane, names = context.plane, observation_columns(plan)
    cuts, looked_back_on = {}, 0
    if rows >= HOT_ROWS:
        keys, schema = [*plan.entity, "time"], counted_schema(plan)
        seen = plane.read(OBSERVATIONS.name, version=extent.version, columns=keys, where=extent.where)
        if any_hot(seen.map(CountDays(plan, by_day=False), schema).collect(), plan):
            counted = seen.map(CountDays(plan), schema).collect()
            cuts = cuts_of(counted, plan, slots=plane.slots)
            looked_back_on = context_rows(counted, plan, cuts)
    since = extent.since
    where = extent.where if since is None else (*extent.where, Condition("time", ">=", since))
    flow = plane.read(OBSERVATIONS.name, version=extent.version, columns=names, where=where)
    if since is None and not cuts:
        return flow.by_key(plan.entity, rows_hint=rows)
    if since is not None:
        past = [Condition("time", "<", since)]
        back = lookback_days(plan)
        if back is not None:
            past.append(Condition("time", ">=", since - dt.timedelta(days=back)))
        kept = past_columns(plan)
        old = plane.read(OBSERVATIONS.name, version=extent.version, columns=kept, where=past)
        flow = old.map(Widen(flow.schema), flow.schema).union(flow)
    routed = flow.map(Route(plan, extent.since_us, cuts), routed_schema(flow.schema))
    return routed.by_key([*plan.entity, SPAN], rows_hint=rows + looked_back_on)
