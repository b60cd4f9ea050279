"""Consumes auctioned lots, produces their columns as auction houses publish them: names, texts, and what is missing.

Years that nobody knows are 1000, meters that nobody read are 0 or missing, and what a product group has not at all is
missing, while "None or Unspecified" says that it might be there.
"""

from __future__ import annotations

import itertools

import numpy as np
import pyarrow as pa

from assay.synthetic.auctions import DRIVES, HOUSES, HYDRAULICS, MODELS, STICKS, Auctions
from assay.synthetic.cells import MOMENT, TEXT, Bad, codes
from assay.synthetic.process import Rows
from assay.synthetic.streams import uniforms

FIRST_SALE, FIRST_MACHINE, FIRST_MODEL = 1_000_000, 100_000, 1_000
UNKNOWN_YEAR, UNKNOWN_YEARS, UNSAID = 1000, 0.06, "None or Unspecified"
STATES = (
    *("Florida", "Texas", "California", "Washington", "Georgia", "Maryland", "Mississippi", "Ohio", "Illinois"),
    *("Colorado", "New Jersey", "North Carolina", "Tennessee", "Alabama", "Pennsylvania", "South Carolina", "Arizona"),
    *("New York", "Connecticut", "Minnesota", "Missouri", "Nevada", "Louisiana", "Kentucky"),
)
GROUPS = ("TEX", "TTT", "WL", "MG", "BL", "SSL")
SIZES = ("Mini", "Compact", "Small", "Medium", "Large / Medium", "Large")
UNSIZED = (4, 5)  # groups that have no ProductSize
ENCLOSURES = ("EROPS w AC", "EROPS", UNSAID, "OROPS", "NO ROPS")  # by what they add to a price, as grades do
HYDRAULIC = (UNSAID, "2 Valve", "3 Valve", "4 Valve", "Auxiliary", "Base + 6 Function")
DRIVE = ("Two Wheel Drive", "Four Wheel Drive", "No", "All Wheel Drive")
STICK = ("Standard", "Extended")
TIRES = (UNSAID, "14.0", "17.5", "20.5", "23.5", "26.5", "29.5")
TIRED = (2, 3)  # groups with tires of such sizes
SOURCES = ("132", "136", "149")  # where a lot was reported from; these know of discounts and featured sales
BANDS = ("Low", "Medium", "High")  # of use
# Of each group: how its class is called, its unit, its value at a model of size 100 and the power of size in it.
CLASSES = (
    ("Hydraulic Excavator, Track", "Metric Tons", 20.0, 1.0),
    ("Track Type Tractor, Dozer", "Horsepower", 140.0, 0.9),
    ("Wheel Loader", "Horsepower", 170.0, 0.9),
    ("Motorgrader", "Horsepower", 165.0, 0.3),
    ("Backhoe Loader", "Ft Standard Digging Depth", 14.5, 0.1),
    ("Skid Steer Loader", "Lb Operating Capacity", 1_800.0, 0.6),
)
STEPS, STEP_SHARES = np.array([100, 500, 1_000, 5_000]), (0.35, 0.65, 0.95)  # of prices, and how often up to each
YEAR, METER, USE, ROUND, TIRE = range(230, 235)  # random streams
MISSING = {"Enclosure": 240, "auctioneerID": 241, "ProductSize": 242}  # beyond what a lot's group has not

FIELDS = [
    *(("SalesID", pa.int64()), ("SalePrice", pa.float64()), ("MachineID", TEXT), ("ModelID", TEXT)),
    *(("datasource", TEXT), ("auctioneerID", TEXT), ("YearMade", TEXT), ("MachineHoursCurrentMeter", pa.float64())),
    *(("UsageBand", TEXT), ("saledate", MOMENT), ("ProductSize", TEXT), ("fiProductClassDesc", TEXT)),
    *(("state", TEXT), ("ProductGroup", TEXT), ("Drive_System", TEXT), ("Enclosure", TEXT), ("Hydraulics", TEXT)),
    *(("Tire_Size", TEXT), ("Stick", TEXT)),
]
WHOLE = {  # columns that every lot has
    *("SalesID", "SalePrice", "MachineID", "ModelID", "datasource", "YearMade", "saledate", "fiProductClassDesc"),
    *("state", "ProductGroup"),
}


