"""Consumes `performance` of a target, produces the models that keep losing: to the champion, or to the last value."""

from __future__ import annotations

import dataclasses
import datetime as dt
import math
from collections.abc import Sequence

import polars as pl

from assay.config.retraining import RetrainingConfig
from assay.deployment.retrain_triggers import often
from assay.runtime.monitoring_tables import CHAMPION_ROLE, SHADOW_ROLE


@dataclasses.dataclass(frozen=True)
class Underperformer:
    """A model that lost most of the last periods, the newest among them; as the table `underperformers` has it.

    loss, champion_loss: mean per row over the last periods, on days that both have; NaN where unknown.
    """

    model_version: str
    role: str
    periods: int
    lost: int
    reasons: tuple[str, ...]
    loss: float
    champion_loss: float
    win_rate: float
    first_day: dt.date
    last_day: dt.date


@dataclasses.dataclass(frozen=True)
class _Period:
    """One model in one period. loss, champion_loss, win_rate: NaN where unknown."""

    first_day: dt.date
    last_day: dt.date
    loss: float
    champion_loss: float
    win_rate: float


def underperformers_of(performance: pl.DataFrame, champion: str, config: RetrainingConfig) -> list[Underperformer]:
    """Shadows, and the champion itself, that lost as often as `retraining.prune_at_least` says.

    performance: rows of the table, of one target.  champion: the model that serves.

    Only days whose outcomes have all come in count. A shadow loses a period when its loss exceeds the champion's on the
    days that both predicted, or, like the champion, when it foresees the direction of too few changes; rows of a day
    count alike.
    """
    days = performance.filter(pl.col("matured") & (pl.col("known") > 0))
    if days.is_empty():
        return []
    days = _with_periods(days, config.prune_days)
    loss = "mse" if "mse" in days.columns and days["mse"].is_not_null().any() else "log_loss"
    days = days.with_columns(pl.col(loss).alias("loss"))
    of_champion = days.filter(pl.col("role") == CHAMPION_ROLE)
    candidates = [
        (CHAMPION_ROLE, champion, of_champion.filter(pl.col("model_version") == champion)),
        *(
            (SHADOW_ROLE, str(version), mine)
            for (version,), mine in sorted(
                days.filter(pl.col("role") == SHADOW_ROLE).group_by("model_version"), key=lambda part: str(part[0])
            )
        ),
    ]
    found = []
    for role, version, mine in candidates:
        periods = _periods(mine, of_champion if role == SHADOW_ROLE else None, config.prune_of_last)
        one = _judged(role, version, periods, config)
        if one is not None:
            found.append(one)
    return found


def _with_periods(days: pl.DataFrame, length: int) -> pl.DataFrame:
    """Number of the period: 0 is the newest."""
    newest = days["day"].max()
    back = (pl.lit(newest) - pl.col("day")).dt.total_days()
    return days.with_columns((back // length).alias("period"))


def _periods(mine: pl.DataFrame, champions: pl.DataFrame | None, most: int) -> list[_Period | None]:
    """The last periods, oldest first; None where the model has no row."""
    found: list[_Period | None] = []
    for number in reversed(range(most)):
        part = mine.filter(pl.col("period") == number)
        if part.is_empty():
            found.append(None)
            continue
        loss, against = _mean(part, "loss"), math.nan
        if champions is not None:
            theirs = champions.filter(pl.col("day").is_in(part["day"].implode()))
            both = part.filter(pl.col("day").is_in(theirs["day"].implode()))
            loss, against = _mean(both, "loss"), _mean(theirs, "loss")
        win_rate = _mean(part, "win_rate")
        first, last = part["day"].min(), part["day"].max()
        assert isinstance(first, dt.date)
        assert isinstance(last, dt.date)
        found.append(_Period(first, last, loss, against, win_rate))
    while found and found[0] is None:  # before the model was there
        found.pop(0)
    return found


def _mean(days: pl.DataFrame, name: str) -> float:
    """Over rows with an outcome, as far as the figure is known; NaN where it is not."""
    known = days.filter(pl.col(name).is_not_null()) if name in days.columns else days.clear()
    rows = float(known["known"].sum())
    return float((known[name] * known["known"]).sum()) / rows if rows else math.nan


def _judged(
    role: str, version: str, periods: Sequence[_Period | None], config: RetrainingConfig
) -> Underperformer | None:
    worse = [p is not None and p.loss > p.champion_loss * (1 + config.prune_margin) for p in periods]
    blind = [p is not None and p.win_rate < config.prune_win_rate for p in periods]
    lost = [one or other for one, other in zip(worse, blind, strict=True)]
    if not often(lost, at_least=config.prune_at_least, of_last=config.prune_of_last):
        return None
    there = [p for p in periods if p is not None]
    of = f"of the last {len(periods)} periods of {config.prune_days} days"
    reasons = []
    if any(worse):
        reasons.append(f"lost to the champion in {sum(worse)} {of} (retraining.prune_margin {config.prune_margin:.0%})")
    if any(blind):
        limit = f"retraining.prune_win_rate {config.prune_win_rate:.0%}"
        reasons.append(f"foresaw the direction of too few changes in {sum(blind)} {of} ({limit})")
    loss, against, wins = (_over([getattr(p, name) for p in there]) for name in ("loss", "champion_loss", "win_rate"))
    return Underperformer(
        version,
        role,
        len(periods),
        sum(lost),
        tuple(reasons),
        loss,
        against,
        wins,
        there[0].first_day,
        there[-1].last_day,
    )


def _over(values: Sequence[float]) -> float:
    """Mean of the periods' figures, of those that are known."""
    known = [value for value in values if not math.isnan(value)]
    return sum(known) / len(known) if known else math.nan
