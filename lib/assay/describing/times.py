"""Consumes a raw column, produces whether it holds times, in which format, and how even their steps are."""

from __future__ import annotations

import dataclasses
import itertools
from typing import Any

import numpy as np
import polars as pl

from assay.config.dataset import EPOCHS, TimeConfig
from assay.describing.names import words
from assay.ingest.values import parse_time

READ = 2_000  # distinct texts that formats are tried on
ENOUGH = 0.98
DATES = (
    *("%Y%m%d", "%d/%m/%Y", "%m/%d/%Y", "%d.%m.%Y", "%d-%m-%Y", "%m-%d-%Y", "%Y/%m/%d", "%Y.%m.%d"),
    *("%d/%m/%y", "%m/%d/%y", "%d.%m.%y", "%d-%b-%Y", "%d-%b-%y", "%d %b %Y", "%d %B %Y", "%b %d, %Y", "%B %d, %Y"),
    *("%d%b%Y", "%a %b %d %Y", "%b %Y", "%B %Y", "%b-%Y", "%m/%Y", "%Y %b", "%Y %B", "%Y-%b"),
)
CLOCKS = ("", " %H:%M:%S", " %H:%M", "T%H%M%S", " %H:%M:%S%.f", " %I:%M:%S %p", " %I:%M %p", "%H%M%S", "T%H:%M:%S")
YEAR, MONTH = "%Y", "%Y%m"
SINCE = (631_152_000, 2_208_988_800)  # seconds since 1970 of 1990 and 2040: other numbers are seldom there
NAMES = frozenset(
    {"date", "time", "timestamp", "datetime", "ts", "ds", "day", "week", "month", "year", "epoch", "unix"}
)
FEWEST_MONTHS = 6  # numbers such as 201501 that are months without a name that says so
HOUR_US = 3_600_000_000
DAY_US = 24 * HOUR_US
STEPS = {  # median step in microseconds, and how it is called
    "1h": (HOUR_US, HOUR_US),
    "1d": (DAY_US, DAY_US),
    "1w": (7 * DAY_US, 7 * DAY_US),
    "1mo": (28 * DAY_US, 31 * DAY_US),
    "1q": (90 * DAY_US, 92 * DAY_US),
    "1y": (365 * DAY_US, 366 * DAY_US),
}


@dataclasses.dataclass(frozen=True)
class Times:
    """What a column of times holds. values: UTC microseconds. format: None for ISO and typed times. read: share."""

    values: pl.Series
    format: str | None
    read: float
    doubtful: str = ""


def times_in(raw: pl.Series) -> Times | None:
    """Times of a column, or None where it holds something else."""
    if raw.dtype == pl.Date or isinstance(raw.dtype, pl.Datetime):
        return _read(raw, None)
    if raw.dtype.is_numeric():
        return _numbers(raw)
    return _texts(raw) if raw.dtype == pl.String else None


def _texts(raw: pl.Series) -> Times | None:
    texts = raw.drop_nulls().str.strip_chars()
    texts = texts.filter(texts != "").unique(maintain_order=True)
    some = texts.gather(np.unique(np.linspace(0, len(texts) - 1, READ).astype(int))) if len(texts) else texts
    if not len(some) or not some.head(50).str.contains(r"\d").all():
        return None
    if some.str.contains(r"^-?\d+(\.0*)?$").all():
        return _numbers(raw.str.strip_chars().cast(pl.Float64, strict=False))
    if _share(some, None) >= ENOUGH:
        return _read(raw, None)
    found = {f: _share(some, f) for f in (a + b for a, b in itertools.product(DATES, CLOCKS))}
    most = max(found.values())
    fitting = [f for f, share in found.items() if share >= max(ENOUGH, most)]
    if not fitting:
        return None
    read = [_read(raw, f) for f in fitting[:2]]
    if len(read) > 1 and not read[0].values.equals(read[1].values):
        # 03/04: of two ways to read them the one with the more even steps is right.
        read.sort(key=lambda one: -_evenness(one.values))
        return dataclasses.replace(read[0], doubtful=read[1].format or "")
    return read[0]


def year_in(raw: pl.Series) -> Times | None:
    """Whole numbers that may be years, as times."""
    number = (
        raw.cast(pl.Float64, strict=False).drop_nulls() if raw.dtype.is_numeric() or raw.dtype == pl.String else None
    )
    if (
        number is None
        or not len(number)
        or not bool(((number == number.round(0)) & number.is_between(1800, 2200)).all())
    ):
        return None
    return _read(raw, YEAR)


