"""Consumes raw rows, produces typed rows and the reasons why some cannot be used. Nothing is dropped."""

from __future__ import annotations

import dataclasses
import datetime as dt
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from assay.config import DatasetConfig
from assay.config.dataset import stored_name
from assay.ingest.source import RawChunk, SourcePart, raw_json, read_part
from assay.runtime.arrow_files import conform_table
from assay.runtime.tables import OBSERVATIONS, observation_fields

if TYPE_CHECKING:
    import polars as pl

SEPARATOR = "; "


def checked_schema(dataset: DatasetConfig) -> pa.Schema:
    """Rows between reading and writing: observations, plus where they came from and what is wrong with them."""
    return pa.schema(
        [
            *OBSERVATIONS.schema(observation_fields(dataset)),
            pa.field("source_file", pa.string()),
            pa.field("source_row", pa.int64()),
            pa.field("reasons", pa.string()),
            pa.field("raw", pa.string()),
        ]
    )


@dataclasses.dataclass(frozen=True)
class CheckRows:
    """Kernel over source parts: read, type, check each row by itself. Emits as many rows as it reads."""

    dataset: DatasetConfig
    now: dt.datetime

    def __call__(self, parts: Iterator[SourcePart]) -> Iterator[pa.RecordBatch]:
        """Typed rows of `checked_schema`."""
        source, columns = self.dataset.source, list(self.dataset.source_columns)
        for part in parts:
            for chunk in read_part(part, source, columns):
                yield from self.check(chunk, part.path.rsplit("/", 1)[-1])

    def check(self, chunk: RawChunk, source_file: str) -> Iterator[pa.RecordBatch]:
        """Apply the rules of single rows to a chunk."""
        import polars as pl

        schema = checked_schema(self.dataset)
        raw = chunk.frame
        if raw.height:
            columns, rules = typed_columns(raw, self.dataset, self.now)
            frame = pl.DataFrame(columns).with_columns(
                pl.Series("source_row", chunk.source_row, dtype=pl.Int64), source_file=pl.lit(source_file)
            )
            checked = pl.DataFrame({f"rule_{i}": rule for i, rule in enumerate(rules)})
            reasons = checked.select(
                pl.concat_str(pl.all(), separator=SEPARATOR, ignore_nulls=True).replace("", None).alias("reasons")
            ).to_series()
            frame = frame.with_columns(reasons)
            frame = frame.with_columns(_raw_of(raw, reasons), month=pl.col("time").dt.strftime("%Y-%m"))
            frame = frame.with_columns(_row_ids(frame, self.dataset))
            yield from conform_table(frame.to_arrow(), schema)
        if chunk.broken:
            yield from conform_table(_broken(chunk, source_file, schema), schema)


def typed_columns(
    raw: pl.DataFrame, dataset: DatasetConfig, now: dt.datetime
) -> tuple[list[pl.Series], list[pl.Series]]:
    """Columns under their stored names and types, and one text series per rule (null where the row is fine)."""

    rules: list[pl.Series] = []
    time = parse_time(raw[dataset.time.column], dataset)
    rules.append(_when(time.is_null(), f"column {dataset.time.column!r}: no readable time (dataset.time.format)"))
    if dataset.time.future == "quarantine":
        late = (time > now).fill_null(False)
        rules.append(_when(late, f"column {dataset.time.column!r}: in the future (dataset.time.future)"))
    columns = [time.alias("time")]
    for name in dataset.text_columns:
        text = as_text(raw[name])
        columns.append(text.alias(stored_name(name)))
        if name in dataset.entity:
            rules.append(_when(text.is_null(), f"column {name!r}: entity key is missing (dataset.entity)"))
    targets = {target.name: target for target in dataset.targets}
    for name in dataset.numeric_columns:
        number, bad = as_number(raw[name])
        rules.append(_when(bad, f"column {name!r}: not a number (dataset.columns)"))
        if name in targets:
            unusable = (number.is_nan() | number.is_infinite()).fill_null(False)
            rules.append(_when(unusable, f"column {name!r}: target is NaN or infinite (dataset.targets)"))
            if targets[name].transform == "log":
                low = ((number <= 0) & ~number.is_infinite()).fill_null(False)
                rules.append(
                    _when(low, f"column {name!r}: not above 0, as transform log needs (dataset.targets.transform)")
                )
        else:
            rules.append(_when(number.is_infinite().fill_null(False), f"column {name!r}: infinite (dataset.columns)"))
        if name in dataset.bounds:
            low_bound, high_bound = dataset.bounds[name]
            outside = ((number < low_bound) | (number > high_bound)).fill_null(False) & ~number.is_nan().fill_null(
                False
            )
            rules.append(
                _when(outside, f"column {name!r}: outside {low_bound:g} to {high_bound:g} (dataset.bounds.{name})")
            )
        columns.append(number.fill_nan(None).alias(stored_name(name)))
    return columns, rules


