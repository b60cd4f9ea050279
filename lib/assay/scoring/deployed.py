"""Consumes the deployment under way of a target, produces the model that scores beside the champion, and who serves.

Each row is scored by both models. Which of the two serves it goes by the row's entity and time alone, so a row keeps
its prediction however often it is scored; the other model's goes to `shadow_predictions`.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
from collections.abc import Callable

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from assay.config import TargetConfig
from assay.config.dataset import stored_name
from assay.errors import AssayError
from assay.model.arms import places_of
from assay.model.deployments import Deployment, State, read_deployments
from assay.model.registry import Champion, registered
from assay.runtime.job import JobContext
from assay.runtime.tables import TIME


@dataclasses.dataclass(frozen=True)
class Arms:
    """Who serves a row while a challenger serves a share of the entities.

    deployment: that places belong to.  steps: from when on the challenger serves entities below which place, the oldest
    first.  entity: columns that make an entity.  champion, challenger: numbers in the registry.
    """

    deployment: str
    steps: tuple[tuple[dt.datetime, float], ...]
    entity: tuple[str, ...]
    champion: str
    challenger: str

    def of_challenger(self, rows: pa.RecordBatch) -> pa.Array:
        """Whether the challenger serves, for each row."""
        starts = pa.array([start for start, _ in self.steps], TIME).cast(pa.int64()).to_numpy()
        cuts = np.array([0.0, *(below for _, below in self.steps)])
        times = rows.column("time").cast(TIME).cast(pa.int64()).to_numpy(zero_copy_only=False)
        below = cuts[np.searchsorted(starts, times, side="right")]
        if not below.any():
            return pa.repeat(pa.scalar(value=False), rows.num_rows)
        return pa.array(places_of(rows, self.entity, self.deployment) < below)

    def others(self, rows: pa.RecordBatch, shadow: str | None) -> pa.Array:
        """Number of the model in rows that it does not serve, null in rows that it does. shadow: the challenger's, or
        None for the champion's rows.
        """
        its, nothing = self.of_challenger(rows), pa.scalar(None, pa.string())
        if shadow is None:
            return pc.if_else(its, pa.scalar(self.champion), nothing)
        return pc.if_else(its, nothing, pa.scalar(shadow))


@dataclasses.dataclass(frozen=True)
class Deployed:
    """The deployment under way, and the one of its two models that is not the champion now.

    arms: where the challenger serves a share of the entities.
    """

    deployment: Deployment
    other: Champion
    arms: Arms | None

    @property
    def told(self) -> list[object]:
        """All of it that can change a prediction."""
        steps = [[f"{at}", below] for at, below in self.arms.steps] if self.arms is not None else []
        return [self.other.number, self.deployment.deployment_id if steps else "", steps]


def deployed_of(
    context: JobContext, target: TargetConfig, served: Champion, warn: Callable[[str], None]
) -> Deployed | None:
    """The deployment under way of a target; None where there is none, or its other model cannot score.

    A challenger that is broken stops no scoring: the champion serves everybody, and `warn` is told so.
    """
    found = [one for one in read_deployments(context.plane, target.name) if one.open]
    if not found or found[-1].last.state == State.PLANNED:
        return None
    deployment = found[-1]
    before, after = deployment.models
    if served.model.version not in (before, after):
        warn(f"the champion is neither model of {deployment.told}; run the job deploy")
        return None
    takes_over = served.model.version == before
    number = deployment.challenger if takes_over else deployment.champion
    try:
        other = registered(context.tracking, target.name, number)
    except AssayError as error:
        warn(f"{error}: the champion serves everybody; run the job deploy")
        return None
    if other.model.plan_hash != served.model.plan_hash:
        warn(
            f"version {other.label} of {deployment.told} learned from other features than the champion; it does not "
            "score"
        )
        return None
    # A challenger has no row before its own test, so it serves none.
    steps = tuple((max(at, other.judged.test_start), below) for at, below in deployment.cuts)
    splits = takes_over and any(below for _, below in steps)
    entity = tuple(stored_name(name) for name in context.config.dataset.entity)
    arms = Arms(deployment.deployment_id, steps, entity, served.number, number) if splits else None
    return Deployed(deployment, other, arms)
