"""Consumes nothing, produces the words of monitoring: what a run found wrong, how bad that is, what it looked at."""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Iterable

Key = tuple[str, str]  # rule and subject


class Level(enum.IntEnum):
    """How bad a finding is."""

    LOW = 1
    MEDIUM = 2
    HIGH = 3
    CRITICAL = 4


@dataclasses.dataclass(frozen=True)
class Finding:
    """One thing that is wrong with one target at the time of one run.

    rule: what was looked at, such as `drift.psi`, `coverage.80`, `error`, `health`.
    subject: of what, such as a feature or a segment; empty for the target as a whole.
    value, limit: in the rule's unit; None where it has none.  message: for a person, with the figures in words.
    """

    rule: str
    subject: str
    level: Level
    value: float | None
    limit: float | None
    message: str

    def __post_init__(self) -> None:
        if not self.rule:
            raise ValueError(f"a finding needs a rule: {self.message!r}")

    @property
    def key(self) -> Key:
        """What it is a finding of: two with the same key are the same alert."""
        return self.rule, self.subject


@dataclasses.dataclass(frozen=True)
class Examined:
    """What a run looked at: only what it did not find there can have recovered.

    rules: looked at as a whole, whatever the subject: one that is no longer there has recovered, too.
    keys: looked at for one subject.
    """

    rules: frozenset[str] = frozenset()
    keys: frozenset[Key] = frozenset()

    @classmethod
    def of(cls, rules: Iterable[str] = (), keys: Iterable[Key] = ()) -> Examined:
        """From any collections."""
        return cls(frozenset(rules), frozenset(keys))

    def __contains__(self, key: Key) -> bool:
        return key[0] in self.rules or key in self.keys

    def __or__(self, other: Examined) -> Examined:
        return Examined(self.rules | other.rules, self.keys | other.keys)
