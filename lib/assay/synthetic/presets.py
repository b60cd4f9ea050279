"""Consumes a `MarketConfig`, produces how its market is made and shown: the process, and names of columns."""

from __future__ import annotations

import dataclasses

from assay.synthetic.auctions import Auctions
from assay.synthetic.config import MarketConfig
from assay.synthetic.layout import Layout
from assay.synthetic.process import Market

TIME = "observed_at"


@dataclasses.dataclass(frozen=True)
class Names:
    """Columns of the source.

    counted, measured: numbers of which bad rows have a text, and an infinite one.  bounded: the number of which they
    have one outside of low and high, namely `outside`.
    """

    time: str = TIME
    entity: str = "entity"
    price: str = "price"
    counted: str = "rooms"
    measured: str = "size"
    bounded: str = "age_years"
    low: float = 0.0
    high: float = 500.0
    outside: float = 9_999.0


METER = "MachineHoursCurrentMeter"
LOTS = Names("saledate", "MachineID", "SalePrice", "YearMade", METER, METER, 0.0, 1_000_000.0, 9_999_999.0)


@dataclasses.dataclass(frozen=True)
class Shown:
    """market: the process.  names: of its columns."""

    market: Market
    names: Names

    @property
    def layout(self) -> Layout:
        """Whose rows are whose, and when."""
        return self.market.layout


def shown(config: MarketConfig) -> Shown:
    """How a market is made and shown."""
    if config.preset == "auctions":
        return Shown(Auctions(config), LOTS)
    return Shown(Market(config), Names())
