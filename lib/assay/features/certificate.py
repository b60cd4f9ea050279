"""Consumes `features` and `observations`, produces the leakage certificate: features are what their own time knew.

A sample of rows is computed again, each from a world in which nothing exists at or after its own time: later rows and
rows of the same time are taken away, and values that were not yet known are emptied. One difference in
one bit is a leak.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from assay.errors import DataError
from assay.features.catalog import features_of, numeric_features
from assay.features.condensed import merge
from assay.features.kernel import (
    BuildFeatures,
    Condense,
    GroupHistory,
    condensed_schema,
    feature_schema,
    group_schema,
    observation_columns,
    packed,
    step_of,
)
from assay.features.plan import PLAN_VERSION, FeaturePlan
from assay.features.ranks import AddBins, CountBins, counted_bins_schema, rank_features
from assay.features.timeline import days_us
from assay.runtime.conditions import Condition
from assay.runtime.job import Done, JobContext, Plan
from assay.runtime.tables import FEATURES, OBSERVATIONS, TIME

if TYPE_CHECKING:
    import polars as pl

JOB = "certify"
STEPS = 8  # days (or hours) from which rows are taken
ROW = "__row"
NOTHING = {"n": 0, "s": 0.0, "q": 0.0, "lo": None, "hi": None}  # condensed, of no value
CANDIDATES = 2_000
ROWS_PER_STEP = 12
KEPT = pa.schema([pa.field("row_id", pa.int64()), pa.field("time", TIME)])


def plan(context: JobContext) -> Plan:
    """What is about to be checked: the features as they are, against the observations they were built from."""
    version = context.version(FEATURES.name, made_by="build_features")
    commit = context.plane.last_commit(FEATURES.name, "all")
    details = commit.details if commit is not None else {}
    if details.get("plan", {}).get("version") != PLAN_VERSION or "observations" not in details:
        raise DataError("table features was built by another version of assay: run build_features again")
    feature_plan, observations = FeaturePlan.from_dict(details["plan"]), int(details["observations"])
    return Plan(
        job=JOB,
        inputs={FEATURES.name: version, OBSERVATIONS.name: observations},
        sections=(),
        slots=[],
        extra={"plan": feature_plan.hash, "rows": CANDIDATES},
        execute=lambda _: _execute(context, feature_plan, version, observations),
    )


def _execute(context: JobContext, plan: FeaturePlan, version: int, observations: int) -> Done:
    with context.reporter.step("leakage certificate: rows computed again as of their own time"):
        sample = _sample(context, plan, version)
        wanted = tuple(sample["row_id"].to_list())
        schema = feature_schema(plan)
        found = context.plane.read(FEATURES.name, version=version).map(Rows(wanted), schema).collect()
        again = _recomputed(context, plan, sample, observations)
    differences = compare(_polars(found), _polars(again), numeric_features(plan))
    leaks = {name: count for name, count in differences.items() if count}
    certificate = {
        "rows": len(wanted),
        "features": len(differences),
        "times": sorted({str(time) for time in sample["time"].to_list()}),
        "features_version": version,
        "observations_version": observations,
        "plan_hash": plan.hash,
        "differences": leaks,
    }
    context.tracking.json(certificate, "leakage_certificate.json")
    said = f"leakage certificate: {len(wanted)} rows x {len(differences)} features, {sum(leaks.values())} differences"
    refused = None
    if leaks:
        worst = sorted(leaks, key=lambda name: -leaks[name])
        family = {f.name: f.family for f in features_of(plan)}
        listed = ", ".join(f"{name} ({family[name]}, {leaks[name]} rows)" for name in worst[:3])
        refused = (
            f"{said}: {len(leaks)} features know what came at or after their own time, or were built from other "
            f"observations: {listed}. Nothing was trained; run build_features again, or take the column out"
        )
    metrics = {"certified_rows": len(wanted), "leaking_features": len(leaks)}
    return Done(metrics=metrics, written=[], summary=[refused or said], refused=refused)


def _sample(context: JobContext, plan: FeaturePlan, version: int) -> pl.DataFrame:
    """Rows to check, as `row_id`, `time` and step: of a few days, chosen by the rows' hashes."""
    import polars as pl

    names = list(dict.fromkeys(["row_id", "time", *plan.entity, *(c for g in plan.groups.values() for c in g)]))
    schema = pa.schema([KEPT.field(n) if n in KEPT.names else pa.field(n, pa.string()) for n in names])
    flow = context.plane.read(FEATURES.name, version=version, columns=names).map(LowestHashes(), schema)
    rows = _polars(flow.collect()).with_columns(step=step_of(plan)).sort("row_id").head(CANDIDATES)
    order = rows.group_by("step").agg(rows=pl.len(), first=pl.col("row_id").min())
    steps = order.sort("rows", "first", descending=[True, False]).head(STEPS)["step"]
    chosen = rows.filter(pl.col("step").is_in(steps.implode()))
    return chosen.filter(pl.int_range(pl.len()).over("step") < ROWS_PER_STEP)


