"""Consumes the source's files, produces parts that tasks can read and frames of their rows, values unchecked."""

from __future__ import annotations

import dataclasses
import difflib
import json
import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from assay.config import DatasetConfig, RunConfig
from assay.config.dataset import SourceConfig
from assay.errors import DataError
from assay.ingest.csv_rows import RawChunk, csv_header, read_csv
from assay.ingest.files import SourceFile, format_by_name, open_file
from assay.ingest.json_rows import json_names, read_json

PART_ROWS = 1_000_000
BYTES_PER_ROW = 100


@dataclasses.dataclass(frozen=True)
class SourcePart:
    """What one task reads: a CSV or JSON file, or row groups of a Parquet file.

    name: the file's name, below the source's folder where that has folders. first_row: 1-based number of its first row.
    filesystem: a URI of its file system, empty for local.
    """

    path: str
    name: str
    format: str
    first_row: int = 1
    row_groups: tuple[int, ...] = ()
    filesystem: str = ""


def format_of(file: SourceFile, source: SourceConfig) -> str:
    """`csv`, `json` or `parquet`."""
    if source.format != "auto":
        return source.format
    found = format_by_name(file.name)
    if found is None:
        raise DataError(
            f"{file}: cannot tell the format from its name; set dataset.source.format to csv, json or parquet"
        )
    return found


def parts_of(
    files: Sequence[SourceFile], config: RunConfig, *, beside: Sequence[SourceFile] = ()
) -> tuple[list[SourcePart], int | None]:
    """Cut the source into parts, after checking that each file can be read and has the columns.

    beside: more files of the source, not to be cut; a column that JSON objects leave out may be in those.

    Returns:
        the parts, and the number of rows where the files say it (Parquet), else None.

    Raises:
        DataError: an empty or unreadable file, or a missing column with its nearest kin.
    """
    parts: list[SourcePart] = []
    total: int | None = 0
    dataset = config.dataset
    keys: dict[str, None] = {}
    for file in files:
        if file.size == 0:
            raise DataError(f"{file}: the file is empty (0 bytes); change dataset.source.path")
        kind = format_of(file, dataset.source)
        if kind == "csv":
            check_names(str(file), csv_header(file.path, dataset.source, file.filesystem), dataset)
        elif kind == "json":
            names = json_names(file.path, dataset.source, file.filesystem)
            check_names(str(file), names, dataset, needed=(*dataset.time_columns, *dataset.entity))
            keys |= dict.fromkeys(names)
        if kind != "parquet":
            parts.append(SourcePart(file.path, file.name, kind, filesystem=file.filesystem))
            total = None
            continue
        meta = _parquet_metadata(file)
        schema = meta.schema.to_arrow_schema()
        check_names(str(file), schema.names, dataset)
        check_types(str(file), schema, dataset)
        if meta.num_rows == 0:
            raise DataError(f"{file}: the file has columns but no rows; change dataset.source.path")
        total = None if total is None else total + meta.num_rows
        groups = [meta.row_group(i).num_rows for i in range(meta.num_row_groups)]
        parts.extend(_row_group_parts(file, groups))
    if keys:  # an object may leave out what it has no value for, but some object has it
        written = [file for file in (*files, *beside) if format_of(file, dataset.source) == "json"]
        for file in beside:
            if keys.keys() >= set(dataset.source_columns):
                break
            keys |= dict.fromkeys(json_names(file.path, dataset.source, file.filesystem) if file in written else ())
        check_names(str(written[0]), list(keys), dataset)
    return parts, total


def rows_guess(files: Sequence[SourceFile]) -> int:
    """About how many rows the files have, by their size."""
    return sum(file.size for file in files) // BYTES_PER_ROW


def _parquet_metadata(file: SourceFile) -> Any:
    try:
        with open_file(file.path, file.filesystem) as stream:
            return pq.read_metadata(stream)
    except (pa.ArrowException, OSError) as error:
        reason = " ".join(str(error).split())[:200]
        raise DataError(f"{file}: cannot be read as parquet: {reason}; change dataset.source.format") from None


def _row_group_parts(file: SourceFile, groups: list[int]) -> Iterator[SourcePart]:
    chosen: list[int] = []
    first, rows = 1, 0
    for index, count in enumerate(groups):
        chosen.append(index)
        rows += count
        if rows >= PART_ROWS or index == len(groups) - 1:
            yield SourcePart(file.path, file.name, "parquet", first, tuple(chosen), file.filesystem)
            first, rows, chosen = first + rows, 0, []


