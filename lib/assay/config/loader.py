"""Consumes YAML files and `--set a.b=1`, produces a frozen `RunConfig`; an unknown key is an error."""

from __future__ import annotations

import dataclasses
import datetime as dt
import difflib
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import TypeAdapter, ValidationError

from assay.config.dataset import DatasetConfig, stored_name
from assay.config.profile import ProfileConfig
from assay.config.run import RunConfig
from assay.errors import ConfigError

Tree = dict[str, Any]


def conf_root() -> Path:
    """Folder of the configuration that ships with assay: beside the source tree, or inside the installed package."""
    package = Path(__file__).resolve().parents[1]
    installed = package / "conf"
    return installed if installed.is_dir() else package.parents[1] / "conf"


def read_yaml(path: Path) -> Tree:
    """Read one YAML file as a mapping with text keys.

    Raises:
        ConfigError: the file is missing, is not YAML, or is not a mapping.
    """
    try:
        tree = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(f"{path}: there is no such file{_nearby_files(path)}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read as UTF-8 text: {error}") from None
    except yaml.YAMLError as error:
        raise ConfigError(f"{path}: not valid YAML: {' '.join(str(error).split())}") from None
    if not isinstance(tree, dict):
        raise ConfigError(f"{path}: expected a mapping of keys to values, found {type(tree).__name__}")
    return tree


def load_dataset(path: Path) -> DatasetConfig:
    """Load and check one dataset YAML."""
    config: DatasetConfig = _check(DatasetConfig, read_yaml(path), origin=str(path))
    return config


def load_run(
    *,
    dataset: Path,
    profile: str = "production",
    workspace: Path | None = None,
    overrides: Sequence[str] = (),
    date: str | None = None,
    where: Sequence[str] = (),
) -> RunConfig:
    """Resolve everything a run is told: profile < dataset's `training` < `--set`.

    Raises:
        ConfigError: with the dotted path of the key and the nearest valid one.
    """
    dataset_tree = read_yaml(dataset)
    profile_path = conf_root() / "profiles" / f"{profile}.yml"
    if not profile_path.is_file():
        known = ", ".join(sorted(p.stem for p in profile_path.parent.glob("*.yml")))
        raise ConfigError(f"--profile {profile}: there is no such profile; choose one of {known}")
    _check(DatasetConfig, dataset_tree, origin=str(dataset))
    tree: Tree = {**read_yaml(profile_path), "dataset": dataset_tree}
    training = tree.setdefault("training", {})
    for flag, value in (dataset_tree.get("training") or {}).items():
        training[flag] = value
    _check(ProfileConfig, {k: v for k, v in tree.items() if k != "dataset"}, origin=f"{profile_path} with {dataset}")
    for text in overrides:
        _set(tree, text)
    dataset_config = _check(DatasetConfig, tree.pop("dataset"), origin="--set", prefix="dataset")
    profile_config = _check(ProfileConfig, tree, origin="--set")
    _cross_check(dataset_config, origin=str(dataset))
    return RunConfig(
        dataset=dataset_config,
        profile=profile_config,
        profile_name=profile,
        dataset_folder=dataset.resolve().parent,
        workspace=(workspace or Path("workspace") / dataset_config.name).absolute(),
        as_of=_parse_date(date),
        where=tuple(_parse_where(dataset_config, text) for text in where),
    )


def _set(tree: Tree, text: str) -> None:
    key, separator, value = text.partition("=")
    parts = key.strip().split(".")
    if not separator or not all(parts):
        raise ConfigError(f"--set {text}: expected key=value, for example --set engine.rounds=200")
    valid = set(leaf_paths())
    dotted = ".".join(parts)
    if dotted not in valid and not any(dotted.startswith(f"{v}.") for v in OPEN_MAPPINGS):
        raise ConfigError(f"--set {dotted}: unknown key{_nearest(dotted, valid)}")
    try:
        parsed = yaml.safe_load(value)
    except yaml.YAMLError:
        parsed = value
    node = tree
    for depth, part in enumerate(parts[:-1]):
        child = node.get(part)
        if isinstance(child, list) and depth + 1 < len(parts):
            raise ConfigError(
                f"--set {dotted}: {'.'.join(parts[: depth + 1])} is a list; set it whole, as YAML: [a, b]"
            )
        if child is None:
            child = node[part] = {}
        node = child
    node[parts[-1]] = parsed if parsed is not None or value.strip() in {"null", "~"} else ""


OPEN_MAPPINGS = ("dataset.availability_delay_days", "dataset.bounds", "dataset.training", "engine.params")


def leaf_paths() -> Iterator[str]:
    """Every dotted key that `--set` accepts."""
    yield from _leaves(DatasetConfig, "dataset.")
    yield from _leaves(ProfileConfig, "")


def _leaves(kind: Any, prefix: str) -> Iterator[str]:
    for name, hint in _field_types(kind).items():
        yield f"{prefix}{name}"
        if dataclasses.is_dataclass(hint):
            yield from _leaves(hint, f"{prefix}{name}.")


def _field_types(kind: Any) -> dict[str, Any]:
    import typing

    return typing.get_type_hints(kind)


def _check(kind: Any, tree: Mapping[str, Any], *, origin: str, prefix: str = "") -> Any:
    try:
        return TypeAdapter(kind).validate_python(dict(tree))
    except ValidationError as error:
        messages = [_explain(kind, dict(item), prefix) for item in error.errors()]
        raise ConfigError(f"{origin}: " + "; ".join(messages)) from None


