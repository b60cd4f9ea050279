"""Consumes nothing, produces Python workers that begin their next task sooner. Runs on executors.

Before each task a worker of Spark 4.1 forgets what it knows of the folders it imports from. Before Python 3.12 every
zip among them, Spark's own too, is then read again at once, which takes 0.1 to 0.2 s of each task (CPython issue
103200). A zip that has not changed need not be read.

After each task a worker looks through all its objects for garbage: 0.12 s once XGBoost is imported, nearly all of them
parts of libraries. What is there at the begin of a task is left out, if libraries have come since the one before.
"""

from __future__ import annotations

import gc
import os
import sys
import zipimport
from collections.abc import Sequence
from typing import Any

from assay import extensions

_read: dict[tuple[str, str], tuple[int, int]] = {}
_imported = 0  # modules when objects were last left out


def prepare_worker(references: Sequence[extensions.Reference] = ()) -> None:
    """Have zips read again only when they have changed, and leave libraries out of the search for garbage.

    references: extensions that the driver has, for the worker to have as well.
    """
    extensions.accept(references)
    _leave_libraries_out()
    _read_changed_zips_only()


def _leave_libraries_out() -> None:
    global _imported  # noqa: PLW0603
    # Only after imports: what one task leaves in circles, left out as well, would otherwise add up task by task.
    if len(sys.modules) > _imported:
        gc.freeze()
        _imported = len(sys.modules)


def _read_changed_zips_only() -> None:
    given = zipimport.zipimporter.invalidate_caches
    if sys.version_info >= (3, 12) or given.__module__ == __name__:
        return

    def invalidate_caches(importer: Any) -> None:
        key = (importer.archive, importer.prefix)
        try:
            found = os.stat(importer.archive)
        except OSError:
            given(importer)
            return
        state = (found.st_mtime_ns, found.st_size)
        if _read.get(key) != state:
            given(importer)
            _read[key] = state

    zipimport.zipimporter.invalidate_caches = invalidate_caches  # type: ignore[method-assign, assignment]
