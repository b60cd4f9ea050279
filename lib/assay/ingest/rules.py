"""Consumes raw rows, produces typed rows and the reasons why some cannot be used. Nothing is dropped."""

from __future__ import annotations

import dataclasses
import datetime as dt
import math
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from assay.config import DatasetConfig
from assay.config.dataset import stored_name
from assay.ingest.alignment import EXACT_TIME, merge_periods, period_start
from assay.ingest.csv_rows import RawChunk
from assay.ingest.labels import as_class, as_code, code_rule
from assay.ingest.source import SourcePart, raw_json, read_part
from assay.ingest.values import as_number, as_text, time_rules, times_of, when, without
from assay.runtime.arrow_files import conform_table
from assay.runtime.tables import OBSERVATIONS, SOURCE_ROWS, TIME, observation_fields

if TYPE_CHECKING:
    import polars as pl

SEPARATOR = "; "


def checked_schema(dataset: DatasetConfig) -> pa.Schema:
    """Rows between reading and writing: observations, and what is wrong with them."""
    return pa.schema(
        [
            *OBSERVATIONS.schema(observation_fields(dataset)),
            *([pa.field(EXACT_TIME, TIME)] if dataset.time.align else []),
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
                yield from self.check(chunk, part.name)

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
            reasons = _reasons(rules, raw.height)
            frame = frame.with_columns(reasons)
            if (align := self.dataset.time.align) is not None:
                start = period_start(frame["time"], align.frequency, self.dataset.time.zone).alias("time")
                frame = frame.with_columns(pl.col("time").alias(EXACT_TIME), pl.lit(1, pl.Int64).alias(SOURCE_ROWS))
                frame = frame.with_columns(start)
            frame = frame.with_columns(_raw_of(raw, reasons), month=pl.col("time").dt.strftime("%Y-%m"))
            frame = frame.with_columns(row_ids(frame, self.dataset))
            yield from conform_table(frame.to_arrow(), schema)
        if chunk.broken:
            yield from conform_table(_broken(chunk, source_file, schema), schema)


def typed_columns(
    raw: pl.DataFrame, dataset: DatasetConfig, now: dt.datetime
) -> tuple[list[pl.Series], list[pl.Series]]:
    """Columns under their stored names and types, and texts per rule that a row breaks, null where a row is fine."""
    time = times_of(raw, dataset.time)
    rules = time_rules(raw[dataset.time.column], time, dataset.time, now) if dataset.time.dated else []
    columns = [time.alias("time")]
    unknown = dataset.unknown_values
    for name in dataset.text_columns:
        text = without(as_text(raw[name]), unknown.get(name, ()))
        columns.append(text.alias(stored_name(name)))
        if name in dataset.entity and text.null_count():
            rules += when(text.is_null(), f"column {name!r}: entity key is missing (dataset.entity)")
    targets = {target.name: target for target in dataset.observed_targets}
    for name, target in dataset.labels.items():
        code, bad = as_code(raw[target.source_column], target)
        rules += code_rule(bad, target)
        columns.append(code.alias(stored_name(name)))
    for name in dataset.numeric_columns:
        if name in dataset.labels:
            continue
        number, bad = as_number(raw[name])
        number = without(number, unknown.get(name, ()))
        rules += when(bad, f"column {name!r}: not a number (dataset.{'targets' if name in targets else 'columns'})")
        finite = math.isfinite(number.sum())
        if not finite and name in targets:
            unusable = number.is_nan() | number.is_infinite()
            rules += when(unusable, f"column {name!r}: target is NaN or infinite (dataset.targets)")
        elif not finite:
            rules += when(number.is_infinite(), f"column {name!r}: infinite (dataset.columns)")
        if name in targets and targets[name].transform == "log":
            low = (number <= 0) & (number > -math.inf)
            rules += when(low, f"column {name!r}: not above 0, as transform log needs (dataset.targets.transform)")
        number = number if finite else number.fill_nan(None)
        if name in dataset.bounds:
            least, most = dataset.bounds[name]
            outside = (number < least) | (number > most)
            rules += when(outside, f"column {name!r}: outside {least:g} to {most:g} (dataset.bounds.{name})")
        columns.append(number.alias(stored_name(name)))
    return columns, rules


def _reasons(rules: list[pl.Series], rows: int) -> pl.Series:
    """All reasons of each row as one text, null without any."""
    import polars as pl

    if not rules:
        return pl.Series("reasons", [None] * rows, dtype=pl.String)
    broken = pl.DataFrame([rule.alias(f"rule_{place}") for place, rule in enumerate(rules)])
    joined = pl.concat_str(pl.all(), separator=SEPARATOR, ignore_nulls=True).replace("", None)
    return broken.select(joined.alias("reasons")).to_series()


def _raw_of(raw: pl.DataFrame, reasons: pl.Series) -> pl.Series:
    import polars as pl

    texts: list[str | None] = [None] * raw.height
    for index in reasons.is_not_null().arg_true():
        texts[index] = raw_json(raw.row(index, named=True))
    return pl.Series("raw", texts, dtype=pl.String)


def row_ids(frame: pl.DataFrame, dataset: DatasetConfig, occurrence: np.ndarray[Any, Any] | None = None) -> pl.Series:
    """Stable 64-bit hash of entity, time and occurrence; pandas' hash is fixed, so ids outlive library versions."""
    import pandas as pd
    import polars as pl

    keys = [frame[stored_name(n)].fill_null("\0").to_numpy() for n in dataset.entity]
    keys.append(frame["time"].dt.timestamp("us").fill_null(-1).to_numpy())
    keys.append(occurrence if occurrence is not None else np.zeros(frame.height, dtype=np.int64))
    hashes = pd.util.hash_pandas_object(pd.DataFrame(dict(enumerate(keys))), index=False).to_numpy()
    return pl.Series("row_id", hashes.view(np.int64), dtype=pl.Int64)


def _broken(chunk: RawChunk, source_file: str, schema: pa.Schema) -> pa.Table:
    count = len(chunk.broken)
    columns = {field.name: pa.nulls(count, field.type) for field in schema}
    columns["source_file"] = pa.array([source_file] * count)
    columns["source_row"] = pa.array([number for number, _ in chunk.broken], pa.int64())
    columns["reasons"] = pa.array([chunk.why_broken] * count)
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
        align = self.dataset.time.align
        entity = [stored_name(n) for n in self.dataset.entity]
        key = [*entity, EXACT_TIME if align else "time"]
        content = sorted(set(source_names(self.dataset)) - {*key, "time"})
        good = frame.filter(pl.col("reasons").is_null()).sort("source_file", "source_row", maintain_order=True)
        bad = frame.filter(pl.col("reasons").is_not_null())
        if self.dataset.duplicates == "allow":
            # Numbered by content, so that the order of the source's rows and files changes no id.
            good = good.sort(*key, *content, "source_file", "source_row")
            occurrence = good.select(pl.int_range(pl.len()).over(key)).to_series().to_numpy()
            good = good.with_columns(row_ids(good, self.dataset, occurrence))
        elif good.height:
            chosen = _chosen(good, key, self.dataset.duplicates)
            doubles = good.filter(~chosen)
            moment = {key[-1]: self.dataset.time.column} if self.dataset.time.dated else {}
            names = {k: v for k, v in source_names(self.dataset).items() if k != "time"}
            found = told(doubles, {**moment, **names}, self.dataset)
            texts = [raw_json(row) for row in found.iter_rows(named=True)]
            doubles = doubles.with_columns(
                reasons=pl.lit(double_reason(self.dataset)), raw=pl.Series(texts, dtype=pl.String)
            )
            bad = pl.concat([bad, doubles]) if doubles.height else bad
            good = good.filter(chosen)
        kept = good.height
        if align is not None:
            bad = bad.with_columns(pl.col(EXACT_TIME).alias("time"))
            texts_of = [stored_name(n) for n in (*self.dataset.text_columns, *self.dataset.labels)]
            numbers_of = [stored_name(n) for n in self.dataset.numeric_columns]
            good = merge_periods(good, [*entity, "time"], texts_of, numbers_of, align)
            good = good.with_columns(row_ids(good, self.dataset))
            kept = int(good[SOURCE_ROWS].sum())
        if kept + bad.height != frame.height:
            raise AssertionError(f"ingest lost rows: {frame.height} in, {kept + bad.height} out")
        for part in (good.sort(*entity, "time", "row_id"), bad):
            yield from conform_table(part.to_arrow(), schema)


def _chosen(good: pl.DataFrame, key: list[str], rule: str) -> pl.Series:
    """Which rows of equal keys to keep."""
    import polars as pl

    index = pl.col("\0index")
    winner = index.first() if rule == "keep_first" else index.last()
    return good.select(key).with_row_index("\0index").select(index == winner.over(key)).to_series()


def double_reason(dataset: DatasetConfig) -> str:
    """Why a row is in the quarantine that was good, had it been alone."""
    return f"another row has the same entity and time: {dataset.duplicates} (dataset.duplicates)"


def source_names(dataset: DatasetConfig) -> dict[str, str]:
    """Stored name -> name in the source, of every column."""
    names = (*dataset.text_columns, *dataset.numeric_columns)
    moment = {"time": dataset.time.column} if dataset.time.dated else {}
    return {**moment, **{stored_name(name): dataset.source_name(name) for name in names}}


def told(rows: pl.DataFrame, names: Mapping[str, str], dataset: DatasetConfig) -> pl.DataFrame:
    """Columns under their names in the source (stored name -> name), classes as the source has them."""
    codes = {stored_name(name): target for name, target in dataset.labels.items()}
    columns = {
        name: as_class(rows[stored], codes[stored]) if stored in codes else rows[stored]
        for stored, name in names.items()
    }
    return rows.select(series.alias(name) for name, series in columns.items())
