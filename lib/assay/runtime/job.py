"""Consumes a job and its configuration, produces its result on record: parse, preflight, run, record, exit code."""

from __future__ import annotations

import concurrent.futures
import dataclasses
import functools
import hashlib
import json
import threading
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from assay.config import DatasetConfig, RunConfig, canonical_json
from assay.errors import DataError, GateRefused, UserError
from assay.runtime import preflight
from assay.runtime.lake import check_on_record, lake_folder, lake_of
from assay.runtime.plane import Commit, Plane, Written
from assay.runtime.progress import Reporter
from assay.runtime.session import SparkSettings, import_spark, open_session, session_is_given, ship_extensions
from assay.runtime.tracking import PastRun, Tracking
from assay.version import __version__

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

DONE, UNCHANGED, REFUSED = "done", "unchanged", "refused"


@dataclasses.dataclass(frozen=True)
class TableState:
    """A table as a job left it or found it."""

    location: str
    version: int

    def as_dict(self) -> dict[str, Any]:
        """For JSON output."""
        return {"location": self.location, "version": self.version}


@dataclasses.dataclass(frozen=True)
class Result:
    """What a job did.

    status: done, unchanged (an equal run is on record) or refused (by a quality gate).
    summary: lines for a person.  report: path of an HTML report, where there is one.
    """

    job: str
    status: str
    run_id: str
    identity: str
    metrics: Mapping[str, float]
    tables: Mapping[str, TableState]
    summary: Sequence[str] = ()
    report: str | None = None

    def as_dict(self) -> dict[str, Any]:
        """The object that `--json` prints."""
        import math

        figures = {k: (v if math.isfinite(v) else None) for k, v in self.metrics.items()}
        return {
            "job": self.job,
            "status": self.status,
            "run_id": self.run_id,
            "identity": self.identity,
            "metrics": figures,
            "tables": {name: state.as_dict() for name, state in self.tables.items()},
            **({"report": self.report} if self.report else {}),
        }


@dataclasses.dataclass(frozen=True)
class Done:
    """What a stage hands to the shell after its work."""

    metrics: Mapping[str, float]
    written: Sequence[Written]
    summary: Sequence[str] = ()
    refused: str | None = None
    report: str | None = None


@dataclasses.dataclass(frozen=True)
class Plan:
    """What a stage is about to do, worked out before anything is read.

    inputs: table -> version, or source -> hash. sections: parts of the resolved configuration that can change the
    outcome, `as_of` and `where` among them.
    slots: (table, slot) pairs that the stage writes.  reports: tables that it adds to, whose loss would not make an
    equal run do its work again.  execute: does it; gets the identity.
    """

    job: str
    inputs: Mapping[str, int | str]
    sections: Sequence[str]
    slots: Sequence[tuple[str, str]]
    execute: Callable[[str], Done]
    extra: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    reports: Sequence[str] = ()
    still_valid: Callable[[Commit], bool] = lambda _: True


class JobContext:
    """What a stage may touch of the outside: tables, MLflow, Spark, the terminal. Spark starts at first use."""

    def __init__(self, config: RunConfig, settings: SparkSettings, reporter: Reporter) -> None:
        self.config = config
        self.settings = settings.for_run(config)
        self.reporter = reporter
        self._session: SparkSession | None = None
        preflight.check_workspace(config)
        self._tracking: concurrent.futures.Future[Tracking] = _in_background(lambda: _opened(config))
        reporter.watch(lambda: self._session.sparkContext if self._session is not None else None)

    def refuse_slice(self, job: str) -> None:
        """For jobs about a champion, which is of all rows.

        Raises:
            UserError: the run is of a slice.
        """
        if self.config.where:
            raise UserError(f"{job} knows no slices, as a champion is of all rows: leave out --where")

    def spark(self) -> SparkSession:
        """The Spark session, checked once when it starts."""
        if self._session is None:
            if not session_is_given():
                preflight.check_tracking(self.config, self.settings.chosen_master())
            with self.reporter.step("starting Spark"):
                self._session = open_session(
                    self.settings,
                    app=f"assay {self.config.dataset.name}",
                    log_file=self.config.workspace / "logs" / "spark.log",
                )
            preflight.check_session(self._session, self.config)
            ship_extensions(self._session)
        return self._session

    @property
    def tracking(self) -> Tracking:
        """The MLflow store, opened in the background while other things start."""
        if not self._tracking.done():
            with self.reporter.step("opening the MLflow store"):
                return self._tracking.result()
        return self._tracking.result()

    @cached_property
    def plane(self) -> Plane:
        """The road that rows take."""
        return choose_plane(self)

    def version(self, table: str, *, made_by: str) -> int:
        """Version of a table that must exist.

        Raises:
            DataError: it does not; says which job makes it.
        """
        found = self.plane.version(table)
        if found is None:
            raise DataError(
                f"table {table} does not exist in {self.plane.location(table)}: run the job {made_by} first "
                f"(or `pipeline`, which runs all)"
            )
        return found

    def commit(self, job: str, slot: str, identity: str, **details: Any) -> Commit:
        """The commit to write under."""
        return Commit(version=-1, job=job, slot=slot, identity=identity, details=details)

    def about(self, dataset: DatasetConfig) -> JobContext:
        """The same outside, for a stage that knows another dataset: that of a source's events."""
        return _About(self, dataset)

    def close(self) -> None:
        """Remove scratch files. Spark ends with the process, which may run more jobs before."""
        if "plane" in self.__dict__:
            self.plane.clean()  # type: ignore[attr-defined]