def parse_time(column: pl.Series, dataset: DatasetConfig) -> pl.Series:
    """Times as UTC microseconds; null where a value cannot be read."""
    import polars as pl

    kind = column.dtype
    if kind.is_numeric() and dataset.time.format is not None:
        column, kind = column.cast(pl.Int64, strict=False).cast(pl.String), pl.String()
    if kind == pl.String:
        text = column.str.strip_chars()
        if dataset.time.format is not None:
            parsed = text.str.to_datetime(dataset.time.format, strict=False, time_unit="us", ambiguous="earliest")
        else:
            parsed = _iso(text)
    elif kind == pl.Date or isinstance(kind, pl.Datetime):
        parsed = column.cast(pl.Datetime("us", getattr(kind, "time_zone", None)))
    else:
        return pl.Series(column.name, [None] * len(column), dtype=pl.Datetime("us", "UTC"))
    zone = getattr(parsed.dtype, "time_zone", None)
    if zone is None:
        parsed = parsed.dt.replace_time_zone(dataset.time.zone, ambiguous="earliest", non_existent="null")
    return parsed.dt.convert_time_zone("UTC")


def _iso(text: pl.Series) -> pl.Series:
    """ISO 8601 dates, and timestamps with `T` or a blank, with or without a fraction."""
    import polars as pl

    day = text.str.to_datetime("%Y-%m-%d", strict=False, time_unit="us")
    blank = text.str.replace("T", " ")
    moment = blank.str.to_datetime("%Y-%m-%d %H:%M:%S%.f", strict=False, time_unit="us")
    minute = blank.str.to_datetime("%Y-%m-%d %H:%M", strict=False, time_unit="us")
    zoned = text.str.to_datetime("%Y-%m-%dT%H:%M:%S%.f%#z", strict=False, time_unit="us")
    naive = pl.select(pl.coalesce(day, moment, minute)).to_series()
    if zoned.null_count() < len(zoned):
        return pl.select(pl.coalesce(zoned.dt.convert_time_zone("UTC"), naive.dt.replace_time_zone("UTC"))).to_series()
    return naive


def as_text(column: pl.Series) -> pl.Series:
    """Keys and categories as text: whole numbers without a fraction, booleans as true and false, blanks as missing."""
    import polars as pl

    if column.dtype.is_float():
        whole = ((column == column.round(0)) & column.is_finite()).fill_null(False)
        as_int = column.cast(pl.Int64, strict=False).cast(pl.String)
        text = pl.select(pl.when(whole).then(as_int).otherwise(column.fill_nan(None).cast(pl.String))).to_series()
    else:
        text = column.cast(pl.String, strict=False)
    text = text.str.strip_chars()
    return text.set(text == "", None)


def as_number(column: pl.Series) -> tuple[pl.Series, pl.Series]:
    """Values as float64, and which of them were filled but are no numbers."""
    import polars as pl

    if column.dtype == pl.String:
        text = column.str.strip_chars()
        text = text.set(text == "", None)
        number = text.cast(pl.Float64, strict=False)
        return number, text.is_not_null() & number.is_null()
    number = column.cast(pl.Float64, strict=False)
    return number, column.is_not_null() & number.is_null()


