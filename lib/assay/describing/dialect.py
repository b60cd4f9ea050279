"""Consumes the first bytes of a file, produces how to read it: its format, and a CSV's delimiter and encoding."""

from __future__ import annotations

import codecs
import csv
import dataclasses
from collections import Counter

from assay.config.dataset import SourceConfig
from assay.errors import DataError
from assay.ingest.files import SourceFile, format_by_name, open_file, open_stream

HEAD_BYTES = 1 << 16
DELIMITERS = ",;\t|"
LINES = 50


def dialect_of(file: SourceFile, source: SourceConfig) -> SourceConfig:
    """The source with its format, where the name does not tell it, and the delimiter and encoding of its text.

    Raises:
        DataError: the file is empty or cannot be read.
    """
    if file.size == 0:
        raise DataError(f"{file}: the file is empty (0 bytes)")
    try:
        with open_file(file.path, file.filesystem) as raw:
            magic = raw.read(4)
        kind = format_by_name(file.name) or ("parquet" if magic == b"PAR1" else None)
        if kind == "parquet":
            return _with_format(source, file, "parquet")
        with open_stream(file.path, file.filesystem) as stream:
            head = bytes(stream.read(HEAD_BYTES))
    except OSError as error:
        raise DataError(f"{file}: cannot be read: {error.strerror or error}") from None
    encoding = _encoding(head)
    text = head.decode(encoding, errors="ignore").removeprefix("\ufeff")
    if kind is None and "\0" in text:
        raise DataError(f"{file}: this is no text and no Parquet file; CSV, JSON, Parquet and Delta can be read")
    kind = kind or ("json" if text.lstrip()[:1] in {"{", "["} else "csv")
    source = dataclasses.replace(_with_format(source, file, kind), encoding=encoding)
    return dataclasses.replace(source, delimiter=_delimiter(text)) if kind == "csv" else source


def _with_format(source: SourceConfig, file: SourceFile, kind: str) -> SourceConfig:
    told = format_by_name(file.name) == kind and source.format == "auto"
    return source if told else dataclasses.replace(source, format=kind)  # type: ignore[arg-type]


def _encoding(head: bytes) -> str:
    if head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return "utf-16"
    try:
        codecs.getincrementaldecoder("utf-8")().decode(head)  # the last character may be cut
    except UnicodeDecodeError:
        return "latin-1"
    return "utf-8"


def _delimiter(text: str) -> str:
    """The one that cuts most lines into the same number of fields, two or more."""
    lines = text.splitlines()[: LINES + 1]
    lines = lines[:-1] if len(lines) > LINES else lines
    found: dict[str, tuple[float, int]] = {}
    for delimiter in DELIMITERS:
        try:
            counts = Counter(len(row) for row in csv.reader(lines, delimiter=delimiter) if row)
        except csv.Error:
            continue
        fields, times = counts.most_common(1)[0] if counts else (1, 0)
        if fields > 1:
            found[delimiter] = (times / counts.total(), fields)
    return max(found, key=lambda d: found[d]) if found else ","
