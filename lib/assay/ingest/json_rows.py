"""Consumes a JSON file (an object per line, or one array of objects), produces chunks of its rows, values as text.

A line that holds no JSON object is a broken row, kept with its number and text. In an array, what follows broken JSON
cannot be told apart, so it stops the run.
"""

from __future__ import annotations

import io
import itertools
import json
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from assay.config.dataset import SourceConfig
from assay.errors import DataError
from assay.ingest.csv_rows import LONGEST_TEXT, RawChunk
from assay.ingest.files import open_stream

if TYPE_CHECKING:
    from pathlib import Path

    import polars as pl

CHUNK_ROWS = 65_536
READ_CHARACTERS = 4 << 20
SAMPLE_ROWS = 1_000
BROKEN = "row is no JSON object (dataset.source.format)"

Found = tuple[int, dict[str, Any] | None, str]


def json_names(file: str | Path, source: SourceConfig, filesystem: str = "") -> list[str]:
    """Keys of the first objects, in the order of their first use.

    Raises:
        DataError: the text is in another encoding, or a broken array.
    """
    rows = (row for _, row, _ in _rows(file, source, filesystem) if row is not None)
    return list(dict.fromkeys(name for row in itertools.islice(rows, SAMPLE_ROWS) for name in row))


def read_json(
    file: str | Path, source: SourceConfig, columns: Sequence[str], filesystem: str = ""
) -> Iterator[RawChunk]:
    """Stream a file's rows. The number of a row is its line, or its place in the array.

    Raises:
        DataError: the text is in another encoding, or a broken array.
    """
    import polars as pl

    nulls = frozenset(source.null_values)
    rows = _rows(file, source, filesystem)
    while found := list(itertools.islice(rows, CHUNK_ROWS)):
        whole = [(number, row) for number, row, _ in found if row is not None]
        frame = pl.DataFrame([column_of(name, [row.get(name) for _, row in whole], nulls) for name in columns])
        broken = tuple((number, text[:LONGEST_TEXT]) for number, row, text in found if row is None)
        yield RawChunk(frame, np.array([number for number, _ in whole], dtype=np.int64), broken, BROKEN)


def column_of(name: str, values: list[Any], nulls: frozenset[str]) -> pl.Series:
    """Booleans as they are where there is nothing else, everything else as the text that CSV would have."""
    import polars as pl

    if all(value is None or isinstance(value, bool) for value in values) and any(v is not None for v in values):
        return pl.Series(name, values, dtype=pl.Boolean)
    found = [_text(value) for value in values]
    texts = [None if text in nulls else text for text in found]
    try:
        return pl.Series(name, texts, dtype=pl.String)
    except UnicodeEncodeError:  # JSON can write half a surrogate pair, UTF-8 cannot
        safe = [text and text.encode("utf-8", "backslashreplace").decode() for text in texts]
        return pl.Series(name, safe, dtype=pl.String)


def _text(value: Any) -> str | None:
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, float) and value.is_integer() and abs(value) < 2**53:
        return str(int(value))
    return json.dumps(value, ensure_ascii=False)


def _rows(file: str | Path, source: SourceConfig, filesystem: str) -> Iterator[Found]:
    """(number, object or None, text where it is broken) of each row."""
    encoding = "utf-8-sig" if source.encoding.replace("_", "-").casefold() in {"utf-8", "utf8"} else source.encoding
    try:
        with open_stream(file, filesystem) as stream:
            text = io.TextIOWrapper(stream, encoding=encoding, newline="\n")
            first = next((character for character in iter(lambda: text.read(1), "") if not character.isspace()), "")
        with open_stream(file, filesystem) as stream:
            text = io.TextIOWrapper(stream, encoding=encoding, newline="\n")
            yield from _array(file, text) if first == "[" else _lines(text)
    except UnicodeError as error:
        raise DataError(
            f"{file}: the text is not {source.encoding} ({error}); set dataset.source.encoding, for example to latin-1"
        ) from None
    except OSError as error:
        raise DataError(f"{file}: cannot be read as json: {error}; change dataset.source.format") from None


def _lines(text: io.TextIOWrapper) -> Iterator[Found]:
    for number, line in enumerate(text, start=1):
        if line.isspace():
            continue
        try:
            row = json.loads(line)
        except ValueError:
            row = None
        yield (number, row, "") if isinstance(row, dict) else (number, None, line.rstrip("\r\n"))


def _array(file: str | Path, text: io.TextIOWrapper) -> Iterator[Found]:
    decoder = json.JSONDecoder()
    buffer, position, number, ended = "", 0, 0, False

    def error(why: str) -> DataError:
        return DataError(
            f"{file}: the JSON array is broken after its row {number:,} ({why}); correct it in the source, or write "
            "one object per line, of which broken ones are quarantined"
        )

    def skip(characters: str) -> str:
        """Go to the next character that is none of these; empty at the end of the file."""
        nonlocal buffer, position, ended
        while True:
            while position < len(buffer) and buffer[position] in characters:
                position += 1
            if position < len(buffer) or ended:
                return buffer[position : position + 1]
            buffer, position = text.read(READ_CHARACTERS), 0
            ended = not buffer

    skip(" \t\r\n")
    position += 1  # the opening bracket
    while True:
        character = skip(" \t\r\n," if number else " \t\r\n")
        if character == "]":
            position += 1
            if skip(" \t\r\n"):
                raise error("there is more text after its end")
            return
        if not character:
            raise error("it is never closed")
        while True:
            try:
                row, stop = decoder.raw_decode(buffer, position)
                if stop < len(buffer) or ended:
                    break
                more = text.read(READ_CHARACTERS)  # a number at the end of what was read may go on
            except ValueError as broken:
                more = text.read(READ_CHARACTERS)
                if not more:
                    raise error(str(broken).split(":")[0]) from None
            ended = not more
            buffer, position = buffer[position:] + more, 0
        number += 1
        yield (number, row, "") if isinstance(row, dict) else (number, None, buffer[position:stop])
        position = stop