def _explain(kind: Any, item: dict[str, Any], prefix: str) -> str:
    location = [str(part) for part in item["loc"]]
    dotted = ".".join([prefix, *location] if prefix else location)
    if item["type"] in {"unexpected_keyword_argument", "extra_forbidden"}:
        siblings = _siblings(kind, location[:-1])
        nearest = _nearest(location[-1], siblings)
        return f"unknown key {dotted}{nearest or ' (valid here: ' + ', '.join(sorted(siblings)) + ')'}"
    if item["type"] in {"missing", "missing_argument"}:
        return f"{dotted}: this key is required"
    return f"{dotted}: {item['msg'][0].lower()}{item['msg'][1:]} (found {item['input']!r})"


def _siblings(kind: Any, location: Sequence[str]) -> set[str]:
    for part in location:
        if part.isdigit():
            continue
        hint = _field_types(kind).get(part)
        if not dataclasses.is_dataclass(hint):
            candidates = [a for a in getattr(hint, "__args__", ()) if dataclasses.is_dataclass(a)]
            nested = [a for arg in getattr(hint, "__args__", ()) for a in getattr(arg, "__args__", ())]
            candidates += [a for a in nested if dataclasses.is_dataclass(a)]
            if not candidates:
                return set()
            hint = candidates[0]
        kind = hint
    return set(_field_types(kind))


def _nearest(key: str, valid: set[str]) -> str:
    close = difflib.get_close_matches(key, sorted(valid), n=1, cutoff=0.5)
    if not close:
        by_leaf = {v.rsplit(".", 1)[-1]: v for v in sorted(valid)}
        leaves = difflib.get_close_matches(key.rsplit(".", 1)[-1], list(by_leaf), n=1, cutoff=0.6)
        close = [by_leaf[leaf] for leaf in leaves]
    return f"; did you mean {close[0]}?" if close else ""


def _nearby_files(path: Path) -> str:
    shipped = sorted((conf_root() / "datasets").glob("*.yml"))
    names = {p.name: p for p in shipped}
    close = difflib.get_close_matches(path.name, list(names), n=1, cutoff=0.5)
    return f"; did you mean {os.path.relpath(names[close[0]])}?" if close else ""


def _cross_check(dataset: DatasetConfig, *, origin: str) -> None:
    """Contradictions that no single key shows."""
    _check_targets(dataset, origin)
    _check_kinds(dataset, origin)
    _check_stored_names(dataset, origin)
    _check_column_maps(dataset, origin)


def _check_targets(dataset: DatasetConfig, origin: str) -> None:
    columns = dataset.columns
    targets = [t.name for t in dataset.targets]
    for name in targets:
        for kind in ("numeric", "categorical", "outcomes"):
            if name in getattr(columns, kind):
                raise ConfigError(
                    f"{origin}: column {name!r} is both a target and in columns.{kind}: a model would see the answer. "
                    f"Remove it from columns.{kind}; its past values become features by themselves"
                )
        if name in (*dataset.entity, *dataset.segments) or any(name in g for g in dataset.groups):
            raise ConfigError(f"{origin}: target {name!r} cannot be part of entity, groups or segments as well")
    if len(set(targets)) != len(targets):
        raise ConfigError(f"{origin}: targets names a column twice: {targets}")


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


def _check_stored_names(dataset: DatasetConfig, origin: str) -> None:
    seen: dict[str, str] = {}
    for name in dataset.source_columns:
        stored = stored_name(name).casefold()
        if stored in seen:
            raise ConfigError(
                f"{origin}: columns {seen[stored]!r} and {name!r} would be stored under one name ({stored}); "
                "rename one in the source, table columns differ by more than case, spaces and punctuation"
            )
        seen[stored] = name


def _check_column_maps(dataset: DatasetConfig, origin: str) -> None:
    for key in ("availability_delay_days", "bounds"):
        unknown = set(getattr(dataset, key)) - set(dataset.numeric_columns)
        if unknown:
            name = sorted(unknown)[0]
            raise ConfigError(
                f"{origin}: {key}.{name} names no numeric column of the dataset"
                f"{_nearest(name, set(dataset.numeric_columns))}"
            )
    for name, (low, high) in dataset.bounds.items():
        if low > high:
            raise ConfigError(f"{origin}: bounds.{name}: the lowest value {low} is above the highest {high}")


def _parse_date(text: str | None) -> dt.datetime | None:
    if text is None:
        return None
    try:
        moment = dt.datetime.fromisoformat(text)
    except ValueError:
        raise ConfigError(f"--date {text}: not a date; write it as 2015-06-30 or 2015-06-30T12:00:00+00:00") from None
    return moment if moment.tzinfo else moment.replace(tzinfo=dt.timezone.utc)


def _parse_where(dataset: DatasetConfig, text: str) -> tuple[str, str]:
    column, separator, value = text.partition("=")
    if not separator or not column:
        raise ConfigError(f"--where {text}: expected COLUMN=VALUE, for example --where city=Austin")
    if column not in dataset.text_columns:
        known = set(dataset.text_columns)
        raise ConfigError(
            f"--where {text}: {column!r} is no entity, categorical, group or segment column of {dataset.name}"
            f"{_nearest(column, known) or '; choose one of ' + ', '.join(sorted(known))}"
        )
    return column, value
