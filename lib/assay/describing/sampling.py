"""Consumes a file, folder or Delta table, produces a sample of its rows: slices spread over it, values unchecked."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from assay.config.dataset import SourceConfig
from assay.describing.dialect import dialect_of
from assay.errors import DataError
from assay.ingest.csv_rows import csv_header, read_csv
from assay.ingest.files import SourceFile, files_at, local_path, open_file
from assay.ingest.json_rows import json_names, read_json
from assay.ingest.source import format_of, plain

LOOKED_AT = 200_000
STREAMED = 1_000_000  # rows of a text that are read to draw slices of
STREAMED_BYTES = 256 << 20  # larger texts are read in places
SLICES, FILES = 10, 20
SLICE = "\0slice"  # rows of one slice stand together in the source


@dataclasses.dataclass(frozen=True)
class Sample:
    """Rows of a source.

    source: as a dataset would name it; its path is the one given. frame: texts of CSV and JSON, typed columns else, and
    `SLICE`. rows: of the whole source, where the files say it. whole: whether these are all. unusable: column -> why.
    typed: whether the source has types.
    """

    source: SourceConfig
    frame: pl.DataFrame
    rows: int | None
    whole: bool
    unusable: dict[str, str]
    typed: bool

    @property
    def names(self) -> list[str]:
        """Columns that can be used."""
        return [name for name in self.frame.columns if name != SLICE]


def sample_of(given: str) -> Sample:
    """Look into a source.

    Raises:
        DataError: there is no such file, it cannot be read, or it has no rows.
    """
    place = local_path(given)
    if place is not None and not place.exists():
        raise DataError(f"{given}: there is no such file or folder")
    if place is not None and (place / "_delta_log").is_dir():
        return _delta(given, place)
    source = SourceConfig(path=given)
    files = [file for file in files_at(place, source) if file.size] if place is None or place.is_dir() else []
    files = files or files_at(place, source)
    source = dialect_of(files[0], source)
    kind = format_of(files[0], source)
    files = [file for file in files if format_of(file, source) == kind]
    chosen = [files[i] for i in sorted(set(np.linspace(0, len(files) - 1, FILES).round().astype(int)))]
    read = {"parquet": _parquet, "csv": _csv, "json": _json}[kind]
    try:
        return _joined(
            source, [read(file, source, LOOKED_AT // len(chosen)) for file in chosen], len(files), kind == "parquet"
        )
    except DataError as error:
        if kind == "parquet" or source.encoding != "utf-8" or "the text is not" not in str(error):
            raise
        source = dataclasses.replace(source, encoding="latin-1")
        return _joined(
            source, [read(file, source, LOOKED_AT // len(chosen)) for file in chosen], len(files), kind == "parquet"
        )


@dataclasses.dataclass(frozen=True)
class _Read:
    slices: list[pl.DataFrame]
    rows: int | None
    whole: bool
    unusable: dict[str, str] = dataclasses.field(default_factory=dict)


def _joined(source: SourceConfig, parts: Sequence[_Read], files: int, typed: bool) -> Sample:
    slices = [one for part in parts for one in part.slices if one.height]
    unusable = {name: why for part in parts for name, why in part.unusable.items()}
    if not slices:
        raise DataError(f"{source.path}: the source has no rows")
    numbered = [one.with_columns(pl.lit(number).alias(SLICE)) for number, one in enumerate(slices)]
    frame = pl.concat(numbered, how="diagonal_relaxed").drop(*unusable, strict=False)
    if frame.width == 1:
        raise DataError(f"{source.path}: no column can be used: {_told(unusable)}")
    every = len(parts) == files
    known = [part.rows for part in parts if part.rows is not None]
    rows = sum(known) if every and len(known) == len(parts) else None
    whole = every and all(part.whole for part in parts)
    return Sample(source, frame, rows, whole, unusable, typed)


def _told(unusable: dict[str, str]) -> str:
    return "; ".join(f"{name!r} {why}" for name, why in list(unusable.items())[:5]) or "there is none"


def _spread(frame: pl.DataFrame, budget: int) -> list[pl.DataFrame]:
    """Slices of a frame, evenly spread; the whole frame where it is no longer than the budget."""
    if frame.height <= budget:
        return [frame]
    each = max(1, budget // SLICES)
    return [frame.slice(int(at), each) for at in np.linspace(0, frame.height - each, SLICES)]


def _parquet(file: SourceFile, source: SourceConfig, budget: int) -> _Read:
    try:
        with open_file(file.path, file.filesystem) as stream, pq.ParquetFile(stream) as opened:
            meta, schema = opened.metadata, opened.schema_arrow
            unusable = _unusable(schema)
            columns = [name for name in schema.names if name not in unusable]
            batches = list(_batches(opened, columns, budget))
            tables = [plain(pa.Table.from_batches([batch]), str(file)) for batch in batches]
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{file}: cannot be read as parquet: {' '.join(str(error).split())[:200]}") from None
    frames = [frame for frame in map(pl.from_arrow, tables) if isinstance(frame, pl.DataFrame)]
    whole = meta.num_rows <= budget
    return _Read([pl.concat(frames)] if whole and frames else frames, meta.num_rows, whole, unusable)


def _batches(opened: Any, columns: list[str], budget: int) -> Iterator[pa.RecordBatch]:
    meta, each = opened.metadata, max(1, budget // SLICES)
    if meta.num_rows <= budget:
        yield from opened.iter_batches(budget, columns=columns, use_threads=False)
    elif meta.num_row_groups >= SLICES:
        for group in np.linspace(0, meta.num_row_groups - 1, SLICES).round().astype(int):
            yield next(opened.iter_batches(each, row_groups=[int(group)], columns=columns, use_threads=False))
    else:
        whole = max(1, meta.num_rows // each)
        wanted = set(np.linspace(0, whole - 1, SLICES).round().astype(int))
        for number, batch in enumerate(opened.iter_batches(each, columns=columns, use_threads=False)):
            if number in wanted:
                yield batch


def _unusable(schema: pa.Schema) -> dict[str, str]:
    found = _unnameable(schema.names)
    for field in schema:
        kind = field.type.value_type if pa.types.is_dictionary(field.type) else field.type
        if pa.types.is_nested(kind) or pa.types.is_duration(kind) or pa.types.is_time(kind):
            found[field.name] = f"of type {kind}, and columns are texts, numbers, booleans or times"
        elif pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_fixed_size_binary(kind):
            found[field.name] = "holds bytes"
    return found


def _unnameable(names: Sequence[str]) -> dict[str, str]:
    found = {name: f"{names.count(name)} columns have this name" for name in names if names.count(name) > 1}
    return found | ({"": "has no name"} if "" in names else {})


def _csv(file: SourceFile, source: SourceConfig, budget: int) -> _Read:
    header = csv_header(file.path, source, file.filesystem)
    unusable = _unnameable(header)
    columns = [name for name in header if name not in unusable]
    if not file.filesystem and file.size > STREAMED_BYTES and not file.path.endswith(".gz"):
        slices = [one for one in _csv_in_places(file, source, budget) if one.height]
        return _Read([one.select(columns) for one in slices], None, False, unusable)
    return _streamed(read_csv(file.path, source, columns, file.filesystem), budget, unusable)


def _json(file: SourceFile, source: SourceConfig, budget: int) -> _Read:
    names = json_names(file.path, source, file.filesystem)
    if not names:
        raise DataError(f"{file}: no JSON objects are in it; expected one per line, or one array of them")
    unusable = _unnameable(names)
    columns = [name for name in names if name not in unusable]
    return _streamed(read_json(file.path, source, columns, file.filesystem), budget, unusable)


def _streamed(chunks: Any, budget: int, unusable: dict[str, str]) -> _Read:
    frames, rows, ended = list[pl.DataFrame](), 0, True
    for chunk in chunks:
        frames.append(chunk.frame)
        rows += chunk.frame.height
        if rows >= STREAMED:
            ended = False
            break
    if not frames:
        return _Read([], 0, True, unusable)
    frame = pl.concat(frames, how="diagonal_relaxed")
    return _Read(_spread(frame, budget), rows if ended else None, ended and rows <= budget, unusable)


def _csv_in_places(file: SourceFile, source: SourceConfig, budget: int) -> Iterator[pl.DataFrame]:
    """Slices of a large CSV, each from the first whole line after an even place on."""
    with Path(file.path).open("rb") as stream:
        header = stream.readline()
        first, rows = stream.tell(), max(1, budget // SLICES)
        line = max(len(stream.readline()), 1)
        block = min((file.size - first) // SLICES, 4 * line * rows)
        for at in np.linspace(first, file.size - block, SLICES).astype(int):
            stream.seek(int(at) - 1)
            stream.readline()
            text = stream.read(block)
            text = text[: text.rfind(b"\n") + 1]
            if text:
                yield pl.read_csv(
                    (header + text).decode(source.encoding, errors="replace").encode(),
                    separator=source.delimiter,
                    infer_schema=False,
                    null_values=list(source.null_values),
                    truncate_ragged_lines=True,
                    ignore_errors=True,
                ).head(rows)


def _delta(given: str, place: Path) -> Sample:
    from deltalake.exceptions import DeltaError

    try:
        lazy = pl.scan_delta(os.fspath(place))
        arrow = dict(lazy.collect_schema().items())
        unusable = {n: f"of type {k}" for n, k in arrow.items() if k.is_nested() or k in {pl.Binary, pl.Duration}}
        lazy = lazy.select(name for name in arrow if name not in unusable)
        rows = int(lazy.select(pl.len()).collect().item())
        each = LOOKED_AT // SLICES
        starts = [0] if rows <= LOOKED_AT else [int(at) for at in np.linspace(0, rows - each, SLICES)]
        slices = [lazy.slice(at, rows if rows <= LOOKED_AT else each).collect() for at in starts]
    except (DeltaError, pl.exceptions.PolarsError, OSError) as error:
        raise DataError(f"{given}: cannot be read as a Delta table: {' '.join(str(error).split())[:200]}") from None
    source = SourceConfig(path=given, format="delta")
    return _joined(source, [_Read(slices, rows, rows <= LOOKED_AT, unusable)], 1, True)
