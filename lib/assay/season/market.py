"""Consumes a calendar, produces the raw files of each day as a market would send them, and what must come of them.

A history comes first, then one CSV file a day whose prices are not known yet. Each file comes again, whole,
`LABEL_DAYS` later: then it has them.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
from collections import Counter
from functools import cached_property
from pathlib import Path
from typing import Any

import polars as pl

from assay.season.faults import FIRST_DAY, LABEL_DAYS, Calendar
from assay.synthetic.config import DriftConfig, MarketConfig
from assay.synthetic.dataset import dataset_tree
from assay.synthetic.files import chunk
from assay.synthetic.presets import TIME

ENTITIES = 100
NEWCOMERS = 12  # entities of the segment that nobody has seen
NEW_REGION = "r900"
HISTORY_DAYS = 240
BAD_SHARE = 0.004  # of rows that break a rule of ingest
LEVEL = 0.15  # of the shock: of the logarithm of all prices
BROKEN = "condition"  # column that is zero while it is broken
TARGET = "price"  # which comes late
UNREAD = "sales"  # of the market, left out
OF_TARGET = "target_"  # rules of ingest that only rows with an outcome can break begin so

Key = tuple[Any, ...]


@dataclasses.dataclass(frozen=True)
class Expected:
    """Rows that the tables must have: keys of observations (entity, time), and of the quarantine (file, row)."""

    observations: Counter[Key]
    quarantine: Counter[Key]


@dataclasses.dataclass(frozen=True)
class Stream:
    """The market of a season."""

    calendar: Calendar

    @cached_property
    def config(self) -> MarketConfig:
        """The market of the entities that are there from the start."""
        shock = self.calendar.fault("price_level")
        drift = DriftConfig() if shock is None else DriftConfig(level=LEVEL, start=shock.first.isoformat())
        return MarketConfig(
            rows=ENTITIES * (HISTORY_DAYS + self.calendar.days),
            entities=ENTITIES,
            regions=4,
            kinds=3,
            end=(FIRST_DAY + dt.timedelta(days=self.calendar.days)).isoformat(),
            seed=self.calendar.seed,
            bad_share=BAD_SHARE,
            drift=drift,
        )

    @cached_property
    def rows(self) -> pl.DataFrame:
        """All rows of all days, in the order of their files: columns of the source, and of ours.

        day: on which it happens.  file: that it comes in.  place: its row there, from 1.  fault: the rule of ingest
        that it breaks, or null.
        """
        found = _rows(self.config)
        new = self.calendar.fault("new_segment")
        if new is not None:
            found = pl.concat([found, self._newcomers(new.first)])
        broken = self.calendar.fault("broken_feature")
        if broken is not None:
            wrong = pl.col("day").is_between(broken.first, broken.last)
            found = found.with_columns(pl.when(wrong).then(0.0).otherwise(pl.col(BROKEN)).alias(BROKEN))
        early = FIRST_DAY - dt.timedelta(days=LABEL_DAYS)
        name = pl.when(pl.col("day") < early).then(pl.lit(_history(early))).otherwise(pl.format("{}.csv", "day"))
        found = found.with_columns(name.alias("file")).sort("file", "day", maintain_order=True)
        return found.with_columns((pl.int_range(pl.len()).over("file") + 1).alias("place"))

    def _newcomers(self, first: dt.date) -> pl.DataFrame:
        days = (FIRST_DAY - first).days + self.calendar.days
        drift = self.config.drift
        same = drift if drift.start is None or drift.start > first.isoformat() else DriftConfig()
        config = dataclasses.replace(
            self.config,
            rows=NEWCOMERS * days,
            entities=NEWCOMERS,
            seed=self.calendar.seed + 1,
            bad_share=0.0,
            drift=same,
        )
        return _rows(config).with_columns(
            pl.col("entity").str.replace("e", "n", literal=True), pl.lit(NEW_REGION).alias("region")
        )

    def deliver(self, folder: Path, day: dt.date) -> None:
        """Write what a day brings: its own rows without outcomes, and the outcomes of `LABEL_DAYS` before.

        The day before the first brings the history. Files appear whole or not at all; delivered again, they are the
        same.
        """
        folder.mkdir(parents=True, exist_ok=True)
        if day < FIRST_DAY:
            early = FIRST_DAY - dt.timedelta(days=LABEL_DAYS)
            self._write(folder, _history(early), day)
            for back in range(LABEL_DAYS, 0, -1):
                self._write(folder, f"{FIRST_DAY - dt.timedelta(days=back)}.csv", day)
            return
        for one in (day - dt.timedelta(days=LABEL_DAYS), day):
            self._write(folder, f"{one}.csv", day)

    def _write(self, folder: Path, name: str, day: dt.date) -> None:
        rows = self.rows.filter(pl.col("file") == name)
        late = pl.col("day") > day - dt.timedelta(days=LABEL_DAYS)
        rows = rows.with_columns(pl.when(late).then(None).otherwise(pl.col(TARGET)).alias(TARGET))
        path, part = folder / name, folder.with_name(f".{name}.part")
        rows.drop("day", "file", "place", "fault", UNREAD).write_csv(part, datetime_format="%Y-%m-%dT%H:%M:%S")
        if path.is_file() and path.read_bytes() == part.read_bytes():
            part.unlink()
        else:
            part.replace(path)

    def expected(self, day: dt.date) -> Expected:
        """What the tables must have once a day's files were ingested."""
        rows = self.rows.filter(pl.col("day") <= day).with_columns(bad=self._bad(day))
        good, bad = rows.filter(~pl.col("bad")), rows.filter("bad")
        return Expected(
            Counter(good.select("entity", TIME).rows()), Counter(bad.select("file", pl.col("place")).rows())
        )

    def scored(self, day: dt.date) -> Counter[Key]:
        """Entities that must get one prediction each on the day itself."""
        rows = self.rows.filter((pl.col("day") == day) & ~self._bad(day))
        return Counter(rows.select("entity").rows())

    def _bad(self, day: dt.date) -> pl.Expr:
        """Whether ingest must refuse a row as it is known on a day."""
        known = pl.col("day") <= day - dt.timedelta(days=LABEL_DAYS)
        fault = pl.col("fault")
        return (fault.is_not_null() & (known | ~fault.str.starts_with(OF_TARGET))).fill_null(value=False)

    def outcomes(self) -> pl.DataFrame:
        """What every good row of the season came to: entity, day, price."""
        return self.rows.filter(pl.col("fault").is_null()).select("entity", "day", TARGET)

    def dataset(self, source: str) -> dict[str, Any]:
        """The dataset YAML as plain data. source: the folder of raw files.

        Fewer features than a market of its own would take, so that a day costs seconds.
        """
        tree = dataset_tree(self.config)
        return {
            **tree,
            "name": "season",
            "description": f"A season of {self.calendar.days} days of an invented market; seed {self.calendar.seed}",
            "source": {"path": source, "format": "csv"},
            "columns": {**tree["columns"], "outcomes": []},
            "availability_delay_days": {TARGET: LABEL_DAYS},
            "groups": [],
            "segments": ["kind"],
            "features": {
                "lags": [1, 2, 7],
                "windows_days": [7, 28],
                "statistics": ["mean", "std"],
                "expanding": [],
                "halflives_days": [7],
                "trend_days": [],
                "seasonality_days": [],
            },
        }


def _history(early: dt.date) -> str:
    """Name of the file of all days before `early`; in front of the others, as the first of two doubles stays."""
    return f"{early - dt.timedelta(days=1)}-and-before.csv"


def _rows(config: MarketConfig) -> pl.DataFrame:
    """All rows of a market, with the day that each happens on and the rule that it breaks."""
    source, truth = (pl.from_arrow(table) for table in chunk(config, 0, config.rows))
    assert isinstance(source, pl.DataFrame)
    assert isinstance(truth, pl.DataFrame)
    texts = [name for name, kind in source.schema.items() if kind == pl.Categorical]
    return source.with_columns(
        *(pl.col(name).cast(pl.String) for name in texts),
        pl.col(TIME).dt.replace_time_zone(None),
        day=truth[TIME].dt.date(),
        fault=truth["fault"].cast(pl.String),
    )
