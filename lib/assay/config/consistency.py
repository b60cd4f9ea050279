"""Consumes a dataset, produces nothing or the contradiction of its keys that no single one shows."""

from __future__ import annotations

import codecs
import dataclasses
import math
import re
import zoneinfo
from collections.abc import Iterator, Sequence
from typing import Any

from assay.config.dataset import EPOCHS, DatasetConfig, JdbcConfig, SourceConfig, stored_name
from assay.config.events_consistency import check_events
from assay.config.quality import parse_check
from assay.config.strict import check_repeats, nearest
from assay.config.target import check_target
from assay.errors import ConfigError

SECRET_OPTION = re.compile(r"(?i)^user$|user_?name|pass(word|wd|phrase)?|pwd|secret|token|credential|key$")
SECRET_IN_URL = re.compile(r"(?i)[?;&](user|user_?name|uid|pass(word|wd)?|pwd)=|//[^/@\s]*@|/[^/@\s]+@//")
FIXED = ("macd", "bollinger")  # lists whose items mean different things


def check_dataset(dataset: DatasetConfig, origin: str) -> None:
    """Refuse a dataset whose keys contradict one another.

    Raises:
        ConfigError: names the keys and what to change.
    """
    _check_source(dataset, origin)
    _check_time(dataset, origin)
    _check_targets(dataset, origin)
    check_events(dataset, origin)
    _check_kinds(dataset, origin)
    check_repeats(_dataset_lists(dataset), origin)
    _check_stored_names(dataset, origin)
    _check_column_maps(dataset, origin)
    _check_features(dataset, origin)
    _check_quality(dataset, origin)


def _check_source(dataset: DatasetConfig, origin: str) -> None:
    source = dataset.source
    _check_place(source, origin)
    if not source.delimiter.isascii() or source.delimiter in '"\r\n':
        raise ConfigError(f"{origin}: source.delimiter {source.delimiter!r}: expected one ASCII character, such as ;")
    try:
        codecs.lookup(source.encoding)
    except LookupError:
        raise ConfigError(
            f"{origin}: source.encoding {source.encoding!r}: no such encoding; utf-8 and latin-1 are common ones"
        ) from None


def _check_place(source: SourceConfig, origin: str) -> None:
    """What a source of each kind must have, and must not."""
    if source.format == "jdbc":
        _check_jdbc(source, origin)
    elif not source.path:
        raise ConfigError(f"{origin}: source.path: this key is required")
    elif source.jdbc != JdbcConfig():
        raise ConfigError(f"{origin}: source.jdbc is set, but source.format is {source.format}; set it to jdbc")
    if source.version is not None and source.format not in {"delta", "table"}:
        raise ConfigError(f"{origin}: source.version {source.version}: only the formats delta and table have versions")
    if source.format == "table" and not all(source.path.split(".")):
        raise ConfigError(f"{origin}: source.path {source.path!r}: expected the name of a table, catalog.schema.table")


def _check_jdbc(source: SourceConfig, origin: str) -> None:
    jdbc = source.jdbc
    if source.path:
        raise ConfigError(f"{origin}: source.path {source.path!r}: the format jdbc has none; set source.jdbc.url")
    if not jdbc.url.startswith("jdbc:"):
        raise ConfigError(f"{origin}: source.jdbc.url: expected such as jdbc:postgresql://host/database")
    if bool(jdbc.table) == bool(jdbc.query):
        raise ConfigError(f"{origin}: source.jdbc needs a table or a query, one of the two")
    secret = bool(SECRET_IN_URL.search(jdbc.url)) or any(SECRET_OPTION.search(name) for name in jdbc.options)
    if secret:
        raise ConfigError(
            f"{origin}: source.jdbc has a user or password in its url or options: put them into environment variables "
            "and name those in source.jdbc.user_env and source.jdbc.password_env"
        )
    for key in ("user_env", "password_env"):
        name = getattr(jdbc, key)
        if name and not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name):
            raise ConfigError(f"{origin}: source.jdbc.{key}: expected the name of an environment variable")


