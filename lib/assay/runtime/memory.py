"""Consumes a session's settings, produces the memory that Python may count on where tasks run."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING

from assay.runtime.session import is_local

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

UNITS = {"k": 1 << 10, "": 1 << 20, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40}  # a bare number is of mebibytes
DEFAULT_MEMORY = "1g"  # Spark's, for executors


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
    return PythonMemory(_bytes(text), max(1, tasks))


def _bytes(text: str) -> int:
    found = re.fullmatch(r"(\d+)\s*([kmgt]?)(?:i?b)?", text.strip().lower())
    if found is None:
        return _bytes(DEFAULT_MEMORY)
    return int(found[1]) * UNITS[found[2]]
