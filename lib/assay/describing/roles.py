"""Consumes columns, produces the two that rows are known by: their time, and the entity that is observed."""

from __future__ import annotations

import dataclasses
import datetime as dt
import itertools
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
import polars as pl

from assay.describing.columns import Codes, Column, count_distinct, determined, joined
from assay.describing.names import KEY, words
from assay.describing.times import NAMES, YEAR, Steps, Times, microseconds, since_1970, steps_of, year_in
from assay.errors import UserError

UNIQUE = 0.98  # share of rows that entity and time tell apart in a panel; a few doubles are faults
MOMENTS = 3.0  # of an entity, on average: fewer are no history
LIFT = 0.2  # a panel has at most this share of the doubles that chance would make
IDENTITY = 0.9  # share of rows with a text of their own, or a number that is called a key
IDENTITY_OF_NUMBERS = 0.98
LONG_TEXT, MOST_BLANKS = 60, 3.5
EVEN = 0.5  # share of the steps of a series that are alike
FEW_NUMBERS = 20  # whole numbers of so many values may be categories
FEWEST = 10  # entities at odd times: fewer are categories
MOST_KEYS = 12  # columns that pairs and triples are made of
ALMOST = 0.99
DESCRIBED = 0.95  # share of rows that have what is usual for their entity: its names change


@dataclasses.dataclass(frozen=True)
class TimeRole:
    """column: the time. others: further columns of times, and why they are not it."""

    column: Column
    others: dict[str, str]


@dataclasses.dataclass(frozen=True)
class EntityRole:
    """What is observed.

    shape: `panel` (regular histories), `repeated` (histories), `identity` (hardly a row repeats), `series` (one),
    `stand-in` (rows without dates that nothing names).
    codes: (rows,). count: entities looked at. moments: of an entity on average. unique: share of rows that entity and
    time tell apart. steps: between an entity's rows; None where undated.
    """

    columns: tuple[str, ...]
    shape: Literal["panel", "repeated", "identity", "series", "stand-in"]
    codes: Codes
    count: int
    moments: float
    unique: float
    steps: Steps | None
    why: str

    @property
    def has_history(self) -> bool:
        """Whether an entity has several moments, so that its past can say something."""
        return self.steps is not None and self.moments >= MOMENTS


def find_time(columns: Mapping[str, Column], now: dt.datetime) -> TimeRole | None:
    """The column of the rows' time; None where there is no column of times."""
    found = {n: c for n, c in columns.items() if c.kind == "time" and c.missing < 0.5 and c.distinct > 1}
    if not found:
        return None
    scores = {name: _time_score(column, found, now) for name, column in found.items()}
    best = max(found, key=lambda name: scores[name])
    others = {}
    for name, column in columns.items():
        if column.kind == "time" and name != best:
            same = np.mean(microseconds(column.values) == microseconds(found[best].values))
            later = np.mean(microseconds(column.values) >= microseconds(found[best].values))
            if same > 0.999:
                others[name] = f"the same times as {best!r}, written otherwise"
            else:
                others[name] = (
                    f"another time, later than {best!r} in {later:.0%} of rows: --time makes it the rows' own"
                )
    return TimeRole(found[best], others)


def _time_score(column: Column, all_times: Mapping[str, Column], now: dt.datetime) -> float:
    us = microseconds(column.values)[column.codes > 0]
    forward = float(np.mean(np.diff(us) >= 0)) if len(us) > 1 else 0.0
    score = 4 * (1 - column.missing) + 2 * abs(forward - 0.5) + 0.5 * bool(words(column.name) & NAMES)
    score -= 2.0 * bool(len(us) and np.mean(us > now.timestamp() * 1e6) > 0.01)
    score -= 1.0 * bool(
        words(column.name) & {"birth", "born", "dob", "updated", "modified", "expires", "expiry", "due"}
    )
    own = microseconds(column.values)
    after = [np.mean(own >= microseconds(o.values)) > 0.99 for n, o in all_times.items() if n != column.name]
    return score - 0.5 * any(after)  # what is known of a row is known at the first of its times


def time_of_years(columns: Mapping[str, Column], part: Codes) -> tuple[TimeRole, EntityRole] | None:
    """A column of years that makes, with another one, a panel."""
    for name, column in columns.items():
        if column.kind == "number" and column.like_years and column.distinct > 2 and column.missing == 0:
            times = year_in(column.values)
            if times is None or times.format != YEAR:
                continue
            as_time = dataclasses.replace(column, kind="time", values=times.values, times=times)
            found = _panel(_keys(columns, {name}), as_time, part)
            if found is not None:
                return TimeRole(as_time, {}), found
    return None


