"""Consumes MLflow's record of a registered model, produces its versions as people know them: semantic, with a state.

The rule of semantic versions, decided when a version is registered, by what it is compared with (the champion of then):
another target, task, classes or columns of a prediction make it a new major one, other features a new minor one, and
all else (trained again, calibrated again) a new patch. The first one is 1.0.0.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import re
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from typing import Any, Literal, get_args

CHAMPION, CHALLENGER, PREVIOUS = "champion", "challenger", "previous"  # aliases
ABSENT = {"RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"}  # MLflow's codes for no such model, no such alias
SEMANTIC = "assay.semantic_version"
RETIRED = "assay.retired_at"
GONE = "assay.gone_versions"  # of a registered model: the highest semantic versions among those removed, by line
OUTPUT, INPUT = "assay.output_hash", "assay.input_hash"  # of what a version promises, and of what it reads

Change = Literal["first", "major", "minor", "patch"]
State = Literal["serving", "challenger", "previous", "registered", "retired"]


@dataclasses.dataclass(frozen=True, order=True)
class Semantic:
    """A semantic version."""

    major: int
    minor: int
    patch: int

    def __str__(self) -> str:
        return f"{self.major}.{self.minor}.{self.patch}"

    @classmethod
    def parse(cls, text: str) -> Semantic | None:
        """Read back `str`; None of any other text."""
        found = re.fullmatch(r"(\d+)\.(\d+)\.(\d+)", text)
        return cls(*map(int, found.groups())) if found else None


@dataclasses.dataclass(frozen=True)
class Version:
    """A version of a registered model.

    number: MLflow's.  run_id: the run that registered it; `trained_run_id` is that of its model.
    """

    name: str
    number: int
    tags: Mapping[str, str]
    aliases: tuple[str, ...]
    source: str
    run_id: str
    created: dt.datetime

    @cached_property
    def semantic(self) -> Semantic | None:
        """Its semantic version; None of one that was registered before there were any."""
        return Semantic.parse(self.tags.get(SEMANTIC, ""))

    @property
    def label(self) -> str:
        """What people call it: `3 (1.0.2)`."""
        return label_of(str(self.number), self.tags)

    @property
    def told(self) -> str:
        """The same with its model, for messages."""
        return f"model {self.name} version {self.label}"

    @property
    def retired(self) -> bool:
        """Whether nobody shall use it any more."""
        return RETIRED in self.tags

    @property
    def state(self) -> State:
        """What it is there for."""
        if CHAMPION in self.aliases:
            return "serving"
        if CHALLENGER in self.aliases:
            return "challenger"
        if PREVIOUS in self.aliases:
            return "previous"
        return "retired" if self.retired else "registered"

    @property
    def registered_at(self) -> dt.datetime:
        """When it was registered, by the clock."""
        told = self.tag("registered_at")
        return dt.datetime.fromisoformat(told) if told else self.created

    @property
    def trained_run_id(self) -> str:
        """The training run of its model."""
        return self.tags["assay.run_id"]

    def tag(self, name: str) -> str:
        """A tag of ours; empty where it has none."""
        return self.tags.get(f"assay.{name}", "")


def label_of(number: str, tags: Mapping[str, str]) -> str:
    """A version's number with its semantic version, for people."""
    return f"{number} ({tags[SEMANTIC]})" if SEMANTIC in tags else number


def aliases_of(client: Any, name: str) -> dict[str, str] | None:
    """Alias -> number of the version that it names; None where there is no model of that name."""
    import mlflow

    try:
        found = client.get_registered_model(name)
    except mlflow.MlflowException as error:
        if error.error_code not in ABSENT:
            raise
        return None
    return {alias: str(number) for alias, number in found.aliases.items()}


def versions_of(client: Any, name: str) -> list[Version]:
    """All versions of a registered model, oldest first; none where there is no such model."""
    aliases = aliases_of(client, name)
    if aliases is None:
        return []
    named: dict[str, list[str]] = {}
    for alias, number in sorted(aliases.items()):
        named.setdefault(number, []).append(alias)
    found = [
        Version(
            name=name,
            number=int(one.version),
            tags=dict(one.tags),
            aliases=tuple(named.get(str(one.version), ())),
            source=one.source,
            run_id=one.run_id or "",
            created=dt.datetime.fromtimestamp(one.creation_timestamp / 1000, dt.timezone.utc),
        )
        for one in client.search_model_versions(f"name = '{name}'")
    ]
    return sorted(found, key=lambda one: one.number)