class _About(JobContext):
    """A context whose Spark, tables and MLflow are those of another one."""

    def __init__(self, whole: JobContext, dataset: DatasetConfig) -> None:
        self._whole = whole
        self.config = dataclasses.replace(whole.config, dataset=dataset)
        self.settings = whole.settings
        self.reporter = whole.reporter

    def spark(self) -> SparkSession:
        """That of the other context."""
        return self._whole.spark()

    @property
    def tracking(self) -> Tracking:
        """That of the other context."""
        return self._whole.tracking

    @cached_property
    def plane(self) -> Plane:
        """That of the other context, which cleans it."""
        return self._whole.plane

    def close(self) -> None:
        """Nothing: what is used belongs to the other context."""


def _in_background(make: Callable[[], Tracking]) -> concurrent.futures.Future[Tracking]:
    """Start making something in a thread that does not hold up the end of the process, as a pool's thread would."""
    future: concurrent.futures.Future[Tracking] = concurrent.futures.Future()

    def work() -> None:
        try:
            future.set_result(make())
        except BaseException as error:
            future.set_exception(error)

    threading.Thread(target=work, daemon=True).start()
    return future


def _opened(config: RunConfig) -> Tracking:
    import_spark()  # MLflow would, beside the thread that starts Spark
    return Tracking(config)


def choose_plane(context: JobContext, *, here: bool = False) -> Plane:
    """Arrow where executors share the table's files with the driver, else Spark: in a catalog and in `runtime.lake`.

    here: for few rows. What would be tasks of the Arrow road runs in this process, without Spark; the Spark road has a
    session of its own, so that another thread may use it.
    """
    from assay.runtime.arrow_plane import ArrowPlane
    from assay.runtime.local_plane import LocalPlane
    from assay.runtime.spark_plane import SparkPlane

    runtime = context.config.profile.runtime
    check_on_record(context.config)
    lake = lake_folder(context.config)
    road = runtime.road
    if road == "auto":
        road = "spark" if runtime.catalog or runtime.lake else "arrow"
    if road == "arrow" and runtime.catalog:
        raise UserError("runtime.road=arrow cannot write to runtime.catalog: executors may not touch its files")
    if road == "arrow" and lake is not None and here:
        return LocalPlane(lake, rows_per_task=runtime.rows_per_task)
    if road == "arrow" and lake is not None:
        return ArrowPlane(lambda: context.spark().sparkContext, lake, rows_per_task=runtime.rows_per_task)
    session = functools.cache(lambda: context.spark().newSession()) if here else context.spark
    return SparkPlane(session, lake_of(context.config), catalog=runtime.catalog, rows_per_task=runtime.rows_per_task)


def identity_of(plan: Plan, config: RunConfig) -> str:
    """Hash of everything that can change the outcome: job, configuration, input versions, as-of date, code version."""
    told = {
        "job": plan.job,
        "config": config.hash_of(*plan.sections),
        "inputs": dict(plan.inputs),
        "extra": dict(plan.extra),
        "version": __version__,
    }
    if config.extended:
        told["extensions"] = config.extended
    return hashlib.sha256(canonical_json(told).encode()).hexdigest()[:16]


def run_stage(context: JobContext, plan: Plan) -> Result:
    """Run one stage, unless an equal run is on record and its tables still are as it left them."""
    identity = identity_of(plan, context.config)
    past = _past(context, plan, identity)
    if past is not None:
        context.reporter.say(f"{plan.job}: unchanged, an equal run is on record ({past.run_id[:8]})")
        tables = _states(context, [*(table for table, _ in plan.slots), *plan.reports])
        summary = json.loads(past.tags.get("assay.summary", "[]"))
        status = REFUSED if past.status == REFUSED else UNCHANGED
        report = past.tags.get("assay.report")
        return Result(plan.job, status, past.run_id, identity, past.metrics, tables, summary, report)
    context.reporter.say(f"{plan.job}", style="bold")
    context.spark()
    with context.tracking.run(plan.job, identity) as run_id:
        for name, version in plan.inputs.items():
            if isinstance(version, int):
                context.tracking.input_table(name, context.plane.location(name), version)
        done = plan.execute(identity)
        context.tracking.metrics(done.metrics)
        tables = _states(context, [w.table for w in done.written] or [table for table, _ in plan.slots])
        context.tracking.json({n: s.as_dict() for n, s in tables.items()}, "tables.json")
        context.tracking.mlflow.set_tag("assay.summary", json.dumps(list(done.summary)))
        if done.report:
            context.tracking.mlflow.set_tag("assay.report", done.report)
        if done.refused:
            context.tracking.mlflow.set_tag("assay.refused", done.refused)
        context.tracking.finish(REFUSED if done.refused else DONE)
    status = REFUSED if done.refused else DONE
    return Result(plan.job, status, run_id, identity, done.metrics, tables, done.summary, done.report)


def on_record(context: JobContext, plan: Plan) -> bool:
    """Whether `run_stage` would find an equal run."""
    return _past(context, plan, identity_of(plan, context.config)) is not None


def _past(context: JobContext, plan: Plan, identity: str) -> PastRun | None:
    for table, slot in plan.slots:
        commit = context.plane.last_commit(table, slot)
        if commit is None or commit.identity != identity or not plan.still_valid(commit):
            return None
    return context.tracking.finished(plan.job, identity)


def _states(context: JobContext, tables: Sequence[str]) -> dict[str, TableState]:
    states = {}
    for table in dict.fromkeys(tables):
        version = context.plane.version(table)
        if version is not None:
            states[table] = TableState(context.plane.location(table), version)
    return states


def raise_if_refused(result: Result) -> None:
    """Turn a refused result into the error that ends the process with exit code 3."""
    if result.status == REFUSED:
        raise GateRefused("; ".join(result.summary) or f"{result.job} was refused by a quality gate")


def reports_folder(config: RunConfig) -> Path:
    """Folder of HTML reports."""
    return config.workspace / "reports"
