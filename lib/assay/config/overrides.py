"""Consumes `--set a.b=1` texts, produces changes of the configuration tree; an unknown key is an error."""

from __future__ import annotations

import dataclasses
import difflib
import types
import typing
from collections.abc import Iterator
from typing import Any, Literal

import yaml

from assay.config.dataset import DatasetConfig
from assay.config.profile import ProfileConfig
from assay.config.strict import field_types, nearest
from assay.config.yaml_text import Tree, parse_yaml
from assay.errors import ConfigError

DATASET = "dataset"


@dataclasses.dataclass(frozen=True)
class Override:
    """One setting from the command line. keys: its path, the first one `dataset` where it changes the dataset."""

    keys: tuple[str, ...]
    value: Any

    @property
    def for_dataset(self) -> bool:
        """Whether it changes the dataset, not the profile."""
        return self.keys[0] == DATASET

    def apply(self, tree: Tree) -> None:
        """Change `tree`, which holds the profile's sections and `dataset`."""
        node = tree
        for depth, key in enumerate(self.keys[:-1]):
            child = node.setdefault(key, {})
            if child is None:
                child = node[key] = {}
            if not isinstance(child, dict):
                path, whole = ".".join(self.keys), ".".join(self.keys[: depth + 1])
                raise ConfigError(f"--set {path}: {whole} is set to {child!r}, which has no keys; set one or the other")
            node = child
        node[self.keys[-1]] = self.value


def parse_override(text: str) -> Override:
    """Read one `key=value`, split on the first `=`. Values are YAML; settings that are texts take the text as it is.

    Raises:
        ConfigError: no `=`, an unknown key, or a key inside a list.
    """
    key, separator, value = text.partition("=")
    path = key.strip()
    if not separator or not all(path.split(".")):
        raise ConfigError(f"--set {text}: expected key=value, for example --set engine.rounds=200")
    kinds = dict(setting_types())
    open_mapping = next((m for m, kind in kinds.items() if _is_open(kind) and path.startswith(f"{m}.")), None)
    if open_mapping is not None:  # its keys are names of columns or parameters, which may have dots
        return Override((*open_mapping.split("."), path.removeprefix(f"{open_mapping}.")), _value(value, Any))
    if path not in kinds:
        inside = next((p for p in kinds if path.startswith((f"{p}.", f"{p}["))), None)
        if inside is not None and typing.get_origin(kinds[inside]) is tuple:
            raise ConfigError(f"--set {path}: {inside} is a list; set it whole, as YAML: --set '{inside}=[...]'")
        raise ConfigError(f"--set {path}: unknown key{_nearest_setting(path, list(kinds))}")
    return Override(tuple(path.split(".")), _value(value, kinds[path]))


def setting_types() -> Iterator[tuple[str, Any]]:
    """Every dotted key that `--set` accepts, with its type; a mapping with names of one's own accepts keys below it."""
    yield from _settings(DatasetConfig, f"{DATASET}.")
    yield from _settings(ProfileConfig, "")


def _settings(kind: Any, prefix: str) -> Iterator[tuple[str, Any]]:
    for name, hint in field_types(kind).items():
        yield f"{prefix}{name}", hint
        for section in typing.get_args(hint) if isinstance(hint, types.UnionType) else [hint]:
            if dataclasses.is_dataclass(section):
                yield from _settings(section, f"{prefix}{name}.")


def _is_open(kind: Any) -> bool:
    return typing.get_origin(kind) is dict


def _is_text(kind: Any) -> bool:
    if isinstance(kind, types.UnionType):
        return str in typing.get_args(kind)
    return kind is str or typing.get_origin(kind) is Literal


def _value(text: str, kind: Any) -> Any:
    plain = text.strip()
    if plain in {"null", "~"}:
        return None
    if not plain or (_is_text(kind) and plain[0] not in "\"'"):
        return text
    try:
        return parse_yaml(text)
    except yaml.YAMLError:
        return text


def _nearest_setting(path: str, valid: list[str]) -> str:
    """The setting most like `path`, or else the one whose last part is most like its last part."""
    by_leaf = {v.rsplit(".", 1)[-1]: v for v in reversed(valid)}
    leaves = difflib.get_close_matches(path.rsplit(".", 1)[-1], list(by_leaf), n=1, cutoff=0.8)
    if leaves:
        return f"; did you mean {by_leaf[leaves[0]]}?"
    return nearest(path, valid) or f"; settings are in {', '.join(sorted({v.split('.')[0] for v in valid}))}"
