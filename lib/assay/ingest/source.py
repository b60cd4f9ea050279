"""Consumes raw CSV or Parquet files, produces parts that tasks can read and frames of their rows, values unchecked."""

from __future__ import annotations

import dataclasses
import difflib
import hashlib
import json
import math
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from assay.config import DatasetConfig, RunConfig
from assay.config.dataset import SourceConfig
from assay.errors import DataError
from assay.ingest.csv_rows import RawChunk, csv_header, read_csv

PART_ROWS = 1_000_000
BYTES_PER_ROW = 100
SUFFIXES = {".csv": "csv", ".txt": "csv", ".gz": "csv", ".parquet": "parquet", ".pq": "parquet"}


@dataclasses.dataclass(frozen=True)
class SourcePart:
    """What one task reads: a CSV file, or row groups of a Parquet file.

    name: the file's name, below the source's folder where that has folders. first_row: 1-based number of its first row.
    """

    path: str
    name: str
    format: str
    first_row: int = 1
    row_groups: tuple[int, ...] = ()


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
            files = sorted(p for p in place.rglob("*") if _is_data(p.relative_to(place)) and p.is_file())
            if files:
                return files
            raise DataError(f"source.path {place}: the folder has no .csv or .parquet file; change dataset.source.path")
    looked = ", ".join(dict.fromkeys(str(p.resolve()) for p in places))
    raise DataError(
        f"source.path {given}: there is no such file (looked at {looked}); "
        "change dataset.source.path, or set ASSAY_DATA to the folder that holds it"
    )


def _is_data(relative: Path) -> bool:
    """Whether a file below a source's folder is data; names that start with a dot or `_` (Spark's, Delta's) are not."""
    return relative.suffix.lower() in SUFFIXES and not any(part.startswith((".", "_")) for part in relative.parts)


def names_of(files: list[Path]) -> list[str]:
    """What the files are called on record: their names, below the folder that they share."""
    root = os.path.commonpath([file.parent for file in files])
    return [file.relative_to(root).as_posix() for file in files]


def content_hash(files: list[Path]) -> str:
    """SHA-256 over names and contents: the version of a source.

    Raises:
        DataError: a file cannot be read.
    """
    digest = hashlib.sha256()
    for file, name in zip(files, names_of(files), strict=True):
        digest.update(name.encode())
        try:
            with file.open("rb") as stream:
                digest.update(hashlib.file_digest(stream, "sha256").digest())
        except OSError as error:
            raise DataError(f"{file}: cannot be read: {error.strerror or error}") from None
    return digest.hexdigest()[:32]


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
    dataset = config.dataset
    for file, name in zip(files, names_of(files), strict=True):
        if file.stat().st_size == 0:
            raise DataError(f"{file}: the file is empty (0 bytes); change dataset.source.path")
        if format_of(file, dataset.source) == "csv":
            _check_names(file, csv_header(file, dataset.source), dataset)
            parts.append(SourcePart(str(file), name, "csv"))
            total = None
            continue
        meta = _parquet_metadata(file)
        schema = meta.schema.to_arrow_schema()
        _check_names(file, schema.names, dataset)
        _check_types(file, schema, dataset)
        if meta.num_rows == 0:
            raise DataError(f"{file}: the file has columns but no rows; change dataset.source.path")
        total = None if total is None else total + meta.num_rows
        groups = [meta.row_group(i).num_rows for i in range(meta.num_row_groups)]
        parts.extend(_row_group_parts(file, name, groups))
    return parts, total


def rows_guess(files: list[Path]) -> int:
    """About how many rows the files have, by their size."""
    return sum(file.stat().st_size for file in files) // BYTES_PER_ROW


def _parquet_metadata(file: Path) -> Any:
    try:
        return pq.read_metadata(file)
    except (pa.ArrowException, OSError) as error:
        reason = " ".join(str(error).split())[:200]
        raise DataError(f"{file}: cannot be read as parquet: {reason}; change dataset.source.format") from None


