"""Consumes the days of an experiment, produces what is decided of its challenger: promote, reject or extend.

Looks may come daily and be repeated: a decision is made of the days alone, and knows nothing of looks before it. Its
error rate is that of all looks together until the planned end, see `experiment_evidence.py`.

Power, with an autocorrelation of 0.2 from day to day and the defaults of `ExperimentsConfig`, in 2,000 simulated
experiments (share promoted by day 56, and the day by which half of them were):

    a day's noise    saves 1 %    saves 3 %     saves 5 %
    2 %              0.6, 52      1.0, 30       1.0, 26
    5 %              0.2, never   0.8, 44       1.0, 35
    10 %             0.1, never   0.3, never    0.7, 50

A day's noise is the standard deviation of its difference of losses over the champion's mean loss of a day; the latter
varies by 20 % here. Two boosters on King County's houses have a noise of 0.5 / sqrt(rows a day) in absolute errors, 5 %
with 100 rows, and of 3 / sqrt(rows) in squared ones: where rows are few, compare absolute errors.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import math
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from assay.config.experiments import ExperimentsConfig
from assay.deployment.experiment_days import Series
from assay.deployment.experiment_evidence import evidence


@dataclass(frozen=True)
class Decision:
    """One look at an experiment.

    design: `paired` or `arms`.  decision: `promote`, `reject` or `extend`.  reasons: in words.  days, rows: judged, at
    most `experiments.max_days`.  first_day, last_day: of them; None without any.  champion_loss, challenger_loss: mean
    per row.  effect, low, high: share of the champion's loss that the challenger saves, below 0 where it loses more,
    and bounds that hold at all looks together with 1 - alpha; -inf and 1 while too little is known.  p: of no effect,
    two-sided, valid at all looks. Figures are NaN where there are no rows.
    """

    design: str
    decision: Literal["promote", "reject", "extend"]
    reasons: tuple[str, ...]
    days: int
    rows: int
    first_day: dt.date | None
    last_day: dt.date | None
    champion_loss: float
    challenger_loss: float
    effect: float
    low: float
    high: float
    p: float

    def to_row(self) -> dict[str, Any]:
        """Columns of the table `experiments`; NaN is null."""
        row = {**dataclasses.asdict(self), "reasons": list(self.reasons)}
        return {name: None if isinstance(v, float) and math.isnan(v) else v for name, v in row.items()}


def decide(series: Series, config: ExperimentsConfig, *, ended: bool = False) -> Decision:
    """What is decided of the challenger by the first `max_days` days.

    `promote` where it is better (p < alpha, low > 0) and saves more than `min_effect` by estimate; `reject` where it is
    worse (high < 0), saves less than `min_effect` for sure (high < min_effect), or the end has come; else `extend`.
    Before `min_days` and `min_rows` only the end decides.

    ended: the time is over, however many days had rows.
    """
    judged = series.first(config.max_days)
    figures = _figures(judged, config)
    lacking = _lacking(figures, config)
    against = _against(figures, config)
    enough = figures.days >= config.min_days and figures.rows >= config.min_rows
    over = ended or figures.days >= config.max_days
    if enough and against:
        return dataclasses.replace(figures, decision="reject", reasons=(against,))
    if not lacking:
        return dataclasses.replace(figures, decision="promote", reasons=(_praise(figures, config),))
    if over:
        end = f"no evidence by the end, after {figures.days} days"
        return dataclasses.replace(figures, decision="reject", reasons=(end, *lacking))
    return dataclasses.replace(figures, decision="extend", reasons=tuple(lacking))


def _figures(series: Series, config: ExperimentsConfig) -> Decision:
    """Figures with nothing decided."""
    first, last = series.span or (None, None)
    champion, challenger = series.losses
    effect, low, high, p = _measured(series, config)
    return Decision(
        design=series.design,
        decision="extend",
        reasons=(),
        days=len(series.days),
        rows=int(series.rows.sum()),
        first_day=first,
        last_day=last,
        champion_loss=champion,
        challenger_loss=challenger,
        effect=effect,
        low=low,
        high=high,
        p=p,
    )


def _measured(series: Series, config: ExperimentsConfig) -> tuple[float, float, float, float]:
    """Effect, low, high and p. A champion without any loss leaves nothing to save."""
    if not len(series.days):
        return math.nan, math.nan, math.nan, math.nan
    if not series.champion.any():
        effect = -math.inf if series.difference.any() else 0.0
        return effect, -math.inf, 0.0, 1.0
    found = evidence(
        series.difference,
        series.champion,
        planned_days=config.max_days,
        alpha=config.alpha,
        block_days=config.block_days,
        weight=float(np.mean(series.weights)),
        persistent=series.persistent,
    )
    return float(found.effect), float(found.low), float(found.high), float(found.p)


def _lacking(found: Decision, config: ExperimentsConfig) -> list[str]:
    """What a promotion still needs."""
    said = []
    if found.days < config.min_days:
        said.append(f"{found.days} of at least {config.min_days} days (experiments.min_days)")
    if found.rows < config.min_rows:
        said.append(f"{found.rows:,} of at least {config.min_rows:,} rows (experiments.min_rows)")
    if not found.days:
        return said
    if not found.effect > config.min_effect:
        asked = f"more than {100 * config.min_effect:g} % are asked (experiments.min_effect)"
        said.append(f"the challenger {_saves(found.effect)}; {asked}")
    if not found.p < config.alpha:
        said.append(f"p is {found.p:.2g}, not below {config.alpha:g} (experiments.alpha)")
    elif found.effect > 0 and not found.low > 0:
        said.append("the champion's own loss differs so much from day to day that no share of it has a lower bound yet")
    return said


def _against(found: Decision, config: ExperimentsConfig) -> str | None:
    """Why a challenger will not be promoted any more; None if it may be."""
    if found.days and not found.champion_loss:
        return "the champion makes no error: there is nothing to save"
    if found.high < 0:
        return f"worse: the challenger {_saves(found.effect)}, {_percent(found.high)} at best"
    if found.high < config.min_effect:
        least = f"less than the {100 * config.min_effect:g} % that are asked (experiments.min_effect)"
        return f"too little: the challenger {_saves(found.effect)}; at best it saves {_percent(found.high)}, {least}"
    return None


def _praise(found: Decision, config: ExperimentsConfig) -> str:
    return (
        f"better: the challenger {_saves(found.effect)}, {_percent(found.low)} at least, p = {found.p:.2g}, "
        f"after {found.days} of at most {config.max_days} days"
    )


def _saves(effect: float) -> str:
    return f"{'saves' if effect >= 0 else 'loses another'} {_percent(effect)} of the champion's loss"


def _percent(effect: float) -> str:
    return f"{100 * abs(effect):.2f} %"
