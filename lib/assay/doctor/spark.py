"""Consumes a Spark session that was really started, produces findings about its executors and about Delta on it."""

from __future__ import annotations

import contextlib
import re
import secrets
import shutil
import socket
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from assay.doctor.findings import Finding, fail, gigabytes, ok, refused, warn
from assay.doctor.libraries import listed
from assay.doctor.machine import standing
from assay.doctor.probe import ANSWER, Seen, look
from assay.errors import AssayError, PreflightError
from assay.ingest.spark_source import reason_of
from assay.runtime import preflight
from assay.runtime.barrier import free_slots
from assay.runtime.memory import PYTHON_PROCESS, PythonMemory, python_memory
from assay.runtime.session import SparkSettings, is_local, open_session, session_is_given

if TYPE_CHECKING:
    from pyspark import SparkContext
    from pyspark.sql import SparkSession

MOST_TASKS = 256
ALL = 1 << 30  # slots that no cluster has: wait until no more executors come
OTHER = {"arrow": "spark", "spark": "arrow"}
EXECUTORS_TODO = (
    "look at the master's page: are there workers, and have they cores and memory free for spark.executor.cores and "
    "spark.executor.memory?"
)


def start(settings: SparkSettings) -> tuple[SparkSession | None, list[Finding]]:
    """Start Spark, or take the session that is there; its log stays where it could not be started."""
    given = session_is_given()
    if not given and (silent := silent_masters(settings.chosen_master())):
        return None, [fail("Spark", f"nobody listens at {silent}", "start the master there, or correct --master")]
    folder = Path(tempfile.mkdtemp(prefix="assay-doctor-"))
    log = folder / "spark.log"
    try:
        session = open_session(settings, app="assay doctor", log_file=log)
    except PreflightError as error:
        return None, [fail("Spark", f"{error}. {cause(log)}", f"look at {log}, and at what is said of Java and memory")]
    shutil.rmtree(folder, ignore_errors=True)
    return session, of_session(session, given)


def silent_masters(master: str) -> str:
    """The addresses of a standalone master where none answers, which Spark would ask for a minute; else nothing."""
    if not master.startswith("spark://"):
        return ""
    places = master.removeprefix("spark://")
    for place in places.split(","):
        host, _, port = place.rpartition(":")
        with contextlib.suppress(OSError, ValueError), socket.create_connection((host.strip("[]"), int(port)), 5):
            return ""
    return places


def cause(log: Path) -> str:
    """The line of a log that says why Spark did not start; empty where none does."""
    try:
        lines = log.read_text("utf-8", errors="replace").splitlines()
    except OSError:
        return ""
    told = (line.strip() for line in lines if re.search(r"Exception|Error\b|[Nn]ot found|No such file|Invalid", line))
    return next(told, "")[:300]


def of_session(session: SparkSession, given: bool) -> list[Finding]:
    """Versions of a session and of its Delta jar, by the rules of every job's start."""
    context = session.sparkContext
    java = context._jvm.java.lang.System.getProperty("java.version")
    told = f"Spark {session.version} on Java {java}, {context.master}{', which was there already' if given else ''}"
    found = []
    for check, todo in (
        (preflight.check_versions, "install the pyspark of the cluster's version"),
        (preflight.check_delta_jar, "take the other jar out of the settings file"),
    ):
        try:
            check(session)
        except PreflightError as error:
            found.append(refused("Spark", error, todo))
    return found or [ok("Spark", told)]


def executors(session: SparkSession, workspace: Path, names: Sequence[str], *, shared: bool) -> list[Finding]:
    """What executors there are, and what tasks see on them. shared: whether they have to see the workspace."""
    context = session.sparkContext
    lasting = _lasting(session)
    try:
        slots = free_slots(context, ALL)
    except Exception as error:  # a cluster that does not want this application ends it
        return [*lasting, fail("executors", f"{context.master} ended the session: {reason_of(error)}", EXECUTORS_TODO)]
    if slots == 0:
        return [*lasting, fail("executors", f"{context.master} gave none within a minute", EXECUTORS_TODO)]
    with _folder_beside(workspace) as folder:
        if folder is None:
            return lasting  # what is wrong with the workspace is told already
        try:
            seen, answers = _ask(context, names, folder, min(slots, MOST_TASKS), barrier=not lasting)
        except Exception as error:
            return [*lasting, _no_answer(error)]
    found = of_executors(seen, context.master, slots, answers, workspace, names, shared=shared)
    return [*lasting, *found, *of_memory(python_memory(session))]


