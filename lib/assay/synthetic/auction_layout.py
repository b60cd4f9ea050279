"""Consumes the numbers of auctioned lots, produces whose they are and when: machine, which of its sales, and day."""

from __future__ import annotations

import dataclasses
from functools import cached_property

import numpy as np

from assay.errors import ConfigError
from assay.synthetic.config import FIRST_YEAR
from assay.synthetic.layout import DAY_US, Layout
from assay.synthetic.streams import uniforms

YEARS = 20
GROWTH = 1.8  # logarithm of how many times as many lots a day the last year has as the first
APART_DAYS = 180  # between two sales of a machine, at least
SALES = (2, 1, 2, 1, 3, 1)  # of machines, over and over; one that is sold once follows one that is sold again
FIRST_ROW = np.concatenate(([0], np.cumsum(SALES)))
MOMENT, WEEKDAY = 200, 203  # the random streams of sales (three of them), and of days of the week
AUCTION_DAYS = 3  # of a week, from its Tuesday on


@dataclasses.dataclass(frozen=True)
class AuctionLayout(Layout):
    """Lots lie by machine and day. A machine is sold once, twice or three times in twenty years, ever more of them."""

    @cached_property
    def heavy_rows(self) -> int:
        """None: no machine is sold that often."""
        return 0

    @property
    def entity_count(self) -> int:
        """Machines that are sold."""
        entity, _, _ = self.entities(self.config.rows - 1, self.config.rows)
        return int(entity[0]) + 1

    @cached_property
    def bounds_us(self) -> tuple[int, int]:
        """Start and end of the auctions, in microseconds since 1970.

        Raises:
            ConfigError: they would begin before 1900.
        """
        if self.config.end_date.year < FIRST_YEAR + YEARS + 1:
            raise ConfigError(
                f"--end {self.config.end}: auctions last {YEARS} years; choose one from {FIRST_YEAR + 21} on"
            )
        end = np.datetime64(self.config.end, "D").astype(np.int64)
        return int(end - round(YEARS * 365.25)) * DAY_US, int(end) * DAY_US

    def entities(self, start: int, stop: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Of rows start <= row < stop: machine, which of its sales from 0, and how many it has; int64."""
        row = np.arange(start, stop)
        cycle, place = np.divmod(row, FIRST_ROW[-1])
        which = np.searchsorted(FIRST_ROW, place, side="right") - 1
        first = cycle * FIRST_ROW[-1] + FIRST_ROW[which]
        # The last machine may have sales that lie beyond the last row.
        rows = np.minimum(np.array(SALES)[which], self.config.rows - first)
        return cycle * len(SALES) + which, row - first, rows

    def times(self, start: int, stop: int) -> np.ndarray:
        """Of rows start <= row < stop: microseconds since 1970, midnight of an auction's day; int64."""
        entity, position, _ = self.entities(start, stop)
        found: np.ndarray = self.sales_us(entity, position)
        return found

    def first_us(self, entity: np.ndarray) -> np.ndarray:
        """Microseconds since 1970 of the first sales of machines, which come in order."""
        return self.sales_us(entity, np.zeros_like(entity))

    def sales_us(self, entity: np.ndarray, position: np.ndarray) -> np.ndarray:
        """Microseconds since 1970 of sales of machines, which come in order."""
        first, last = int(entity[0]), int(entity[-1]) + 1
        sales = np.array(SALES)[np.arange(first, last) % len(SALES)]
        drawn = np.stack([uniforms(self.config.seed, MOMENT + k, first, last) for k in range(max(SALES))], axis=1)
        drawn[np.arange(max(SALES)) >= sales[:, None]] = 1.0  # sales that do not happen come last
        share = np.sort(drawn, axis=1)[entity - first, position]
        begin, end = (bound // DAY_US for bound in self.bounds_us)
        later = (sales[entity - first] - 1) * APART_DAYS
        span = end - begin - later - 8  # up to the week's last auction
        # The share of all sales until a moment grows as exp(GROWTH * moment) does.
        moment = np.log1p(share * np.expm1(GROWTH)) / GROWTH
        day = begin + (moment * span).astype(np.int64) + position * APART_DAYS
        chance = uniforms(self.config.seed, WEEKDAY, first * max(SALES), last * max(SALES))
        weekday = (AUCTION_DAYS * chance[(entity - first) * max(SALES) + position]).astype(np.int64)
        found: np.ndarray = (day + (5 - day) % 7 + weekday) * DAY_US  # 1970-01-06 was a Tuesday
        return found
