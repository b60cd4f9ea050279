"""Consumes a dataset and its source, produces findings: can it be read, has it the columns, what are its rows like."""

from __future__ import annotations

import collections
import dataclasses
import datetime as dt
from collections.abc import Sequence
from typing import TYPE_CHECKING

from assay.config import DatasetConfig, RunConfig
from assay.config.dataset import stored_name
from assay.doctor.findings import Finding, ok, refused, warn
from assay.errors import AssayError
from assay.ingest.csv_rows import RawChunk
from assay.ingest.files import SourceFile, find_source
from assay.ingest.rules import SEPARATOR, CheckRows
from assay.ingest.source import SourcePart, parts_of, read_part
from assay.ingest.spark_source import find_table, open_table

if TYPE_CHECKING:
    import polars as pl
    from pyspark.sql import SparkSession

ROWS = 10_000  # that are looked at
ENOUGH_ROWS = 100  # for saying that a category hardly comes twice
TODO = "correct `source` in the dataset's YAML, or with --set dataset.source.path=..."


@dataclasses.dataclass(frozen=True)
class Asking:
    """Who looks for a table: with a configuration and a session, and without the tables and records of a job."""

    config: RunConfig
    session: SparkSession

    def spark(self) -> SparkSession:
        """The session."""
        return self.session


def source(config: RunConfig, session: SparkSession | None) -> list[Finding]:
    """The source, with the checks of `ingest`; what Spark reads is looked at where there is a session."""
    config = dataclasses.replace(config, dataset=config.dataset.ingested)
    try:
        if not config.dataset.source.in_files:
            return [_table(config, session)]
        files = find_source(config)
        parts, rows = parts_of(files, config)
        first = next(iter(read_part(parts[0], config.dataset.source, list(config.dataset.source_columns))), None)
    except AssayError as error:
        return [refused("source", error, TODO)]
    found = [_files(files, rows, config.dataset)]
    if first is not None:
        found += of_rows(first, parts[0], config)
    return found


def _table(config: RunConfig, session: SparkSession | None) -> Finding:
    told = config.dataset.source
    if session is None:
        return ok("source", f"{told.format} {told.path}: was not looked at, as Spark reads it")
    asking = Asking(config, session)
    table = find_table(asking)
    columns = len(open_table(asking, table).columns)
    version = f", version {table.version}" if table.version is not None else ""
    return ok("source", f"{table.place}{version}: {columns} columns as the dataset names them")


def _files(files: Sequence[SourceFile], rows: int | None, dataset: DatasetConfig) -> Finding:
    size = sum(file.size for file in files) / 1e6
    counted = f", {rows:,} rows" if rows is not None else ""
    columns = f"{len(dataset.source_columns)} columns as the dataset names them"
    return ok("source", f"{len(files)} file(s) from {files[0]}, {size:,.1f} MB{counted}: {columns}")


def of_rows(chunk: RawChunk, part: SourcePart, config: RunConfig) -> list[Finding]:
    """The first rows by the rules of `ingest`, and their categories."""
    import polars as pl

    some = RawChunk(chunk.frame.head(ROWS), chunk.source_row[:ROWS], chunk.broken[:ROWS], chunk.why_broken)
    try:
        batches = list(CheckRows(config.dataset, dt.datetime.now(dt.timezone.utc)).check(some, part.name))
    except AssayError as error:
        return [refused("rows", error, TODO)]
    frames = [frame for frame in map(pl.from_arrow, batches) if isinstance(frame, pl.DataFrame)]
    checked = pl.concat(frames) if frames else None
    if checked is None or not checked.height:
        return []
    limit = config.profile.ingest.max_quarantine_share
    return [rows(checked["reasons"].to_list(), limit, str(part.name)), *categories(checked, config.dataset)]


def rows(reasons: Sequence[str | None], limit: float, name: str) -> Finding:
    """Of the first rows, the share that the quarantine would get. reasons: of each row, null where it is fine."""
    bad = [reason for reason in reasons if reason]
    share = len(bad) / len(reasons)
    told = f"{len(bad):,} of the first {len(reasons):,} of {name} cannot be used"
    if not bad:
        return ok("rows", f"the first {len(reasons):,} of {name} can be used")
    reason, count = collections.Counter(each for text in bad for each in text.split(SEPARATOR)).most_common(1)[0]
    told += f" ({count:,} x {reason})"
    if share <= limit:
        return ok("rows", told)
    todo = f"correct the source, or the setting in brackets; ingest stops above ingest.max_quarantine_share={limit:g}"
    return warn("rows", told, todo)


def categories(checked: pl.DataFrame, dataset: DatasetConfig) -> list[Finding]:
    """Whether categories of the first rows come again, and are among those that the dataset allows."""
    found, told = [], []
    for name in dataset.columns.categorical:
        values = checked[stored_name(name)].drop_nulls()
        distinct = values.n_unique()
        told.append(f"{name} {distinct:,}")
        if len(values) >= ENOUGH_ROWS and distinct > 0.9 * len(values) and name not in dataset.entity:
            found.append(
                warn(
                    "categories",
                    f"column {name!r} has {distinct:,} values in {len(values):,} rows: it only tells rows apart",
                    "take it out of dataset.columns.categorical; a key of what is observed again belongs in `entity`",
                )
            )
        allowed = dataset.quality.categories.get(name)
        unlisted = sorted(set(values.to_list()) - set(allowed)) if allowed else []
        if unlisted:
            shown = ", ".join(map(repr, unlisted[:5]))
            todo = f"correct them in the source, or add them to dataset.quality.categories.{name}"
            found.append(
                warn("categories", f"column {name!r} has {len(unlisted)} value(s) that are not allowed: {shown}", todo)
            )
    if told and not found:
        found.append(ok("categories", f"distinct values of the first rows: {', '.join(told)}"))
    return found
