"""Consumes the section `deployment` of a profile, produces how a challenger comes to serve."""

from __future__ import annotations

import itertools
from typing import Annotated, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from assay.config.strict import STRICT
from assay.errors import ConfigError

Strategy = Literal["immediate", "blue_green", "canary", "ab", "shadow"]
Part = Annotated[float, Field(gt=0, le=1)]
Days = Annotated[float, Field(ge=0, le=3_650)]


@dataclass(frozen=True, config=STRICT)
class DeploymentConfig:
    """The road of a challenger that passed its gates.

    strategy: `immediate` serves at once. `blue_green` lets it score everything beside the champion for `bake_days`,
        then serves it to all. `canary` serves it to a share of the entities that grows in `steps`, each for
        `bake_days`. `ab` serves it to `share` of them until the experiment decides. `shadow` serves nobody until then.
    steps: shares of a canary, rising.  share: of `ab`.  entity_days: entities that had a row in so many days are those
        of which a share is taken, when its step begins.
    bake_days: days of a step, or before a blue-green switch.
    watch_days: days after it serves everybody in which it is taken back by itself if it does harm.
    health: below which (0 to 100) a challenger that serves everybody is taken back.
    coverage_points: how far (as a share of all rows) the challenger's intervals may hold less than is promised, and
        than the champion's, before it is taken back.
    unpriced_share: of the rows that the champion prices, what the challenger may fail to.
    """

    strategy: Strategy = "immediate"
    steps: tuple[Part, ...] = (0.05, 0.25, 0.5)
    share: Part = 0.5
    entity_days: Annotated[float, Field(gt=0, le=3_650)] = 28.0
    bake_days: Days = 7.0
    watch_days: Days = 14.0
    health: Annotated[float, Field(ge=0, le=100)] = 40.0
    coverage_points: Annotated[float, Field(ge=0, lt=1)] = 0.05
    unpriced_share: Annotated[float, Field(ge=0, lt=1)] = 0.01


def check_deployment(deployment: DeploymentConfig, origin: str) -> None:
    """Refuse settings that no road leads along.

    Raises:
        ConfigError: a canary without steps, steps that do not rise, or an A/B share that leaves the champion nobody.
    """
    steps = deployment.steps
    if not steps or any(later <= earlier for earlier, later in itertools.pairwise(steps)):
        raise ConfigError(
            f"{origin}: deployment.steps must be shares that rise, such as [0.05, 0.25, 0.5]; found {steps}"
        )
    if deployment.share >= 1:
        raise ConfigError(
            f"{origin}: deployment.share is {deployment.share:g}: an A/B test leaves the champion a share"
        )
