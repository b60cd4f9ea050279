"""Consumes raw files, produces `observations`, `observations_quarantine` and `quality_reports`."""

from __future__ import annotations

import dataclasses
import datetime as dt
from collections.abc import Iterator, Mapping, Sequence

import pyarrow as pa

from assay.config.dataset import stored_name
from assay.errors import AssayError, DataError
from assay.ingest.rules import SEPARATOR, CheckRows, ResolveDuplicates, checked_schema
from assay.ingest.source import SourcePart, content_hash, find_source, parts_of, rows_guess
from assay.ingest.values import FUTURE
from assay.runtime.conditions import Condition
from assay.runtime.job import REFUSED, Done, JobContext, Plan, identity_of
from assay.runtime.plane import Output
from assay.runtime.tables import OBSERVATIONS, QUALITY_REPORTS, QUARANTINE, observation_fields

JOB = "ingest"


def plan(context: JobContext) -> Plan:
    """What ingest is about to do. Its input version is the hash of the source's content."""
    files = find_source(context.config)
    parts, expected = parts_of(files, context.config)
    now = dt.datetime.now(dt.UTC)

    def execute(identity: str) -> Done:
        return _execute(context, identity, now, parts, expected, rows_hint=expected or rows_guess(files))

    full = Plan(
        job=JOB,
        inputs={"source": content_hash(files)},
        sections=("dataset", "ingest"),
        slots=[(QUARANTINE.name, "all"), (OBSERVATIONS.name, "all"), (QUALITY_REPORTS.name, "all")],
        execute=execute,
        still_valid=lambda _: _no_future_row_has_come(context, now),
    )
    past = context.tracking.finished(JOB, identity_of(full, context.config))
    if past is None or past.status != REFUSED:
        return full
    # A run that was refused wrote no observations: the other tables tell whether it has to run again.
    return dataclasses.replace(full, slots=[slot for slot in full.slots if slot[0] != OBSERVATIONS.name])


def _no_future_row_has_come(context: JobContext, now: dt.datetime) -> bool:
    """Rows that were in the future when they were quarantined may have become the past since."""
    version = context.plane.version(QUARANTINE.name)
    if version is None:
        return True
    past = [Condition("time", "<", now)]
    found = context.plane.read(QUARANTINE.name, version=version, columns=["reasons"], where=past).collect()
    return not any(FUTURE in reasons for reasons in found.column("reasons").to_pylist())


def _execute(
    context: JobContext,
    identity: str,
    now: dt.datetime,
    parts: Sequence[SourcePart],
    expected: int | None,
    *,
    rows_hint: int,
) -> Done:
    config, plane, dataset = context.config, context.plane, context.config.dataset
    schema = checked_schema(dataset)
    refused: list[str] = []
    counts: dict[str, int] = {}

    def approve(rows: Mapping[str, int]) -> Sequence[str]:
        counts.update(rows)
        total = sum(rows.values())
        if expected is not None and total != expected:
            raise AssayError(f"ingest lost rows: the source has {expected}, {total} arrived. Nothing was written")
        share = rows[QUARANTINE.name] / total if total else 0.0
        limit = config.profile.ingest.max_quarantine_share
        if total == 0:
            raise DataError(f"{parts[0].path}: the file has columns but no rows; change dataset.source.path")
        if share > limit or rows[OBSERVATIONS.name] == 0:
            why = f"above ingest.max_quarantine_share={limit:g}" if share > limit else "so none is left"
            refused.append(
                f"{dataset.source.path}: {rows[QUARANTINE.name]:,} of {total:,} rows ({share:.1%}) cannot be used, "
                f"{why}; observations were left as they were. Reasons are below, the rows in "
                f"{plane.location(QUARANTINE.name)}: correct the source, or the settings that the reasons name"
            )
            return [QUARANTINE.name]
        return [QUARANTINE.name, OBSERVATIONS.name]

    with context.reporter.step(f"reading and checking {len({part.path for part in parts})} file(s)"):
        commit = context.commit(JOB, "all", identity)
        written = (
            plane.inputs(parts, CheckRows(dataset, now), schema)
            .by_key(["month"], rows_hint=rows_hint)
            .map(ResolveDuplicates(dataset), schema)
            .write(
                [
                    Output(QUARANTINE, QUARANTINE.schema(), commit, only="reasons", keep="filled"),
                    Output(OBSERVATIONS, OBSERVATIONS.schema(observation_fields(dataset)), commit, only="reasons"),
                ],
                approve=approve,
            )
        )
    with context.reporter.step("measuring quality"):
        quality, reasons = _quality(context, counts, observed=not refused)
        rows = plane.rows_of(QUALITY_REPORTS, QUALITY_REPORTS.schema(), quality)
        written += rows.write([Output(QUALITY_REPORTS, QUALITY_REPORTS.schema(), commit)])
    context.tracking.json(quality.to_pylist(), "quality.json")
    kept, bad = counts[OBSERVATIONS.name], counts[QUARANTINE.name]
    summary = [f"{kept + bad:,} rows in: {kept:,} observations, {bad:,} quarantined"]
    summary += [f"  {count:,} x {reason}" for reason, count in list(reasons.items())[:8]]
    return Done(
        metrics={"rows_in": kept + bad, "rows_kept": kept, "rows_quarantined": bad},
        written=written,
        summary=[*refused, *summary],
        refused=refused[0] if refused else None,
    )


def _quality(context: JobContext, counts: Mapping[str, int], *, observed: bool) -> tuple[pa.Table, dict[str, int]]:
    """Rows of `quality_reports`, and quarantine reasons by frequency."""
    plane, dataset = context.plane, context.config.dataset
    version = plane.version(QUARANTINE.name)
    assert version is not None
    reasons: dict[str, int] = {}
    found = plane.read(QUARANTINE.name, version=version, columns=["reasons"]).collect()
    for text in found.column("reasons").to_pylist():
        for reason in text.split(SEPARATOR):
            reasons[reason] = reasons.get(reason, 0) + 1
    reasons = dict(sorted(reasons.items(), key=lambda item: (-item[1], item[0])))
    measures: list[tuple[str, str, float]] = [
        ("", "rows_in", float(sum(counts.values()))),
        ("", "rows_kept", float(counts[OBSERVATIONS.name])),
        ("", "rows_quarantined", float(counts[QUARANTINE.name])),
        *(("", reason, float(count)) for reason, count in reasons.items()),
    ]
    if observed and (observations := plane.version(OBSERVATIONS.name)) is not None:
        names = [stored_name(n) for n in (*dataset.text_columns, *dataset.numeric_columns)]
        counted = pa.schema([("column", pa.string()), ("missing", pa.int64())])
        partial = (
            plane.read(OBSERVATIONS.name, version=observations, columns=names).map(count_missing, counted).collect()
        )
        total: dict[str, int] = dict.fromkeys(names, 0)
        for row in partial.to_pylist():
            total[row["column"]] += row["missing"]
        rows = max(1, counts[OBSERVATIONS.name])
        measures += [(name, "missing_share", count / rows) for name, count in total.items()]
    columns, kinds, values = zip(*measures, strict=True)
    table = pa.table({"column": list(columns), "measure": list(kinds), "value": list(values)})
    return table.cast(QUALITY_REPORTS.schema()), reasons


def count_missing(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """Kernel: missing values per column of a share."""
    counts: dict[str, int] = {}
    for batch in batches:
        for name in batch.schema.names:
            counts[name] = counts.get(name, 0) + batch.column(name).null_count
    yield pa.record_batch(
        {"column": pa.array(list(counts), pa.string()), "missing": pa.array(list(counts.values()), pa.int64())}
    )
