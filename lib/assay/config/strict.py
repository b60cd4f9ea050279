"""The one rule set of all configuration dataclasses: unknown keys, NaN and silent coercions are errors."""

from __future__ import annotations

import dataclasses
import difflib
import json
import math
import reprlib
import types
import typing
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Annotated, Any

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError

from assay.errors import ConfigError

STRICT = ConfigDict(extra="forbid", allow_inf_nan=False, validate_default=True, str_strip_whitespace=False)
Name = Annotated[str, Field(min_length=1)]
Days = Annotated[float, Field(ge=0, le=36_500)]

EXPECTED = {
    "bool_type": "expected true or false",
    "int_type": "expected a whole number",
    "float_type": "expected a number",
    "finite_number": "expected a finite number",
    "string_type": "expected text (put it in quotes)",
    "tuple_type": "expected a list, such as [a, b]",
    "dataclass_type": "expected keys and values",
    "dict_type": "expected keys and values",
}


def check(kind: Any, tree: Mapping[str, Any], *, origin: str, prefix: str = "") -> Any:
    """Turn plain data into the dataclass `kind`.

    Raises:
        ConfigError: one line with every key that is unknown, missing or of another type, by its dotted path.
    """
    start = [prefix] if prefix else []
    for location, value in _numbers(tree, ()):
        if not math.isfinite(value):
            raise ConfigError(f"{origin}: {dotted([*start, *location])}: expected a finite number (found {value!r})")
    try:
        # By way of JSON: only there does strictness let a list be a tuple and a mapping be a dataclass.
        return TypeAdapter(kind).validate_json(json.dumps(tree, default=str), strict=True)
    except ValidationError as error:
        items = [dict(item) for item in error.errors()]
        # A list with a wrong item is also called too short.
        deeper = {e["loc"][:n] for e in error.errors() for n in range(len(e["loc"]))}
        messages = [_explain(kind, item, start) for item in items if item["loc"] not in deeper]
        messages.sort(key=lambda text: not text.startswith("unknown key"))  # a typo explains why a key is missing
        raise ConfigError(f"{origin}: " + "; ".join(messages)) from None


def dotted(location: Sequence[str | int]) -> str:
    """Path of a key as a person writes it: ``targets[0].name``."""
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in location).removeprefix(".")


def nearest(key: str, valid: Collection[str]) -> str:
    """`; did you mean X?` for the valid key that is most like `key`, or nothing."""
    folded = {v.casefold(): v for v in sorted(valid)}
    close = difflib.get_close_matches(key.casefold(), list(folded), n=1, cutoff=0.5)
    return f"; did you mean {folded[close[0]]}?" if close else ""


def check_repeats(lists: Iterable[tuple[str, Sequence[Any]]], origin: str) -> None:
    """Refuse lists that name something twice. lists: dotted path and items of each.

    Raises:
        ConfigError: names the list and the item.
    """
    for path, values in lists:
        twice = [value for index, value in enumerate(values) if value in values[:index]]
        if twice:
            found = list(twice[0]) if isinstance(twice[0], tuple) else twice[0]
            raise ConfigError(f"{origin}: {path} lists {found!r} twice; keep one")


def field_types(kind: Any) -> dict[str, Any]:
    """Names of a dataclass's fields, and their types without annotations."""
    return typing.get_type_hints(kind)


def _numbers(value: Any, location: tuple[str | int, ...]) -> Iterator[tuple[tuple[str | int, ...], float]]:
    if isinstance(value, float):
        yield location, value
    elif isinstance(value, dict | list):
        items = value.items() if isinstance(value, dict) else enumerate(value)
        for key, inner in items:
            yield from _numbers(inner, (*location, key))


def _explain(kind: Any, item: dict[str, Any], start: Sequence[str]) -> str:
    location = [*start, *item["loc"]]
    path = dotted(location)
    if item["type"] in {"unexpected_keyword_argument", "extra_forbidden"}:
        siblings = _siblings(kind, item["loc"][:-1])
        hint = nearest(str(location[-1]), siblings) or f" (valid here: {', '.join(sorted(siblings))})"
        return f"unknown key {path}{hint}"
    if item["type"] in {"missing", "missing_argument"}:
        return f"{path}: this key is required"
    told = item["msg"].replace("Tuple", "list").replace(" after validation", "")
    return f"{path}: {EXPECTED.get(item['type'], told[0].lower() + told[1:])} (found {reprlib.repr(item['input'])})"


def _siblings(kind: Any, location: Sequence[str | int]) -> set[str]:
    """Keys of the dataclass at a location, looking through tuples and mappings of dataclasses."""
    for part in location:
        if not dataclasses.is_dataclass(kind):  # an index of a tuple, a name in a mapping
            kind = [inner for inner in typing.get_args(kind) if inner is not Ellipsis][-1]
        else:
            kind = field_types(kind)[str(part)]
        if isinstance(kind, types.UnionType):  # X | None
            kind = next((inner for inner in typing.get_args(kind) if dataclasses.is_dataclass(inner)), kind)
    return set(field_types(kind))
