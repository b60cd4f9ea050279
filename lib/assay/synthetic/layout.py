"""Consumes the numbers of rows, produces whose they are and when: entity, position among its rows, and time."""

from __future__ import annotations

import dataclasses
import datetime as dt
from functools import cached_property

import numpy as np

from assay.errors import ConfigError
from assay.synthetic.config import FIRST_YEAR, MarketConfig
from assay.synthetic.streams import uniforms

JITTER = 1  # the stream of irregular times
HOUR_US = 3_600_000_000
DAY_US = 24 * HOUR_US
STEP_US = {"hourly": HOUR_US, "daily": DAY_US, "weekly": 7 * DAY_US, "irregular": 30 * DAY_US}


@dataclasses.dataclass(frozen=True)
class Layout:
    """Rows lie by entity and time. An entity that has fewer rows than others starts later; all end together.

    Irregular times lie anywhere within 30 days each. The rows of a heavy entity are spread evenly over the whole time.
    """

    config: MarketConfig

    @property
    def entity_count(self) -> int:
        """Entities of the market."""
        return self.config.entity_count

    @cached_property
    def heavy_rows(self) -> int:
        """Rows of entity 0, where there is skew; else 0."""
        return round(self.config.skew * self.config.rows)

    @cached_property
    def periods(self) -> int:
        """Most rows of an entity, the heavy one apart."""
        light = self.config.entity_count - (self.heavy_rows > 0)
        return -(-(self.config.rows - self.heavy_rows) // light)

    @cached_property
    def bounds_us(self) -> tuple[int, int]:
        """Start and end of the market's time, in microseconds since 1970.

        Raises:
            ConfigError: that many times would reach back before 1900.
        """
        end = (self.config.end_date - dt.date(1970, 1, 1)).days * DAY_US
        if self.config.frequency == "monthly":
            last = np.datetime64(self.config.end, "M")
            first = last - self.periods
            start, end = (int(m.astype("datetime64[us]").astype(np.int64)) for m in (first, last))
        else:
            start = end - self.periods * STEP_US[self.config.frequency]
        if start < (dt.date(FIRST_YEAR, 1, 1) - dt.date(1970, 1, 1)).days * DAY_US:
            raise ConfigError(
                f"--rows {self.config.rows}: {self.periods:,} {self.config.frequency} times of an entity would reach "
                f"back before {FIRST_YEAR}; ask for more --entities (now {self.config.entity_count:,})"
            )
        return start, end

    @cached_property
    def drift_us(self) -> int:
        """Time from which drift shows."""
        if self.config.drift_start is not None:
            return (self.config.drift_start - dt.date(1970, 1, 1)).days * DAY_US
        start, end = self.bounds_us
        return start + (end - start) // 5 * 4

    def entities(self, start: int, stop: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Of rows start <= row < stop: entity, position among its rows in order of time, and how many it has; int64."""
        heavy = self.heavy_rows
        first = int(heavy > 0)
        count, more = divmod(self.config.rows - heavy, self.config.entity_count - first)
        row = np.arange(start, stop) - heavy
        # The first `more` entities have a row more than the others.
        long = row < more * (count + 1)
        rest = row - more * (count + 1)
        entity = first + np.where(long, row // (count + 1), more + rest // count)
        position = np.where(long, row % (count + 1), rest % count)
        rows = np.where(long, count + 1, count)
        if heavy:
            own = row < 0
            entity, position = np.where(own, 0, entity), np.where(own, row + heavy, position)
            rows = np.where(own, heavy, rows)
        return entity, position, rows

    def times(self, start: int, stop: int) -> np.ndarray:
        """Of rows start <= row < stop: microseconds since 1970; int64, growing with the position within an entity."""
        entity, position, rows = self.entities(start, stop)
        begin, end = self.bounds_us
        index = self.periods - rows + position
        if self.config.frequency == "monthly":
            months = np.datetime64(begin, "us").astype("datetime64[M]") + np.maximum(index, 0)
            time = months.astype("datetime64[us]").astype(np.int64)
        else:
            step = STEP_US[self.config.frequency]
            time = begin + index * step
            if self.config.frequency == "irregular":
                jitter = uniforms(self.config.seed, JITTER, start, stop)
                time = time + (jitter * (step // 1_000_000)).astype(np.int64) * 1_000_000
        if self.heavy_rows:
            heavy = begin + position * ((end - begin) // self.heavy_rows)
            time = np.where(entity == 0, heavy, time)
        moments: np.ndarray = time
        return moments
