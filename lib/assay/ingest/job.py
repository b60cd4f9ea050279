"""Consumes the source, produces `observations`, `observations_quarantine`, `source_files` and `quality_reports`."""

from __future__ import annotations

import dataclasses
import datetime as dt
from collections.abc import Callable, Mapping, Sequence

from assay.errors import AssayError, DataError
from assay.ingest.files import find_source
from assay.ingest.increment import (
    Known,
    base_of,
    check_removed,
    files_due,
    files_table,
    increment,
    look_at,
    version_of,
)
from assay.ingest.quality import QualityReport, Watch, measured_day, measured_schema
from assay.ingest.quality_increment import untouched_rows
from assay.ingest.rules import CheckRows, ResolveDuplicates, checked_schema
from assay.ingest.source import parts_of, rows_guess
from assay.ingest.spark_source import CheckTable, digest, find_table, open_table, unreadable
from assay.runtime.job import REFUSED, Done, JobContext, Plan, identity_of
from assay.runtime.plane import Commit, Flow, Output, Written
from assay.runtime.tables import (
    QUALITY_REPORTS,
    QUARANTINE,
    SOURCE_FILES,
    SOURCE_ROWS,
    ingested_table,
    observation_fields,
)

MERGED = "rows_merged"
ALIGN = "dataset.time.align"
JOB = "ingest"


@dataclasses.dataclass(frozen=True)
class Work:
    """What a run reads and replaces.

    flow: rows of `checked_schema`. place: the source, in messages. rows_hint: about how many rows the flow has.
    expected: rows that observations and quarantine must have together, where the source says it.
    files: what `source_files` will hold; None where the source is a table.
    months: months of observations to replace, None for all of them. untouched: observations in the others.
    beside: rows of the others, where quality is measured over them as well.
    """

    flow: Flow
    place: str
    rows_hint: int
    expected: int | None = None
    files: Known | None = None
    months: tuple[str, ...] | None = None
    untouched: int = 0
    beside: Flow | None = None
    told: tuple[str, ...] = ()
    metrics: Mapping[str, float] = dataclasses.field(default_factory=dict)


def plan(context: JobContext) -> Plan:
    """What ingest is about to do. Its input version is the hash of the source's content, or a Delta table's version."""
    now = dt.datetime.now(dt.timezone.utc)
    full = _plan_files(context, now) if context.config.dataset.source.in_files else _plan_table(context, now)
    past = context.tracking.finished(JOB, identity_of(full, context.config))
    if past is None or past.status != REFUSED:
        return full
    # A run that was refused wrote no observations: the other tables tell whether it has to run again.
    unwritten = {ingested_table(context.config.dataset).name, SOURCE_FILES.name}
    return dataclasses.replace(full, slots=[slot for slot in full.slots if slot[0] not in unwritten])


def _plan_of(context: JobContext, version: str, now: dt.datetime, prepare: Callable[[], Work]) -> Plan:
    tables = [QUARANTINE.name, ingested_table(context.config.dataset).name, QUALITY_REPORTS.name]
    day = measured_day(context.config, now)
    tables += [SOURCE_FILES.name] if context.config.dataset.source.in_files else []
    return Plan(
        job=JOB,
        inputs={"source": version},
        sections=("dataset", "ingest", "quality"),
        slots=[(table, "all") for table in tables],
        execute=lambda identity: _execute(context, identity, prepare(), now),
        # Rows that were in the future when they were quarantined may have become the past since, others old.
        still_valid=lambda commit: commit.details.get("day") == day and not files_due(context.plane, now),
    )


def _plan_files(context: JobContext, now: dt.datetime) -> Plan:
    config, plane, dataset = context.config, context.plane, context.config.dataset
    files = find_source(config)
    base = base_of(plane, dataset)
    known = base.files if base is not None else {}
    found = look_at(files, known)
    as_before = _plan_of(context, version_of(known), now, _nothing)
    grows = base is not None and base.identity == identity_of(as_before, config) and dataset.time.align is None
    gone = check_removed(known, found, dataset, can_keep=grows)
    kept = {name: known[name] for name in gone} if dataset.source.removed_files == "keep" else {}
    again = {name for name in found if name not in known or known[name].sha256 != found[name].sha256}
    again |= files_due(plane, now) & set(found) if grows else set()
    grows = grows and (bool(kept) or (len(again) < len(found) and bool(again or gone)))
    reading = [file for file in files if file.name in again or not grows]
    parts, expected = parts_of(reading, config, beside=[file for file in files if file not in reading])
    now_known = {**found, **kept}

    def prepare() -> Work:
        if not grows or base is None:
            flow = plane.inputs(parts, CheckRows(dataset, now), checked_schema(dataset))
            return Work(flow, parts[0].path, expected or rows_guess(files), expected, now_known)
        with context.reporter.step(f"finding the months of {len(again)} new or corrected file(s)"):
            step = increment(plane, dataset, base, parts, frozenset(again | set(gone) - set(kept)), now)
        told = [f"read {len(again)} of {len(found)} file(s), wrote {len(step.months)} month(s) of observations"]
        told += [f"gone from the source: {name}; its rows {'stay' if kept else 'went'}" for name in gone[:8]]
        return Work(
            step.flow,
            dataset.source.path,
            step.touched,
            step.expected,
            now_known,
            step.months,
            step.untouched,
            untouched_rows(plane, config, base.observations, step.months),
            tuple(told),
            {"files_read": len(again), "files_removed": len(gone), "months_written": len(step.months)},
        )

    return _plan_of(context, version_of(now_known), now, prepare)


def _nothing() -> Work:
    raise AssertionError("this plan only has an identity")


