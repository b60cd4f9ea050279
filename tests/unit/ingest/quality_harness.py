"""Produces checked rows and what quality says of them, without Spark: the kernels run on frames, cut anyhow."""

from __future__ import annotations

import csv
import datetime as dt
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import yaml

from assay.config import DatasetConfig, RunConfig, load_run
from assay.ingest.quality import PART, PARTIALS, QualityReport, Watch
from assay.ingest.quality_partial import Partial, Sampling, measure, merge
from assay.ingest.rules import CheckRows, ResolveDuplicates, checked_schema
from assay.ingest.source import SourcePart

NOW = dt.datetime(2020, 1, 1, tzinfo=dt.timezone.utc)
ALL = Sampling(10**6, 10**6)
TREE: dict[str, Any] = {
    "name": "shops",
    "source": {"path": "shops.csv"},
    "time": {"column": "day"},
    "entity": ["shop"],
    "targets": [{"name": "sales", "transform": "log"}],
    "columns": {"numeric": ["low", "high"], "categorical": ["kind", "town"]},
    "bounds": {"low": [-1000, 1000]},
    "quality": {"categories": {"kind": ["a", "b"]}, "checks": ["low <= high"]},
}


def run_config(folder: Path, *overrides: str, date: str | None = None, **changes: Any) -> RunConfig:
    """The configuration of TREE with these keys changed."""
    path = folder / "shops.yml"
    path.write_text(yaml.safe_dump({**TREE, **changes}), encoding="utf-8")
    return load_run(dataset=path, workspace=folder, overrides=overrides, date=date)


def clean_rows(shops: int = 4, days: int = 60) -> list[dict[str, Any]]:
    """Rows without any fault: each shop has a row on each day, in order."""
    start = dt.date(2019, 10, 1)
    return [
        {
            "day": (start + dt.timedelta(days=day)).isoformat(),
            "shop": f"s{shop}",
            "sales": str(100 + (7 * day + 13 * shop) % 31),
            "low": str((day * 3 + shop) % 11),
            "high": str(20 + (day + shop) % 13),
            "kind": "ab"[(day + shop) % 2],
            "town": f"t{(day + shop) % 3}",
        }
        for shop in range(shops)
        for day in range(days)
    ]


def write_csv(path: Path, rows: Sequence[dict[str, Any]]) -> SourcePart:
    """The rows as a CSV with TREE's columns; a row with the key `raw` is written as that line."""
    names = ["day", "shop", "sales", "low", "high", "kind", "town"]
    with path.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(names)
        for row in rows:
            writer.writerow(row["raw"] if "raw" in row else [row[name] for name in names])
    return SourcePart(str(path), path.name, "csv")


def checked(dataset: DatasetConfig, *parts: SourcePart) -> pl.DataFrame:
    """Rows of `checked_schema`."""
    table = pa.Table.from_batches(list(CheckRows(dataset, NOW)(iter(parts))), checked_schema(dataset))
    frame = pl.from_arrow(table)
    assert isinstance(frame, pl.DataFrame)
    return frame


def measured_whole(frame: pl.DataFrame, dataset: DatasetConfig, sampling: Sampling = ALL) -> Partial:
    """The partial of all rows at once."""
    return measure(frame, dataset, NOW, sampling)


def by_month(frame: pl.DataFrame, dataset: DatasetConfig, groups: Sequence[int], sampling: Sampling = ALL) -> Partial:
    """The merged partial of rows that were cut by month, as the shuffle does; groups: month number -> task."""
    months = frame["month"].unique().sort().to_list()
    tasks: dict[int, list[str | None]] = {}
    for index, month in enumerate(months):
        tasks.setdefault(groups[index % len(groups)], []).append(month)
    parts = [
        measure(frame.filter(pl.col("month").is_in(wanted, nulls_equal=True)), dataset, NOW, sampling)
        for wanted in tasks.values()
    ]
    return merge(parts, sampling)


def report(config: RunConfig, *parts: SourcePart) -> QualityReport:
    """What ingest would report, through its own kernel."""
    frame = checked(config.dataset, *parts)
    watch = Watch(config, NOW, rows_hint=frame.height)
    schema = checked_schema(config.dataset)
    batches = frame.to_arrow().cast(schema).to_batches(max_chunksize=max(50, frame.height // 8))
    out = pa.Table.from_batches(list(watch.over(ResolveDuplicates(config.dataset))(iter(batches))))
    told = out.filter(pa.compute.is_valid(out.column(PART))).select(PARTIALS.names)
    watch.aside.take(told)
    found = watch.report()
    assert found is not None
    return found
