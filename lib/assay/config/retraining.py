"""Consumes the section `retraining` of a profile, produces when a champion is learned anew, and who is asked to go."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field
from pydantic.dataclasses import dataclass

from assay.config.strict import STRICT
from assay.errors import ConfigError

ShareOrOff = Annotated[float, Field(ge=0, lt=1)]
Minutes = Annotated[float, Field(ge=0, le=10_080)]
Count = Annotated[int, Field(ge=1, le=1_000)]


@dataclass(frozen=True, config=STRICT)
class RetrainingConfig:
    """What makes a target's champion be learned anew, how jobs of the queue are run, who is called an underperformer.

    Four triggers; 0 switches one off.
    performance: rise of the error, as a share of the reference's, above which a date speaks for it, where chance does
        not explain the rise.
    drift: share of the inputs' importance that has drifted (of the inputs, where no importance is known), above which.
    coverage: how much less than promised an interval holds, 0.05 is 5 points, above which, where it is not chance.
    schedule_days: days from the newest row that the champion learned from, or the last retraining, to the day of the
        run. It needs no second date.
    of_last, at_least: a trigger counts when at_least of the champion's last of_last monitored dates speak for it, the
        newest one among them.
    cooldown_days: after the day of a target's last retraining, however that ended, in which nothing triggers another.

    concurrency: jobs of the workspace under way at once, whoever runs them; one process runs one after the other.
    lease_minutes: how long a job belongs to a runner that gives no sign of life. A runner gives one every minute, or
        every third of a shorter lease; with runtime.road=spark only while Spark has a free slot, so that no stage of a
        training should take longer.
    retries: times that a job is tried again after a failure, or after its runner died.
    backoff_minutes, backoff_factor: how long it waits for that: so many minutes, each time so many times as long.

    prune_days: length of the periods, counted back from the newest day with matured outcomes, in which models are
        compared.  prune_of_last, prune_at_least: a model is an underperformer when it lost at_least of its last of_last
        periods, the newest among them.
    prune_margin: share of the champion's loss by which a shadow's must exceed it to lose a period.
    prune_win_rate: share of changes whose direction a model must foresee, so as not to lose to the rule that says the
        last known value; 0 asks for none.
    """

    performance: Annotated[float, Field(ge=0)] = 0.10
    drift: ShareOrOff = 0.25
    coverage: ShareOrOff = 0.05
    schedule_days: Annotated[float, Field(ge=0)] = 0.0
    of_last: Count = 3
    at_least: Count = 2
    cooldown_days: Annotated[float, Field(ge=0)] = 7.0

    concurrency: Count = 5
    lease_minutes: Annotated[float, Field(gt=0, le=10_080)] = 30.0
    retries: Annotated[int, Field(ge=0, le=100)] = 2
    backoff_minutes: Minutes = 15.0
    backoff_factor: Annotated[float, Field(ge=1, le=100)] = 2.0

    prune_days: Annotated[int, Field(ge=1, le=365)] = 7
    prune_of_last: Count = 4
    prune_at_least: Count = 3
    prune_margin: Annotated[float, Field(ge=0)] = 0.01
    prune_win_rate: ShareOrOff = 0.5


def check_retraining(retraining: RetrainingConfig, origin: str) -> None:
    """Refuse settings that could never come true.

    Raises:
        ConfigError: more dates or periods are asked for than are looked at.
    """
    for prefix in ("", "prune_"):
        least, last = (getattr(retraining, f"{prefix}{name}") for name in ("at_least", "of_last"))
        if least > last:
            raise ConfigError(
                f"{origin}: retraining.{prefix}at_least {least} is above retraining.{prefix}of_last {last}; that could "
                "never come true"
            )