def _when(broken: pl.Series, reason: str) -> pl.Series:
    import polars as pl

    return pl.select(pl.when(broken).then(pl.lit(reason)).otherwise(pl.lit(None, dtype=pl.String))).to_series()


def _raw_of(raw: pl.DataFrame, reasons: pl.Series) -> pl.Series:
    import polars as pl

    texts: list[str | None] = [None] * raw.height
    for index in reasons.is_not_null().arg_true():
        texts[index] = raw_json(raw.row(index, named=True))
    return pl.Series("raw", texts, dtype=pl.String)


def _row_ids(frame: pl.DataFrame, dataset: DatasetConfig, occurrence: np.ndarray[Any, Any] | None = None) -> pl.Series:
    """Stable 64-bit hash of entity, time and occurrence; pandas' hash is fixed, so ids outlive library versions."""
    import pandas as pd
    import polars as pl

    keys = {stored_name(n): frame[stored_name(n)].fill_null("\0").to_numpy() for n in dataset.entity}
    keys["time"] = frame["time"].dt.timestamp("us").fill_null(-1).to_numpy()
    keys["occurrence"] = occurrence if occurrence is not None else np.zeros(frame.height, dtype=np.int64)
    hashes = pd.util.hash_pandas_object(pd.DataFrame(keys), index=False).to_numpy()
    return pl.Series("row_id", hashes.view(np.int64), dtype=pl.Int64)


def _broken(chunk: RawChunk, source_file: str, schema: pa.Schema) -> pa.Table:
    count = len(chunk.broken)
    columns = {field.name: pa.nulls(count, field.type) for field in schema}
    columns["source_file"] = pa.array([source_file] * count)
    columns["source_row"] = pa.array([number for number, _ in chunk.broken], pa.int64())
    columns["reasons"] = pa.array(
        ["row has another number of fields than the header (dataset.source.delimiter)"] * count
    )
    columns["raw"] = pa.array([raw_json({"text": text}) for _, text in chunk.broken])
    return pa.table(columns, schema=schema)


@dataclasses.dataclass(frozen=True)
class ResolveDuplicates:
    """Kernel over whole months: rows of one entity at one time. Emits as many rows as it gets."""

    dataset: DatasetConfig

    def __call__(self, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """Rows of `checked_schema`; all but one of equal keys get a reason, or all get ids of their own."""
        import polars as pl

        schema = checked_schema(self.dataset)
        table = pa.Table.from_batches(list(batches), schema)
        if not table.num_rows:
            return
        frame = pl.from_arrow(table)
        assert isinstance(frame, pl.DataFrame)
        key = [*(stored_name(n) for n in self.dataset.entity), "time"]
        good = frame.filter(pl.col("reasons").is_null()).sort("source_file", "source_row", maintain_order=True)
        bad = frame.filter(pl.col("reasons").is_not_null())
        if self.dataset.duplicates == "allow":
            occurrence = good.select(pl.int_range(pl.len()).over(key)).to_series().to_numpy()
            good = good.with_columns(_row_ids(good, self.dataset, occurrence))
        elif good.height:
            chosen = _chosen(good, key, self.dataset.duplicates)
            reason = f"another row has the same entity and time; {self.dataset.duplicates} (dataset.duplicates)"
            doubles = good.filter(~chosen)
            texts = [raw_json(row) for row in doubles.drop("reasons", "raw", "month", "row_id").iter_rows(named=True)]
            doubles = doubles.with_columns(reasons=pl.lit(reason), raw=pl.Series(texts, dtype=pl.String))
            bad = pl.concat([bad, doubles]) if doubles.height else bad
            good = good.filter(chosen)
        if good.height + bad.height != frame.height:
            raise AssertionError(f"ingest lost rows: {frame.height} in, {good.height + bad.height} out")
        for part in (good.sort(*key, "row_id"), bad):
            yield from conform_table(part.to_arrow(), schema)


def _chosen(good: pl.DataFrame, key: list[str], rule: str) -> pl.Series:
    """Which rows of equal keys to keep."""
    import polars as pl

    index = pl.col("index")
    winner = index.first() if rule == "keep_first" else index.last()
    return good.select(key).with_row_index().select(index == winner.over(key)).to_series()
