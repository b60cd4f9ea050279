"""Consumes raw columns, produces times, texts and numbers, null where a value cannot be read, and the reasons why."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from assay.config.dataset import EPOCHS, FIRST_YEAR, LAST_YEAR, TimeConfig

if TYPE_CHECKING:
    import polars as pl

FUTURE = "in the future"
UNDATED = dt.datetime(1970, 1, 1, tzinfo=dt.timezone.utc)  # stands for the time of rows that have none
LAST_SECOND = 9_000_000_000  # since 1970, in the year 2255; in billionths still an integer of 64 bits
LARGEST_WHOLE = 2**53  # above it, a float cannot tell one whole number from the next
ISO = (
    *("%Y-%m-%d", "%Y-%m-%d %H:%M:%S%.f", "%Y-%m-%d %H:%M"),
    *("%Y-%m-%d %H:%M:%S%.f%#z", "%Y-%m-%d %H:%M%#z", "%Y-%m"),
)


def when(broken: pl.Series, reason: str) -> list[pl.Series]:
    """`reason` where a rule is broken, else null; nothing where no row breaks it. broken: null is not broken."""
    import polars as pl

    if not broken.any():
        return []
    return [pl.select(pl.when(broken).then(pl.lit(reason)).otherwise(pl.lit(None, dtype=pl.String))).to_series()]


def time_rules(raw: pl.Series, time: pl.Series, config: TimeConfig, now: dt.datetime) -> list[pl.Series]:
    """Why times cannot be used: unreadable, skipped by daylight saving, out of range, or not yet come."""
    import polars as pl

    name, wrong = f"column {config.column!r}", list[pl.Series]()
    if time.null_count():
        unread = time.is_null()
        # Read the bad ones again, by rules that forgive one thing at a time.
        in_utc = _read(raw.filter(unread), config, zone="UTC")
        far = ~_in_range(in_utc)
        places = pl.Series(unread.arg_true(), dtype=pl.UInt32)

        def back(found: pl.Series) -> pl.Series:
            return pl.repeat(False, len(raw), eager=True).scatter(places.filter(found), True)

        forward = f"{name}: no such time in {config.zone}, where clocks were put forward (dataset.time.zone)"
        wrong += when(back(in_utc.is_null()), f"{name}: no readable time (dataset.time.format)")
        wrong += when(back(far.fill_null(False)), f"{name}: not between {FIRST_YEAR} and {LAST_YEAR}, so no real time")
        wrong += when(back((~far).fill_null(False)), forward)
    if config.future == "quarantine":
        wrong += when(time > now, f"{name}: {FUTURE} (dataset.time.future)")
    return wrong


def times_of(rows: pl.DataFrame, config: TimeConfig) -> pl.Series:
    """`parse_time` of the rows' column; rows without a time are all of `UNDATED`."""
    import polars as pl

    if config.dated:
        return parse_time(rows[config.column], config)
    return pl.repeat(UNDATED, rows.height, dtype=pl.Datetime("us", "UTC"), eager=True)


def parse_time(column: pl.Series, config: TimeConfig) -> pl.Series:
    """Times as UTC microseconds; null where a value cannot be read, names no moment in the zone, or is out of range."""
    time = _read(column, config, zone=config.zone)
    return time.set(~_in_range(time).fill_null(True), None)


def _in_range(time: pl.Series) -> pl.Series:
    return time.dt.year().is_between(FIRST_YEAR, LAST_YEAR)


def _read(column: pl.Series, config: TimeConfig, *, zone: str) -> pl.Series:
    import polars as pl

    kind = column.dtype
    if config.format in EPOCHS and (kind.is_numeric() or kind == pl.String):
        return _since_1970(column, EPOCHS[config.format])
    if kind.is_numeric() and config.format is not None:
        column, kind = column.cast(pl.Int64, strict=False).cast(pl.String), pl.String()
    if kind == pl.String:
        text = column.str.strip_chars()
        if config.format is None:
            return _iso(text, zone)
        # Polars' %f means nanoseconds without the point; strptime's means what Polars writes %.f.
        pattern = config.format.replace(".%f", "%.f")
        parsed = text.str.to_datetime(pattern, strict=False, time_unit="us", ambiguous="earliest")
    elif kind == pl.Date or isinstance(kind, pl.Datetime):
        parsed = column.cast(pl.Datetime("us", getattr(kind, "time_zone", None)))
    else:
        return pl.Series(column.name, [None] * len(column), dtype=pl.Datetime("us", "UTC"))
    return _in_utc(parsed, zone)