def _recomputed(context: JobContext, plan: FeaturePlan, sample: pl.DataFrame, version: int) -> pa.Table:
    """The sample's rows, each from what was known strictly before its time."""
    plane = context.plane
    last = sample["time"].max()
    assert last is None or isinstance(last, dt.datetime)
    until = [Condition("time", "<", last + dt.timedelta(microseconds=1))] if last is not None else []
    values = list(dict.fromkeys(h.column for h in plan.history))
    groups: dict[int, dict[str, bytes]] = {int(step.timestamp()): {} for step in sample["step"].unique().to_list()}
    for label, columns in plan.groups.items() if plan.temporal or plan.market else ():
        keys = sample.select(*columns, "step").unique()
        flow = plane.read(OBSERVATIONS.name, version=version, columns=[*columns, "time", *values], where=until)
        kept = flow.map(Condense(plan, label), condensed_schema(plan, label))
        cells = kept.map(Keys.of(keys, columns), condensed_schema(plan, label)).collect()
        for step, packed_table in as_known(plan, label, _polars(cells), keys).items():
            groups[step][label] = packed_table
    ranks: dict[int, dict[str, bytes]] = {step: {} for step in groups}
    for label in plan.markets:
        if rank_features(plan, label):
            columns, bins = plan.groups[label], counted_bins_schema(plan, label)
            mine = Keys.of(sample, columns)
            names = list(dict.fromkeys([*columns, "time", *plan.targets]))
            flow = plane.read(OBSERVATIONS.name, version=version, columns=names, where=until)
            counted = flow.map(mine, flow.schema).map(CountBins(plan, label), bins)
            whole = _polars(counted.by_key(columns, rows_hint=1).map(AddBins(plan, label), bins).collect())
            for step, by_label in ranks.items():
                by_label[label] = packed(months_over(plan, whole, step).to_arrow().cast(bins))
    flow = plane.read(OBSERVATIONS.name, version=version, columns=observation_columns(plan), where=until)
    rows = [
        (row["row_id"], row["time"], int(row["step"].timestamp()), tuple(row[c] for c in plan.entity))
        for row in sample.iter_rows(named=True)
    ]
    entities = Keys.of(sample, plan.entity)
    return (
        flow.map(entities, flow.schema)
        .by_key(plan.entity, rows_hint=1)
        .map(Recompute(plan, tuple(rows), groups, ranks), feature_schema(plan))
        .collect()
    )