def _check_time(dataset: DatasetConfig, origin: str) -> None:
    time = dataset.time
    if not time.dated:
        _check_undated(dataset, origin)
    _check_decision(dataset, origin)
    known = zoneinfo.available_timezones()
    if time.zone not in known:
        raise ConfigError(
            f"{origin}: time.zone {time.zone!r}: no such time zone; it is an IANA name such as America/Chicago"
            f"{nearest(time.zone, known)}"
        )
    if time.align is not None and dataset.source.removed_files == "keep":
        raise ConfigError(
            f"{origin}: source.removed_files=keep and time.align: merged rows cannot be told apart again, so all files "
            "are read whenever one changes; set removed_files to drop or refuse"
        )
    if time.format is None or time.format in EPOCHS:
        return
    directives = set(re.findall(r"%[-_0^#:.]*\d*([A-Za-z+%])", time.format))
    if not directives & set("YyGgDFcxs+"):
        raise ConfigError(
            f"{origin}: time.format {time.format!r} names no year, so it gives no date; expected such as '%Y-%m-%d'"
        )
    if directives & set("HI") and not directives & set("MTRXr"):
        raise ConfigError(f"{origin}: time.format {time.format!r} has an hour but no minute (%M); give both or neither")


def _check_decision(dataset: DatasetConfig, origin: str) -> None:
    targets = {target.name: target for target in dataset.targets}
    for name, weight in dataset.decision.items():
        if name not in targets:
            raise ConfigError(f"{origin}: decision.{name}: there is no such target{nearest(name, targets)}")
        if targets[name].task == "multiclass":
            raise ConfigError(f"{origin}: decision.{name}: of several classes none is the better one; leave it out")
        if not weight or not math.isfinite(weight):
            raise ConfigError(f"{origin}: decision.{name}: expected a weight above or below 0, found {weight:g}")


def _check_undated(dataset: DatasetConfig, origin: str) -> None:
    time = dataset.time
    told = next((key for key in ("format", "align") if getattr(time, key) is not None), None)
    if told is not None:
        raise ConfigError(f"{origin}: time.{told} is set, but no time.column: say which column the time is in")
    if dataset.columns.outcomes:
        raise ConfigError(
            f"{origin}: columns.outcomes are used through their history alone, which rows without a time have not: "
            "set time.column, or list what is known beforehand under columns.numeric"
        )
    for target in dataset.targets:
        if target.relative_to == "last_value":
            raise ConfigError(
                f"{origin}: target {target.name!r} is relative to its last value, which rows without a time have not: "
                "set time.column, or relative_to to nothing"
            )


def _check_targets(dataset: DatasetConfig, origin: str) -> None:
    columns = dataset.columns
    if not dataset.targets:
        raise ConfigError(f"{origin}: targets: name one at least")
    for index, target in enumerate(dataset.targets):
        check_target(target, f"targets[{index}]", origin)
    targets = [t.name for t in dataset.targets]
    made_from = {t.source_column: t for t in dataset.targets}
    for name in dict.fromkeys([*targets, *made_from]):
        for kind in ("numeric", "categorical", "outcomes"):
            if name in getattr(columns, kind):
                if kind == "outcomes" and name not in targets and made_from[name].derived:
                    continue  # what is compared may have a history of its own
                raise ConfigError(
                    f"{origin}: column {name!r} is both a target and in columns.{kind}: a model would see the answer. "
                    f"Remove it from columns.{kind}; its past values become features by themselves"
                )
        if name in (*dataset.entity, *dataset.segments) or any(name in g for g in dataset.groups):
            raise ConfigError(f"{origin}: target {name!r} cannot be part of entity, groups or segments as well")
    if len(set(targets)) != len(targets):
        raise ConfigError(f"{origin}: targets names a column twice: {targets}")
    for target in dataset.targets:
        other = next((t for t in dataset.targets if t.name == target.source_column), None)
        if target.derived and other is not None and other.decides:
            raise ConfigError(
                f"{origin}: target {target.name!r} compares {other.name!r}, which is no number but classes"
            )


def _check_kinds(dataset: DatasetConfig, origin: str) -> None:
    columns = dataset.columns
    both = (set(columns.numeric) & set(columns.outcomes)) | (set(columns.numeric) & set(columns.categorical))
    both |= set(columns.outcomes) & set(columns.categorical)
    if both:
        raise ConfigError(f"{origin}: columns.{sorted(both)[0]} is listed under two kinds of columns; keep one")
    if dataset.time.column in (*dataset.numeric_columns, *dataset.text_columns):
        raise ConfigError(
            f"{origin}: time.column {dataset.time.column!r} is also listed as a data column; keep it in time alone"
        )
    grouped = {column for group in dataset.groups for column in group}
    keys = {*dataset.entity, *dataset.segments, *columns.categorical} | grouped
    numeric_only = keys & set(dataset.numeric_columns)
    if numeric_only:
        raise ConfigError(
            f"{origin}: {sorted(numeric_only)[0]!r} is numeric and also a key, group, segment or categorical; "
            "keys are text, so list it under columns.categorical instead"
        )


