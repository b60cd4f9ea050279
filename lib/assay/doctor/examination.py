"""Consumes how jobs would be run here, produces all findings, in the order in which a job would meet what they tell."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from assay.config import RunConfig
from assay.doctor import data, libraries, machine, spark, store
from assay.doctor.findings import Finding, refused
from assay.errors import AssayError
from assay.runtime import jars
from assay.runtime.java import find_java
from assay.runtime.memory import machine_memory
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
    quick: leave out what needs Spark.
    """

    settings: SparkSettings
    config: RunConfig | None = None
    workspace: Path | None = None
    quick: bool = False

    @property
    def folder(self) -> Path:
        """The workspace, or where workspaces are by default."""
        return self.workspace or Path("workspace").absolute()


def examine(asked: Asked, reporter: Reporter) -> Iterator[Finding]:
    """Every finding, as soon as it is there."""
    session = None
    try:
        master = asked.settings.chosen_master()
        told = {name: value for name in READ if (value := asked.settings.told(name)) is not None}
    except AssayError as error:
        yield refused("Spark's settings", error, "name a settings file with --conf-file, or leave it out")
        asked = dataclasses.replace(asked, settings=SparkSettings(asked.settings.master), quick=True)
        master, told = asked.settings.chosen_master(), {}
    requires, pythons = libraries.own_requirements()
    yield libraries.python(pythons)
    yield libraries.pins(requires)
    yield libraries.extras(requires)
    given = session_is_given()
    if not given:
        yield machine.java(find_java())
        named = ",".join(told[name] for name in ("spark.jars", "spark.jars.packages") if name in told)
        yield libraries.delta_jars(jars.jar_paths(), named, libraries.installed("pyspark") or "")
    yield from _machine(asked, master, told)
    if not asked.quick:
        with reporter.step("starting Spark"):
            session, found = spark.start(asked.settings)
        yield from found
    if session is not None:
        master = session.sparkContext.master
        yield from _on(session, asked, list(libraries.needed(requires)), reporter)
    if asked.config is not None:
        with reporter.step("looking at the source"):
            found = data.source(asked.config, session)
        yield from found
        with reporter.step("looking at the MLflow store"):
            found = store.store(asked.config, master)
        yield from found
    elif asked.workspace is not None:
        yield store.of_uri(f"sqlite:///{asked.workspace / 'mlflow.db'}")


def _machine(asked: Asked, master: str, told: Mapping[str, str]) -> Iterator[Finding]:
    here = machine.cores_here()
    slots = machine.task_slots(master, here, int(told.get("spark.task.cpus", "1")))
    yield machine.cores(master, here, slots)
    yield machine.memory(machine_memory(), told, slots)
    if asked.workspace is not None:
        yield machine.workspace(asked.workspace, asked.config.dataset.name if asked.config is not None else None)
    yield from machine.disks({"workspace": asked.folder, "temporary files": machine.scratch_place(told)})
    yield machine.gpu(machine.gpus_here(), told, master, libraries.xgboost_has_cuda())


def _on(session: SparkSession, asked: Asked, names: list[str], reporter: Reporter) -> Iterator[Finding]:
    """What only a session that runs can tell."""
    shared = asked.config is None or not asked.config.profile.runtime.catalog
    reporter.watch(lambda: session.sparkContext)
    with reporter.step("asking executors"):
        found = spark.executors(session, asked.folder, names, shared=shared)
    yield from found
    if any(one.status == "fail" for one in found):
        return
    if shared:
        with reporter.step("writing a small table"):
            found = spark.tables(session, asked.folder)
        yield from found
