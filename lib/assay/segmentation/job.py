"""Consumes `features` and when the champion's test period began, produces `segments` and `segment_profiles`."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from assay.config.dataset import stored_name
from assay.errors import DataError
from assay.model.clusters import Clusters, find_clusters
from assay.model.registry import champion
from assay.model.row_sample import ROW, hashes_of
from assay.runtime.arrow_files import conform_table
from assay.runtime.conditions import Condition, any_of, period_conditions
from assay.runtime.job import Done, JobContext, Plan
from assay.runtime.plane import Flow, Output
from assay.runtime.tables import FEATURES, SEGMENT_PROFILES, SEGMENTS
from assay.segmentation.newest import AssignSegments, Inputs, NewestRows, SumSegments, profiles

JOB = "segment"
SETTING = "segmentation.columns"


def plan(context: JobContext) -> Plan:
    """What the job is about to do. Rows of the first target's test period find no segments; they only get theirs."""
    version = context.version(FEATURES.name, made_by="build_features")
    model = champion(context.tracking, context.config.dataset.targets[0].name).judged
    split = model.facts["split"]
    before = [period_conditions(split[n]) for n in ("train", "tune", "calibrate") if split[n].get("rows")]
    return Plan(
        job=JOB,
        inputs={FEATURES.name: version},
        sections=("dataset", "segmentation", "where"),
        slots=[(SEGMENTS.name, "all"), (SEGMENT_PROFILES.name, "all")],
        extra={"model": model.version},
        execute=lambda identity: _Segmenting(context, identity, version, any_of(*before)).run(),
    )


class _Segmenting:
    """One run of the job."""

    def __init__(self, context: JobContext, identity: str, version: int, before: Condition) -> None:
        self.context, self.identity, self.version, self.before = context, identity, version, before
        self.settings = context.config.profile.segmentation
        self.entity = tuple(stored_name(name) for name in context.config.dataset.entity)
        self.inputs = self._inputs()

    def run(self) -> Done:
        """Find segments, give every entity its own, and say what they are like."""
        context, plane = self.context, self.context.plane
        with context.reporter.step(f"segments of {' and '.join(self.entity)}"):
            clusters, found_on = self._found()
            schema = self._schema()
            rows = self._newest([], None).map(AssignSegments(clusters, self.inputs, schema), schema)
            commit = context.commit(JOB, "all", self.identity)
            written = rows.write([Output(SEGMENTS, schema, commit)])
        with context.reporter.step("their profiles"):
            kernel = SumSegments(self.inputs.columns)
            read = plane.read(SEGMENTS.name, version=written[0].version)
            table = conform_table(profiles(read.map(kernel, kernel.schema).collect()), SEGMENT_PROFILES.schema())
            profile = pa.Table.from_batches(list(table), SEGMENT_PROFILES.schema())
            flow = plane.rows_of(SEGMENT_PROFILES, SEGMENT_PROFILES.schema(), profile)
            written += flow.write([Output(SEGMENT_PROFILES, SEGMENT_PROFILES.schema(), commit)])
        context.tracking.json(profile.to_pylist(), "segment_profiles.json")
        told = (
            f"{len(clusters.shares)} segments of {written[0].rows:,} entities, found on {found_on:,} of them as they "
        )
        told += f"were before the test period; silhouette {clusters.silhouette:.2f}"
        figures = {"segments": len(clusters.shares), "silhouette": clusters.silhouette, "entities": written[0].rows}
        return Done(metrics=figures, written=written, summary=[told, *_told(profile)])

    def _inputs(self) -> Inputs:
        dataset, kinds = self.context.config.dataset, {f.name: f.type for f in self.context.plane.schema(FEATURES.name)}
        columns = tuple(stored_name(name) for name in self.settings.columns or dataset.columns.numeric)
        if not columns:
            raise DataError(f"{SETTING}: the dataset has no numeric attributes: name columns of the table features")
        for name in columns:
            if name not in kinds:
                raise DataError(f"{SETTING}: the table features has no column {name!r}; take one that it has")
            if not pa.types.is_floating(kinds[name]):
                raise DataError(f"{SETTING}: column {name!r} is {kinds[name]}, and K-means needs numbers")
        logarithm = tuple(stored_name(name) for name in self.settings.logarithm)
        strange = set(logarithm) - set(columns)
        if strange:
            raise DataError(f"segmentation.logarithm: {min(strange)!r} is not among the columns of {SETTING}")
        return Inputs(columns, logarithm)

    def _schema(self) -> pa.Schema:
        extra = [pa.field(name, pa.string()) for name in self.entity]
        extra += [pa.field(name, pa.float64()) for name in self.inputs.columns if name not in self.entity]
        return SEGMENTS.schema(extra)

    def _newest(self, where: Sequence[Condition], most: int | None) -> Flow:
        """The newest row of each entity among some rows."""
        plane, config = self.context.plane, self.context.config
        chosen = [*(Condition(stored_name(c), "==", v) for c, v in config.where), *where]
        names = list(dict.fromkeys([ROW, "time", *self.entity, *self.inputs.columns]))
        flow = plane.read(FEATURES.name, version=self.version, columns=names, where=chosen)
        hint = plane.rows(FEATURES.name, self.version)
        return flow.by_key(self.entity, rows_hint=hint).map(NewestRows(self.entity, most), flow.schema)

    def _found(self) -> tuple[Clusters, int]:
        """Segments, and how many entities they were found on."""
        most = self.settings.sample_rows
        rows = self._newest([self.before], most).collect().combine_chunks().to_batches()
        if not rows:
            raise DataError("segment: no entity has a row before the test period; give more history (dataset.source)")
        order = np.argsort(hashes_of(rows[0]), kind="stable")[:most]  # tasks come in any order
        values = self.inputs.of(rows[0].take(pa.array(order)))
        found = find_clusters(
            values,
            self.inputs.columns,
            number=self.settings.number,
            most=self.settings.most,
            seed=self.settings.seed,
        )
        if found is None:
            raise DataError(
                f"{SETTING}: nothing tells the {len(values):,} entities apart by {', '.join(self.inputs.columns)}"
            )
        return found, len(values)


def _told(profile: pa.Table) -> list[str]:
    """A line per segment: its size, and the means of its inputs."""
    lines: dict[int, str] = {}
    for row in profile.to_pylist():
        start = lines.get(row["segment"], f"  {row['rows']:,} ({row['share']:.0%}) {row['name']}:")
        mean = "unknown" if row["mean"] is None else f"{row['mean']:.4g}"
        lines[row["segment"]] = f"{start} {row['input']} {mean}"
    return [lines[key] for key in sorted(lines)]