def _numbers(raw: pl.Series) -> Times | None:
    """20141013 or 201410; or numbers since 1970 where their name, or their being round, says so."""
    number = raw.cast(pl.Float64, strict=False).drop_nulls()
    if not len(number) or not bool((number == number.round(0)).all()):
        return None
    if bool(number.is_between(19_000_101, 22_001_231).all()) and _share(number.unique(), "%Y%m%d") >= ENOUGH:
        return _read(raw, "%Y%m%d")
    if (
        words(raw.name) & NAMES
        and number.is_between(10_101, 991_231).all()
        and _share(number.unique(), "%y%m%d") > ENOUGH
    ):
        return _read(raw, "%y%m%d")
    if bool(number.is_between(180_001, 220_012).all() and (number % 100).is_between(1, 12).all()):
        return _read(raw, MONTH) if number.n_unique() >= FEWEST_MONTHS or words(raw.name) & NAMES else None
    units = units_since_1970(number)
    if units is None or number.n_unique() < 2:
        return None
    whole = float((number % (60 if units == "%s" else 1_000) == 0).mean() or 0)  # type: ignore[arg-type]
    return _read(raw, units) if whole >= 0.9 or words(raw.name) & NAMES else None


def units_since_1970(number: pl.Series) -> str | None:
    """The format of numbers that may be seconds, or parts of them, since 1970, by where they lie; else None."""
    number = number.drop_nulls()
    if not len(number) or not bool((number == number.round(0)).all()):
        return None
    first, last = SINCE
    return next((n for n, units in EPOCHS.items() if number.is_between(first * units, last * units).all()), None)


def since_1970(raw: pl.Series) -> Times | None:
    """Numbers that lie as those since 1970 do, as times, whatever else they may be."""
    units = units_since_1970(raw.cast(pl.Float64, strict=False)) if raw.dtype.is_numeric() else None
    return _read(raw, units) if units is not None else None


def _share(values: pl.Series, pattern: str | None) -> float:
    return _read(values, pattern).read


def _read(raw: pl.Series, pattern: str | None) -> Times:
    filled = len(raw) - raw.null_count()
    if (raw.dtype == pl.String and pattern == "%Y%m%d") or pattern in {YEAR, MONTH, *EPOCHS}:
        raw = raw.cast(pl.Float64, strict=False)
    try:
        values = parse_time(raw, TimeConfig(column=raw.name or "time", format=pattern))
    except pl.exceptions.PolarsError:  # a format that chrono has no use for
        values = pl.Series(raw.name, [None] * len(raw), dtype=pl.Datetime("us", "UTC"))
    return Times(values, pattern, (len(values) - values.null_count()) / filled if filled else 0.0)


def _evenness(values: pl.Series) -> float:
    known = np.unique(microseconds(values)[values.is_not_null().to_numpy()])
    one = np.zeros(len(known), dtype=np.int64)
    return steps_of(one, one, known).even


def microseconds(values: pl.Series) -> np.ndarray[Any, Any]:
    """Microseconds since 1970, 0 for none."""
    return values.dt.timestamp("us").fill_null(0).to_numpy()


@dataclasses.dataclass(frozen=True)
class Steps:
    """How far apart the rows of a series are. median_us: microseconds, 0 without any. even: share near the median.

    frequency: as `quality.frequency` has it, None where steps are not even or have no name.
    """

    median_us: float
    even: float
    frequency: str | None

    @property
    def told(self) -> str:
        """The median step, for people."""
        for unit, us in (("day", DAY_US), ("hour", HOUR_US), ("minute", 60_000_000), ("second", 1_000_000)):
            if self.median_us >= us:
                count = self.median_us / us
                return f"{count:.3g} {unit}{'' if count == 1 else 's'}"
        return "none"


def steps_of(entity: np.ndarray[Any, Any], part: np.ndarray[Any, Any], time_us: np.ndarray[Any, Any]) -> Steps:
    """Steps between the times of an entity's rows that stand in one part of the sample. All three: (rows,)."""
    order = np.lexsort((time_us, part, entity))
    same = (np.diff(entity[order]) == 0) & (np.diff(part[order]) == 0)
    steps = np.diff(time_us[order])[same]
    steps = steps[steps > 0]
    if len(steps) < 3:
        return Steps(0.0, 0.0, None)
    median = float(np.median(steps))
    for name, (low, high) in STEPS.items():
        if low <= median <= high:
            even = float(np.mean((steps >= low) & (steps <= high)))
            if name == "1d" and even < 0.9 and np.mean((steps == DAY_US) | (steps == 3 * DAY_US)) > 0.9:
                return Steps(median, even, "business_day")
            return Steps(median, even, name if even >= 0.8 else None)
    even = float(np.mean(steps == median))
    minutes = median / 60e6
    exact = minutes == int(minutes) and 1 <= minutes < 1440 and even >= 0.8
    return Steps(median, even, f"{int(minutes)}m" if exact else None)
