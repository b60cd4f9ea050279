"""Consumes evaluated rows, produces sums of theirs that add up across tasks, as rows that travel; samples rows."""

from __future__ import annotations

import abc
import dataclasses
import functools
import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeVar

import numpy as np
import polars as pl
import pyarrow as pa

from assay.model.row_sample import EVERY_ROW, ROW, row_hash
from assay.runtime.tables import level_label

if TYPE_CHECKING:
    from typing_extensions import Self

DAY = "\0day"  # kept apart from segments: no column is called so; of rows without days it is the group
KEYS = ("segment_column", "segment")
PARTS = pa.schema([pa.field("name", pa.string()), pa.field("frame", pa.binary())])
RIVAL_DAYS = {"day": pl.String, "rival": pl.String, "rows": pl.Int64, "model": pl.Float64, "other": pl.Float64}
MISSING_SEGMENT = "(missing)"
BLOCK_ROWS = 200_000
MERGED = 8
GROUPS = 200  # of rows without days; each is one draw of a band, as a day is


@dataclasses.dataclass(frozen=True)
class TallySpec:
    """What is summed, and which rows are kept.

    segment_columns: text columns that split the rows.  rivals: columns of other predictions, NaN where they have none.
    kept: columns of sampled rows.  threshold: greatest hash of those.  most: how many at most.
    relative: whether a return is a share of `reference`.  dated: whether rows have days, which err together; else
    `GROUPS` of rows by their hash stand for them.
    """

    levels: tuple[float, ...]
    segment_columns: tuple[str, ...] = ()
    rivals: tuple[str, ...] = ()
    kept: tuple[str, ...] = ()
    threshold: int = EVERY_ROW
    most: int = 200_000
    relative: bool = True
    dated: bool = True

    @property
    def labels(self) -> dict[str, float]:
        """Levels by the suffix of their columns."""
        return {level_label(level): level for level in self.levels}


S = TypeVar("S", bound=TallySpec)


@dataclasses.dataclass(frozen=True)
class Sums(abc.ABC, Generic[S]):
    """What was summed of evaluated rows, of numbers or of classes.

    sums: per segment_column and segment (both empty: all rows), per day, and so on.  days: of `RIVAL_DAYS`, per day and
    rival, of the rows that it predicts: rows, losses of the model and of the rival.  sample: hash and kept columns of
    some rows, or of all.
    """

    sums: pl.DataFrame
    days: pl.DataFrame
    sample: pl.DataFrame

    def frames(self) -> dict[str, pl.DataFrame]:
        """All frames by name."""
        return {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}

    @functools.cached_property
    def rows(self) -> int:
        """All rows that were summed."""
        return int(self.of("")["rows"].sum())

    @property
    def complete(self) -> bool:
        """Whether the sample is all rows."""
        return self.sample.height == self.rows

    def of(self, column: str) -> pl.DataFrame:
        """Sums of one segment column (or `DAY` and the like, or empty for all rows), by segment."""
        return self.sums.filter(pl.col("segment_column") == column).sort("segment")

    @classmethod
    def measure(cls, rows: pl.DataFrame, spec: S) -> Self:
        """Sum rows. Raises what `sum_up` raises."""
        rows = with_days(rows, dated=spec.dated)
        frames, days = cls.sum_up(rows, spec)
        sample = sample_of(rows, spec.kept, spec.threshold, spec.most)
        return cls(
            days=pl.concat([pl.DataFrame(schema=RIVAL_DAYS), *days], how="vertical_relaxed"), sample=sample, **frames
        )

    @classmethod
    @abc.abstractmethod
    def sum_up(cls, rows: pl.DataFrame, spec: S) -> tuple[dict[str, pl.DataFrame], list[pl.DataFrame]]:
        """Frames of rows with `DAY`, all but `days` and `sample`; and of each rival the rows of `days`."""

    @classmethod
    @abc.abstractmethod
    def added(cls, stacked: Mapping[str, pl.DataFrame]) -> dict[str, pl.DataFrame]:
        """Frames of several parts, one above the other, as those of the whole; all but `days` and `sample`."""

    @classmethod
    def merge(cls, parts: Iterable[Self], spec: S) -> Self:
        """Several as one; any order and any grouping give the same, sums of floats to rounding."""
        frames = [part.frames() for part in parts]
        stacked = {name: pl.concat([each[name] for each in frames], how="diagonal_relaxed") for name in frames[0]}
        days = stacked["days"].group_by("day", "rival").agg(pl.col("rows", "model", "other").sum())
        sample = stacked["sample"].sort("hash", ROW).head(spec.most)
        return cls(days=days.sort("rival", "day"), sample=sample, **cls.added(stacked))

    def packed(self) -> pa.RecordBatch:
        """Rows of `PARTS`."""
        return packed(self.frames())

    @classmethod
    def unpacked(cls, table: pa.Table, spec: S) -> Self | None:
        """Rows of `PARTS` of all tasks as one; None without rows."""
        whole: list[Self] = []
        for frames in unpacked(table):
            whole.append(cls(**frames))
            if len(whole) == MERGED:  # so that the driver holds no more of them at once
                whole = [cls.merge(whole, spec)]
        return cls.merge(whole, spec) if whole else None