def find_entity(columns: Mapping[str, Column], time: Column | None, part: Codes) -> EntityRole:
    """The smallest set of columns that, with the time, tells rows apart and comes again and again.

    part: of each row, which part of the sample it is from; (rows,).

    Raises:
        UserError: no column can name what is observed.
    """
    keys = _keys(columns, {time.name} if time else set())
    if time is None:
        return _identity(keys, None, part) or _stand_in(keys, part) or _missing(undated=True)
    one_each = time.distinct >= 0.999 * len(time.codes)
    if one_each:
        steps = steps_of(np.zeros_like(time.codes), part, microseconds(time.values))
        found = None if steps.even >= EVEN else _identity(keys, time, part)  # else sales, say, each at its moment
        return found or _series(columns, time, part)
    found = _panel(keys, time, part) or _repeated(keys, columns, time, part) or _identity(keys, time, part)
    return found or _any_key(keys, time, part) or _missing(undated=False)


def given_entity(names: Sequence[str], columns: Mapping[str, Column], time: Column | None, part: Codes) -> EntityRole:
    """The entity that a person named."""
    codes = joined(*(columns[name].codes for name in names))
    shape: Any = "panel" if time is not None and _moments(codes, time) >= MOMENTS else "identity"
    return _role(tuple(names), shape, codes, time, part, "as you said (--entity)")


def find_panel(columns: Mapping[str, Column], time: Column, part: Codes) -> EntityRole | None:
    """The smallest set of columns that makes a panel with a time; None where there is none."""
    return _panel(_keys(columns, {time.name}), time, part)


def _keys(columns: Mapping[str, Column], without: set[str]) -> dict[str, Column]:
    """Columns that may name something: texts that are no prose, whole numbers."""
    found = {}
    for name, column in columns.items():
        if name in without or column.constant or column.missing > 0.3 or column.kind == "time" or column.trouble:
            continue
        if column.kind == "number" and not (column.whole and column.span[0] >= 0):
            continue
        if column.kind == "text" and _prose(column):
            continue
        if column.distinct > 1:
            found[name] = column
    return found


def _prose(column: Column) -> bool:
    """Texts of many words, which describe and do not name."""
    some = column.values.drop_nulls().unique(maintain_order=True).head(1_000)
    blanks = float(some.str.count_matches(r"\s+").mean() or 0)  # type: ignore[arg-type]
    return blanks > MOST_BLANKS or float(some.str.len_chars().mean() or 0) > LONG_TEXT  # type: ignore[arg-type]


def _moments(codes: Codes, time: Column) -> float:
    return count_distinct(codes, time.codes) / count_distinct(codes)


def _doubles(codes: Codes, time: Codes) -> float:
    return 1 - count_distinct(codes, time) / len(time)


def _panel(keys: Mapping[str, Column], time: Column, part: Codes) -> EntityRole | None:
    """One, two or three columns with far fewer rows of one time than chance would make."""
    random = np.random.default_rng(0).permutation(time.codes)
    singles = {name: column for name, column in keys.items() if column.distinct <= len(time.codes) / MOMENTS}
    few = dict(sorted(singles.items(), key=lambda item: -_key_likeness(item[1]))[:MOST_KEYS])
    for size, chosen in ((1, singles), (2, few), (3, few)):
        fitting = []
        for names in itertools.combinations([name for name in keys if name in chosen], size):
            codes = joined(*(chosen[name].codes for name in names))
            doubles = _doubles(codes, time.codes)
            if doubles > 1 - UNIQUE or _moments(codes, time) < MOMENTS:
                continue
            chance = _doubles(codes, random)
            if chance > 0.005 and doubles <= LIFT * chance:
                # Of sets that do equally well, the one of fewer entities; of twins, the one that is most like a key.
                like = sum(_key_likeness(chosen[name]) for name in names)
                why = f"with the time it tells {1 - doubles:.2%} of rows apart; by chance {1 - chance:.2%} would be"
                fitting.append(((round(doubles, 3), count_distinct(codes), -like), names, codes, why))
        if fitting:
            _, names, codes, why = min(fitting, key=lambda one: one[0])
            return _role(names, "panel", codes, time, part, why)
    return None


def _key_likeness(column: Column) -> float:
    """Texts, then whole numbers of few values; a name such as `id` counts little."""
    even = 1 - min(1.0, column.distinct / max(len(column.codes), 1))
    return 1.0 * (column.kind == "text") + even + 0.5 * bool(words(column.name) & KEY) - column.missing


def _repeated(
    keys: Mapping[str, Column], columns: Mapping[str, Column], time: Column, part: Codes
) -> EntityRole | None:
    """Rows at odd times: what comes again and again and has attributes of its own."""
    found = []
    for name, column in keys.items():
        if (
            _moments(column.codes, time) < MOMENTS
            or column.distinct < FEWEST
            or _doubles(column.codes, time.codes) > 0.1
        ):
            continue
        own = [
            other.name
            for other in columns.values()
            if other.kind != "time" and other.name != name and 1 < other.distinct <= 1.1 * column.distinct
            if not _nearly_one(other) and determined(column.codes, other.codes, DESCRIBED) >= DESCRIBED
        ]
        if own or (column.kind == "text" and words(name) & KEY):
            length = float(column.values.cast(pl.String).str.len_chars().mean() or 0)  # type: ignore[arg-type]
            found.append((len(own), -length, name, own))  # of a code and its description, the code
    if not found:
        return None
    _, _, name, own = max(found, key=lambda one: one[:2])
    why = f"it comes again and again, and says {', '.join(map(repr, own[:3]))} of itself" if own else "its name"
    return _role((name,), "repeated", keys[name].codes, time, part, why)


