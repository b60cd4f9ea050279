"""Consumes a path or URI, produces the source's files: their names, sizes, and streams to read them, local or remote.

Remote file systems (`s3://`, `gs://`, `abfss://`, `hdfs://`) are those of `pyarrow.fs`; they take their credentials
from where their own tools look for them: environment variables, instance roles, configuration files.
"""

from __future__ import annotations

import dataclasses
import hashlib
import os
import re
import time
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import urlsplit
from urllib.request import url2pathname

import pyarrow as pa

from assay.config import RunConfig
from assay.config.dataset import SourceConfig
from assay.errors import DataError

FORMATS = {
    **dict.fromkeys((".csv", ".txt"), "csv"),
    **dict.fromkeys((".json", ".jsonl", ".ndjson"), "json"),
    **dict.fromkeys((".parquet", ".pq"), "parquet"),
}
IS_URI = re.compile(r"^[A-Za-z][A-Za-z0-9+.-]+:/")
HASHED_BLOCK_BYTES = 8 << 20
SETTLED_NS = 2_000_000_000  # a file that changed later than this before it was read may change again at the same time


@dataclasses.dataclass(frozen=True)
class SourceFile:
    """A file of the source.

    path: on the file system. name: what it is called on record, below the source's folder. size: bytes.
    modified_ns: time of its last change, nanoseconds since 1970. filesystem: a URI of its file system, empty for local.
    """

    path: str
    name: str
    size: int
    modified_ns: int
    filesystem: str = ""

    def __str__(self) -> str:
        return f"{urlsplit(self.filesystem).scheme}://{self.path}" if self.filesystem else self.path

    def sha256(self) -> str:
        """Hash of the content.

        Raises:
            DataError: the file cannot be read.
        """
        digest = hashlib.sha256()
        try:
            with open_file(self.path, self.filesystem) as stream:
                while block := stream.read(HASHED_BLOCK_BYTES):
                    digest.update(block)
        except OSError as error:
            raise DataError(f"{self}: cannot be read: {error.strerror or error}") from None
        return digest.hexdigest()

    @property
    def settled(self) -> bool:
        """Whether an equal size and time of change will mean an equal content, from now on."""
        return time.time_ns() - self.modified_ns > SETTLED_NS


def find_source(config: RunConfig) -> list[SourceFile]:
    """The source's files, sorted by path.

    Raises:
        DataError: no such file or folder; names the places that were looked at.
    """
    return files_at(find_place(config), config.dataset.source)


def files_at(place: Path | None, source: SourceConfig) -> list[SourceFile]:
    """Files of a place on this machine, sorted by path; without one, of the URI that the source names.

    Raises:
        DataError: there are none.
    """
    if place is None:
        return _remote_files(source.path, source.format)
    if place.is_file():
        return [_local_file(place, place.name)]
    found = {p.relative_to(place).as_posix(): p for p in sorted(place.rglob("*")) if p.is_file()}
    files = [_local_file(path, name) for name, path in found.items() if _is_data(name, source.format)]
    return files or _nothing_in(str(place), source.format)


def find_place(config: RunConfig) -> Path | None:
    """The source's file or folder on this machine; None where `source.path` is the URI of another file system.

    Raises:
        DataError: there is none; names the places that were looked at.
    """
    given = local_path(config.dataset.source.path)
    if given is None:
        return None
    root = os.environ.get("ASSAY_DATA")
    places = [given] if given.is_absolute() else [config.dataset_folder / given, Path.cwd() / given]
    if not given.is_absolute():
        places.append(config.workspace / "raw" / given)
        if root:
            places += [Path(root) / given, Path(root) / given.name]
    for place in places:
        if place.is_file() or place.is_dir():
            return place
    looked = ", ".join(dict.fromkeys(str(p.resolve()) for p in places))
    raise DataError(
        f"source.path {given}: there is no such file (looked at {looked}); "
        "change dataset.source.path, or set ASSAY_DATA to the folder that holds it"
    )


def local_path(given: str) -> Path | None:
    """The path that a text names, None where it is the URI of another file system."""
    if given.startswith("file:"):
        return Path(url2pathname(urlsplit(given).path))
    return None if IS_URI.match(given) else Path(given).expanduser()


def _local_file(path: Path, name: str) -> SourceFile:
    found = path.stat()
    return SourceFile(str(path), name, found.st_size, found.st_mtime_ns)


def _remote_files(uri: str, wanted: str) -> list[SourceFile]:
    from pyarrow import fs

    filesystem, path = _filesystem(uri)
    try:
        place = filesystem.get_file_info(path)
        if place.type == fs.FileType.File:
            return [SourceFile(path, PurePosixPath(path).name, place.size, place.mtime_ns or 0, uri)]
        if place.type == fs.FileType.Directory:
            inside = filesystem.get_file_info(fs.FileSelector(path, recursive=True))
            found = {PurePosixPath(i.path).relative_to(path).as_posix(): i for i in inside if i.is_file}
            files = [SourceFile(found[n].path, n, found[n].size, found[n].mtime_ns or 0, uri) for n in sorted(found)]
            return [file for file in files if _is_data(file.name, wanted)] or _nothing_in(uri, wanted)
    except (OSError, pa.ArrowException) as error:
        raise DataError(f"source.path {uri}: cannot be listed: {_short(error)}; change dataset.source.path") from None
    raise DataError(f"source.path {uri}: there is no such file; change dataset.source.path")


def _filesystem(uri: str) -> tuple[Any, str]:
    from pyarrow import fs

    try:
        filesystem, path = fs.FileSystem.from_uri(uri)
    except (OSError, pa.ArrowException, ImportError) as error:
        raise DataError(
            f"source.path {uri}: the file system {urlsplit(uri).scheme}:// cannot be opened: {_short(error)}. s3, gs, "
            "abfss and hdfs (which needs HADOOP_HOME and libhdfs) are known; change dataset.source.path"
        ) from None
    return filesystem, path


def _short(error: Exception) -> str:
    return " ".join(str(error).split())[:200]


def _is_data(name: str, wanted: str) -> bool:
    """Whether a file below a source's folder is data; names that start with a dot or `_` (Spark's, Delta's) are not."""
    found = format_by_name(name)
    hidden = any(part.startswith((".", "_")) for part in PurePosixPath(name).parts)
    return found is not None and wanted in {"auto", found} and not hidden


def _nothing_in(place: str, wanted: str) -> list[SourceFile]:
    endings = [suffix for suffix, kind in FORMATS.items() if wanted in {"auto", kind}]
    listed = " or ".join([", ".join(endings[:-1]), endings[-1]])
    raise DataError(f"source.path {place}: the folder has no {listed} file; change dataset.source.path")


def format_by_name(name: str) -> str | None:
    """`csv`, `json` or `parquet` by a file's ending, which `.gz` may follow; what is only known to be packed is CSV."""
    path = PurePosixPath(name.lower())
    if path.suffix != ".gz":
        return FORMATS.get(path.suffix)
    inner = FORMATS.get(PurePosixPath(path.stem).suffix, "csv")
    return inner if inner != "parquet" else None


def open_stream(path: str | Path, filesystem: str = "") -> Any:
    """A stream of a file's bytes, unpacked where its name ends as packed files do."""
    if not filesystem:
        return pa.input_stream(str(path), compression="detect")
    return _filesystem(filesystem)[0].open_input_stream(str(path), compression="detect")


def open_file(path: str | Path, filesystem: str = "") -> Any:
    """A file whose bytes can be read from any place."""
    if not filesystem:
        return Path(path).open("rb")
    return _filesystem(filesystem)[0].open_input_file(str(path))
