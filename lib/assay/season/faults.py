"""Consumes days and a seed, produces the calendar of a season: what goes wrong when, and by when it must be noticed."""

from __future__ import annotations

import dataclasses
import datetime as dt
from collections.abc import Collection, Sequence
from typing import Literal

from assay.synthetic.streams import uniforms

FIRST_DAY = dt.date(2025, 1, 1)
LABEL_DAYS = 2  # from a row to its outcome
WINDOW_DAYS = 14  # of monitoring: so long a fault stays in what is compared
CANARY = 0.25  # share of the entities that a challenger serves at first
HARM_DAYS = 16  # in which a challenger that does harm is taken back
JITTER = 60  # the stream of where faults lie
SPREAD = 0.01  # of the season: how far a fault may lie from its usual place

Kind = Literal[
    "killed_ingest",
    "bad_challenger",
    "killed_score",
    "new_segment",
    "corrupted_artifact",
    "broken_feature",
    "price_level",
    "dead_webhook",
]


@dataclasses.dataclass(frozen=True)
class Fault:
    """One thing that goes wrong.

    first, last: days on which it does; a change that stays has the season's end.  within_days: after the first, by
    which it must have been noticed.  why: what those days rest on.  echo: last day on which its alerts are its own, and
    not false ones.  stays: whether it is a change that stays.
    """

    kind: Kind
    first: dt.date
    last: dt.date
    within_days: int
    why: str
    echo: dt.date
    stays: bool = False

    @property
    def due(self) -> dt.date:
        """Last day on which noticing it counts."""
        return self.first + dt.timedelta(days=self.within_days)

    def on(self, day: dt.date) -> Fault:
        """The same, beginning on another day."""
        later = day - self.first
        return dataclasses.replace(self, first=day, last=self.last + later, echo=self.echo + later)


@dataclasses.dataclass(frozen=True)
class _Usual:
    """Where a fault lies in any season. place: share of its days.  days: how long; None to the end."""

    kind: Kind
    place: float
    days: int | None
    within_days: int
    why: str
    needs: tuple[str, ...] = ()
    echoes: bool = True


USUAL = (
    _Usual("killed_ingest", 0.06, 1, 0, "the next run of the same day ends as if none had died", echoes=False),
    _Usual(
        "bad_challenger",
        0.11,
        1,
        HARM_DAYS,
        f"{LABEL_DAYS} days until outcomes come in, and some 8 of them until an error 60 % larger is harm for sure",
        ("deploy",),
    ),
    _Usual("killed_score", 0.30, 1, 0, "the next run of the same day ends as if none had died", echoes=False),
    _Usual("new_segment", 0.40, None, 1, "a category that no row had before is 10 % of the day's rows"),
    _Usual("corrupted_artifact", 0.50, 1, 0, "every load checks the hash of every file", echoes=False),
    _Usual("broken_feature", 0.57, 4, 3, f"a value that is zero in 2 of {WINDOW_DAYS} days is PSI of more than 0.1"),
    _Usual(
        "price_level",
        0.72,
        None,
        6,
        f"{LABEL_DAYS + 1} days until outcomes of a day count, and 3 of those that chance would not explain",
    ),
    _Usual(
        "dead_webhook",
        0.57,
        6,
        6,
        "what is raised waits for it; 2 days later (alerts.webhook.dead_days) that tells",
        echoes=False,
    ),
)


@dataclasses.dataclass(frozen=True)
class Calendar:
    """A season's days and faults. left_out: kinds that do not fit into so few days, or need a job that is not there."""

    days: int
    seed: int
    faults: tuple[Fault, ...]
    left_out: tuple[str, ...]

    @property
    def dates(self) -> list[dt.date]:
        """All days."""
        return [FIRST_DAY + dt.timedelta(days=place) for place in range(self.days)]

    def fault(self, kind: Kind) -> Fault | None:
        """The fault of a kind; None where it is left out."""
        return next((one for one in self.faults if one.kind == kind), None)

    def starts(self, kind: Kind, day: dt.date) -> bool:
        """Whether a fault of this kind begins on a day."""
        found = self.fault(kind)
        return found is not None and found.first == day

    def lasts(self, kind: Kind, day: dt.date) -> bool:
        """Whether a fault of this kind is there on a day."""
        found = self.fault(kind)
        return found is not None and found.first <= day <= found.last

    def postponed(self, kind: Kind, day: dt.date) -> Calendar:
        """With a fault that begins on another day than it was to."""
        return dataclasses.replace(self, faults=tuple(one.on(day) if one.kind == kind else one for one in self.faults))

    def explains(self, day: dt.date, reference: dt.date) -> bool:
        """Whether an alert of a day may be owed to a fault.

        reference: first day of the window that the day was compared with. A change that stays explains what differs as
        long as that is a day before it: until the champion's test period lies after the change.
        """
        return any(
            one.first <= day and (day <= one.echo or (one.stays and reference < one.first)) for one in self.faults
        )


def calendar_of(days: int, seed: int, jobs: Collection[str]) -> Calendar:
    """The calendar of a season. jobs: names of those that there are; a fault that needs another is left out.

    In a longer season faults lie farther apart; how long each lasts, and by when it must be noticed, stays.
    """
    end = FIRST_DAY + dt.timedelta(days=days - 1)
    drawn = uniforms(seed, JITTER, 0, len(USUAL))
    found, left_out = [], []
    for usual, place in zip(USUAL, _places(drawn.tolist(), days), strict=True):
        fault = _fault(usual, FIRST_DAY + dt.timedelta(days=place), end)
        if fault.due > end or place < 1 or not set(usual.needs) <= set(jobs):
            left_out.append(usual.kind)
        else:
            found.append(fault)
    return Calendar(days, seed, tuple(found), tuple(left_out))


def _places(drawn: Sequence[float], days: int) -> list[int]:
    """Of each usual fault the day it begins on, counted from 0. The webhook dies the day before a feature breaks.

    So there is something to tell while it is dead.
    """
    found = [round((usual.place + (2 * u - 1) * SPREAD) * days) for usual, u in zip(USUAL, drawn, strict=True)]
    kinds = [usual.kind for usual in USUAL]
    found[kinds.index("dead_webhook")] = found[kinds.index("broken_feature")] - 1
    return found


def _fault(usual: _Usual, first: dt.date, end: dt.date) -> Fault:
    last = end if usual.days is None else min(end, first + dt.timedelta(days=usual.days - 1))
    seen = first if usual.days is None else last
    echo = seen + dt.timedelta(days=WINDOW_DAYS + LABEL_DAYS + 1 if usual.echoes else 0)
    return Fault(usual.kind, first, last, usual.within_days, usual.why, echo, usual.days is None)