def of_memory(found: PythonMemory | None) -> list[Finding]:
    """Whether Python has room on an executor; nothing of one machine, whose memory is told by itself."""
    if found is None:
        return []
    told = f"{gigabytes(found.executor)} for Python on each, {found.tasks} task(s) at once"
    if found.executor < PYTHON_PROCESS * found.tasks:
        return [warn("memory of executors", told, "raise spark.executor.memoryOverhead, or lower spark.executor.cores")]
    return [ok("memory of executors", told)]


def _lasting(session: SparkSession) -> list[Finding]:
    try:
        preflight.check_lasting_executors(session)
    except PreflightError as error:
        return [refused("dynamic allocation", error, "set spark.dynamicAllocation.enabled=false")]
    return []


@contextlib.contextmanager
def _folder_beside(workspace: Path) -> Iterator[Path | None]:
    """A folder in the workspace, or where it will be, that is removed again; None where nothing can be written."""
    folder = standing(workspace) / f".assay-doctor-{secrets.token_hex(8)}"
    try:
        folder.mkdir()  # with the rights that jobs give their folders
    except OSError:
        yield None
        return
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _ask(
    context: SparkContext, names: Sequence[str], folder: Path, tasks: int, *, barrier: bool
) -> tuple[list[Seen], int]:
    """What tasks saw, as many as run at once, and how many of their answers arrived in the driver's folder."""
    token = secrets.token_hex(8)
    (folder / token).write_text(token, encoding="utf-8")
    wanted, place = list(names), str(folder)

    def each(_: Iterator[Any]) -> Iterator[Seen]:
        import sys

        from pyspark import TaskContext

        own = TaskContext.get()
        resources = own.resources() if own is not None else {}
        gpus = tuple(resources["gpu"].addresses) if "gpu" in resources else ()
        yield look(wanted, place, token, gpus, sys.executable)

    given = context.parallelize(range(tasks), tasks)
    # A barrier stage, as training is one: all slots at once, so every executor is asked.
    seen = (given.barrier().mapPartitions(each) if barrier else given.mapPartitions(each)).collect()
    return seen, len(list(folder.glob(f"{ANSWER}*")))


