"""Consumes a dataset of events, produces nothing or what is wrong with its expressions and names."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import TYPE_CHECKING

from assay.config.dataset import DatasetConfig
from assay.config.events import AGGREGATES, BEFORE, FACTS, EventsConfig, sql
from assay.config.strict import nearest
from assay.errors import ConfigError

if TYPE_CHECKING:
    import polars as pl

TEXT, NUMBER, CONDITION = "a text", "a number", "true or false"


def check_events(dataset: DatasetConfig, origin: str) -> None:
    """Refuse events that make no observations, or observations that would know what comes later.

    Raises:
        ConfigError: names the key and what to change.
    """
    events = dataset.events
    if events is None:
        return
    for why in (*_wrong_names(dataset, events), *_wrong_expressions(dataset, events), *_wrong_uses(dataset, events)):
        raise ConfigError(f"{origin}: {why}")


def _wrong_names(dataset: DatasetConfig, events: EventsConfig) -> Iterator[str]:
    if not dataset.time.dated:
        yield "events need a time: set time.column"
    if dataset.time.align is not None:
        yield "time.align has no use with events, whose observations have periods already (events.period); take it out"
    taken: dict[str, str] = dict.fromkeys((*dataset.entity, *dataset.time_columns), "entity or time")
    for section in ("values", "known", "rules"):
        for name in getattr(events, section):
            if name in taken:
                yield f"events.{section}.{name}: {taken[name]} has this name as well; choose another"
            taken[name] = f"events.{section}"
    for name in (*events.numeric, *events.categorical):
        if name in dataset.time_columns or name in dataset.entity:
            yield f"events: {name!r} is in time or entity already; take it out of the columns of an event"
    if set(events.numeric) & set(events.categorical):
        yield f"events: {min(set(events.numeric) & set(events.categorical))!r} is numeric and categorical; keep one"


def _wrong_expressions(dataset: DatasetConfig, events: EventsConfig) -> Iterator[str]:
    import polars as pl

    read: dict[str, pl.DataType] = dict.fromkeys((*dataset.entity, *events.categorical), pl.String())
    read |= dict.fromkeys(events.numeric, pl.Float64())
    read |= dict.fromkeys(dataset.time_columns, pl.Datetime("us", "UTC"))
    made: dict[str, pl.DataType] = {}
    for name, value in events.values.items():
        path, told = f"events.values.{name}", value.told
        if len(told) != 1:
            yield f"{path}: expected one of {', '.join(AGGREGATES)}, found {' and '.join(told) or 'none'}"
            continue
        (how, of), *_ = told.items()
        wanted = {"any": CONDITION, "count": "", "distinct": ""}.get(how, NUMBER)
        yield from _wrong_expression(of, f"{path}.{how}", read, wanted)
        if value.where:
            yield from _wrong_expression(value.where, f"{path}.where", read, CONDITION)
        made |= {name: pl.Float64(), f"{name}{BEFORE}": pl.Float64()}
    for name, fact in events.known.items():
        path, told = f"events.known.{name}", fact.told
        if len(told) != 1:
            yield f"{path}: expected one of {', '.join(FACTS)}, found {' and '.join(told) or 'none'}"
            continue
        (how, of), *_ = told.items()
        yield from _wrong_expression(of, f"{path}.{how}", read, "" if how == "last" else CONDITION)
        text = how == "last" and _kind(of, read) == TEXT
        made[name] = pl.String() if text else pl.Float64()
    for name, rule in events.rules.items():
        yield from _wrong_expression(rule, f"events.rules.{name}", made, "")


def _wrong_expression(text: str, path: str, columns: Mapping[str, pl.DataType], wanted: str) -> Iterator[str]:
    import polars as pl

    try:
        unknown = sorted(set(sql(text).meta.root_names()) - set(columns))
        if unknown:
            yield f"{path}: {text!r} names no column {unknown[0]!r}{nearest(unknown[0], set(columns))}"
        elif wanted and _kind(text, columns) != wanted:
            yield f"{path}: {text!r} is {_kind(text, columns)}, expected {wanted}"
        elif not wanted:
            _kind(text, columns)
    except pl.exceptions.PolarsError as error:
        yield f"{path}: {text!r} is no SQL expression that can be used: {' '.join(str(error).split())[:150]}"


def _kind(text: str, columns: Mapping[str, pl.DataType]) -> str:
    """What an expression gives, found out on no rows."""
    import polars as pl

    kind = pl.DataFrame(schema=dict(columns)).select(sql(text).alias("found")).schema["found"]
    return TEXT if kind == pl.String else CONDITION if kind == pl.Boolean else NUMBER if kind.is_numeric() else "a time"


def _wrong_uses(dataset: DatasetConfig, events: EventsConfig) -> Iterator[str]:
    before = {*events.known, *dataset.entity}
    after = {*events.values, *events.rules}
    grouped = {name for group in dataset.groups for name in group}
    columns = dataset.columns
    for key, names in (
        ("columns.numeric", columns.numeric),
        ("columns.categorical", columns.categorical),
        ("groups", sorted(grouped)),
        ("segments", dataset.segments),
    ):
        yield from _misplaced(key, names, before, after, "known only when its period is over: use it in outcomes")
    targets = [target.source_column for target in dataset.targets]
    for key, names in (("columns.outcomes", columns.outcomes), ("targets", targets)):
        yield from _misplaced(key, names, after, before, "known beforehand: use it in columns.numeric or categorical")
    for target in dataset.targets:
        if target.transform == "log":
            yield (
                f"target {target.name!r}: transform log needs values above 0, and what comes of events may be 0: "
                "take the logarithm in events.rules, such as LN(1 + value)"
            )


def _misplaced(
    key: str, names: Collection[str], right: Collection[str], wrong: Collection[str], why: str
) -> Iterator[str]:
    for name in names:
        if name in wrong:
            yield f"{key}: {name!r} is {why}"
        elif name not in right:
            yield f"{key}: the events make no {name!r} that can be used there{nearest(name, right)}"