def pick(versions: Sequence[Version], which: str) -> Version | None:
    """The version with this number, semantic version or alias; None where there is none."""
    for one in versions:
        if which in {str(one.number), str(one.semantic), *one.aliases}:
            return one
    return None


def described(versions: Sequence[Version]) -> str:
    """What there is of a model, for people."""
    if not versions:
        return "no version of it is registered"
    aliases = sorted(alias for one in versions for alias in one.aliases)
    return f"it has {', '.join(one.label for one in versions)}" + (f" and {', '.join(aliases)}" if aliases else "")


def make_champion(client: Any, name: str, number: str) -> None:
    """Let a version serve; the one before becomes `previous`. Does what is left of it where it died half way."""
    aliases = aliases_of(client, name) or {}
    before = aliases.get(CHAMPION)
    if before != number:
        if before is not None:
            client.set_registered_model_alias(name, PREVIOUS, before)
        client.set_registered_model_alias(name, CHAMPION, number)
    if aliases.get(CHALLENGER) == number:
        client.delete_registered_model_alias(name, CHALLENGER)


def change_between(parent: Mapping[str, str], tags: Mapping[str, str]) -> Change:
    """What kind of change a version with these tags is to the one that it is compared with."""
    if parent.get(OUTPUT) != tags.get(OUTPUT):
        return "major"
    return "minor" if parent.get(INPUT) != tags.get(INPUT) else "patch"


def next_semantic(parent: Semantic | None, change: Change, taken: Iterable[Semantic]) -> Semantic:
    """The next free semantic version.

    A patch follows the last one of the parent's line (major and minor), a minor one the last of its major, a major one
    the last of all: none is given twice, and of two of a line the later one is the higher.
    """
    known = [*taken, *([parent] if parent is not None else [])]
    if change == "first" or parent is None:
        return Semantic(max((one.major for one in known), default=0) + 1, 0, 0)
    if change == "major":
        return Semantic(max(one.major for one in known) + 1, 0, 0)
    same = [one for one in known if one.major == parent.major]
    if change == "minor":
        return Semantic(parent.major, max(one.minor for one in same) + 1, 0)
    return Semantic(parent.major, parent.minor, max(one.patch for one in same if one.minor == parent.minor) + 1)


def settle(client: Any, name: str, number: int) -> Semantic | None:
    """The semantic version of a new version, sure to be its own: of two made at once the first one keeps it."""
    while True:
        versions = versions_of(client, name)
        own = next(one for one in versions if one.number == number)
        if own.semantic is None or all(one.semantic != own.semantic for one in versions if one.number < number):
            return own.semantic
        change: Change = next((one for one in get_args(Change) if one == own.tag("change")), "patch")
        free = next_semantic(own.semantic, change, taken_of(client, name, versions))
        client.set_model_version_tag(name, str(number), SEMANTIC, str(free))


def taken_of(client: Any, name: str, versions: Sequence[Version]) -> list[Semantic]:
    """Semantic versions that are not free: of these versions, and of those that were removed."""
    gone = client.get_registered_model(name).tags.get(GONE, "")
    told = [*(one.semantic for one in versions), *map(Semantic.parse, gone.split())]
    return [one for one in told if one is not None]


def keep_taken(client: Any, name: str, gone: Iterable[Semantic]) -> None:
    """Put on record that versions had these numbers, before they are removed."""
    known = client.get_registered_model(name).tags.get(GONE, "")
    highest: dict[tuple[int, int], Semantic] = {}
    for one in sorted([*filter(None, map(Semantic.parse, known.split())), *gone]):
        highest[one.major, one.minor] = one
    told = " ".join(map(str, highest.values()))
    if told != known:
        client.set_registered_model_tag(name, GONE, told)
