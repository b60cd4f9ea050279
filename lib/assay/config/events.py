"""Consumes the section `events` of a dataset, produces an `EventsConfig`: what observations are made of the events.

Expressions are SQL, as Polars reads it, over the names that columns have in the source: `Quantity * UnitPrice`,
`InvoiceNo NOT LIKE 'C%'`, `CASE WHEN ... END`; a name with blanks stands in double quotes.
"""

from __future__ import annotations

import dataclasses
import functools
import re
from typing import TYPE_CHECKING, Annotated

from pydantic import Field
from pydantic.dataclasses import dataclass

from assay.config.strict import STRICT, Name

if TYPE_CHECKING:
    import polars as pl

AGGREGATES = ("sum", "mean", "min", "max", "count", "distinct", "any")
FROM_ZERO = ("sum", "count", "distinct", "any")  # what they are of no event is 0; of the others it is unknown
FACTS = ("days_since_last", "days_since_first", "last")
BEFORE = "_before"
DAYS = {"d": 1, "w": 7, "mo": 31, "q": 92, "y": 366}  # at most, of a period


@functools.lru_cache(maxsize=1024)
def sql(text: str) -> pl.Expr:
    """An SQL expression as Polars' own. Raises polars' SQL errors where it is none."""
    import polars as pl

    return pl.sql_expr(text)


def columns_in(text: str) -> set[str]:
    """Names of the columns that an SQL expression reads."""
    return set(sql(text).meta.root_names())


@dataclass(frozen=True, config=STRICT)
class ValueConfig:
    """What the events of a period come to: exactly one aggregate, of an SQL expression.

    sum, mean, min, max: of numbers.  count, distinct: events that have a value of it, and different values.
    any: 1 where it is true of an event, else 0.  where: condition of the events that take part.
    periods: how many periods are looked over, the row's own first: 4 of weeks is "within four weeks".

    Where no event takes part, sum, count, distinct and any are 0, the others missing. A value whose last period was not
    over when the newest event of all came is missing.
    """

    sum: str = ""
    mean: str = ""
    min: str = ""
    max: str = ""
    count: str = ""
    distinct: str = ""
    any: str = ""
    where: str = ""
    periods: Annotated[int, Field(ge=1, le=1000)] = 1

    @property
    def told(self) -> dict[str, str]:
        """The aggregates that are given, and of what."""
        return {name: getattr(self, name) for name in AGGREGATES if getattr(self, name)}


@dataclass(frozen=True, config=STRICT)
class KnownConfig:
    """What is known of an entity when a period starts, by its events before: exactly one fact.

    days_since_last, days_since_first: an SQL condition of the event whose age it is.
    last: an SQL expression; its newest value that is not missing.
    """

    days_since_last: str = ""
    days_since_first: str = ""
    last: str = ""

    @property
    def told(self) -> dict[str, str]:
        """The facts that are given, and of what."""
        return {name: getattr(self, name) for name in FACTS if getattr(self, name)}


@dataclass(frozen=True, config=STRICT)
class EventsConfig:
    """Rows of the source are events; an observation is an entity and a period, and its time is the period's start.

    Each entity has a row for every period from that of its first event to that of the newest event of all, so the last
    one is a row to predict: its targets are not known. In its first period an entity was not known beforehand, so
    targets are missing there.

    period: `1d`, `1w` (from Monday), `1mo`, `1q`, `1y`, or several of them, as clocks of `time.zone` show them.
    numeric, categorical: columns of an event, besides time and entity. `bounds` and `quality` are of these.
    values: what a period comes to. They are known when their last period is over, so they can be targets or outcomes.
    known: what is known when the period starts, so it can be in `columns.numeric`, `columns.categorical`, groups and
        segments.
    rules: further targets or outcomes by an SQL expression of values and known facts. `NAME_before` is the newest value
        of NAME, other than 0, of those that were known when the period started.
    """

    period: Annotated[str, Field(pattern=r"^[1-9][0-9]{0,3}(d|w|mo|q|y)$")]
    numeric: tuple[Name, ...] = ()
    categorical: tuple[Name, ...] = ()
    values: dict[str, ValueConfig] = Field(default_factory=dict)
    known: dict[str, KnownConfig] = Field(default_factory=dict)
    rules: dict[str, Name] = Field(default_factory=dict)

    def periods(self, name: str) -> int:
        """Periods that must be over, from a row's time on, until its value or rule is known."""
        if name in self.values:
            return self.values[name].periods
        read = columns_in(self.rules[name]) if name in self.rules else set()
        return max((self.values[other].periods for other in read & set(self.values)), default=1)

    def delay_days(self, name: str) -> float:
        """Days after a row's time until a value or rule is known: 0 of one period, as the next row starts after it.

        Of more periods, it is after the last but one of them, and half a day later: periods of a zone's clock may be an
        hour longer than others.
        """
        found = re.fullmatch(r"(\d+)(\D+)", self.period)
        assert found is not None
        more = self.periods(name) - 1
        return more * int(found[1]) * DAYS[found[2]] + 0.5 if more else 0.0

    def without_observations(self) -> EventsConfig:
        """What matters to the events themselves."""
        return dataclasses.replace(self, period="1d", values={}, known={}, rules={})
