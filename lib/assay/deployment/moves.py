"""Consumes a deployment and what is known of it, produces its next move, or none: one state machine for all strategies.

A move is a statement about one moment (`now`), made of the log of moves before it: made again, it is the same.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
from collections.abc import Callable, Mapping
from typing import Any, Literal

from assay.config.deployment import DeploymentConfig
from assay.model.deployments import OURSELVES, Deployment, Move, State


@dataclasses.dataclass(frozen=True)
class Known:
    """What a run knows of a deployment when it asks for the next move.

    decision: of the experiment.  why: its reasons.  worse: why the challenger is worse for sure, or None.  harm: why it
    is worse by more than is borne, or None.  health: of a challenger that serves everybody, 0 to 100, or None where it
    is not known.  figures: what to keep as evidence.
    """

    decision: Literal["promote", "reject", "extend"] = "extend"
    why: str = ""
    worse: str | None = None
    harm: str | None = None
    health: float | None = None
    figures: Mapping[str, Any] = dataclasses.field(default_factory=dict)


Step = tuple[State, float, int, str]  # state, share, number of a canary's step, why
Road = Callable[[Deployment, dt.datetime, Known], Step | None]


def next_move(deployment: Deployment, now: dt.datetime, known: Known) -> Move | None:
    """The move that a deployment makes by itself now; None where it waits, or has ended."""
    last = deployment.last
    if not deployment.open:
        return None
    breach = _breach(last, deployment.config, known)
    if breach is not None:
        back = State.ROLLED_BACK if last.share > 0 else State.REJECTED
        found: Step | None = (back, 0.0, 0, breach)
    elif last.state == State.WATCHED:
        found = _served(deployment, now)
    else:
        found = ROADS[deployment.config.strategy](deployment, now, known)
    return Move(*found[:3], now, OURSELVES, found[3], known.figures) if found is not None else None


def _immediate(deployment: Deployment, now: dt.datetime, known: Known) -> Step | None:
    return State.WATCHED, 1.0, 0, "strategy immediate"


def _blue_green(deployment: Deployment, now: dt.datetime, known: Known) -> Step | None:
    if deployment.last.state == State.PLANNED:
        return State.SHADOWING, 0.0, 0, "scores beside the champion"
    if known.worse is not None:
        return State.REJECTED, 0.0, 0, known.worse
    days = _days(deployment, now)
    return (State.WATCHED, 1.0, 0, f"{days:.0f} days without a breach") if days >= deployment.config.bake_days else None


def _canary(deployment: Deployment, now: dt.datetime, known: Known) -> Step | None:
    last, days = deployment.last, _days(deployment, now)
    if last.state == State.PLANNED:
        return State.SPLIT, deployment.config.steps[0], 1, "first step of a canary"
    if known.worse is not None:
        return State.REJECTED, 0.0, 0, known.worse
    if days < deployment.config.bake_days:
        return None
    why = f"{days:.0f} days at {last.share:.0%} without a breach"
    if last.step < len(deployment.config.steps):
        return State.SPLIT, deployment.config.steps[last.step], last.step + 1, why
    return State.WATCHED, 1.0, 0, why


def _by_experiment(deployment: Deployment, now: dt.datetime, known: Known) -> Step | None:
    if deployment.last.state == State.PLANNED:
        if deployment.config.strategy == "ab":
            return State.SPLIT, deployment.config.share, 1, "both arms serve"
        return State.SHADOWING, 0.0, 0, "scores beside the champion"
    ends: dict[str, Step] = {
        "promote": (State.WATCHED, 1.0, 0, known.why or "the experiment promotes it"),
        "reject": (State.REJECTED, 0.0, 0, known.why or "the experiment rejects it"),
    }
    return ends.get(known.decision)


ROADS: Mapping[str, Road] = {
    "immediate": _immediate,
    "blue_green": _blue_green,
    "canary": _canary,
    "ab": _by_experiment,
    "shadow": _by_experiment,
}


def _served(deployment: Deployment, now: dt.datetime) -> Step | None:
    days = _days(deployment, now)
    over = days >= deployment.config.watch_days
    return (State.COMPLETED, 1.0, 0, f"{days:.0f} days without a breach") if over else None


def _breach(last: Move, config: DeploymentConfig, known: Known) -> str | None:
    if known.harm is not None:
        return known.harm
    if last.state == State.WATCHED and known.health is not None and known.health < config.health:
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
