"""Consumes Spark's settings and this machine, produces the memory that there is and what Java and Python need."""

from __future__ import annotations

import contextlib
import dataclasses
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from assay.runtime.session import is_local

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

UNITS = {"k": 1 << 10, "": 1 << 20, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40}  # a bare number is of mebibytes
DEFAULT_MEMORY = "1g"  # Spark's, for executors
NO_LIMIT = 1 << 60  # what the older control groups say instead of nothing
PYTHON_PROCESS = 512 << 20  # libraries (XGBoost, Polars and Arrow: 250 MiB) and the rows that are under way


@dataclasses.dataclass(frozen=True)
class PythonMemory:
    """executor: bytes for Python on one executor, all of its tasks together.  tasks: how many it runs at once."""

    executor: int
    tasks: int


def python_memory(session: SparkSession) -> PythonMemory | None:
    """What each executor offers; None in local mode, where all tasks share the machine."""
    if is_local(str(session.conf.get("spark.master", ""))):
        return None
    return of_executor(dict(session.sparkContext.getConf().getAll()))


def of_executor(settings: Mapping[str, str]) -> PythonMemory:
    """By Spark's settings: what was set aside for Python, else outside of Java's heap; else as much as the heap.

    A standalone worker limits nothing; our settings ask for as much again as the heap.
    """
    told = ("spark.executor.pyspark.memory", "spark.executor.memoryOverhead", "spark.executor.memory")
    text = next((settings[name] for name in told if settings.get(name)), DEFAULT_MEMORY)
    tasks = int(settings.get("spark.executor.cores", "1")) // int(settings.get("spark.task.cpus", "1"))
    return PythonMemory(bytes_of(text), max(1, tasks))


def bytes_of(text: str) -> int:
    """A size as Spark's settings write it; what is none counts as Spark's default."""
    found = re.fullmatch(r"(\d+)\s*([kmgt]?)(?:i?b)?", text.strip().lower())
    if found is None:
        return bytes_of(DEFAULT_MEMORY)
    return int(found[1]) * UNITS[found[2]]


@dataclasses.dataclass(frozen=True)
class MachineMemory:
    """Bytes. total: of the machine, or what this process's control group (a container) may take, where that is less.

    available: what nobody uses now. limited: whether the control group is the limit.
    """

    total: int
    available: int
    limited: bool


def machine_memory(root: Path = Path("/"), *, total: int | None = None, available: int | None = None) -> MachineMemory:
    """What this process may use. root: where `proc` and `sys` are. total, available: of the machine; None asks it."""
    import psutil

    machine = psutil.virtual_memory()
    total = machine.total if total is None else total
    available = machine.available if available is None else available
    limit = min(_limits(root), default=NO_LIMIT)
    return MachineMemory(min(total, limit), min(available, limit), limit < total)


def _limits(root: Path) -> Iterator[int]:
    """Limits of the control groups that this process is in, old ones and new; inside a container they are the root."""
    try:
        lines = (root / "proc/self/cgroup").read_text("utf-8").splitlines()
    except OSError:
        return
    for line in lines:
        _, kinds, path = [*line.split(":", 2), "", ""][:3]
        if kinds == "":
            base, name = root / "sys/fs/cgroup", "memory.max"
        elif "memory" in kinds.split(","):
            base, name = root / "sys/fs/cgroup/memory", "memory.limit_in_bytes"
        else:
            continue
        inside = base / path.lstrip("/")
        for folder in (inside, *inside.parents):
            with contextlib.suppress(OSError, ValueError):
                limit = int((folder / name).read_text("utf-8"))
                if 0 < limit < NO_LIMIT:
                    yield limit
            if folder == base:
                break


def needed_here(settings: Mapping[str, str], tasks: int) -> int:
    """Bytes that a driver needs, and tasks on its own machine: Java's heap and a tenth of it, and Python's processes.

    tasks: how many run here at once; 0 where executors are elsewhere.
    """
    heap = bytes_of(settings.get("spark.driver.memory", DEFAULT_MEMORY))
    return int(heap * 1.1) + PYTHON_PROCESS * (1 + tasks)
