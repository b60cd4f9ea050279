"""Consumes nothing, produces the Spark session of contenders: all cores of this machine, workers warm."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.harness import CACHE

CORES = max(1, len(os.sched_getaffinity(0)))


def settings() -> Any:
    """One task per core."""
    from assay.runtime.session import SparkSettings

    return SparkSettings(f"local[{CORES}]")


def open_warm(imports: Callable[[int], str]) -> Any:
    """A session whose Python workers, like this process, have imported what they need."""
    from assay.runtime.session import open_session

    session = open_session(settings(), app="benchmark", log_file=Path(CACHE) / "spark.log")
    imports(0)
    session.sparkContext.parallelize(range(CORES), CORES).map(imports).collect()
    return session
