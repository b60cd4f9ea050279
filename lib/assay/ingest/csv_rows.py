"""Consumes a CSV file, produces chunks of its rows as text, with each row's number and the rows that are broken."""

from __future__ import annotations

import contextlib
import csv
import dataclasses
import io
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.csv

from assay.config.dataset import SourceConfig
from assay.errors import DataError
from assay.ingest.files import open_stream

if TYPE_CHECKING:
    from pathlib import Path

    import polars as pl

BLOCK_BYTES = 8 << 20
LONGEST_TEXT = 10_000


@dataclasses.dataclass(frozen=True)
class RawChunk:
    """Rows as they were found.

    frame: the columns wanted, values of CSV and JSON as text. source_row: their numbers. broken: (row number, text) of
    rows that are none, and why: for CSV, because they have another number of fields than the header.
    """

    frame: pl.DataFrame
    source_row: np.ndarray[Any, Any]
    broken: tuple[tuple[int, str], ...] = ()
    why_broken: str = "row has another number of fields than the header (dataset.source.delimiter)"


class _Watched:
    """A byte stream that counts line ends and quotes on their way: together they tell of a quote never closed."""

    def __init__(self, stream: Any) -> None:
        self.stream = stream
        self.lines = 0
        self.quotes = 0
        self.closed = False

    def read(self, size: int = -1) -> bytes:
        """The next bytes."""
        block: bytes = self.stream.read(size)
        self.lines += block.count(b"\n")
        self.quotes += block.count(b'"')
        return block

    def close(self) -> None:
        """Close the stream below."""
        self.closed = True
        self.stream.close()


def csv_header(file: str | Path, source: SourceConfig, filesystem: str = "") -> list[str]:
    """Names of the columns.

    Raises:
        DataError: this is no CSV, or its text is in another encoding.
    """
    try:
        with _open(file, source, None, [], filesystem) as (reader, _):
            return list(reader.schema.names)
    except (pa.ArrowException, OSError, UnicodeError) as error:
        raise _unreadable(file, error, source) from None


def read_csv(file: str | Path, source: SourceConfig, columns: list[str], filesystem: str = "") -> Iterator[RawChunk]:
    """Stream a file's rows. Row numbers start at 1 below the header; blank lines are no rows.

    Raises:
        DataError: the text is in another encoding, or a quote is never closed and hides the rows after it.
    """
    import polars as pl

    broken: list[tuple[int, str]] = []
    reported, seen = 0, 0
    try:
        with _open(file, source, columns, broken, filesystem) as (reader, watched):
            for batch in reader:
                frame = pl.from_arrow(pa.Table.from_batches([batch]))
                assert isinstance(frame, pl.DataFrame)
                ordinal = np.arange(seen + 1, seen + frame.height + 1)
                seen += frame.height
                yield RawChunk(frame, _skip_over(ordinal, broken), tuple(broken[reported:]))
                reported = len(broken)
    except (pa.ArrowException, UnicodeError) as error:
        raise _unreadable(file, error, source) from None
    if watched.quotes % 2 and watched.lines > seen + len(broken) + 1:
        _check_last_quote(file, source, filesystem)
    if len(broken) > reported:
        empty = pl.DataFrame(schema=dict.fromkeys(columns, pl.String))
        yield RawChunk(empty, np.arange(0), tuple(broken[reported:]))


def _unreadable(file: str | Path, error: Exception, source: SourceConfig) -> DataError:
    """What to tell a person about a CSV that cannot be read."""
    reason = " ".join(str(error).split())[:200]
    # Rows with another number of fields stop Arrow only where their text cannot be handed over.
    if isinstance(error, UnicodeError) or "UTF8" in reason or "columns, got" in reason:
        return DataError(
            f"{file}: the text is not {source.encoding} ({reason}); set dataset.source.encoding, for example to "
            "latin-1, or dataset.source.format where this is no CSV"
        )
    if "Empty CSV file" in reason:
        return DataError(f"{file}: the file has no rows; change dataset.source.path")
    return DataError(f"{file}: cannot be read as csv: {reason}; change dataset.source.format or .delimiter")


@contextlib.contextmanager
def _open(
    file: str | Path, source: SourceConfig, columns: list[str] | None, broken: list[tuple[int, str]], filesystem: str
) -> Iterator[tuple[Any, _Watched]]:
    def on_broken(row: Any) -> str:
        broken.append((int(row.number) - 1, row.text[:LONGEST_TEXT]))  # Arrow counts the header as row 1
        return "skip"

    read = pa.csv.ReadOptions(use_threads=False, block_size=BLOCK_BYTES, encoding=source.encoding)
    parse = pa.csv.ParseOptions(delimiter=source.delimiter, invalid_row_handler=on_broken, newlines_in_values=True)
    convert = pa.csv.ConvertOptions(
        null_values=list(source.null_values),
        strings_can_be_null=True,
        include_columns=columns,
        column_types={name: pa.string() for name in columns} if columns else None,
    )
    watched = _Watched(open_stream(file, filesystem))
    try:
        stream = pa.PythonFile(watched, mode="r")
        with pa.csv.open_csv(stream, read_options=read, parse_options=parse, convert_options=convert) as reader:
            yield reader, watched
    finally:
        watched.close()


def _check_last_quote(file: str | Path, source: SourceConfig, filesystem: str) -> None:
    """Refuse a file whose last row is an open quote: Arrow takes all lines after it for one value."""
    with open_stream(file, filesystem) as stream:
        lines = io.TextIOWrapper(stream, encoding=source.encoding, newline="")
        reader = csv.reader(lines, delimiter=source.delimiter, strict=True)
        line = 0
        try:
            for _ in reader:
                line = reader.line_num
        except csv.Error as error:
            if "unexpected end of data" in str(error):
                raise DataError(
                    f"{file}: a quote in line {line + 1} is never closed, so {reader.line_num - line:,} lines would "
                    "count as one value; close it in the source"
                ) from None


def _skip_over(ordinal: np.ndarray[Any, Any], broken: list[tuple[int, str]]) -> np.ndarray[Any, Any]:
    """Row numbers in the file of the n-th whole rows, when broken rows lie between them."""
    if not broken:
        return ordinal
    numbers = np.sort(np.array([n for n, _ in broken]))
    return ordinal + np.searchsorted(numbers - np.arange(len(numbers)), ordinal, side="right")
