"""Consumes one entry of a dataset's `targets`, produces a `TargetConfig`: what is predicted, of which kind."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from assay.config.strict import STRICT
from assay.errors import ConfigError

Text = Annotated[str, Field(min_length=1)]
Value = Text | bool | int  # YAML writes a class as a text, a whole number, or true and false
LAST_VALUE = "last_value"
MOST_CLASSES = 100


@dataclass(frozen=True, config=STRICT)
class TargetConfig:
    """What is to be valued, or decided.

    column: of the source; by default the one that is called like the target.
    task: `regression` predicts a number, `binary` how likely one of two classes is, `multiclass` how likely each is.
    transform: scale on which the model learns; `log` needs values above 0 (others are quarantined).
    relative_to: `last_value` learns the change from the entity's last known value, which lets trees follow a trend.
    positive: of a binary target, the value that counts as 1. Without it values are 0 and 1, or true and false.
    negative: the value that counts as 0; without it any other value does.
    classes: of a multiclass target, all its values.
    above: makes a binary target of a numeric column: whether its value is above this number, or above the entity's last
        known value (`last_value`; unknown where there is none).
    """

    name: Text
    column: str = ""
    task: Literal["regression", "binary", "multiclass"] = "regression"
    transform: Literal["none", "log"] = "none"
    relative_to: Literal["nothing", "last_value"] = "nothing"
    positive: Value | None = None
    negative: Value | None = None
    classes: Annotated[tuple[Value, ...], Field(max_length=MOST_CLASSES)] = ()
    above: Literal["last_value"] | float | None = None

    @property
    def source_column(self) -> str:
        """The column of the source that it is made from."""
        return self.column or self.name

    @property
    def observed(self) -> str:
        """The column of `observations` that it is made from: of a threshold the number, else the target itself."""
        return self.source_column if self.derived else self.name

    @property
    def derived(self) -> bool:
        """Whether it is a number's threshold, and known only where features are built."""
        return self.above is not None

    @property
    def decides(self) -> bool:
        """Whether it is one of classes, not a number."""
        return self.task != "regression"

    @property
    def class_names(self) -> tuple[str, ...]:
        """Classes by their code, which is what tables hold: of a binary target 0 and 1. None of a regression."""
        if self.task == "multiclass":
            return tuple(map(class_text, self.classes))
        if self.task == "regression":
            return ()
        if self.derived:
            return ("not above", "above")
        positive = "1" if self.positive is None else class_text(self.positive)
        if self.negative is not None:
            return (class_text(self.negative), positive)
        return ("0" if self.positive is None else f"not {positive}", positive)


def class_text(value: Value) -> str:
    """A class as tables have it: true and 1 as `true` and `1`."""
    return str(value).lower() if isinstance(value, bool) else str(value)


# Which tasks a key belongs to.
KEYS = {
    "transform": ("regression",),
    "relative_to": ("regression",),
    "positive": ("binary",),
    "negative": ("binary",),
    "above": ("binary",),
    "classes": ("multiclass",),
    "column": ("binary", "multiclass"),
}


def check_target(target: TargetConfig, path: str, origin: str) -> None:
    """Refuse a target whose keys contradict one another.

    Raises:
        ConfigError: names the keys and what to change.
    """
    for why in _contradictions(target):
        raise ConfigError(f"{origin}: {path}.{why}")


def _contradictions(target: TargetConfig) -> Iterator[str]:
    defaults = {field.name: field.default for field in dataclasses.fields(TargetConfig)}
    for key, tasks in KEYS.items():
        value = getattr(target, key)
        if value not in (defaults[key], ()) and target.task not in tasks:
            yield f"{key} has no use with task {target.task}; it is of task {' and '.join(tasks)}"
    names = target.class_names
    if target.task == "multiclass" and len(names) < 2:
        yield f"classes: task multiclass needs all classes of {target.source_column!r}, two or more"
    twice = [name for place, name in enumerate(names) if name in names[:place]]
    if twice:
        yield f"{'classes' if target.task == 'multiclass' else 'negative'}: {twice[0]!r} comes twice; keep one"
    if target.negative is not None and target.positive is None:
        yield "negative needs positive: name both values"
    if target.derived and target.positive is not None:
        yield "above and positive are two ways to say what counts as 1; keep one"
    if target.derived and target.source_column == target.name:
        yield "column: name the numeric column that is compared (above); the target needs a name of its own"
