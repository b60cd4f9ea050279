"""Consumes raw CSV or Parquet files, produces parts that tasks can read and frames of their rows, values unchecked."""

from __future__ import annotations

import dataclasses
import difflib
import hashlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq

from assay.config import RunConfig
from assay.config.dataset import SourceConfig
from assay.errors import DataError

if TYPE_CHECKING:
    import polars as pl

PART_ROWS = 1_000_000
SUFFIXES = {".csv": "csv", ".txt": "csv", ".gz": "csv", ".parquet": "parquet", ".pq": "parquet"}


@dataclasses.dataclass(frozen=True)
class SourcePart:
    """What one task reads: a CSV file, or row groups of a Parquet file. first_row: 1-based number of its first row."""

    path: str
    format: str
    first_row: int = 1
    row_groups: tuple[int, ...] = ()


@dataclasses.dataclass(frozen=True)
class RawChunk:
    """Rows as they were found.

    frame: the columns wanted, CSV values as text. source_row: their numbers. broken: (row number, text) of rows that
    have another number of fields than the header.
    """

    frame: pl.DataFrame
    source_row: np.ndarray[Any, Any]
    broken: tuple[tuple[int, str], ...] = ()


def find_source(config: RunConfig) -> list[Path]:
    """The source's files, sorted.

    Raises:
        DataError: no such file or folder; names the places that were looked at.
    """
    given = Path(config.dataset.source.path).expanduser()
    root = os.environ.get("ASSAY_DATA")
    places = [given] if given.is_absolute() else [config.dataset_folder / given, Path.cwd() / given]
    if not given.is_absolute():
        places.append(config.workspace / "raw" / given)
        if root:
            places += [Path(root) / given, Path(root) / given.name]
    for place in places:
        if place.is_file():
            return [place]
        if place.is_dir():
            files = sorted(
                p for p in place.rglob("*") if p.suffix.lower() in SUFFIXES and not p.name.startswith((".", "_"))
            )
            if files:
                return files
            raise DataError(f"source.path {place}: the folder has no .csv or .parquet file; change dataset.source.path")
    looked = ", ".join(dict.fromkeys(str(p.resolve()) for p in places))
    raise DataError(
        f"source.path {given}: there is no such file (looked at {looked}); "
        "change dataset.source.path, or set ASSAY_DATA to the folder that holds it"
    )


def content_hash(files: list[Path]) -> str:
    """SHA-256 over names and contents: the version of a source."""
    digest = hashlib.sha256()
    for file in files:
        digest.update(file.name.encode())
        with file.open("rb") as stream:
            digest.update(
                hashlib.file_digest(stream, "sha256").digest() if hasattr(hashlib, "file_digest") else _hash(stream)
            )
    return digest.hexdigest()[:32]


def _hash(stream: Any) -> bytes:
    digest = hashlib.sha256()
    while block := stream.read(1 << 20):
        digest.update(block)
    return digest.digest()


def format_of(path: Path, source: SourceConfig) -> str:
    """`csv` or `parquet`."""
    if source.format != "auto":
        return source.format
    found = SUFFIXES.get(path.suffix.lower())
    if found is None:
        raise DataError(f"{path}: cannot tell the format from its name; set dataset.source.format to csv or parquet")
    return found


def parts_of(files: list[Path], config: RunConfig) -> tuple[list[SourcePart], int | None]:
    """Cut the source into parts, after checking that each file can be read and has the columns.

    Returns:
        the parts, and the number of rows where the files say it (Parquet), else None.

    Raises:
        DataError: an empty or unreadable file, or a missing column with its nearest kin.
    """
    parts: list[SourcePart] = []
    total: int | None = 0
    for file in files:
        kind = format_of(file, config.dataset.source)
        if file.stat().st_size == 0:
            raise DataError(f"{file}: the file is empty (0 bytes); change dataset.source.path")
        try:
            names, count, groups = _look(file, kind, config.dataset.source)
        except (pa.ArrowInvalid, OSError, UnicodeDecodeError) as error:
            reason = " ".join(str(error).split())[:200]
            raise DataError(f"{file}: cannot be read as {kind}: {reason}; change dataset.source.format") from None
        _check_columns(file, names, config)
        if kind == "csv":
            parts.append(SourcePart(str(file), kind))
            total = None
            continue
        if count == 0:
            raise DataError(f"{file}: the file has columns but no rows; change dataset.source.path")
        total = None if total is None else total + count
        parts.extend(_row_group_parts(file, groups))
    return parts, total


