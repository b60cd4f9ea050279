"""Consumes the days of an experiment, produces whether its challenger is worse by more than a margin.

Such a challenger is to be taken back after 4 or 5 days, if they tell, and at any time: nothing is spared for an end.
With z[t] = D[t] - margin C[t] (`experiment_evidence.py`), t Student's t of their mean over n days, and effects, in
standard deviations of a day, that are normal with variance g, the likelihood ratio

    E = (1 + n g)^(-1/2) ((1 + t^2 / (n - 1)) / (1 + t^2 / ((n - 1) (1 + n g))))^(n/2)

is above 1 / alpha at any time with probability alpha at most, for independent normal days of any variance (Lai 1976;
Wang and Ramdas 2024, "Anytime-valid t-tests and confidence sequences for Gaussian means with unknown variance"). p is
1 / E on the side of harm, else 1. Few days do not tell how they depend on one another, so their mean is taken to vary
`harm_variance_inflation` times as much as of independent days, or as their slow waves say where that is more. And t is
less where days are skewed, as in `experiment_evidence.py`.

Of 10,000 challengers exactly at the margin, looked at daily over 90 days, 0.1 % are taken back with independent normal
days and 1.6 % with an autocorrelation of 0.5. It ends at an autocorrelation of 0.7 (7 %), and where days on which the
champion is much worse are rare and have yet to come (8 % with a skewness of 6 and an autocorrelation of 0.3).

Half of the challengers that are worse than the margin by 1, 2, 4 or 8 standard deviations of a day are found within 37,
12, 6 and 4 days.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from assay.config.experiments import ExperimentsConfig
from assay.deployment.experiment_days import Series
from assay.deployment.experiment_evidence import careful, long_run_variance, ratio, skewness_of_mean
from assay.model.scale import Floats

EFFECT_VARIANCE = 4.0  # g: a challenger that does harm is worse by some 2 standard deviations of a day


@dataclass(frozen=True)
class Harm:
    """Whether a challenger is to be taken back.

    days, rows: that say so.  effect: share of the champion's loss that the challenger saves; NaN without rows.  margin:
    share by which it may be worse.  p: of being no worse than that, valid at all looks.  reason: in words.
    """

    harmful: bool
    days: int
    rows: int
    effect: float
    margin: float
    p: float
    reason: str


def harm(series: Series, config: ExperimentsConfig) -> Harm:
    """Whether the challenger is worse than the champion by more than `harm_margin`, from `harm_min_days` on."""
    days, rows, margin = len(series.days), int(series.rows.sum()), config.harm_margin
    champion, challenger = series.losses
    effect = float(1 - ratio(np.asarray(challenger), np.asarray(champion))) if champion or challenger else 0.0
    persistent = 0.0
    if series.persistent is not None and days:
        ours, theirs = series.persistent.champion, series.persistent.challenger
        persistent = float(np.mean(series.weights)) ** 2 * (theirs + (1 + margin) ** 2 * ours)
    p = 1.0
    if days > 1:
        worse = series.difference - margin * series.champion
        inflation, block = config.harm_variance_inflation, config.block_days
        p = float(harm_p(worse, inflation=inflation, block_days=block, persistent=persistent))
    harmful = days >= config.harm_min_days and p < config.harm_alpha
    told = f"p is {p:.2g} of being at most {100 * margin:g} % worse (experiments.harm_margin), after {days} days"
    return Harm(harmful, days, rows, effect, margin, p, f"the challenger does harm: {told}" if harmful else told)


def harm_p(worse: Floats, *, inflation: float, block_days: float, persistent: Floats | float = 0.0) -> Floats:
    """p (...) of a mean of 0 or less, valid at all times. worse: (..., n) of days, n at least 2.

    inflation: of the variance of their mean over that of independent days.  persistent: variance added to the mean's.
    """
    days = worse.shape[-1]
    variance = np.maximum(inflation * worse.var(axis=-1, ddof=1), long_run_variance(worse, block_days))
    mean = worse.mean(axis=-1)
    t = careful(np.maximum(ratio(mean, np.sqrt(variance / days + persistent)), 0.0), skewness_of_mean(worse))
    return np.where(t > 0, np.minimum(1.0, np.exp(-log_evidence(np.maximum(t, 1e-12), days))), 1.0)


def log_evidence(t: Floats, days: int, effect_variance: float = EFFECT_VARIANCE) -> Floats:
    """Logarithm of E (...). t: (...), above 0, infinite where days do not differ."""
    scale = 1 + days * effect_variance
    small = (days - 1) / t**2
    found: Floats = (days * np.log((small + 1) / (small + 1 / scale)) - np.log(scale)) / 2
    return found