def check_names(place: str, names: list[str], dataset: DatasetConfig, *, needed: Sequence[str] | None = None) -> None:
    """Refuse a source that lacks a column of the dataset (or of `needed`), or has one of them twice.

    Raises:
        DataError: names the place, the columns and their nearest kin.
    """
    wanted = dataset.source_columns if needed is None else needed
    twice = [c for c in wanted if names.count(c) > 1]
    if twice:
        raise DataError(
            f"{place}: column {twice[0]!r} is there {names.count(twice[0])} times; rename one in the source"
        )
    missing = [c for c in wanted if c not in names]
    if not missing:
        return
    other = next((d for d in ";\t|," if len(names) == 1 and d != dataset.source.delimiter and d in names[0]), None)
    if other is not None:
        raise DataError(
            f"{place}: the header is one column, {names[0]!r}: set dataset.source.delimiter to {other!r}"
            f" (it is {dataset.source.delimiter!r})"
        )
    hints = [f"{name!r}{_kin(name, names)}" for name in missing]
    guessed = any("did you mean" in hint for hint in hints)
    raise DataError(
        f"{place}: {len(missing)} column(s) of dataset {dataset.name} are missing: {', '.join(hints)}"
        + ("" if guessed else f"; the file has {', '.join(map(repr, names[:30]))}")
        + "; correct the names in the dataset's YAML"
    )


def _kin(name: str, names: list[str]) -> str:
    folded = {n.casefold(): n for n in names}
    close = difflib.get_close_matches(name.casefold(), list(folded), n=1, cutoff=0.5)
    return f" (did you mean {folded[close[0]]!r}?)" if close else ""


def check_types(place: str, schema: pa.Schema, dataset: DatasetConfig) -> None:
    """Refuse typed columns of types that no row could make usable.

    Raises:
        DataError: names the place, the column and its type.
    """
    for name in dataset.source_columns:
        kind = schema.field(name).type
        kind = kind.value_type if pa.types.is_dictionary(kind) else kind
        if pa.types.is_nested(kind) or pa.types.is_duration(kind):
            raise DataError(
                f"{place}: column {name!r} is of type {kind}, and a dataset's columns are texts, numbers, booleans or "
                "times: change it in the source"
            )
        if name in dataset.numeric_columns and pa.types.is_temporal(kind):
            raise DataError(
                f"{place}: column {name!r} is of type {kind}, not a number: take it out of the dataset's targets and "
                "columns, or change it in the source"
            )


def read_part(part: SourcePart, source: SourceConfig, columns: list[str]) -> Iterator[RawChunk]:
    """Stream one part. Runs on an executor."""
    import polars as pl

    if part.format == "csv":
        yield from read_csv(part.path, source, columns, part.filesystem)
        return
    if part.format == "json":
        yield from read_json(part.path, source, columns, part.filesystem)
        return
    number = part.first_row
    with open_file(part.path, part.filesystem) as stream, pq.ParquetFile(stream) as file:
        for batch in file.iter_batches(131_072, row_groups=list(part.row_groups), columns=columns, use_threads=False):
            frame = pl.from_arrow(plain(pa.Table.from_batches([batch]), part.path))
            assert isinstance(frame, pl.DataFrame)
            yield RawChunk(frame, np.arange(number, number + frame.height))
            number += frame.height


def plain(table: pa.Table, place: str) -> pa.Table:
    """Dictionaries as their values, bytes as text: writers differ in how they store texts.

    Raises:
        DataError: bytes that are no text.
    """
    for index, field in enumerate(table.schema):
        kind = field.type
        if pa.types.is_dictionary(kind):
            table = table.set_column(index, field.name, pc.cast(table.column(index), kind.value_type))
            kind = kind.value_type
        if pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_fixed_size_binary(kind):
            try:
                table = table.set_column(index, field.name, pc.cast(table.column(index), pa.string()))
            except pa.ArrowInvalid:
                raise DataError(f"{place}: column {field.name!r} holds bytes that are no UTF-8 text") from None
    return table


def raw_json(row: dict[str, Any]) -> str:
    """A source row as JSON text, for the quarantine. NaN and infinity, which JSON lacks, become texts."""
    plain = {k: str(v) if isinstance(v, float) and not math.isfinite(v) else v for k, v in row.items()}
    return json.dumps(plain, default=str, ensure_ascii=False, allow_nan=False)