def _look(file: Path, kind: str, source: SourceConfig) -> tuple[list[str], int, list[int]]:
    if kind == "parquet":
        meta = pq.read_metadata(file)
        return (
            list(meta.schema.to_arrow_schema().names),
            meta.num_rows,
            [meta.row_group(i).num_rows for i in range(meta.num_row_groups)],
        )
    with _csv_stream(file, source, columns=None, broken=[]) as reader:
        return list(reader.schema.names), -1, []


def _row_group_parts(file: Path, groups: list[int]) -> Iterator[SourcePart]:
    chosen: list[int] = []
    first, rows = 1, 0
    for index, count in enumerate(groups):
        chosen.append(index)
        rows += count
        if rows >= PART_ROWS or index == len(groups) - 1:
            yield SourcePart(str(file), "parquet", first, tuple(chosen))
            first, rows, chosen = first + rows, 0, []


def _check_columns(file: Path, names: list[str], config: RunConfig) -> None:
    missing = [c for c in config.dataset.source_columns if c not in names]
    if missing:
        close = difflib.get_close_matches(missing[0], names, n=1, cutoff=0.5)
        hint = f"; did you mean {close[0]!r}?" if close else f"; it has {', '.join(map(repr, names[:30]))}"
        raise DataError(
            f"{file}: {len(missing)} column(s) of dataset {config.dataset.name} are missing: "
            f"{', '.join(map(repr, missing))}{hint}"
        )


def _csv_stream(file: Path, source: SourceConfig, columns: list[str] | None, broken: list[tuple[int, str]]) -> Any:
    def on_broken(row: Any) -> str:
        broken.append((int(row.number) - 1, row.text))  # Arrow counts the header as row 1
        return "skip"

    read = pa.csv.ReadOptions(use_threads=False, block_size=8 << 20)
    parse = pa.csv.ParseOptions(delimiter=source.delimiter, invalid_row_handler=on_broken, newlines_in_values=True)
    convert = pa.csv.ConvertOptions(
        null_values=list(source.null_values),
        strings_can_be_null=True,
        include_columns=columns,
        column_types={name: pa.string() for name in columns} if columns else None,
    )
    return pa.csv.open_csv(file, read_options=read, parse_options=parse, convert_options=convert)


def read_part(part: SourcePart, source: SourceConfig, columns: list[str]) -> Iterator[RawChunk]:
    """Stream one part. Runs on an executor."""
    import polars as pl

    if part.format == "parquet":
        number = part.first_row
        with pq.ParquetFile(part.path) as file:
            for batch in file.iter_batches(
                131_072, row_groups=list(part.row_groups), columns=columns, use_threads=False
            ):
                frame = pl.from_arrow(pa.Table.from_batches([batch]))
                assert isinstance(frame, pl.DataFrame)
                yield RawChunk(frame, np.arange(number, number + frame.height))
                number += frame.height
        return
    broken: list[tuple[int, str]] = []
    reported, seen = 0, 0
    with _csv_stream(Path(part.path), source, columns, broken) as reader:
        for batch in reader:
            frame = pl.from_arrow(pa.Table.from_batches([batch]))
            assert isinstance(frame, pl.DataFrame)
            ordinal = np.arange(seen + 1, seen + frame.height + 1)
            seen += frame.height
            yield RawChunk(frame, _skip_over(ordinal, broken), tuple(broken[reported:]))
            reported = len(broken)
    if len(broken) > reported:
        empty = pl.DataFrame(schema=dict.fromkeys(columns, pl.String))
        yield RawChunk(empty, np.arange(0), tuple(broken[reported:]))


def _skip_over(ordinal: np.ndarray[Any, Any], broken: list[tuple[int, str]]) -> np.ndarray[Any, Any]:
    """Row numbers in the file of the n-th whole rows, when broken rows lie between them."""
    if not broken:
        return ordinal
    numbers = np.sort(np.array([n for n, _ in broken]))
    return ordinal + np.searchsorted(numbers - np.arange(len(numbers)), ordinal, side="right")


def raw_json(row: dict[str, Any]) -> str:
    """A source row as JSON text, for the quarantine."""
    return json.dumps(row, default=str, ensure_ascii=False)
