"""Consumes a sample of a source, produces a guess at its dataset: each column's role, and why."""

from __future__ import annotations

import dataclasses
import datetime as dt
from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np
import polars as pl

from assay.config.dataset import EPOCHS, stored_name
from assay.config.strict import nearest
from assay.describing.columns import Column, column_of, columns_of, count_distinct
from assay.describing.granularity import Grain, Looked, with_grains
from assay.describing.leaks import Leak, find_leaks
from assay.describing.names import AFTER, words
from assay.describing.parts import Parts, are_the_time, is_series, parts_of_time, without_parts
from assay.describing.roles import (
    UNIQUE,
    EntityRole,
    TimeRole,
    find_entity,
    find_time,
    given_entity,
    time_given,
    time_of_years,
)
from assay.describing.sampling import SLICE, Sample
from assay.describing.segments import Segment, find_segments
from assay.describing.targets import MOST_CLASSES, Candidate, candidate, candidates
from assay.describing.times import YEAR, units_since_1970
from assay.errors import UserError

MOST_CATEGORIES = 1_000
MOST_KEY_CATEGORIES = 200  # entities with so many values at most are inputs themselves
ROWS_OF_A_CATEGORY = 5
Placed = Literal["numeric", "categorical", "outcomes"]


@dataclasses.dataclass(frozen=True)
class Guess:
    """What a source may be.

    placed: kind of columns -> column -> why, empty where that is plain. left_out: column -> why. leaks: those of the
    target. duplicates: the setting, and why. aside: share of rows that ingest sets aside: without an
    entity or a time that can be read, or doubles.
    """

    looked: Looked
    target: Candidate
    alternatives: tuple[Candidate, ...]
    placed: Mapping[Placed, Mapping[str, str]]
    left_out: Mapping[str, str]
    leaks: Mapping[str, Leak]
    segments: tuple[Segment, ...]
    groups: tuple[tuple[str, ...], ...]
    duplicates: tuple[Literal["keep_last", "allow"], str]
    aside: float
    look_at: tuple[str, ...]

    @property
    def time(self) -> TimeRole | None:
        """The rows' time."""
        return self.looked.time

    @property
    def entity(self) -> EntityRole:
        """What is observed."""
        return self.looked.entity


def guess(
    sample: Sample,
    *,
    now: dt.datetime,
    time: str | None = None,
    entity: Sequence[str] = (),
    target: str | None = None,
) -> Guess:
    """Say what each column of a sample may be for.

    time, entity, target: columns that a person named.

    Raises:
        UserError: a column that is not there or cannot be what it is said to be; or none that can be a key or target.
    """
    rows = sample.frame.height
    sample = dataclasses.replace(sample, frame=sample.frame.unique(sample.names, keep="last", maintain_order=True))
    columns = columns_of(sample)
    for option, name in (("--time", time), *(("--entity", one) for one in entity), ("--target", target)):
        _check_there(option, name, columns, sample)
    looked = _looked(columns, sample, now, time, entity, target)
    ranked = _ranked(looked)
    if target is not None:
        ranked = [_asked(target, looked), *(one for one in ranked if one.column != target)]
    if not ranked:
        raise UserError(
            f"{sample.source.path}: no column can be a target: no number, and none of 2 to {MOST_CLASSES} values, "
            "differs from row to row; --target names one"
        )
    found = _guessed(looked, ranked, sample, now)
    repeated = rows - sample.frame.height
    if not repeated:
        return found
    told = f"doubles: {repeated:,} of {rows:,} rows repeat another one in every column"
    lost = repeated / rows if found.duplicates[0] == "keep_last" else 0.0
    return dataclasses.replace(found, aside=found.aside + lost, look_at=(*found.look_at, told))


def _check_there(option: str, name: str | None, columns: Mapping[str, Column], sample: Sample) -> None:
    if name is None or name in columns:
        return
    if name in sample.unusable:
        raise UserError(f"{option} {name}: this column cannot be used: {sample.unusable[name]}")
    hint = nearest(name, set(columns)) or f"; it has {', '.join(map(repr, list(columns)[:30]))}"
    raise UserError(f"{option} {name}: {sample.source.path} has no such column{hint}")


def _looked(
    columns: Mapping[str, Column],
    sample: Sample,
    now: dt.datetime,
    time: str | None,
    entity: Sequence[str],
    target: str | None,
) -> Looked:
    part = sample.frame[SLICE].to_numpy()
    role = time_given(time, columns) if time else find_time(columns, now)
    keys = {name: column for name, column in columns.items() if name != target}
    if entity:
        own = given_entity(entity, columns, role.column if role else None, part)
        return with_grains(Looked(columns, role, own, part))
    parts = parts_of_time(columns) if role is None else None
    coarse = without_parts(keys, parts) if parts else keys
    if role is None and (years := time_of_years(coarse, part)) is not None:
        role, own = years
    elif parts is not None and are_the_time(keys, parts, part):
        raise _in_parts(parts, sample)
    else:
        own = find_entity(keys, role.column if role else None, part)
    return with_grains(Looked(columns, role, own, part))