def months_over(plan: FeaturePlan, counted: pl.DataFrame, step: int) -> pl.DataFrame:
    """Counted values of the months that were over, and known as a whole, at a step (seconds since 1970)."""
    import polars as pl

    kept = []
    for number, target in enumerate(plan.targets):
        delay = next(h.delay_days for h in plan.history if h.column == target)
        at = dt.datetime(1970, 1, 1, tzinfo=dt.timezone.utc) + dt.timedelta(seconds=step) - dt.timedelta(days=delay)
        kept.append(counted.filter((pl.col("target") == number) & (pl.col("month") < at.year * 12 + at.month)))
    return pl.concat(kept)


def as_known(plan: FeaturePlan, label: str, cells: pl.DataFrame, keys: pl.DataFrame) -> dict[int, bytes]:
    """Step (seconds since 1970) -> the group's features at it, from the cells whose values were all known by then."""
    import polars as pl

    columns = list(plan.groups[label])
    values = [h.column for h in plan.history]
    found = {}
    for step in keys["step"].unique().to_list():
        world = cells.filter(pl.col("time") < step)
        for item in plan.history:
            late = pl.col("time").dt.timestamp("us") + plan.group_step_us + days_us(item.delay_days)
            known = late <= _microseconds(step)
            world = world.with_columns(
                pl.when(known).then(pl.col(f"{item.column}|{m}")).otherwise(nothing).alias(f"{item.column}|{m}")
                for m, nothing in NOTHING.items()
            )
        mine = keys.filter(pl.col("step") == step).select(columns).unique()
        world = world.join(mine, on=columns, how="semi", nulls_equal=True) if columns else world
        # The step itself, of which nothing is known: what is asked for.
        empty = [pl.lit(nothing).alias(f"{v}|{m}") for v in values for m, nothing in NOTHING.items()]
        marks = (mine if columns else pl.DataFrame({"": [0]})).select(*columns, pl.lit(step).alias("time"), *empty)
        whole = merge(pl.concat([world, marks.select(world.columns).cast(world.schema)]), columns, values)
        table = pa.Table.from_batches(
            list(GroupHistory(plan, label)(iter(whole.to_arrow().to_batches()))), group_schema(plan, label)
        )
        found[int(step.timestamp())] = packed(table)
    return found


def compare(built: pl.DataFrame, again: pl.DataFrame, names: Sequence[str]) -> dict[str, int]:
    """Feature -> rows in which the two differ in any bit. Rows that are in one alone differ in every feature."""
    one, two = (frame.sort("row_id") for frame in (built, again))
    shared = one.join(two, on="row_id", how="semi").height
    alone = max(one.height, two.height) - shared
    left, right = one.join(two, on="row_id", how="semi"), two.join(one, on="row_id", how="semi")
    return {name: alone + int(left[name].ne_missing(right[name]).sum()) for name in names}