def _nearly_one(column: Column) -> bool:
    """Whether nearly all rows have the same value, which anything determines."""
    return int(np.bincount(column.codes).max()) > 0.95 * len(column.codes)


def _identity(keys: Mapping[str, Column], time: Column | None, part: Codes) -> EntityRole | None:
    own = {n: c for n, c in keys.items() if c.missing == 0 and c.distinct >= _least(c) * len(c.codes)}
    if not own:
        return None
    name = max(
        own, key=lambda n: (own[n].distinct >= 0.99 * len(own[n].codes)) + _key_likeness(own[n]) + 0.75 * own[n].running
    )
    why = f"{own[name].distinct:,} values in {len(own[name].codes):,} rows: nearly each row has its own"
    return _role((name,), "identity", own[name].codes, time, part, why)


def _stand_in(keys: Mapping[str, Column], part: Codes) -> EntityRole | None:
    """Without dates there is no history to mix up, so a category will do; numbers of many values are inputs."""
    able = {n: c for n, c in keys.items() if c.kind != "number" or c.distinct <= FEW_NUMBERS}
    if not able:
        return None
    name = max(able, key=lambda n: (able[n].kind != "number", able[n].missing == 0, able[n].distinct))
    why = "a stand-in: no column names the rows, and without dates they have no history that it could divide"
    return _role((name,), "stand-in", able[name].codes, None, part, why)


def _least(column: Column) -> float:
    named = column.kind != "number" or words(column.name) & KEY
    return IDENTITY if named else IDENTITY_OF_NUMBERS


def _series(columns: Mapping[str, Column], time: Column, part: Codes) -> EntityRole:
    """One series: a column with one value names it, else the hour of the day makes 24 of it.

    Raises:
        UserError: there is neither.
    """
    same = next((c for c in columns.values() if c.distinct == 1 and c.missing == 0 and c.kind != "time"), None)
    if same is not None:
        return _role((same.name,), "series", same.codes, time, part, "one series: each time comes once")
    hours = time.values.dt.hour().fill_null(-1).to_numpy()
    for column in _keys(columns, {time.name}).values():
        if column.distinct == 24 and determined(column.codes, hours, ALMOST) >= ALMOST:
            why = "one series: each time comes once; it is the hour of the day, so each hour is a series of its own"
            return _role((column.name,), "panel", column.codes, time, part, why)
    raise UserError(
        f"each time of {time.name!r} comes once, so the rows are one series, and no column names it: add a column with "
        "one value to the source (such as series), or say which columns name what is observed (--entity)"
    )


def _any_key(keys: Mapping[str, Column], time: Column, part: Codes) -> EntityRole | None:
    """What is most like a key and has a history, with rows that share their time."""
    able = {
        n: c for n, c in keys.items() if _moments(c.codes, time) >= MOMENTS and (c.kind == "text" or words(n) & KEY)
    }
    if not able:
        return None
    name = max(able, key=lambda n: able[n].distinct)
    why = "a guess: no column tells rows of one time apart"
    return _role((name,), "repeated", able[name].codes, time, part, why)


def _missing(*, undated: bool) -> EntityRole:
    what = "has a value of its own in nearly each row" if undated else "comes again and again, or names each row"
    raise UserError(
        f"no column names what is observed: none {what}. Say which ones do (--entity), or add one to the source"
    )


def _role(names: tuple[str, ...], shape: Any, codes: Codes, time: Column | None, part: Codes, why: str) -> EntityRole:
    count = count_distinct(codes)
    if time is None:
        return EntityRole(names, shape, codes, count, len(codes) / count, count / len(codes), None, why)
    unique = 1 - _doubles(codes, time.codes)
    steps = steps_of(codes, part, microseconds(time.values))
    return EntityRole(names, shape, codes, count, _moments(codes, time), unique, steps, why)


def time_given(name: str, columns: Mapping[str, Column]) -> TimeRole:
    """The time that a person named.

    Raises:
        UserError: it holds no times.
    """
    column = columns[name]
    if column.kind != "time":
        number = column.kind == "number"
        times: Times | None = (year_in(column.values) or since_1970(column.values)) if number else None
        if times is None:
            some = ", ".join(repr(v) for v in column.values.drop_nulls().head(3).to_list())
            raise UserError(f"--time {name}: holds no times that can be read (such as {some})")
        column = dataclasses.replace(column, kind="time", values=times.values, times=times)
    others = {c.name: "another time" for c in columns.values() if c.kind == "time" and c.name != name}
    return TimeRole(column, others)