def _row_group_parts(file: Path, name: str, groups: list[int]) -> Iterator[SourcePart]:
    chosen: list[int] = []
    first, rows = 1, 0
    for index, count in enumerate(groups):
        chosen.append(index)
        rows += count
        if rows >= PART_ROWS or index == len(groups) - 1:
            yield SourcePart(str(file), name, "parquet", first, tuple(chosen))
            first, rows, chosen = first + rows, 0, []


def _check_names(file: Path, names: list[str], dataset: DatasetConfig) -> None:
    twice = [c for c in dataset.source_columns if names.count(c) > 1]
    if twice:
        raise DataError(f"{file}: column {twice[0]!r} is there {names.count(twice[0])} times; rename one in the source")
    missing = [c for c in dataset.source_columns if c not in names]
    if not missing:
        return
    other = next((d for d in ";\t|," if len(names) == 1 and d != dataset.source.delimiter and d in names[0]), None)
    if other is not None:
        raise DataError(
            f"{file}: the header is one column, {names[0]!r}: set dataset.source.delimiter to {other!r}"
            f" (it is {dataset.source.delimiter!r})"
        )
    hints = [f"{name!r}{_kin(name, names)}" for name in missing]
    guessed = any("did you mean" in hint for hint in hints)
    raise DataError(
        f"{file}: {len(missing)} column(s) of dataset {dataset.name} are missing: {', '.join(hints)}"
        + ("" if guessed else f"; the file has {', '.join(map(repr, names[:30]))}")
        + "; correct the names in the dataset's YAML"
    )


def _kin(name: str, names: list[str]) -> str:
    folded = {n.casefold(): n for n in names}
    close = difflib.get_close_matches(name.casefold(), list(folded), n=1, cutoff=0.5)
    return f" (did you mean {folded[close[0]]!r}?)" if close else ""


def _check_types(file: Path, schema: pa.Schema, dataset: DatasetConfig) -> None:
    """Refuse Parquet columns of types that no row could make usable."""
    for name in dataset.source_columns:
        kind = schema.field(name).type
        kind = kind.value_type if pa.types.is_dictionary(kind) else kind
        if pa.types.is_nested(kind) or pa.types.is_duration(kind):
            raise DataError(
                f"{file}: column {name!r} is of type {kind}, and a dataset's columns are texts, numbers, booleans or "
                "times: change it in the source"
            )
        if name in dataset.numeric_columns and pa.types.is_temporal(kind):
            raise DataError(
                f"{file}: column {name!r} is of type {kind}, not a number: take it out of the dataset's targets and "
                "columns, or change it in the source"
            )


def read_part(part: SourcePart, source: SourceConfig, columns: list[str]) -> Iterator[RawChunk]:
    """Stream one part. Runs on an executor."""
    import polars as pl

    if part.format == "csv":
        yield from read_csv(Path(part.path), source, columns)
        return
    number = part.first_row
    with pq.ParquetFile(part.path) as file:
        for batch in file.iter_batches(131_072, row_groups=list(part.row_groups), columns=columns, use_threads=False):
            frame = pl.from_arrow(_plain(pa.Table.from_batches([batch]), part.path))
            assert isinstance(frame, pl.DataFrame)
            yield RawChunk(frame, np.arange(number, number + frame.height))
            number += frame.height


def _plain(table: pa.Table, path: str) -> pa.Table:
    """Dictionaries as their values, bytes as text: Parquet writers differ in how they store texts."""
    for index, field in enumerate(table.schema):
        kind = field.type
        if pa.types.is_dictionary(kind):
            table = table.set_column(index, field.name, pc.cast(table.column(index), kind.value_type))
            kind = kind.value_type
        if pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_fixed_size_binary(kind):
            try:
                table = table.set_column(index, field.name, pc.cast(table.column(index), pa.string()))
            except pa.ArrowInvalid:
                raise DataError(f"{path}: column {field.name!r} holds bytes that are no UTF-8 text") from None
    return table


def raw_json(row: dict[str, Any]) -> str:
    """A source row as JSON text, for the quarantine. NaN and infinity, which JSON lacks, become texts."""
    plain = {k: str(v) if isinstance(v, float) and not math.isfinite(v) else v for k, v in row.items()}
    return json.dumps(plain, default=str, ensure_ascii=False, allow_nan=False)
