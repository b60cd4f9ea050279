"""Consumes a dataset and a profile, produces nothing or the contradiction that no single key shows."""

from __future__ import annotations

import codecs
import dataclasses
import math
import re
import zoneinfo
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

from assay.config.conformal import missing_quantiles
from assay.config.dataset import DatasetConfig, JdbcConfig, SourceConfig, stored_name
from assay.config.evaluation import EvaluationConfig
from assay.config.events_consistency import check_events
from assay.config.experiments import check_experiments
from assay.config.members import members_of
from assay.config.preparation import PreparationConfig
from assay.config.profile import MONOTONE, SAMPLED, ProfileConfig
from assay.config.quality import METRICS, SCORES, parse_check
from assay.config.retraining import check_retraining
from assay.config.strict import nearest
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
    _check_repeats(_dataset_lists(dataset), origin)
    _check_stored_names(dataset, origin)
    _check_column_maps(dataset, origin)
    _check_features(dataset, origin)
    _check_quality(dataset, origin)


def check_profile(profile: ProfileConfig, origin: str) -> None:
    """Refuse a profile whose keys contradict one another."""
    lists: list[tuple[str, Sequence[Any]]] = [
        ("conformal.levels", profile.conformal.levels),
        ("engine.quantiles", profile.engine.quantiles),
        ("scoring.shadows", profile.scoring.shadows),
        ("alerts.sinks", profile.alerts.sinks),
    ]
    _check_repeats(lists, origin)
    split = profile.split
    held_back = split.tune + split.calibrate + split.test
    if held_back >= 1:
        raise ConfigError(
            f"{origin}: split.tune + split.calibrate + split.test = {held_back:g}: nothing is left to train on; "
            "make them smaller"
        )
    engine = profile.engine
    if engine.sample_rows and engine.name not in SAMPLED:
        raise ConfigError(
            f"{origin}: engine.sample_rows has no use with engine.name={engine.name}, which learns from all rows; "
            f"it is of {', '.join(SAMPLED)}"
        )
    if engine.monotone and engine.name not in MONOTONE:
        raise ConfigError(
            f"{origin}: engine.monotone has no use with engine.name={engine.name}; it is of {' and '.join(MONOTONE)}"
        )
    missing = missing_quantiles(profile.conformal.levels, engine.quantiles)
    if profile.conformal.score == "cqr" and missing:
        raise ConfigError(
            f"{origin}: conformal.score=cqr needs the model's quantiles at {', '.join(f'{end:g}' for end in missing)}: "
            "name them in engine.quantiles (engines xgboost and catboost), or choose another score"
        )
    if profile.training.enable_advanced_ensemble or profile.ensemble.members:
        members_of(profile, origin)
    _check_repeats([("ensemble.methods", profile.ensemble.methods)], origin)
    _check_preparation(profile.preparation, origin)
    _check_evaluation(profile.evaluation, origin)
    check_experiments(profile.experiments, origin)
    check_retraining(profile.retraining, origin)
    _check_quality_names(profile, origin)


def _check_evaluation(evaluation: EvaluationConfig, origin: str) -> None:
    _check_repeats([("evaluation.segments", evaluation.segments)], origin)
    _check_repeats([("evaluation.clusters.columns", evaluation.clusters.columns)], origin)
    if evaluation.act_width > evaluation.review_width:
        raise ConfigError(
            f"{origin}: evaluation.act_width {evaluation.act_width:g} is above evaluation.review_width "
            f"{evaluation.review_width:g}; an interval to act on is narrower than one to look at"
        )


def _check_preparation(preparation: PreparationConfig, origin: str) -> None:
    outliers, impute, selection = preparation.outliers, preparation.impute, preparation.selection
    _check_repeats([("preparation.outliers.columns", outliers.columns)], origin)
    for name, (low, high) in outliers.bounds.items():
        if low > high:
            raise ConfigError(
                f"{origin}: preparation.outliers.bounds.{name}: the lowest value {low} is above the highest {high}"
            )
    if outliers.winsorize is not None and outliers.winsorize[0] >= outliers.winsorize[1]:
        raise ConfigError(
            f"{origin}: preparation.outliers.winsorize {list(outliers.winsorize)}: expected a lower and a higher "
            "quantile, such as [0.01, 0.99]"
        )
    for name, rule in impute.columns.items():
        if rule.value is not None and rule.method != "constant":
            raise ConfigError(
                f"{origin}: preparation.impute.columns.{name}.value has no use with method {rule.method}; it is of "
                "method constant"
            )
    if preparation.pca.enabled:
        kept = [f"preparation.impute.columns.{n}.method" for n, r in impute.columns.items() if r.method == "keep"]
        kept += ["preparation.impute.default"] if impute.default == "keep" else []
        if kept:
            raise ConfigError(
                f"{origin}: preparation.pca.enabled takes no missing values, but {kept[0]} is keep; set it to median, "
                "say"
            )
    if selection.method == "none" and (selection.max_features is not None or selection.min_score):
        key = "max_features" if selection.max_features is not None else "min_score"
        raise ConfigError(
            f"{origin}: preparation.selection.{key} needs scores; set preparation.selection.method to importance, say"
        )


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
    if time.format is None:
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


def _check_repeats(lists: Iterator[tuple[str, Sequence[Any]]] | list[tuple[str, Sequence[Any]]], origin: str) -> None:
    for path, values in lists:
        twice = [value for index, value in enumerate(values) if value in values[:index]]
        if twice:
            found = list(twice[0]) if isinstance(twice[0], tuple) else twice[0]
            raise ConfigError(f"{origin}: {path} lists {found!r} twice; keep one")


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
    for name, (low, high) in dataset.bounds.items():
        if low > high:
            raise ConfigError(f"{origin}: bounds.{name}: the lowest value {low} is above the highest {high}")


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


def _check_quality_names(profile: ProfileConfig, origin: str) -> None:
    quality = profile.quality
    named: list[tuple[str, Mapping[str, float], Collection[str]]] = [
        ("ingest.quality_limits", profile.ingest.quality_limits, METRICS),
        ("quality.warn_limits", quality.warn_limits, METRICS),
        ("quality.metric_weights", quality.metric_weights, METRICS),
        ("quality.score_weights", quality.score_weights, SCORES),
    ]
    for path, given, known in named:
        for name in given:
            if name not in known:
                hint = nearest(name, set(known)) or f" (valid here: {', '.join(sorted(known))})"
                raise ConfigError(f"{origin}: unknown key {path}.{name}{hint}")
    if not any(quality.score_weights.get(name, 1.0) for name in SCORES):
        raise ConfigError(f"{origin}: quality.score_weights are all 0: give one of {', '.join(SCORES)} a weight")