def _in_parts(parts: Parts, sample: Sample) -> UserError:
    """What is said where rows have a time that no column holds."""
    series = "; the rows are one series, so add one with the same value in all rows, too" if is_series(parts) else ""
    return UserError(
        f"{sample.source.path}: {parts.told()} are the time of the rows together, and time.column is one column: "
        f"{parts.advice()}{series}"
    )


def _ranked(looked: Looked) -> list[Candidate]:
    found = candidates(looked)
    if found:
        return found
    grains: dict[str, Grain] = {name: "own" for name, grain in looked.grains.items() if grain != "clock"}
    return candidates(dataclasses.replace(looked, grains={**looked.grains, **grains}))


def _asked(target: str, looked: Looked) -> Candidate:
    column = looked.columns[target]
    if target in looked.keys:
        raise UserError(
            f"--target {target}: this column is the time or names the entity; --time and --entity say which"
        )
    many = column.kind != "number" and column.distinct > MOST_CLASSES
    if column.kind == "time" or many or column.distinct < 2:
        held = "times" if column.kind == "time" else f"{column.distinct:,} different texts"
        raise UserError(f"--target {target}: it holds {held}; a target is a number, or has 2 to {MOST_CLASSES} values")
    return candidate(column, looked)


def _guessed(looked: Looked, ranked: Sequence[Candidate], sample: Sample, now: dt.datetime) -> Guess:
    chosen = ranked[0]
    target = chosen.column
    left_out = dict(sample.unusable)
    left_out |= looked.time.others if looked.time else {}
    free = [name for name in looked.columns if name not in (*looked.keys, target, *left_out)]
    stored = {stored_name(n).casefold(): n for n in reversed([*looked.entity.columns, target])}
    for name in free:
        other = stored.setdefault(stored_name(name).casefold(), name)
        if other != name:
            left_out[name] = f"would be stored under the name of {other!r}"
    leaks = find_leaks(
        target, looked, [name for name in free if name not in left_out and not looked.columns[name].running]
    )
    placed: dict[Placed, dict[str, str]] = {"numeric": {}, "categorical": {}, "outcomes": {}}
    for name in looked.entity.columns:
        column = looked.columns[name]
        is_input = looked.entity.has_history or looked.entity.shape == "stand-in"
        if is_input and column.distinct <= MOST_KEY_CATEGORIES and not column.constant:
            placed["categorical"][name] = ""
    for name in free:
        if name in left_out:
            continue
        if name in leaks and not leaks[name].past:
            continue
        place, why = _place(looked.columns[name], looked, leaks.get(name))
        if place is None:
            left_out[name] = why
        else:
            placed[place][name] = why
    segments = tuple(find_segments(target, looked, list(placed["categorical"])))
    return Guess(
        looked,
        chosen,
        tuple(ranked[1:]),
        placed,
        left_out,
        leaks,
        segments,
        _groups(looked, segments),
        _duplicates(looked),
        _aside(looked),
        tuple(_look_at(looked, now, chosen, ranked, placed, leaks)),
    )


def _place(column: Column, looked: Looked, leak: Leak | None) -> tuple[Placed | None, str]:
    if column.constant:
        return None, "one value only" if column.distinct else "no value at all"
    if column.kind == "time":
        return None, "another time"
    if column.running:
        return None, "a running number"
    if leak is not None:
        return "outcomes", leak.why
    why = looked.whys.get(column.name, "")
    if column.kind == "number" and not column.like_codes:
        grain = looked.grains.get(column.name, "own")
        past_alone = grain == "own" and looked.entity.has_history
        return (None if grain == "clock" else "outcomes" if past_alone else "numeric"), why
    return _place_text(column, looked, why)


def _place_text(column: Column, looked: Looked, why: str) -> tuple[Placed | None, str]:
    if column.trouble:
        return None, column.trouble
    if column.distinct > min(MOST_CATEGORIES, looked.rows / ROWS_OF_A_CATEGORY):
        return None, f"{column.distinct:,} different values: too many for categories"
    codes = "whole numbers close together: codes, not amounts" if column.kind == "number" else ""
    return "categorical", codes or why


