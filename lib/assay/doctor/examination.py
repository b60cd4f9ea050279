"""Consumes how jobs would be run here, produces all findings, in the order in which a job would meet what they tell.

What checks stand on is imported where it is used: a library that is missing is a finding, too.
"""

from __future__ import annotations

import dataclasses
import functools
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from assay.config import RunConfig
from assay.doctor.findings import Finding, fail, refused
from assay.errors import AssayError
from assay.runtime.progress import Reporter
from assay.runtime.session import SparkSettings, session_is_given

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

READ = (  # settings of Spark that checks go by
    "spark.driver.memory",
    "spark.task.cpus",
    "spark.local.dir",
    "spark.jars",
    "spark.jars.packages",
    "spark.executor.resource.gpu.amount",
    "spark.task.resource.gpu.amount",
)


@dataclasses.dataclass(frozen=True)
class Asked:
    """What a person asks about.

    config: of the dataset, None without one. workspace: None where neither it nor a dataset is given.
    quick: leave out what needs Spark, unless it runs already.
    """

    settings: SparkSettings
    config: RunConfig | None = None
    workspace: Path | None = None
    quick: bool = False

    @property
    def folder(self) -> Path:
        """The workspace, or where workspaces are by default."""
        return self.workspace or Path("workspace").absolute()


def examine(asked: Asked, reporter: Reporter) -> list[Finding]:
    """Every finding. A check that fails itself is one, and keeps no other from being made."""
    given = session_is_given()
    found = looked("libraries", _libraries)
    try:
        master = asked.settings.chosen_master()
        told = {name: value for name in READ if (value := asked.settings.named(name))}
    except AssayError as error:
        found.append(refused("Spark's settings", error, "name a settings file with --conf-file, or leave it out"))
        asked = dataclasses.replace(asked, settings=SparkSettings(asked.settings.master), quick=True)
        master, told = asked.settings.chosen_master(), {}
    if not given:
        found += looked("Java", lambda: _java(told))
    started: list[SparkSession] = []
    if given or not asked.quick:
        with reporter.step("starting Spark"):
            found += looked("Spark", lambda: _start(asked.settings, started))
    session = started[0] if started else None
    if session is not None and given:  # which knows nothing of our settings files
        master, told = session.sparkContext.master, dict(session.sparkContext.getConf().getAll())
    found += looked("machine", lambda: _machine(asked, master, told))
    if session is not None:
        reporter.watch(lambda: session.sparkContext)
        found += looked("executors", lambda: _on(session, asked, reporter))
    return found + looked("source", lambda: _data(asked, session, master, reporter))


def looked(check: str, look: Callable[[], Iterable[Finding]]) -> list[Finding]:
    """The findings of a check, as far as it came; what stopped it is one of them."""
    found: list[Finding] = []
    try:
        found.extend(look())
    except Exception as error:
        first = (str(error).strip() or type(error).__name__).splitlines()[0]
        todo = "see what is said of libraries; if nothing is, this is assay's failure"
        found.append(fail(check, f"cannot be looked at: {type(error).__name__}: {first}", todo))
    return found


def _libraries() -> Iterator[Finding]:
    from assay.doctor import libraries

    requires, pythons = libraries.own_requirements()
    yield libraries.python(pythons)
    yield libraries.pins(requires)
    yield libraries.extras(requires)


def _java(told: Mapping[str, str]) -> Iterator[Finding]:
    from assay.doctor import libraries, machine
    from assay.runtime import jars
    from assay.runtime.java import find_java

    yield machine.java(find_java(), os.environ.get("JAVA_HOME"))
    named = ",".join(told[name] for name in ("spark.jars", "spark.jars.packages") if name in told)
    yield libraries.delta_jars(jars.jar_paths(), named, libraries.installed("pyspark") or "")


def _start(settings: SparkSettings, started: list[SparkSession]) -> Iterator[Finding]:
    from assay.doctor import spark

    session, found = spark.start(settings)
    if session is not None:
        started.append(session)
    yield from found


def _machine(asked: Asked, master: str, told: Mapping[str, str]) -> Iterator[Finding]:
    from assay.doctor import libraries, machine
    from assay.runtime.memory import machine_memory

    here = machine.cores_here()
    slots = machine.task_slots(master, here, int(told.get("spark.task.cpus", "1")))
    yield machine.cores(master, here, slots)
    yield machine.memory(machine_memory(), told, slots)
    if asked.workspace is not None:
        yield machine.workspace(asked.workspace, asked.config.dataset.name if asked.config is not None else None)
    yield from machine.disks({"workspace": asked.folder, "temporary files": machine.scratch_place(told)})
    yield machine.gpu(machine.gpus_here(), told, master, libraries.xgboost_has_cuda())


def _on(session: SparkSession, asked: Asked, reporter: Reporter) -> Iterator[Finding]:
    """What only a session that runs can tell."""
    from assay.doctor import libraries, spark

    shared = asked.config is None or not asked.config.profile.runtime.catalog
    names = list(libraries.needed(libraries.own_requirements()[0]))
    with reporter.step("asking executors"):
        found = spark.executors(session, asked.folder, names, shared=shared)
    yield from found
    if shared and not any(one.status == "fail" for one in found):
        with reporter.step("writing a small table"):
            yield from spark.tables(session, asked.folder)


def _data(asked: Asked, session: SparkSession | None, master: str, reporter: Reporter) -> Iterator[Finding]:
    from assay.doctor import data, store

    if asked.config is not None:
        config = asked.config
        with reporter.step("looking at the source"):
            yield from looked("source", functools.partial(data.source, config, session))
        with reporter.step("looking at the MLflow store"):
            yield from looked("MLflow", functools.partial(store.store, config, master))
    elif asked.workspace is not None:
        yield store.of_uri(f"sqlite:///{asked.workspace / 'mlflow.db'}")