def _plan_table(context: JobContext, now: dt.datetime) -> Plan:
    plane, dataset = context.plane, context.config.dataset
    table = find_table(context)
    check = CheckTable(dataset, now, table.name)
    if table.identity is not None:

        def prepare_version() -> Work:
            if table.location and table.version is not None:
                context.tracking.input_table(table.name, table.location, table.version)
            with context.reporter.step(f"reading {table.name}"):
                flow = plane.frame(open_table(context, table))
                rows, _ = digest(flow, table)
            return Work(flow.map(check, checked_schema(dataset)), table.place, rows, rows)

        return _plan_of(context, table.identity, now, prepare_version)
    with context.reporter.step(f"reading {table.name}"):
        frame = open_table(context, table)
        try:
            flow = plane.frame(frame)
            rows, version = digest(flow, table)
        except Exception as error:
            raise unreadable(error, table, dataset) from None

    def prepare() -> Work:
        return Work(flow.map(check, checked_schema(dataset)), table.place, rows, rows)

    return _plan_of(context, version, now, prepare)


def _execute(context: JobContext, identity: str, work: Work, now: dt.datetime) -> Done:
    config, plane, dataset = context.config, context.plane, context.config.dataset
    table = ingested_table(dataset)
    rows_hint = work.rows_hint + (work.untouched if work.beside is not None else 0)
    watch = Watch(config, now, rows_hint=rows_hint, months=work.months)
    quality: list[QualityReport] = []
    refused: list[str] = []
    arrived: dict[str, int] = {}
    written: list[Written] = []
    commit = context.commit(JOB, "all", identity, day=watch.day)

    def approve(rows: Mapping[str, int]) -> Sequence[str]:
        arrived.update(rows)
        arrived[table.name] += work.untouched
        total = sum(arrived.values())
        if work.expected is not None and total != work.expected:
            raise AssayError(f"ingest lost rows: the source has {work.expected}, {total} arrived. Nothing was written")
        share = rows[QUARANTINE.name] / total if total else 0.0
        limit = config.profile.ingest.max_quarantine_share
        if total == 0:
            empty = "the table has no rows; change dataset.source"
            if work.files is not None:
                empty = "the file has columns but no rows; change dataset.source.path"
            raise DataError(f"{work.place}: {empty}")
        if share > limit or arrived[table.name] == 0:
            why = f"above ingest.max_quarantine_share={limit:g}" if share > limit else "so none is left"
            refused.append(
                f"{dataset.source.path or work.place}: {rows[QUARANTINE.name]:,} of {total:,} rows ({share:.1%}) "
                f"cannot be used, {why}; observations were left as they were. Reasons are below, the rows in "
                f"{plane.location(QUARANTINE.name)}: correct the source, or the settings that the reasons name"
            )
        quality.append(watch.report())
        refused.extend(f"{dataset.source.path or work.place}: {reason}" for reason in quality[0].refusals)
        if refused:
            return [QUARANTINE.name]
        if work.files is not None:  # before observations, so that what they were made of is always on record
            rows_of_files = plane.rows_of(SOURCE_FILES, SOURCE_FILES.schema(), files_table(work.files))
            written.extend(rows_of_files.write([Output(SOURCE_FILES, SOURCE_FILES.schema(), commit)]))
        return [QUARANTINE.name, table.name]

    with context.reporter.step(f"checking the rows of {dataset.source.path or work.place}"):
        observations = Output(
            table,
            table.schema(observation_fields(dataset)),
            commit,
            owns={} if work.months is None else {"month": work.months},
            only="reasons",
            weight=SOURCE_ROWS if dataset.time.align else None,
        )
        written += (
            (work.flow.union(work.beside) if work.beside is not None else work.flow)
            .by_key(["month"], rows_hint=rows_hint)
            .map(watch.over(ResolveDuplicates(dataset)), measured_schema(checked_schema(dataset)))
            .write(
                [Output(QUARANTINE, QUARANTINE.schema(), commit, only="reasons", keep="filled"), observations],
                approve=approve,
                aside=watch.aside,
            )
        )
    counts = dict(arrived)
    if dataset.time.align and not refused:
        counts[table.name] = next(w.rows for w in written if w.table == table.name)
        counts[MERGED] = arrived[table.name] - counts[table.name]
    kept, bad, total = counts[table.name], counts[QUARANTINE.name], sum(counts.values())
    rows_of: dict[str, float] = {"rows_in": total, "rows_kept": kept, "rows_quarantined": bad}
    rows_of |= {MERGED: counts[MERGED]} if MERGED in counts else {}
    with context.reporter.step("writing the quality report"):
        written += _quality(context, quality[0], commit, rows_of)
    merged_told = f", {counts[MERGED]:,} merged into them ({ALIGN})" if MERGED in counts else ""
    summary = [f"{total:,} rows in: {kept:,} {table.name}{merged_told}, {bad:,} quarantined", *work.told]
    summary += [f"  {count:,} x {reason}" for reason, count in list(quality[0].reasons.items())[:8]]
    summary += quality[0].summary
    return Done(
        metrics={**rows_of, **work.metrics, **quality[0].figures},
        written=written,
        summary=[*refused, *summary],
        refused=refused[0] if refused else None,
    )


def _quality(context: JobContext, report: QualityReport, commit: Commit, rows: Mapping[str, float]) -> list[Written]:
    """Write this run's part of `quality_reports`, and its record in MLflow. The parts of other runs stay."""
    schema = QUALITY_REPORTS.schema()
    flow = context.plane.rows_of(QUALITY_REPORTS, schema, report.rows(commit.identity, rows))
    context.tracking.json(report.as_dict(), "quality.json")
    context.tracking.json(report.patterns_as_dict(), "patterns.json")
    return flow.write([Output(QUALITY_REPORTS, schema, commit, owns={"run": commit.identity})])
