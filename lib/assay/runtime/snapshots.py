"""Consumes the place of a lake, produces facts, columns and rows of its tables, for people. Reads only.

Where tables are files of this machine no Spark is needed; elsewhere Spark reads them.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import pyarrow as pa

from assay.config.lake import folder_of
from assay.runtime.plane import Commit
from assay.runtime.spark_plane import SparkPlane

if TYPE_CHECKING:
    from pyspark.sql import SparkSession


@dataclasses.dataclass(frozen=True)
class Facts:
    """A table at its newest version.

    size: bytes of this version's files. commit: the newest write, None of one that is not assay's. at: its time by the
    clock, UTC.
    """

    version: int
    rows: int
    files: int
    size: int
    commit: Commit | None
    at: dt.datetime


class Snapshots(Protocol):
    """The tables of a lake."""

    def there(self, name: str) -> bool:
        """Whether there is such a table."""
        ...

    def facts(self, name: str) -> Facts:
        """What a table is now."""
        ...

    def columns(self, name: str) -> list[tuple[str, str]]:
        """Name and type of each column, the type in Delta's word for it: ``double``, ``array<string>``."""
        ...

    def rows(self, name: str, version: int | None) -> pa.Table:
        """All rows at a version, or at the newest one."""
        ...


def snapshots_at(lake: str, session: Callable[[], SparkSession]) -> Snapshots:
    """The tables below a URI. session: started where Spark has to read."""
    folder = folder_of(lake)
    return FileSnapshots(folder) if folder is not None else SparkSnapshots(session, lake)


@dataclasses.dataclass(frozen=True)
class FileSnapshots:
    """Tables that are folders of this machine."""

    root: Path

    def there(self, name: str) -> bool:
        """By its log."""
        return (self.root / name / "_delta_log").is_dir()

    def facts(self, name: str) -> Facts:
        """From the log alone."""
        from deltalake import DeltaTable

        delta = DeltaTable(self.root / name)
        files = pa.table(delta.get_add_actions(flatten=True))
        rows, size = (sum(n or 0 for n in files.column(c).to_pylist()) for c in ("num_records", "size_bytes"))
        newest = delta.history(1)[0]
        commit = Commit.parse(newest.get("userMetadata"), delta.version())
        at = dt.datetime.fromtimestamp(newest["timestamp"] / 1000, dt.timezone.utc)
        return Facts(delta.version(), rows, files.num_rows, size, commit, at)

    def columns(self, name: str) -> list[tuple[str, str]]:
        """From the log alone."""
        from deltalake import DeltaTable

        return [(field.name, _type_of(field.type)) for field in DeltaTable(self.root / name).schema().fields]

    def rows(self, name: str, version: int | None) -> pa.Table:
        """Read by Arrow; Polars' own reader does not find folders with blanks in their names."""
        from deltalake import DeltaTable

        return DeltaTable(self.root / name, version=version).to_pyarrow_table()


class SparkSnapshots:
    """Tables of any file system that Spark knows."""

    def __init__(self, session: Callable[[], SparkSession], root: str) -> None:
        self._session = session
        self.root = root

    @cached_property
    def plane(self) -> SparkPlane:
        """The road to them."""
        return SparkPlane(self._session, self.root)

    def there(self, name: str) -> bool:
        """By its log."""
        return self.plane.version(name) is not None

    def facts(self, name: str) -> Facts:
        """Rows are counted from the files' statistics."""
        session, identifier = self.plane.session, self.plane.identifier(name)
        detail = session.sql(f"DESCRIBE DETAIL {identifier}").select("numFiles", "sizeInBytes").collect()[0]
        history = session.sql(f"DESCRIBE HISTORY {identifier} LIMIT 1")
        newest = history.selectExpr("version", "userMetadata", "unix_micros(timestamp) AS at").collect()[0]
        version = int(newest["version"])
        commit = Commit.parse(newest["userMetadata"], version)
        at = dt.datetime.fromtimestamp(newest["at"] / 1e6, dt.timezone.utc)
        rows = int(session.table(identifier).count())
        return Facts(version, rows, int(detail["numFiles"]), int(detail["sizeInBytes"]), commit, at)

    def columns(self, name: str) -> list[tuple[str, str]]:
        """As Delta's log has them."""
        fields = self.plane.session.table(self.plane.identifier(name)).schema.jsonValue()["fields"]
        return [(field["name"], _json_type(field["type"])) for field in fields]

    def rows(self, name: str, version: int | None) -> pa.Table:
        """Brought to this process."""
        newest = self.plane.version(name) if version is None else version
        assert newest is not None
        return self.plane.read(name, version=newest).collect()


def _type_of(kind: Any) -> str:
    """A type of delta-rs in a word."""
    return f"array<{_type_of(kind.element_type)}>" if kind.type == "array" else str(kind.type)


def _json_type(kind: Any) -> str:
    """A type of Spark's JSON in the same word."""
    if isinstance(kind, dict):
        return f"array<{_json_type(kind['elementType'])}>" if kind["type"] == "array" else str(kind["type"])
    return str(kind)
