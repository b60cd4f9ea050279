"""Consumes what the last ingest left and the source's files, produces the rows that a run has to look at again.

Only files that are new or corrected are read, and only months that their rows (or those that they replace) lie in are
written. Rows that had lost against a double wait in the quarantine: where the winner leaves, they come back.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from assay.config import DatasetConfig
from assay.errors import DataError
from assay.ingest.alignment import period_start
from assay.ingest.files import SourceFile
from assay.ingest.rules import CheckRows, checked_schema, double_reason, row_ids, source_names
from assay.ingest.source import SourcePart, read_part
from assay.ingest.values import FUTURE, times_of
from assay.runtime.arrow_files import conform_table
from assay.runtime.conditions import Condition
from assay.runtime.plane import Flow, Plane, same_columns
from assay.runtime.tables import QUARANTINE, SOURCE_FILES, ingested_table, observation_fields

if TYPE_CHECKING:
    import polars as pl

Known = Mapping[str, "KnownFile"]


@dataclasses.dataclass(frozen=True)
class KnownFile:
    """A file as it was when its rows were read."""

    sha256: str
    size: int
    modified_ns: int | None


@dataclasses.dataclass(frozen=True)
class Base:
    """What a run can build upon: versions of the tables as one earlier run left them, and the files that it had."""

    identity: str
    observations: int
    quarantine: int
    files: Known


def look_at(files: Sequence[SourceFile], known: Known) -> dict[str, KnownFile]:
    """The files as they are now. One whose size and time of change are those that are known is not read again."""
    found: dict[str, KnownFile] = {}
    for file in files:
        before = known.get(file.name)
        if before is not None and (before.size, before.modified_ns) == (file.size, file.modified_ns):
            found[file.name] = before
        else:
            settled = file.modified_ns if file.settled else None
            found[file.name] = KnownFile(file.sha256(), file.size, settled)
    return found


def version_of(files: Known) -> str:
    """SHA-256 over names and contents: the version of a source."""
    digest = hashlib.sha256()
    for name in sorted(files):
        digest.update(f"{name}\n{files[name].sha256}\n".encode())
    return digest.hexdigest()[:32]


def files_table(files: Known) -> pa.Table:
    """Rows of `source_files`."""
    rows = [
        {
            "source_file": name,
            "sha256": files[name].sha256,
            "bytes": files[name].size,
            "modified_ns": files[name].modified_ns,
        }
        for name in sorted(files)
    ]
    return pa.Table.from_pylist(rows, schema=SOURCE_FILES.schema())


def base_of(plane: Plane, dataset: DatasetConfig) -> Base | None:
    """The state that the last run left which was neither refused nor cut short, if the tables still have its columns.

    Observations are written last: the other tables may have newer versions, of runs that did not get so far.
    """
    table = ingested_table(dataset)
    done = plane.last_commit(table.name, "all")
    schema = table.schema(observation_fields(dataset))
    if done is None or not same_columns(plane.schema(table.name), schema):
        return None
    quarantine = plane.last_commit(QUARANTINE.name, "all", identity=done.identity)
    files = plane.last_commit(SOURCE_FILES.name, "all", identity=done.identity)
    observations = plane.version(table.name)
    if quarantine is None or files is None or observations is None:
        return None
    rows = plane.read(SOURCE_FILES.name, version=files.version).collect().to_pylist()
    known = {r["source_file"]: KnownFile(r["sha256"], r["bytes"], r["modified_ns"]) for r in rows}
    return Base(done.identity, observations, quarantine.version, known)


def check_removed(known: Known, found: Known, dataset: DatasetConfig, *, can_keep: bool) -> list[str]:
    """Names of files that are gone.

    can_keep: whether the rows of such files can stay, because nothing else has changed that needs them read again.

    Raises:
        DataError: `source.removed_files` forbids it.
    """
    gone = sorted(set(known) - set(found))
    rule = dataset.source.removed_files
    if not gone or rule == "drop" or (rule == "keep" and can_keep):
        return gone
    shown = ", ".join(gone[:5]) + (f" and {len(gone) - 5} more" if len(gone) > 5 else "")
    why = "" if rule == "refuse" else ", and as the settings changed since then they are needed"
    raise DataError(
        f"source.path {dataset.source.path}: {len(gone)} file(s) of the last run are gone{why}: {shown}. Put them "
        f"back, or set dataset.source.removed_files to drop (it is {rule}), which takes their rows out"
    )


def files_due(plane: Plane, now: dt.datetime) -> set[str]:
    """Files of which rows are in the quarantine that were in the future then, and are not any more."""
    version = plane.version(QUARANTINE.name)
    if version is None:
        return set()
    past = [Condition("time", "<", now + dt.timedelta(microseconds=1))]
    found = plane.read(QUARANTINE.name, version=version, columns=["source_file", "reasons"], where=past).collect()
    return {row["source_file"] for row in found.to_pylist() if FUTURE in row["reasons"]}


@dataclasses.dataclass(frozen=True)
class Increment:
    """Rows to resolve and write instead of all rows.

    flow: rows of `checked_schema`. months: partitions of observations that they replace. untouched: observations in the
    other ones. expected: rows that observations and quarantine must have together afterwards. touched: rows of `flow`.
    """

    flow: Flow
    months: tuple[str, ...]
    untouched: int
    expected: int
    touched: int


def increment(
    plane: Plane,
    dataset: DatasetConfig,
    base: Base,
    parts: Sequence[SourcePart],
    leaving: frozenset[str],
    now: dt.datetime,
) -> Increment:
    """Rows of `parts` beside those that stay, in the months that change.

    leaving: files whose rows leave the tables, those that are read again among them.
    Cost: reads the times of `parts`, two columns of observations, one of the quarantine; then `parts`, the quarantine
    and the observations of the months that change.
    """
    schema, table = checked_schema(dataset), ingested_table(dataset).name
    before = plane.read(table, version=base.observations, columns=["source_file", "month"])
    observed = _counts(before, ("source_file", "month"))
    waiting = plane.read(QUARANTINE.name, version=base.quarantine, columns=["source_file"])
    quarantined = _counts(waiting, ("source_file",))
    times = pa.schema([("month", pa.string()), ("rows", pa.int64())])
    read = _counts(plane.inputs(parts, MonthsOf(dataset), times), ("month",), weight="rows") if parts else {}
    changed = {month for (file, month) in observed if file in leaving} | {month for (month,) in read}
    months = tuple(sorted(month for month in changed if month is not None))
    stay = plane.read(table, version=base.observations, where=[Condition("month", "in", months)])
    back = plane.read(QUARANTINE.name, version=base.quarantine)
    flow = stay.map(KeepObserved(dataset, leaving), schema).union(
        back.map(KeepQuarantined(dataset, leaving, months), schema)
    )
    if parts:
        flow = flow.union(plane.inputs(parts, CheckRows(dataset, now), schema))
    kept_before = sum(n for (file, _), n in observed.items() if file not in leaving)
    kept_before += sum(n for (file,), n in quarantined.items() if file not in leaving)
    untouched = sum(n for (_, month), n in observed.items() if month not in months)
    expected = kept_before + sum(read.values())
    return Increment(flow, months, untouched, expected, expected - untouched)


def _counts(flow: Flow, columns: tuple[str, ...], *, weight: str | None = None) -> dict[tuple[Any, ...], int]:
    """Rows (or the sum of `weight`) of each combination of values."""
    schema = pa.schema([*(flow.schema.field(name) for name in columns), pa.field("count", pa.int64())])
    found: dict[tuple[Any, ...], int] = {}
    for row in flow.map(CountRows(columns, weight), schema).collect().to_pylist():
        key = tuple(row[name] for name in columns)
        found[key] = found.get(key, 0) + row["count"]
    return found


@dataclasses.dataclass(frozen=True)
class CountRows:
    """Kernel: rows of a share (or the sum of `weight`) by the values of some columns."""

    columns: tuple[str, ...]
    weight: str | None = None

    def __call__(self, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """Columns, then `count`."""
        import polars as pl

        for batch in batches:
            frame = pl.from_arrow(pa.Table.from_batches([batch]))
            assert isinstance(frame, pl.DataFrame)
            value = pl.len() if self.weight is None else pl.col(self.weight).sum()
            counted = frame.group_by(self.columns).agg(value.cast(pl.Int64).alias("count"))
            schema = pa.schema([*(batch.schema.field(name) for name in self.columns), pa.field("count", pa.int64())])
            yield from conform_table(counted.to_arrow(), schema)


@dataclasses.dataclass(frozen=True)
class MonthsOf:
    """Kernel over source parts: months of their rows, null where a row has no time, and how many rows each has."""

    dataset: DatasetConfig

    def __call__(self, parts: Iterator[SourcePart]) -> Iterator[pa.RecordBatch]:
        """Columns month, rows."""
        import polars as pl

        time, schema = self.dataset.time, pa.schema([("month", pa.string()), ("rows", pa.int64())])
        for part in parts:
            for chunk in read_part(part, self.dataset.source, [time.column or self.dataset.entity[0]]):
                moments = times_of(chunk.frame, time)
                if time.align is not None:
                    moments = period_start(moments, time.align.frequency, time.zone)
                months = pl.DataFrame({"month": moments.dt.strftime("%Y-%m")}, schema={"month": pl.String})
                counted = months.group_by("month").agg(pl.len().cast(pl.Int64).alias("rows"))
                yield from conform_table(counted.to_arrow(), schema)
                if chunk.broken:
                    nothing = pa.array([None], pa.string())
                    yield pa.RecordBatch.from_arrays(
                        [nothing, pa.array([len(chunk.broken)], pa.int64())], schema=schema
                    )


@dataclasses.dataclass(frozen=True)
class KeepObserved:
    """Kernel over observations: those whose file stays, as rows of `checked_schema`."""

    dataset: DatasetConfig
    leaving: frozenset[str]

    def __call__(self, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """Good rows."""
        import polars as pl

        schema = checked_schema(self.dataset)
        for batch in batches:
            frame = pl.from_arrow(pa.Table.from_batches([batch]))
            assert isinstance(frame, pl.DataFrame)
            nothing = pl.lit(None, dtype=pl.String)
            kept = frame.filter(~pl.col("source_file").is_in(self.leaving)).with_columns(reasons=nothing, raw=nothing)
            yield from conform_table(kept.to_arrow(), schema)


@dataclasses.dataclass(frozen=True)
class KeepQuarantined:
    """Kernel over the quarantine: rows whose file stays; doubles in months that change are good rows once more."""

    dataset: DatasetConfig
    leaving: frozenset[str]
    months: tuple[str, ...]

    def __call__(self, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """Rows of `checked_schema`; of bad ones only what the quarantine holds is filled."""
        import polars as pl

        schema = checked_schema(self.dataset)
        empty = pl.from_arrow(schema.empty_table())
        assert isinstance(empty, pl.DataFrame)
        for batch in batches:
            frame = pl.from_arrow(pa.Table.from_batches([batch]))
            assert isinstance(frame, pl.DataFrame)
            kept = frame.filter(~pl.col("source_file").is_in(self.leaving))
            kept = kept.with_columns(month=pl.col("time").dt.strftime("%Y-%m"))
            again = (pl.col("reasons") == double_reason(self.dataset)) & pl.col("month").is_in(self.months)
            doubles = self._typed(kept.filter(again), empty)
            for rows in (kept.filter(~again.fill_null(False)), doubles):
                yield from conform_table(pl.concat([empty, rows], how="diagonal").to_arrow(), schema)

    def _typed(self, doubles: pl.DataFrame, empty: pl.DataFrame) -> pl.DataFrame:
        """Doubles as they were before they lost: the quarantine has their typed values as JSON."""
        import polars as pl

        rows = [json.loads(text) for text in doubles["raw"].to_list()]
        stored = {stored: name for stored, name in source_names(self.dataset).items() if stored != "time"}
        columns = [pl.Series(s, [row[name] for row in rows], dtype=empty.schema[s]) for s, name in stored.items()]
        nothing = pl.lit(None, dtype=pl.String)
        typed = doubles.with_columns(*columns, reasons=nothing, raw=nothing)
        return typed.with_columns(row_ids(typed, self.dataset))
