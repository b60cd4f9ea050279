"""Consumes the Delta logs of a lake on a file system, produces its tables, each version opened once.

To open a table is to read its log since the last checkpoint, up to a hundred files; a job asks for few versions often.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from pathlib import Path
from typing import TYPE_CHECKING

from assay.errors import DataError

if TYPE_CHECKING:
    from deltalake import DeltaTable

UNREADABLE_FEATURES = {"deletionVectors", "columnMapping"}
KEPT = 32  # opened versions, which hold the lists of their files

Seen = tuple[int, int, int]  # inode, change and size of a commit's file


class DeltaLogs:
    """Tables as folders below one root. Threads may share one; nobody may change what it gives."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._opened: OrderedDict[tuple[str, int], tuple[Seen, DeltaTable]] = OrderedDict()
        self._newest: dict[str, int] = {}
        self._lock = threading.Lock()

    def at(self, table: str, version: int) -> DeltaTable:
        """A table at a version.

        Raises:
            DataError: only Spark can read it.
        """
        with self._lock:
            found = self._opened.get((table, version))
        if found is not None and found[0] == self._seen(table, version):
            return found[1]
        return self._open(table, version)

    def newest(self, table: str) -> DeltaTable | None:
        """A table at its newest version; None where there is none.

        Raises:
            DataError: only Spark can read it.
        """
        from deltalake import DeltaTable

        version = self._newest.get(table)
        if version is not None and self._seen(table, version + 1) is None:
            with self._lock:
                found = self._opened.get((table, version))
            if found is not None and found[0] == self._seen(table, version):
                return found[1]
        if not DeltaTable.is_deltatable(str(self.root / table)):
            return None
        delta = self._open(table, None)
        self._newest[table] = int(delta.version())
        return delta

    def _open(self, table: str, version: int | None) -> DeltaTable:
        from deltalake import DeltaTable

        delta = DeltaTable(str(self.root / table), version=version)
        features = set(delta.protocol().reader_features or []) & UNREADABLE_FEATURES
        if delta.metadata().configuration.get("delta.columnMapping.mode", "none") != "none":
            features.add("columnMapping")
        if features:
            raise DataError(
                f"table {table} uses {', '.join(sorted(features))}, which only Spark can read: set runtime.road=spark"
            )
        number = int(delta.version())
        seen = self._seen(table, number)
        if seen is not None:  # else the log was cut off below a checkpoint
            with self._lock:
                self._opened[table, number] = (seen, delta)
                self._opened.move_to_end((table, number))
                while len(self._opened) > KEPT:
                    self._opened.popitem(last=False)
        return delta

    def _seen(self, table: str, version: int) -> Seen | None:
        """The file of a commit, which a table that was made anew has changed; None where there is none."""
        try:
            found = (self.root / table / "_delta_log" / f"{version:020d}.json").stat()
        except FileNotFoundError:
            return None
        return found.st_ino, found.st_mtime_ns, found.st_size