def _dataset_lists(dataset: DatasetConfig) -> Iterator[tuple[str, Sequence[Any]]]:
    yield "entity", dataset.entity
    yield "segments", dataset.segments
    yield "groups", dataset.groups
    for index, group in enumerate(dataset.groups):
        yield f"groups[{index}]", group
    for section in ("columns", "features"):
        yield from _lists_in(getattr(dataset, section), section)


def _lists_in(settings: Any, path: str) -> Iterator[tuple[str, Sequence[Any]]]:
    for name, value in vars(settings).items():
        if isinstance(value, tuple) and name not in FIXED:
            yield f"{path}.{name}", value
        elif dataclasses.is_dataclass(value):
            yield from _lists_in(value, f"{path}.{name}")


def _check_stored_names(dataset: DatasetConfig, origin: str) -> None:
    seen: dict[str, str] = {}
    derived = (t.name for t in dataset.targets if t.derived)
    for name in (*dataset.text_columns, *dataset.numeric_columns, *derived):  # the time is always stored as `time`
        stored = stored_name(name).casefold()
        if stored in seen:
            raise ConfigError(
                f"{origin}: columns {seen[stored]!r} and {name!r} would be stored under one name ({stored}); "
                "rename one in the source, table columns differ by more than case, spaces and punctuation"
            )
        seen[stored] = name


def _check_column_maps(dataset: DatasetConfig, origin: str) -> None:
    for key, of in (("availability_delay_days", dataset), ("bounds", dataset.ingested)):
        unknown = set(getattr(dataset, key)) - set(of.numeric_columns)
        if unknown:
            name = sorted(unknown)[0]
            raise ConfigError(
                f"{origin}: {key}.{name} names no numeric column of the dataset{nearest(name, set(of.numeric_columns))}"
            )
    _check_unknown_values(dataset.ingested, origin)
    for name, (low, high) in dataset.bounds.items():
        if low > high:
            raise ConfigError(f"{origin}: bounds.{name}: the lowest value {low} is above the highest {high}")


def _check_unknown_values(dataset: DatasetConfig, origin: str) -> None:
    numeric = set(dataset.numeric_columns) - set(dataset.labels)
    known = numeric | set(dataset.text_columns)
    for name, values in dataset.unknown_values.items():
        if name not in known:
            raise ConfigError(
                f"{origin}: unknown_values.{name} names no numeric or text column of the dataset{nearest(name, known)}"
            )
        text = next((value for value in values if isinstance(value, str)), None)
        if name in numeric and text is not None:
            raise ConfigError(
                f"{origin}: unknown_values.{name}: {text!r} is no number, as the column's values are; texts that mean "
                "no value are in source.null_values"
            )


def _check_features(dataset: DatasetConfig, origin: str) -> None:
    settings, columns = dataset.features, dataset.columns
    past = {*(t.observed for t in dataset.targets if t.task != "multiclass"), *columns.outcomes}
    chosen = (
        ("technical", settings.technical, past, "target or outcome"),
        ("forward_fill", settings.forward_fill, set(columns.numeric), "column of columns.numeric"),
        (
            "target_encoding.columns",
            settings.target_encoding.columns,
            set(dataset.text_columns),
            "entity, group, segment or categorical column",
        ),
    )
    for key, names, known, kind in chosen:
        for name in names:
            if name not in known:
                raise ConfigError(f"{origin}: features.{key}: {name!r} is no {kind}{nearest(name, known)}")
    fast, slow, _ = settings.macd
    if fast >= slow:
        raise ConfigError(
            f"{origin}: features.macd: the fast period {fast} is not below the slow one {slow}; "
            "the order is [fast, slow, signal]"
        )
    for one, other in settings.interactions.pairs:
        if one == other:
            raise ConfigError(
                f"{origin}: features.interactions.pairs has {one!r} with itself; for its powers, name it in "
                "features.interactions.columns"
            )


def _check_quality(dataset: DatasetConfig, origin: str) -> None:
    dataset = dataset.ingested  # what comes from the source is looked at
    rules, columns = dataset.quality, set(dataset.text_columns) | set(dataset.numeric_columns)
    for name in rules.categories:
        if name not in dataset.text_columns:
            raise ConfigError(
                f"{origin}: quality.categories.{name} names no text column of the dataset"
                f"{nearest(name, set(dataset.text_columns))}"
            )
    for index, text in enumerate(rules.checks):
        try:
            check = parse_check(text, columns)
        except ConfigError as error:
            raise ConfigError(f"{origin}: quality.checks[{index}]: {error}") from None
        if (check.left in dataset.numeric_columns) != (check.right in dataset.numeric_columns):
            raise ConfigError(f"{origin}: quality.checks[{index}]: {text!r} compares a number with a text")