@dataclasses.dataclass(frozen=True)
class SumRows(Generic[S]):
    """Kernel: what is summed of a task's rows, as rows of `PARTS`."""

    spec: S
    summed: ClassVar[type[Sums[Any]]]

    def __call__(self, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """Sum in blocks, so that a task holds no more than one of them."""
        whole: Sums[S] | None = None
        for block in blocks(batches):
            found = self.summed.measure(self.prepared(block), self.spec)
            whole = found if whole is None else self.summed.merge([whole, found], self.spec)
        if whole is not None:
            yield whole.packed()

    def prepared(self, rows: pl.DataFrame) -> pl.DataFrame:
        """A block's rows as they are summed."""
        return rows


def packed(frames: Mapping[str, pl.DataFrame]) -> pa.RecordBatch:
    """Frames by name -> rows of `PARTS`."""
    names, bodies = [], []
    for name, frame in frames.items():
        sink = io.BytesIO()
        frame.write_ipc_stream(sink, compression="zstd")
        names.append(name)
        bodies.append(sink.getvalue())
    return pa.record_batch([pa.array(names), pa.array(bodies, pa.binary())], schema=PARTS)


def unpacked(table: pa.Table) -> Iterator[dict[str, pl.DataFrame]]:
    """Rows of `PARTS` of all tasks -> the frames of one after the other."""
    bodies: dict[str, list[bytes]] = {}
    for name, body in zip(table["name"].to_pylist(), table["frame"].to_pylist(), strict=True):
        bodies.setdefault(name, []).append(body)
    for each in zip(*bodies.values(), strict=True):
        yield {name: pl.read_ipc_stream(io.BytesIO(body)) for name, body in zip(bodies, each, strict=True)}


def blocks(batches: Iterator[pa.RecordBatch]) -> Iterator[pl.DataFrame]:
    """The same rows in frames of about `BLOCK_ROWS`, so that a task holds no more than one of them."""
    held: list[pa.RecordBatch] = []
    for batch in batches:
        held.append(batch)
        if sum(each.num_rows for each in held) >= BLOCK_ROWS:
            yield _frame(held)
            held = []
    if any(each.num_rows for each in held):
        yield _frame(held)


def _frame(held: Sequence[pa.RecordBatch]) -> pl.DataFrame:
    found = pl.from_arrow(pa.Table.from_batches(held))
    assert isinstance(found, pl.DataFrame)
    return found


def with_days(rows: pl.DataFrame, *, dated: bool) -> pl.DataFrame:
    """Rows with text column `DAY`: the date (UTC), or without days the group, by the hash of `row_id`."""
    if dated:
        return rows.with_columns(pl.col("time").dt.date().cast(pl.String).alias(DAY))
    group = row_hash(_ids(rows).to_numpy()) % np.uint64(GROUPS)
    return rows.with_columns(pl.Series(DAY, group).cast(pl.String))


def sample_of(rows: pl.DataFrame, kept: Sequence[str], threshold: int, most: int) -> pl.DataFrame:
    """`hash` and kept columns of the rows with the least hashes of `row_id`, at most so many of them."""
    ids = _ids(rows)
    columns = [name for name in dict.fromkeys(kept) if name in rows.columns and name != ROW]
    found = rows.select(pl.Series("hash", row_hash(ids.to_numpy())), ids, *columns)
    return found.filter(pl.col("hash") <= threshold).sort("hash", ROW).head(most)


def _ids(rows: pl.DataFrame) -> pl.Series:
    """Ids of rows; those without, as small frames in memory may be, are taken in their order."""
    return rows[ROW] if ROW in rows.columns else pl.Series(ROW, np.arange(rows.height), pl.Int64)