def auction_columns(market: Auctions, rows: Rows, bad: Bad) -> dict[str, pa.Array]:
    """Columns of `FIELDS`, but machine, day and price."""
    first, last = int(rows.row[0]), int(rows.row[-1]) + 1
    seed, share, kind = market.config.seed, market.config.missing, rows.kind
    lost = {name: uniforms(seed, stream, first, last) < share for name, stream in MISSING.items()}
    chance = uniforms(seed, METER, first, last)
    model = market.model(rows.size)
    size = model * len(SIZES) // MODELS
    # A worn machine has worked more hours a year, and one that was hardly used is in a good condition.
    use = 1_100 * np.exp(1.2 * (0.5 - rows.condition) + 0.4 * (uniforms(seed, USE, first, last) - 0.5))
    hours = np.round(rows.age_years * use)
    meter = np.where(bad.infinite, np.inf, np.where(bad.outside, bad.value, np.where(chance < 0.15, 0.0, hours)))
    missing = (chance > 0.45) & ~bad.infinite & ~bad.outside
    band = np.searchsorted([850.0, 1_350.0], use)
    driven = 2 * (kind == 3) + market.drive(rows.entity)
    tire = np.where(uniforms(seed, TIRE, first, last) < 0.4, 0, 1 + size)
    return {
        "SalesID": pa.array(rows.row + FIRST_SALE),
        "ModelID": codes(kind * MODELS + model, [str(FIRST_MODEL + i) for i in range(len(GROUPS) * MODELS)]),
        "datasource": codes(rows.promotion, SOURCES),
        "auctioneerID": codes(
            market.house(first, last), [str(i + 1) for i in range(HOUSES)], hidden=lost["auctioneerID"]
        ),
        "YearMade": _years_made(market, rows, hidden=bad.text),
        "MachineHoursCurrentMeter": pa.array(meter, mask=missing),
        "UsageBand": codes(band, BANDS, hidden=missing | (chance < 0.15)),
        "ProductSize": codes(size, SIZES, hidden=np.isin(kind, UNSIZED) | lost["ProductSize"]),
        "fiProductClassDesc": codes(kind * len(SIZES) + size, class_texts(market)),
        "state": codes(rows.region, STATES),
        "ProductGroup": codes(kind, GROUPS),
        "Drive_System": codes(driven, DRIVE, hidden=~np.isin(kind, DRIVES)),
        "Enclosure": codes(rows.grade, ENCLOSURES, hidden=lost["Enclosure"]),
        "Hydraulics": codes(rows.rooms.astype(np.int64) - 1, HYDRAULIC, hidden=~np.isin(kind, HYDRAULICS)),
        "Tire_Size": codes(tire, TIRES, hidden=~np.isin(kind, TIRED)),
        "Stick": codes(market.stick(rows.entity).astype(np.int64), STICK, hidden=~np.isin(kind, STICKS)),
    }


def _years_made(market: Auctions, rows: Rows, *, hidden: np.ndarray) -> pa.DictionaryArray:
    """YearMade as text; of some lots it is unknown. hidden: lots whose year cannot be read."""
    first, last = int(rows.row[0]), int(rows.row[-1]) + 1
    made = np.where(
        uniforms(market.config.seed, YEAR, first, last) < UNKNOWN_YEARS, UNKNOWN_YEAR, market.made(rows.entity)
    )
    least = int(made.min())
    names = ["unreadable", *(str(year) for year in range(least, int(made.max()) + 1))]
    return codes(np.where(hidden, 0, made - least + 1), names)


def hammer_prices(market: Auctions, rows: Rows) -> np.ndarray:
    """Prices as they are called: whole hundreds, many of them whole five hundreds and thousands."""
    price = np.exp(rows.log_price)
    chance = uniforms(market.config.seed, ROUND, int(rows.row[0]), int(rows.row[-1]) + 1)
    step = STEPS[np.searchsorted(STEP_SHARES, chance)]
    step = np.where(20 * step <= price, step, STEPS[0])  # nobody rounds by more than a fortieth
    found: np.ndarray = np.maximum(np.round(price / step), 1) * step
    return found


def class_texts(market: Auctions) -> list[str]:
    """fiProductClassDesc by product group and size: ranges of what a machine lifts, weighs or reaches."""
    edges = market.size_edges(len(SIZES))
    found = []
    for word, unit, value, power in CLASSES:
        told = [value * (edge / 100) ** power for edge in edges]
        ends = [f"{end if end < 100 else round(end):.1f}" for end in told]
        found.append(f"{word} - 0.0 to {ends[0]} {unit}")
        found += [f"{word} - {low} to {high} {unit}" for low, high in itertools.pairwise(ends)]
        found.append(f"{word} - {ends[-1]} + {unit}")
    return found