def _no_answer(error: Exception) -> Finding:
    """A small job that failed: most often there is no such Python, or it is another one."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    reasons = ("PySparkRuntimeError", "ModuleNotFoundError", "Cannot run program", "No module named", "Exception:")
    told = next((line for word in reasons for line in lines if word in line), lines[0] if lines else repr(error))
    return fail(
        "executors",
        f"a small job failed on them: {told[:300]}",
        "let PYSPARK_PYTHON name a Python on the executors that is of the driver's version and has requirements.lock",
    )


def of_executors(
    seen: Sequence[Seen],
    master: str,
    slots: int,
    answers: int,
    workspace: Path,
    names: Sequence[str],
    *,
    shared: bool,
) -> list[Finding]:
    """Findings from what tasks saw. answers: files of theirs that the driver sees."""
    who = sorted({one.executor for one in seen})
    hosts = sorted({host for host, _ in who})
    gpus = sum(len(one.gpus) for one in seen)
    told = f"{len(who)} on {len(hosts)} host(s), {slots} task slots"
    told += f", {gpus} GPU(s)" if gpus else ""
    found = [ok("executors", f"{told}; {master}")]
    if is_local(master):
        return found
    found.append(_libraries(seen, names))
    blind = sorted({one.executor[0] for one in seen if not one.shared})
    if not blind and answers:
        found.append(ok("shared storage", f"executors read and write {standing(workspace)}"))
    elif shared:
        where = f"from {listed(blind)}" if blind else "as what executors write does not arrive there"
        found.append(
            fail(
                "shared storage",
                f"--workspace {workspace} cannot be seen {where}",
                "put it on storage that they share, or tables into a catalog: --set runtime.catalog=CATALOG.SCHEMA",
            )
        )
    else:
        found.append(ok("shared storage", "executors do not see the workspace, and need not: tables are in a catalog"))
    return found


def _libraries(seen: Sequence[Seen], names: Sequence[str]) -> Finding:
    """Whether Python of the executors is that of the driver, by its libraries."""
    import platform

    from assay.doctor.libraries import installed

    here = {name: installed(name) for name in names}
    wrong = {
        f"{name} is {version or 'missing'}, not {here[name]}": one.program
        for one in seen
        for name, version in one.versions.items()
        if version != here[name]
    }
    lacking = any(v is None and here[n] is not None for one in seen for n, v in one.versions.items())
    programs = ", ".join(sorted({f"{one.program} ({one.python})" for one in seen}))
    if not wrong:
        return ok("Python of executors", f"{programs}, with the driver's {len(here)} libraries")
    told = f"{programs}; the driver has {platform.python_version()}: {listed(sorted(wrong))}"
    todo = "install requirements.lock into that Python, or let PYSPARK_PYTHON name one that has it"
    return (fail if lacking else warn)("Python of executors", told, todo)


def tables(session: SparkSession, workspace: Path) -> list[Finding]:
    """Whether both roads write a small Delta table, and read what the other one wrote, in a folder that goes again."""
    with _folder_beside(workspace) as folder, _no_warehouse():
        if folder is None:
            return []
        try:
            found = both_roads(session, folder)
        except AssayError as error:
            return [refused("Delta", error, "look at Spark's log")]
        except Exception as error:
            told = f"a small table cannot be written or read: {reason_of(error)}"
            return [fail("Delta", told, "see what is said of the jars")]
    return [found]


@contextlib.contextmanager
def _no_warehouse() -> Iterator[None]:
    """Spark makes the folder of its own tables, which are none of ours, where the command runs."""
    folder = Path("spark-warehouse").absolute()
    there = folder.exists()
    yield
    if not there:
        with contextlib.suppress(OSError):  # there is none, or somebody else's session has put something in
            folder.rmdir()


def both_roads(session: SparkSession, folder: Path) -> Finding:
    """Write by each road, read by the other one, compare."""
    import pyarrow as pa

    from assay.runtime.arrow_plane import ArrowPlane
    from assay.runtime.plane import Commit, Output, Plane
    from assay.runtime.spark_plane import SparkPlane
    from assay.runtime.tables import Table

    arrow, spark = ArrowPlane(lambda: session.sparkContext, folder), SparkPlane(lambda: session, folder.as_uri())
    roads: dict[str, Plane] = {"arrow": arrow, "spark": spark}
    wrong = []
    try:
        for writer, plane in roads.items():
            table = Table(f"by_{writer}", "doctor", "one row", ("row",), (), {"row": (pa.int64(), "a number")})
            rows = pa.Table.from_pylist([{"row": number} for number in range(3)], schema=table.schema())
            commit = Commit(-1, "doctor", "all", "doctor")
            plane.rows_of(table, table.schema(), rows).write([Output(table, table.schema(), commit)])
            reader = OTHER[writer]
            version = roads[reader].version(table.name) or 0
            found = roads[reader].read(table.name, version=version).collect().column("row").to_pylist()
            if sorted(found) != [0, 1, 2]:
                wrong.append(f"{reader} reads {sorted(found)} of what {writer} wrote")
    finally:
        arrow.clean()
        spark.clean()
    if wrong:
        return fail("Delta", f"rows 0, 1, 2 were written: {listed(wrong)}", "see what is said of the jars")
    return ok("Delta", "both roads write a table and read the other's")
