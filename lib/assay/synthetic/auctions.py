"""Consumes the numbers of auctioned lots, produces them: the market's process, with what moves prices of machines.

A machine of a product group has the size of its model, keeps its year and its equipment, and is sold in its state. To
the level of `assay.synthetic.process` come, in place of a straight line of age,

    -loss[group] * (1 - exp(-age / years[group])) - 0.01 * age + house[auctioneer] + drive + stick
    -0.3 * dip(time) * (0.7 + 0.03 * age)

where dip rises from 0 to 1 over one year, the downturn, and then falls by a factor of e a year. Prices are rounded
when they are written: the truth is that of prices before.
"""

from __future__ import annotations

import datetime as dt
from functools import cached_property
from typing import ClassVar

import numpy as np

from assay.synthetic.auction_layout import AuctionLayout
from assay.synthetic.layout import DAY_US
from assay.synthetic.process import ROOM_EFFECT, YEAR_US, Drawn, Market, Sizes
from assay.synthetic.streams import normals, uniforms

MODELS = 30  # of a product group, from the smallest on
DOWNTURN_YEAR, DEPTH = 11, 0.3  # years from the start of the market; logarithm of prices
HOUSES = 12  # auctioneers; the first two are dearer
# Product groups by their number here: excavators, dozers, wheel loaders, motor graders, backhoes, skid steers.
GROUP_SHARES = np.array([0.26, 0.2, 0.18, 0.06, 0.2, 0.1])
HYDRAULICS, DRIVES, STICKS = (0, 1, 2, 5), (3, 4), (0, 4)  # groups whose machines have these options
STATE, GROUP, AGE_SOLD, LOSS, YEARS, HOUSE, HOUSE_EFFECT, DRIVE, STICK = range(210, 219)


class Auctions(Market):
    """The process. Any lot can be made by itself, and is the same whichever lots are made with it."""

    sizes: ClassVar[Sizes] = Sizes(
        price=11.0, year=0.015, age=0.0, condition=0.15, walk=0.003, region=0.06, entity=0.05
    )

    @cached_property
    def layout(self) -> AuctionLayout:
        """Whose lots are whose, and when."""
        return AuctionLayout(self.config)

    @property
    def downturn(self) -> tuple[str, str]:
        """First day of the downturn, and the day after its last one."""
        found = [self.layout.bounds_us[0] + round(year * YEAR_US) for year in (DOWNTURN_YEAR, DOWNTURN_YEAR + 1)]
        first, end = (str(dt.date(1970, 1, 1) + dt.timedelta(days=us // DAY_US)) for us in found)
        return first, end

    def groups(self, entity: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """State and product group of machines, which come in order; some have far more machines than others."""
        states = 1.0 / np.arange(2, self.config.regions + 2)
        return self._drawn(STATE, entity, states), self._drawn(GROUP, entity, GROUP_SHARES)

    def further(self, drawn: Drawn) -> np.ndarray:
        """What moves prices of machines beyond the market's level."""
        seed, kind, age = self.config.seed, drawn.kind, drawn.age
        loss, years = (uniforms(seed, stream, 0, self.config.kinds)[kind] for stream in (LOSS, YEARS))
        since = (drawn.time - self.layout.bounds_us[0]) / YEAR_US - DOWNTURN_YEAR
        dip = np.clip(since, 0, 1) * np.exp(-np.maximum(since - 1, 0))
        houses = 0.04 * normals(seed, HOUSE_EFFECT, 0, HOUSES) + np.where(np.arange(HOUSES) < 2, 0.1, 0.0)
        shown = np.isin(kind, HYDRAULICS)  # what a machine has not cannot move its price
        found: np.ndarray = (
            -(0.9 + 0.5 * loss) * -np.expm1(-age / (6 + 5 * years))
            - 0.01 * age
            + houses[self.house(drawn.first, drawn.last)]
            + 0.1 * (np.isin(kind, DRIVES) & self.drive(drawn.entity))
            + 0.05 * (np.isin(kind, STICKS) & self.stick(drawn.entity))
            - np.where(shown, 0.0, ROOM_EFFECT * drawn.rooms)
            - DEPTH * dip * (0.7 + 0.03 * age)
        )
        return found

    def house(self, start: int, stop: int) -> np.ndarray:
        """Auctioneers of lots start <= row < stop, from 0; the first ones have most lots."""
        share = np.cumsum(1.0 / np.arange(1, HOUSES + 1))
        return np.searchsorted(share / share[-1], uniforms(self.config.seed, HOUSE, start, stop))

    def drive(self, entity: np.ndarray) -> np.ndarray:
        """Whether all wheels of machines, which come in order, are driven."""
        return self._of(DRIVE, entity) < 0.4

    def stick(self, entity: np.ndarray) -> np.ndarray:
        """Whether machines, which come in order, have a stick that can be extended."""
        return self._of(STICK, entity) < 0.3

    def made(self, entity: np.ndarray) -> np.ndarray:
        """Years in which machines, which come in order, were made."""
        first = int(entity[0])
        age = self._entities(entity)[1][entity - first]  # at the start of the market; below 0 of those made later
        begin = dt.date(1970, 1, 1) + dt.timedelta(days=self.layout.bounds_us[0] // DAY_US)
        start = begin.year + (begin.timetuple().tm_yday - 1) / 365.25
        years: np.ndarray = np.floor(start - age).astype(np.int64)
        return years

    def model(self, size: np.ndarray) -> np.ndarray:
        """Models by their sizes, from 0 within a product group."""
        found: np.ndarray = np.searchsorted(_model_sizes(), size * 1.0001) - 1
        return found

    def size_edges(self, classes: int) -> np.ndarray:
        """Sizes between so many classes of models, equally many in each; shape (classes - 1,)."""
        found: np.ndarray = _model_sizes(edges=True)[MODELS // classes - 1 :: MODELS // classes]
        return found

    def _entities(self, entity: np.ndarray) -> tuple[np.ndarray, ...]:
        """As of the market: sizes are those of models, and ages tell those at the first sale, most of them young."""
        size, _, *others = super()._entities(entity)
        first, last = int(entity[0]), int(entity[-1]) + 1
        edges = _model_sizes(edges=True)
        size = _model_sizes()[np.searchsorted(edges, size)]
        sold_at = 0.5 + 25 * uniforms(self.config.seed, AGE_SOLD, first, last) ** 1.6
        sold = self.layout.first_us(np.arange(first, last))
        return size, sold_at - (sold - self.layout.bounds_us[0]) / YEAR_US, *others

    def _of(self, stream: int, entity: np.ndarray) -> np.ndarray:
        """Numbers of a stream that belong to machines, which come in order."""
        first = int(entity[0])
        found: np.ndarray = uniforms(self.config.seed, stream, first, int(entity[-1]) + 1)[entity - first]
        return found

    def _drawn(self, stream: int, entity: np.ndarray, shares: np.ndarray) -> np.ndarray:
        return np.searchsorted(np.cumsum(shares)[:-1] / shares.sum(), self._of(stream, entity))


def _model_sizes(*, edges: bool = False) -> np.ndarray:
    """Sizes of models (MODELS,), each as frequent as the others; or the edges between them (MODELS - 1,)."""
    from scipy.special import ndtri

    share = np.arange(1, MODELS) / MODELS if edges else (np.arange(MODELS) + 0.5) / MODELS
    found: np.ndarray = 100 * np.exp(0.5 * ndtri(share))
    return found