@dataclasses.dataclass(frozen=True)
class LowestHashes:
    """Kernel: the rows with the least ids (which are hashes) of a share."""

    def __call__(self, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """At most `CANDIDATES` rows of a share."""
        kept: pa.Table | None = None
        for batch in batches:
            table = pa.Table.from_batches([batch])
            kept = table if kept is None else pa.concat_tables([kept, table])
            order = np.argsort(kept.column("row_id").to_numpy(), kind="stable")[:CANDIDATES]
            kept = kept.take(np.sort(order))
        if kept is not None:
            yield from kept.combine_chunks().to_batches()


@dataclasses.dataclass(frozen=True)
class Rows:
    """Kernel: the rows of these ids."""

    ids: tuple[int, ...]

    def __call__(self, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """As they come."""
        import pyarrow.compute as pc

        wanted = pa.array(self.ids, pa.int64())
        for batch in batches:
            yield batch.filter(pc.is_in(batch.column("row_id"), value_set=wanted))


@dataclasses.dataclass(frozen=True)
class Keys:
    """Kernel: the rows of these keys."""

    columns: tuple[str, ...]
    keys: tuple[tuple[str | None, ...], ...]

    @classmethod
    def of(cls, frame: pl.DataFrame, columns: Sequence[str]) -> Keys:
        """The distinct keys of a frame."""
        keys = frame.select(list(columns)).unique().rows() if columns else []
        return cls(tuple(columns), tuple(keys))

    def __call__(self, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """As they come."""
        import polars as pl

        if not self.columns:
            yield from batches
            return
        wanted = pl.DataFrame(self.keys, schema=dict.fromkeys(self.columns, pl.String), orient="row")
        for batch in batches:
            table = pa.Table.from_batches([batch])
            rows = pl.from_arrow(table.select(list(self.columns)))
            assert isinstance(rows, pl.DataFrame)
            hits = rows.with_row_index(ROW).join(wanted, on=list(self.columns), how="semi", nulls_equal=True)
            yield from table.take(pa.array(hits[ROW].sort().to_numpy())).to_batches()


@dataclasses.dataclass(frozen=True)
class Recompute:
    """Kernel over rows of whole entities: each wanted row's features, from a world that ends at its time.

    rows: (row_id, time, step, entity).  groups, ranks: step -> label -> the groups' tables as known at the step.
    """

    plan: FeaturePlan
    rows: tuple[tuple[int, dt.datetime, int, tuple[str | None, ...]], ...]
    groups: Mapping[int, dict[str, bytes]]
    ranks: Mapping[int, dict[str, bytes]]

    def __call__(self, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """Rows of the features table."""
        import polars as pl

        whole = [batch for batch in batches if batch.num_rows]
        if not whole:
            return
        table = _polars(pa.Table.from_batches(whole))
        entity = list(self.plan.entity)
        mine: dict[tuple[Any, ...], pl.DataFrame] = {
            tuple(key): frame for key, frame in table.partition_by(entity, as_dict=True).items()
        }
        for step, time, wanted in self._together(mine):
            world = pl.concat([self.world(mine[key], row_id, time) for row_id, key in wanted])
            kernel = BuildFeatures(self.plan, self.groups.get(step, {}), self.ranks.get(step, {}))
            for batch in kernel(iter(world.to_arrow().to_batches())):
                yield from Rows(tuple(row_id for row_id, _ in wanted))(iter([batch]))

    def _together(self, mine: Mapping[tuple[Any, ...], Any]) -> Iterator[tuple[int, dt.datetime, list[Any]]]:
        """Step, time and (row_id, entity) of rows that share one world: of one time, each of another entity.

        Their worlds end at the same moment and hold nothing of one another's, and a call of the kernel costs the same
        for one row as for a dozen.
        """
        found: dict[tuple[int, dt.datetime, int], list[Any]] = {}
        turns: Counter[tuple[dt.datetime, tuple[Any, ...]]] = Counter()
        for row_id, time, step, key in self.rows:
            if key in mine:
                turns[time, key] += 1
                found.setdefault((step, time, turns[time, key]), []).append((row_id, key))
        for (step, time, _), wanted in found.items():
            yield step, time, wanted

    def world(self, rows: pl.DataFrame, row_id: int, time: dt.datetime) -> pl.DataFrame:
        """What was known of an entity strictly before a time, and the row itself without what its time did not know."""
        import polars as pl

        own = pl.col("row_id") == row_id
        past = rows.filter((pl.col("time") < time) | own)
        now = _microseconds(time)
        hidden = {
            h.column: pl.when(own | (pl.col("time").dt.timestamp("us") + days_us(h.delay_days) >= now))
            .then(None)
            .otherwise(pl.col(h.column))
            .alias(h.column)
            for h in self.plan.history
        }
        return past.with_columns(hidden.values())


def _microseconds(time: dt.datetime) -> int:
    since = time - dt.datetime(1970, 1, 1, tzinfo=dt.timezone.utc)
    return (since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds


def _polars(table: pa.Table) -> pl.DataFrame:
    import polars as pl

    frame = pl.from_arrow(table)
    assert isinstance(frame, pl.DataFrame)
    return frame
