"""Consumes a number of threads, produces libraries that use as many. Runs on executors.

Spark gives its Python workers `OMP_NUM_THREADS` = `spark.task.cpus`, one by default, and XGBoost heeds that over its
own `nthread`: a lone rank on a laptop would use one of its cores.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

from assay.runtime.environment import variable

VARIABLE = "OMP_NUM_THREADS"


@contextlib.contextmanager
def openmp(threads: int) -> Iterator[None]:
    """Let libraries use so many OpenMP threads in this block, those that are imported only now included."""
    from threadpoolctl import threadpool_limits

    with variable(VARIABLE, str(threads)) as before:
        threadpool_limits(threads, "openmp")
        try:
            yield
        finally:
            usual = int(before) if before is not None and before.isdigit() else os.cpu_count()
            threadpool_limits(usual, "openmp")