def _since_1970(column: pl.Series, units: int) -> pl.Series:
    """Numbers of so many units a second, of UTC whatever the zone of other times; no fractions of a microsecond."""
    import polars as pl

    if column.dtype == pl.String:
        column = column.str.strip_chars().str.replace(r"\.0*$", "")
    number = column.cast(pl.Int64, strict=False)
    number = number.set((number.abs() > LAST_SECOND * units).fill_null(True), None)
    micro = number * (1_000_000 // units) if units < 1_000_000 else number // (units // 1_000_000)
    return micro.cast(pl.Datetime("us", "UTC")).alias(column.name)


def _in_utc(parsed: pl.Series, zone: str) -> pl.Series:
    """Times that carry no zone are local ones of `zone`; an hour that comes twice is the first of the two."""
    if getattr(parsed.dtype, "time_zone", None) is None:
        parsed = parsed.dt.replace_time_zone(zone, ambiguous="earliest", non_existent="null")
    return parsed.dt.convert_time_zone("UTC")


def _iso(text: pl.Series, zone: str) -> pl.Series:
    """ISO 8601 months, dates, and timestamps with `T` or a blank, with or without seconds, fraction and zone."""
    import polars as pl

    blank = text.str.replace("T", " ", literal=True)
    found = pl.Series(text.name, [None] * len(text), dtype=pl.Datetime("us", "UTC"))
    for pattern in ISO:
        parsed = _in_utc(blank.str.to_datetime(pattern, strict=False, time_unit="us"), zone)
        found = pl.select(pl.coalesce(found, parsed)).to_series()
        if found.null_count() == text.null_count():
            break
    return found


def as_text(column: pl.Series) -> pl.Series:
    """Keys and categories as text: whole numbers without a fraction, booleans as true and false, blanks as missing."""
    import polars as pl

    if column.dtype.is_float():
        number = column.fill_nan(None)
        whole = ((number == number.round(0)) & (number.abs() <= LARGEST_WHOLE)).fill_null(False)
        as_int = number.cast(pl.Int64, strict=False).cast(pl.String)
        text = pl.select(pl.when(whole).then(as_int).otherwise(number.cast(pl.String))).to_series()
    else:
        text = column.cast(pl.String, strict=False)
    return _filled(text).alias(column.name)


def as_number(column: pl.Series) -> tuple[pl.Series, pl.Series]:
    """Values as float64, and which of them were filled but are no numbers."""
    import polars as pl

    if column.dtype == pl.String:
        column = _filled(column)
    if column.dtype.is_numeric() or column.dtype in {pl.String, pl.Boolean, pl.Null}:
        number = column.cast(pl.Float64, strict=False)
        if number.null_count() == column.null_count():
            return number, pl.Series(column.name, np.zeros(len(column), dtype=bool))
        return number, column.is_not_null() & number.is_null()
    return pl.Series(column.name, [None] * len(column), dtype=pl.Float64), column.is_not_null()


def without(column: pl.Series, unknown: Sequence[float | str]) -> pl.Series:
    """Values, null where they are among those that mean "not known". column: text or float64."""
    import polars as pl

    if not unknown:
        return column
    if column.dtype == pl.String:
        meant = pl.Series([f"{value:.15g}" if isinstance(value, float) else value for value in unknown])
    else:
        meant = pl.Series([float(value) for value in unknown])
    return column.set(column.is_in(meant), None)


def _filled(text: pl.Series) -> pl.Series:
    """Without blanks around, null where there is nothing else."""
    text = text.str.strip_chars()
    empty = text == ""
    return text.set(empty, None) if empty.any() else text
