"""Consumes a deployment and what is known of it, produces its next move, or none: one state machine for all strategies.

    planned -> shadowing -> split -> watched -> completed
                  |           |         |
                  +- rejected-+         +-> rolled_back
                  +- rolled_back, aborted

A move is a statement about one moment (`now`), made of the log of moves before it: made again, it is the same.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import enum
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

from assay.config.deployment import DeploymentConfig
from assay.errors import AssayError


class State(enum.StrEnum):
    """Where a deployment stands.

    planned: nobody has met the challenger.  shadowing: it scores every row and serves nobody.  split: it serves a share
    of the entities.  watched: it is the champion, and may still be taken back by itself.  The others are final:
    completed, rejected (it never served everybody), rolled_back (it served and was taken back), aborted (by command).
    """

    PLANNED = "planned"
    SHADOWING = "shadowing"
    SPLIT = "split"
    WATCHED = "watched"
    COMPLETED = "completed"
    REJECTED = "rejected"
    ROLLED_BACK = "rolled_back"
    ABORTED = "aborted"


FINAL = frozenset({State.COMPLETED, State.REJECTED, State.ROLLED_BACK, State.ABORTED})
_BEFORE = frozenset({State.SHADOWING, State.SPLIT, State.WATCHED, State.REJECTED, State.ABORTED})
LEGAL: Mapping[State, frozenset[State]] = {
    State.PLANNED: _BEFORE,
    State.SHADOWING: _BEFORE - {State.SHADOWING},
    State.SPLIT: frozenset({State.SPLIT, State.WATCHED, State.REJECTED, State.ROLLED_BACK, State.ABORTED}),
    State.WATCHED: frozenset({State.COMPLETED, State.ROLLED_BACK}),
    **dict.fromkeys(FINAL, frozenset()),
}


@dataclasses.dataclass(frozen=True)
class Move:
    """One step of a deployment, as the table `deployments` has it.

    state, share: after it; the share of the entities that the challenger serves, 0 to 1.  step: of a canary, from 1.
    at: as-of time of the run that made it.  by: who made it.  why: in words.  evidence: the figures that it rests on.
    """

    state: State
    share: float
    step: int
    at: dt.datetime
    by: str
    why: str
    evidence: Mapping[str, Any] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Deployment:
    """A challenger on its way. moves: the log, the oldest first; the first one plans it."""

    deployment_id: str
    target: str
    strategy: str
    champion: str
    challenger: str
    moves: Sequence[Move]

    @property
    def last(self) -> Move:
        """Where it stands."""
        return self.moves[-1]

    @property
    def open(self) -> bool:
        """Whether it may still move."""
        return self.last.state not in FINAL

    def moved(self, move: Move) -> Deployment:
        """With one move more.

        Raises:
            AssayError: the move is not legal, or goes back in time.
        """
        last = self.last
        if move.state not in LEGAL[last.state]:
            raise AssayError(f"deployment {self.deployment_id} is {last.state}: it cannot become {move.state}")
        if move.at < last.at:
            raise AssayError(
                f"deployment {self.deployment_id} moved on {last.at:%Y-%m-%d %H:%M}; a move of "
                f"{move.at:%Y-%m-%d %H:%M} comes too late"
            )
        return dataclasses.replace(self, moves=(*self.moves, move))


@dataclasses.dataclass(frozen=True)
class Known:
    """What a run knows of a deployment when it asks for the next move.

    decision: of the experiment.  harm: why the challenger is worse by more than is borne, or None.  health: of who
    serves, 0 to 100, or None where it is not known.  figures: what to keep as evidence.
    """

    decision: Literal["promote", "reject", "extend"] = "extend"
    harm: str | None = None
    health: float | None = None
    figures: Mapping[str, Any] = dataclasses.field(default_factory=dict)


Step = tuple[State, float, int, str]  # state, share, number of a canary's step, why
Road = Callable[[Deployment, DeploymentConfig, dt.datetime, Known], Step | None]


def next_move(deployment: Deployment, config: DeploymentConfig, now: dt.datetime, known: Known) -> Move | None:
    """The move that a deployment makes by itself now; None where it waits, or has ended."""
    last = deployment.last
    if not deployment.open:
        return None
    breach = _breach(last, config, known)
    if breach is not None:
        back = State.ROLLED_BACK if last.share > 0 else State.REJECTED
        found: Step | None = (back, 0.0, 0, breach)
    elif last.state == State.WATCHED:
        found = _served(deployment, config, now)
    else:
        found = ROADS[deployment.strategy](deployment, config, now, known)
    return Move(*found[:3], now, "assay", found[3], known.figures) if found is not None else None


def _immediate(deployment: Deployment, config: DeploymentConfig, now: dt.datetime, known: Known) -> Step | None:
    return State.WATCHED, 1.0, 0, "strategy immediate"


def _blue_green(deployment: Deployment, config: DeploymentConfig, now: dt.datetime, known: Known) -> Step | None:
    if deployment.last.state == State.PLANNED:
        return State.SHADOWING, 0.0, 0, "scores beside the champion"
    days = _days(deployment, now)
    return (State.WATCHED, 1.0, 0, f"{days:.0f} days without a breach") if days >= config.bake_days else None


def _canary(deployment: Deployment, config: DeploymentConfig, now: dt.datetime, known: Known) -> Step | None:
    last, days = deployment.last, _days(deployment, now)
    if last.state == State.PLANNED:
        return State.SPLIT, config.steps[0], 1, "first step of a canary"
    if days < config.bake_days:
        return None
    if known.decision == "reject":
        return State.REJECTED, 0.0, 0, "the experiment rejects it"
    why = f"{days:.0f} days at {last.share:.0%} without a breach"
    if last.step < len(config.steps):
        return State.SPLIT, config.steps[last.step], last.step + 1, why
    return State.WATCHED, 1.0, 0, why


def _by_experiment(deployment: Deployment, config: DeploymentConfig, now: dt.datetime, known: Known) -> Step | None:
    if deployment.last.state == State.PLANNED:
        if deployment.strategy == "ab":
            return State.SPLIT, config.share, 1, "both arms serve"
        return State.SHADOWING, 0.0, 0, "scores beside the champion"
    ends: dict[str, Step] = {
        "promote": (State.WATCHED, 1.0, 0, "the experiment promotes it"),
        "reject": (State.REJECTED, 0.0, 0, "the experiment rejects it"),
    }
    return ends.get(known.decision)


ROADS: Mapping[str, Road] = {
    "immediate": _immediate,
    "blue_green": _blue_green,
    "canary": _canary,
    "ab": _by_experiment,
    "shadow": _by_experiment,
}


def _served(deployment: Deployment, config: DeploymentConfig, now: dt.datetime) -> Step | None:
    days = _days(deployment, now)
    over = days >= config.watch_days
    return (State.COMPLETED, 1.0, 0, f"{days:.0f} days without a breach") if over else None


def _breach(last: Move, config: DeploymentConfig, known: Known) -> str | None:
    if known.harm is not None:
        return known.harm
    serves = last.share > 0
    if serves and known.health is not None and known.health < config.health:
        return f"health is {known.health:.0f}, below {config.health:g} (deployment.health)"
    return None


def _days(deployment: Deployment, now: dt.datetime) -> float:
    """Days since its present state and share began."""
    last, since = deployment.last, deployment.last.at
    for move in reversed(deployment.moves):
        if (move.state, move.share) != (last.state, last.share):
            break
        since = move.at
    return (now - since) / dt.timedelta(days=1)