def _groups(looked: Looked, segments: Sequence[Segment]) -> tuple[tuple[str, ...], ...]:
    """Markets: those of each segment, and the whole one where entities share it."""
    if looked.time is None or looked.entity.count < 2:
        return ()
    named = tuple((one.column,) for one in segments if (one.column,) != looked.entity.columns)
    return (*named, ()) if looked.entity.has_history or not named else named


def _duplicates(looked: Looked) -> tuple[Literal["keep_last", "allow"], str]:
    unique = looked.entity.unique
    doubles = round((1 - unique) * looked.rows)
    if unique >= UNIQUE:
        told = f"{doubles:,} of {looked.rows:,} rows looked at repeat an entity's time" if doubles else ""
        return "keep_last", told
    return "allow", f"{1 - unique:.0%} of rows share their entity and time with another one"


def _aside(looked: Looked) -> float:
    keys = [looked.columns[name].codes for name in looked.entity.columns]
    keys += [looked.time.column.codes] if looked.time else []
    return float(np.mean(np.min(keys, axis=0) == 0))


def _documents(looked: Looked) -> str | None:
    """A column whose values stand in several rows each, all of one time, such as numbers of invoices."""
    if looked.time is None:
        return None
    for name, column in looked.columns.items():
        key = column.kind == "text" or (column.kind == "number" and column.whole)
        if name in looked.keys or looked.grains.get(name) == "clock":
            continue
        if not key or not 0.005 * looked.rows < column.distinct < 0.7 * looked.rows:
            continue
        if count_distinct(column.codes, looked.time.column.codes) < 1.05 * column.distinct:
            return name
    return None


def _look_at_time(looked: Looked) -> list[str]:
    """What may be a time, or the rest of it, and was not taken for it."""
    time, found = looked.time, []
    parts = parts_of_time(looked.columns) if time is None else None
    if time is not None and time.column.times is not None and time.column.times.format == YEAR:
        parts = parts_of_time({**looked.columns, time.column.name: _as_number(time.column)})
        parts = parts if parts is not None and parts.names[0] == time.column.name else None
    if parts is not None:
        found.append(f"{parts.told()}: are they the rows' time together? Then {parts.advice()}")
    for column in looked.columns.values() if time is None else ():
        units = units_since_1970(column.values) if column.kind == "number" and column.distinct > 1 else None
        if units is not None:
            told = {"%s": "seconds"}.get(units, f"1 / {EPOCHS[units]:,} seconds")
            found.append(f"{column.name!r}: its numbers may be {told} since 1970; --time makes it the time")
    return found


def _as_number(column: Column) -> Column:
    return column_of(column.name, "number", column.values.dt.year().cast(pl.Float64), whole=True)


def _later(looked: Looked, now: dt.datetime) -> float:
    """Share of rows whose time has not come yet."""
    return float((looked.time.column.values > now).fill_null(False).mean() or 0) if looked.time else 0.0  # type: ignore[arg-type]


def _look_at(
    looked: Looked,
    now: dt.datetime,
    chosen: Candidate,
    ranked: Sequence[Candidate],
    placed: Mapping[Placed, Mapping[str, str]],
    leaks: Mapping[str, Leak],
) -> list[str]:
    """What a person should check, the weightiest first."""
    found = []
    if len(ranked) > 1:
        others = ", ".join(repr(one.column) for one in ranked[1:4])
        found.append(f"target: {chosen.column!r}, or {others}? --target COL")
    if placed["outcomes"]:
        some = ", ".join(map(repr, list(placed["outcomes"])[:4]))
        found.append(f"outcomes ({some}): used through their past alone; what is known beforehand belongs to numeric")
    if leaks:
        found.append(
            f"leaks: {', '.join(map(repr, list(leaks)[:4]))} would tell the target; are they known beforehand?"
        )
    kept = [n for n in (*placed["numeric"], *placed["categorical"]) if words(n) & AFTER]
    if kept:
        found.append(f"{', '.join(map(repr, kept))}: by its name known only after; take it out if so")
    later = _later(looked, now)
    if later:
        found.append(f"time: {later:.1%} of rows are later than now, and not used until then")
    found += _look_at_time(looked)
    if looked.time is None:
        found.append("no column of times: rows have no history. Is there none? --time COL")
    elif looked.time.column.times is not None and looked.time.column.times.doubtful:
        found.append(f"time.format: {looked.time.column.times.doubtful!r} would fit as well")
    if looked.entity.shape in {"repeated", "series", "stand-in"}:
        found.append(f"entity: {looked.entity.why}")
    if (documents := _documents(looked)) is not None:
        told = "several rows of one time share each of its values; are they lines of a document? (`events`)"
        found.append(f"{documents!r}: {told}")
    found += [f"{c.name!r}: {c.trouble}" for c in looked.columns.values() if c.trouble]
    return found
