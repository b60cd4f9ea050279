"""Consumes columns without a whole time among them, produces those that hold its parts: a year and a month, say."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import numpy as np
import polars as pl

from assay.describing.columns import Codes, Column, column_of
from assay.describing.names import words
from assay.describing.roles import find_panel
from assay.describing.times import Times

YEARS = frozenset({"year", "yr", "yyyy", "jahr", "annee", "ano"})
# What goes with a year: the greatest number, and words of names. The first that is there is taken.
WITH_YEAR: dict[str, tuple[int, frozenset[str]]] = {
    "month": (12, frozenset({"month", "mon", "mo", "mth", "monat", "mois", "mes"})),
    "week": (53, frozenset({"week", "wk", "weekno", "weeknum", "woche", "semaine"})),
    "quarter": (4, frozenset({"quarter", "qtr", "quartal"})),
    "day": (366, frozenset({"day", "doy", "yday", "dayofyear"})),
}
OF_MONTH = (31, frozenset({"day", "dom", "dayofmonth", "tag", "jour"}))
MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
WHOLE = 0.999  # share of rows with a time of their own that makes them one series


@dataclasses.dataclass(frozen=True)
class Parts:
    """Columns that are a time together. time: that, as a column of its own. example: of one row, as to be written."""

    names: tuple[str, ...]
    time: Column
    example: str

    def told(self) -> str:
        """The columns, for people."""
        *most, last = map(repr, self.names)
        return f"{', '.join(most)} and {last}"

    def advice(self) -> str:
        """What to do."""
        return f"add a column with the date of each row to the source, such as {self.example}"


def parts_of_time(columns: Mapping[str, Column]) -> Parts | None:
    """A year and what goes with it, by their names and what they hold; None where there is no such pair."""
    years = [c for c in columns.values() if c.kind == "number" and c.like_years and c.missing == 0]
    named = [c for c in years if words(c.name) & YEARS]
    for kind, (most, hints) in WITH_YEAR.items():
        fine = [c for c in columns.values() if c not in years and words(c.name) & hints and _fits(c, kind, most)]
        pairs = [(len(words(y.name) & words(f.name)), y, f) for y in named or years for f in fine]
        if not pairs:
            continue
        _, year, found = max(pairs, key=lambda pair: pair[0])  # yr_sold goes with mo_sold, not yr_built
        return _together(kind, year, found, _day_of_month(columns) if kind == "month" else None)
    return None


def without_parts(columns: Mapping[str, Column], parts: Parts) -> dict[str, Column]:
    """The columns but for what is finer than a year."""
    return {name: column for name, column in columns.items() if name not in parts.names[1:]}


def are_the_time(columns: Mapping[str, Column], parts: Parts, rows: Codes) -> bool:
    """Whether they make a panel of other columns, or one series. rows: of each the part of the sample, (rows,)."""
    others = {name: column for name, column in columns.items() if name not in parts.names}
    return is_series(parts) or find_panel(others, parts.time, rows) is not None


def is_series(parts: Parts) -> bool:
    """Whether each time comes once."""
    return parts.time.distinct >= WHOLE * len(parts.time.codes)


def _fits(column: Column, kind: str, most: int) -> bool:
    if column.missing or column.distinct < 2:
        return False
    if column.kind == "number":
        return column.whole and column.span[0] >= 1 and column.span[1] <= most
    starts = column.values.str.strip_chars().str.to_lowercase()
    if kind == "month":
        return bool(starts.str.head(3).is_in(MONTHS).all())
    return kind == "quarter" and bool(starts.str.contains(r"^q[1-4]$").all())


def _day_of_month(columns: Mapping[str, Column]) -> Column | None:
    most, hints = OF_MONTH
    return next((c for c in columns.values() if words(c.name) & hints and _fits(c, "day", most)), None)


def _numbers(column: Column, kind: str) -> Codes:
    if column.kind == "number":
        return column.numbers.astype(np.int64)
    text = column.values.str.strip_chars().str.to_lowercase()
    if kind == "quarter":
        return text.str.tail(1).cast(pl.Int64).to_numpy()
    return text.str.head(3).replace_strict(MONTHS, range(1, 13), return_dtype=pl.Int64).to_numpy()


def _together(kind: str, year: Column, fine: Column, day: Column | None) -> Parts:
    years, numbers = year.numbers.astype(np.int64), _numbers(fine, kind)
    months = {"month": numbers, "quarter": 3 * numbers - 2}.get(kind, np.ones_like(numbers))
    starts = pl.select(pl.datetime(pl.Series(years), pl.Series(months), 1, time_zone="UTC", time_unit="us")).to_series()
    days = {"week": 7 * (numbers - 1), "day": numbers - 1}.get(kind, np.zeros_like(numbers))
    days = _numbers(day, "day") - 1 if day is not None else days
    values = (starts + pl.Series(days * 86_400_000_000).cast(pl.Duration("us"))).alias(year.name)
    names = (year.name, fine.name, *([day.name] if day is not None else []))
    pattern = "%Y-%m" if kind in {"month", "quarter"} and day is None else "%Y-%m-%d"
    example = values.dt.strftime(pattern)[0]
    return Parts(names, column_of(year.name, "time", values, times=Times(values, None, 1.0)), example)
