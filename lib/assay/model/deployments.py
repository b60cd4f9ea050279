"""Consumes rows of the table `deployments`, produces each challenger's way to serving: a log of legal moves.

planned -> shadowing -> split -> watched -> completed
              |           |         |
              +- rejected-+         +-> rolled_back, aborted
              +- rolled_back, aborted
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pyarrow as pa

from assay.config import canonical_json
from assay.config.deployment import DeploymentConfig
from assay.config.experiments import ExperimentsConfig
from assay.errors import AssayError
from assay.runtime.conditions import Condition
from assay.runtime.deployment_tables import DEPLOYMENTS
from assay.runtime.plane import Plane
from assay.text_enum import StrEnum

OURSELVES = "assay"  # who makes the moves that nobody ordered


class State(StrEnum):
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
    State.PLANNED: _BEFORE | {State.COMPLETED},  # at once only by command, where one goes back to an older version
    State.SHADOWING: _BEFORE - {State.SHADOWING},
    State.SPLIT: frozenset({State.SPLIT, State.WATCHED, State.REJECTED, State.ROLLED_BACK, State.ABORTED}),
    State.WATCHED: frozenset({State.COMPLETED, State.ROLLED_BACK, State.ABORTED}),
    **dict.fromkeys(FINAL, frozenset()),
}


@dataclasses.dataclass(frozen=True)
class Move:
    """One step of a deployment, as the table `deployments` has it.

    state, share: after it; the share of the entities that the challenger serves, 0 to 1.  below: the place below which
    entities are its own (see `model/arms.py`); None is the share itself.  step: of a canary, from 1.
    at: from when on it holds, as the run that made it has the time: rows before it are served as before.  by: who made
    it.  why: in words.  evidence: the figures that it rests on.  made_at: by the clock.
    """

    state: State
    share: float
    step: int
    at: dt.datetime
    by: str
    why: str
    evidence: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    below: float | None = None
    made_at: dt.datetime = dataclasses.field(default_factory=lambda: dt.datetime.now(dt.timezone.utc), compare=False)

    @property
    def cut(self) -> float:
        """The place below which entities are the challenger's."""
        return self.share if self.below is None else self.below


@dataclasses.dataclass(frozen=True)
class Deployment:
    """A challenger on its way.

    champion, challenger: numbers in the registry, as they were when it was planned; `models` are the versions of their
    models, which stay when one is calibrated anew.  config, experiments: the settings that it was planned with, which
    hold to its end.  moves: the log, the oldest first; the first one plans it.
    """

    deployment_id: str
    target: str
    champion: str
    challenger: str
    models: tuple[str, str]
    config: DeploymentConfig
    experiments: ExperimentsConfig
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

    @property
    def cuts(self) -> list[tuple[dt.datetime, float]]:
        """From when on the challenger serves the entities below which place, 0 to 1; the oldest first."""
        return [(move.at, move.cut) for move in self.moves]

    @property
    def told(self) -> str:
        """What people call it."""
        return f"deployment {self.deployment_id} (version {self.challenger} in place of {self.champion})"

    def rows(self) -> list[dict[str, Any]]:
        """Rows of the table `deployments`, one per move."""
        common = {
            "deployment_id": self.deployment_id,
            "target": self.target,
            "strategy": self.config.strategy,
            "champion_version": self.champion,
            "challenger_version": self.challenger,
            "champion_model": self.models[0],
            "challenger_model": self.models[1],
            "settings": canonical_json(
                {name: dataclasses.asdict(getattr(self, name)) for name in ("config", "experiments")}
            ),
        }
        return [
            {
                **common,
                "number": number,
                "state": move.state.value,
                **{name: getattr(move, name) for name in ("share", "step", "at", "by", "why", "made_at")},
                "below": move.cut,
                "evidence": canonical_json(dict(move.evidence)),
            }
            for number, move in enumerate(self.moves)
        ]


def name_of(target: str, pair: tuple[str, str], log: Iterable[Deployment]) -> str:
    """Name of the next deployment of a target; pair: numbers of champion and challenger; log: those before it."""
    before = sum((one.champion, one.challenger) == pair for one in log)
    stem = f"{target}-{pair[0]}-to-{pair[1]}"
    return f"{stem}-{before + 1}" if before else stem


def deployments_in(rows: Iterable[Mapping[str, Any]]) -> list[Deployment]:
    """Deployments of rows of the table, in any order; the one that was planned first comes first."""
    logs: dict[str, list[Mapping[str, Any]]] = {}
    for row in rows:
        logs.setdefault(row["deployment_id"], []).append(row)
    found = [_of(sorted(log, key=lambda row: row["number"])) for log in logs.values()]
    return sorted(found, key=lambda one: (one.moves[0].made_at, one.deployment_id))


def read_deployments(plane: Plane, target: str) -> list[Deployment]:
    """All deployments of a target, the oldest first; none where there is no table."""
    version = plane.version(DEPLOYMENTS.name)
    if version is None:
        return []
    rows = plane.read(DEPLOYMENTS.name, version=version, where=[Condition("target", "==", target)]).collect()
    return deployments_in(rows.to_pylist())


def deployment_rows(deployments: Iterable[Deployment]) -> pa.Table:
    """Rows of the table."""
    return pa.Table.from_pylist([row for one in deployments for row in one.rows()], DEPLOYMENTS.schema())


def _of(log: Sequence[Mapping[str, Any]]) -> Deployment:
    first = log[0]
    settings = json.loads(first["settings"])
    moves = tuple(
        Move(
            State(row["state"]),
            row["share"],
            row["step"],
            row["at"],
            row["by"],
            row["why"],
            json.loads(row["evidence"]),
            row["below"] if row["below"] != row["share"] else None,
            row["made_at"],
        )
        for row in log
    )
    return Deployment(
        first["deployment_id"],
        first["target"],
        first["champion_version"],
        first["challenger_version"],
        (first["champion_model"], first["challenger_model"]),
        DeploymentConfig(**{**settings["config"], "steps": tuple(settings["config"]["steps"])}),
        ExperimentsConfig(**settings["experiments"]),
        moves,
    )
