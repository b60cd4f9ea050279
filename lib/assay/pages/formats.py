"""Consumes numbers, produces them as people read them in a page: short, with units, no surer than they are."""

from __future__ import annotations

import datetime as dt
import math

NO_VALUE = "–"
MINUS = "\u2212"
RAISED = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
NARROW_SPACE = "\u202f"  # keeps a number and its unit on one line


def number(value: float | None, unit: str = "") -> str:
    """Three significant digits, thousands grouped, the unit behind: 1234.5 is 1,234, 0.01234 is 0.0123.

    What is nearer to 0 than a thousandth has its power of ten: 0.000012 is 1.20·10⁻⁵.
    """
    if value is None or math.isnan(value):
        return NO_VALUE
    if math.isinf(value):
        return "no bound"
    if value == 0 or abs(value) >= 100:
        text = f"{value:,.0f}"
    elif abs(value) >= 0.001:
        rounded = abs(float(f"{value:.3g}"))  # 99.96 is 100 then, and not 100.0
        text = f"{value:.{max(0, 2 - math.floor(math.log10(rounded)))}f}"
    else:
        digits, power = f"{value:.2e}".split("e")
        text = f"{digits}·10{str(int(power)).translate(RAISED)}"
    text = text.replace("-", MINUS, 1) if value < 0 else text
    return f"{text}\u00a0{unit}" if unit else text


def edge(value: float) -> str:
    """A band's end as short as it is: 2.0 is 2, 12500.0 is 12,500."""
    return f"{value:,.6g}".replace("-", MINUS)


def percent(share: float | None, digits: int = 1) -> str:
    """A share as percent: 0.031 is 3.1 %. Whole with `digits` 0, except where that would hide a part: 97.5 %."""
    if share is None or math.isnan(share):
        return NO_VALUE
    text = f"{100 * share:,.{digits}f}" if digits else f"{100 * share:.10g}"
    return f"{text.replace('-', MINUS)}{NARROW_SPACE}%"


def share(value: float | None) -> str:
    """`percent`, but never 0.0 % where there is something, nor 100.0 % where something is missing."""
    if value is not None and 0 < value < 0.0005:
        return f"<\u00a00.1{NARROW_SPACE}%"
    if value is not None and 0.9995 <= value < 1:
        return f">\u00a099.9{NARROW_SPACE}%"
    return percent(value)


def points(value: float | None) -> str:
    """Points of a score: 95.1, and never 100.0 where one was lost."""
    if value is None or math.isnan(value):
        return NO_VALUE
    return f"{99.9 if 99.95 <= value < 100 else value:.1f}"


def period(days: float | None) -> str:
    """A season's length: 364 days are 1 year, 0.5 days 12 hours."""
    if days is None:
        return NO_VALUE
    for name, length in (("year", 365.25), ("quarter", 91.3), ("month", 30.44), ("week", 7.0), ("day", 1.0)):
        if abs(days - length) <= 0.02 * length:
            return f"1\u00a0{name}"
    return f"{days:.3g}\u00a0days" if days >= 1 else f"{24 * days:.3g}\u00a0hours"


def duration(seconds: float) -> str:
    """Seconds as people say them: 42 s, 61 min 42 s is 1 h 2 min."""
    if seconds < 60:
        return f"{seconds:.3g}\u00a0s"
    minutes = round(seconds / 60)
    hours = f"{minutes // 60:,}\u00a0h\u00a0" if minutes >= 60 else ""
    return f"{hours}{minutes % 60}\u00a0min" if minutes % 60 or not hours else hours[:-1]


def count(value: int, noun: str = "", nouns: str = "") -> str:
    """1234 is 1,234; with a noun, 1 row or 1,234 rows. nouns: the plural where it is not noun + s."""
    text = f"{value:,}"
    return f"{text}\u00a0{noun if value == 1 else nouns or noun + 's'}" if noun else text


def day(moment: dt.date) -> str:
    """A date as people write it: 1 Mar 2015."""
    return f"{moment.day}\u00a0{moment:%b}\u00a0{moment.year}"


def readable(name: str) -> str:
    """A table's or rule's name as words: group_median is group median."""
    return name.replace("_", " ")
