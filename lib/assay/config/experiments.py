"""Consumes the section `experiments` of a profile, produces how champion and challenger are compared."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from assay.config.strict import STRICT
from assay.errors import ConfigError

Level = Annotated[float, Field(gt=0, le=0.5)]
LEAST_BLOCKS = 2  # stretches of days that a first decision needs: one alone has no spread


@dataclass(frozen=True, config=STRICT)
class ExperimentsConfig:
    """When a challenger is promoted or rejected, and when it is taken back at once.

    loss: what is compared, per row: `absolute` or `squared` error, or `interval`, the interval score at the first
        level. Classes are compared by log loss.
    min_rows: rows with a matured outcome that a decision needs; of arms both together.
    min_days: days with such rows that it needs.  max_days: planned end, in such days: a challenger that is not promoted
        by then is rejected. The error rate holds for the end that was set before the first look.
    alpha: share of experiments in which anything false may be shown, looked at daily until the end.
    min_effect: share of the champion's loss that the challenger must save, by estimate, to be promoted; one that is
        shown to save less is rejected. Of squared errors 1 % is half a percent of the RMSE.
    block_days: stretches of so many days are taken as independent of one another; days within them need not be. Make it
        at least the days that a label's horizon spans.
    harm_margin: share of the champion's loss by which a challenger may be worse before it is taken back.
    harm_alpha: share of challengers no worse than that which are taken back, looked at daily without an end.
    harm_min_days: days that this needs.
    harm_variance_inflation: how many times as much as of independent days the mean of days may vary, taken for granted
        while there are too few of them to tell; 3 is an autocorrelation of 0.5 from day to day. Where labels' horizons
        overlap, make it twice the days that one spans.
    """

    loss: Literal["absolute", "squared", "interval"] = "absolute"
    min_rows: Annotated[int, Field(ge=1)] = 1_000
    min_days: Annotated[int, Field(ge=2, le=365)] = 14
    max_days: Annotated[int, Field(ge=2, le=365)] = 56
    alpha: Level = 0.05
    min_effect: Annotated[float, Field(ge=0, lt=1)] = 0.01
    block_days: Annotated[int, Field(ge=1, le=90)] = 7
    harm_margin: Annotated[float, Field(ge=0)] = 0.05
    harm_alpha: Level = 0.05
    harm_min_days: Annotated[int, Field(ge=3, le=365)] = 4
    harm_variance_inflation: Annotated[float, Field(ge=1, le=90)] = 3.0


def check_experiments(experiments: ExperimentsConfig, origin: str) -> None:
    """Refuse settings that contradict one another.

    Raises:
        ConfigError: the end comes before the first decision, or that before there are two blocks of days.
    """
    if experiments.max_days < experiments.min_days:
        raise ConfigError(
            f"{origin}: experiments.max_days {experiments.max_days} is below experiments.min_days "
            f"{experiments.min_days}; no decision could be made"
        )
    if experiments.min_days < LEAST_BLOCKS * experiments.block_days:
        raise ConfigError(
            f"{origin}: experiments.min_days {experiments.min_days} is below {LEAST_BLOCKS} blocks of "
            f"experiments.block_days {experiments.block_days}; so few days do not say how much blocks differ"
        )
