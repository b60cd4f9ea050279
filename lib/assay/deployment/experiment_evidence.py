"""Consumes daily losses of champion and challenger, produces the challenger's effect, its bounds and a p-value.

Bounds and p-value hold at every look until the planned end, however often one looks. With D[t] the losses of day t,
challenger minus champion, and C[t] those of the champion, effect = -sum(D) / sum(C), the share of the champion's loss
that is saved. Whether it is e is judged by the mean of z[t] = -D[t] - e C[t], which is then 0 (Fieller 1954), so bounds
are all e that are not refused.

- Days depend on one another, so the variance of the mean is told by slow waves alone: with L[j] the cosine transform
  of z at frequency j / 2n per day, it is the mean of L[j]^2 over j <= n / block_days, and the mean over its root is
  Student's t with as many degrees of freedom. (Equal-weighted cosines: Lazarus, Lewis, Stock and Watson 2018, "HAR
  inference: recommendations for practice". The last wave counts in part, so that nothing jumps from day to day. With
  blocks of one day it is the ordinary t-test.)
- Days are skewed: a challenger that is mostly a bit better and seldom much worse looks better than it is while its bad
  day has not come. Hall's transformation (1992, "On the removal of skewness by transformation") takes that into
  account, and is used only where it makes one more careful.
- One looks every day: t is turned to the normal deviate z of the same tail, and with f the share of the planned days
  z sqrt(f) is a Brownian motion at time f. Up to time 1 that exceeds M with probability 2 (1 - Phi(M)), on either side
  4 (1 - Phi(M)) at most, which is p. (O'Brien and Fleming 1979; as spending Lan and DeMets 1983; bounds for every look
  Jennison and Turnbull 1989.) At 5 % z must be 4.5 at a quarter of the days and 2.24 at the end: strict early.

All three hold in the limit; `tests/statistical/test_experiment_error_rates.py` checks them where days are few. Of
20,000 challengers as good as their champion, looked at daily over 56 days, 2.4 % are promoted with normal days (and as
many shown to be worse), 3.0 % with an autocorrelation of 0.5, 3.8 % where labels span a whole block, 3.8 % with a
skewness of 6, and 5.0 % with that and an autocorrelation of 0.3, which is where it ends.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import stats

from assay.deployment.experiment_days import Persistent
from assay.model.scale import Floats


@dataclass(frozen=True)
class Evidence:
    """Of one experiment (), or of several (...,). effect, low, high: shares of the champion's loss that are saved.

    low is -inf and high 1 while too little is known. p: of no effect, two-sided.
    """

    effect: Floats
    low: Floats
    high: Floats
    p: Floats


@dataclass(frozen=True)
class _Moments:
    """Of the means of D and C: variances and covariance, (...), and the degrees of freedom they were found with."""

    difference: Floats
    covariance: Floats
    champion: Floats
    freedom: Floats | float


def evidence(
    difference: Floats,
    champion: Floats,
    *,
    planned_days: int,
    alpha: float,
    block_days: float,
    weight: Floats | float = 1.0,
    persistent: Persistent | None = None,
) -> Evidence:
    """What the days so far say. difference, champion: (..., D) as of `Series`, the champion's sum above 0.

    planned_days: at which the experiment ends; D is at most that.  alpha: of bounds.  weight: (...) mean of the days'
    weights, with which `persistent` variances of mean losses count.
    """
    days = difference.shape[-1]
    mean, base = difference.mean(axis=-1), champion.mean(axis=-1)
    effect = -mean / base
    if days < 2:
        return Evidence(effect, np.full_like(effect, -np.inf), np.ones_like(effect), np.ones_like(effect))
    moments = _moments(difference, champion, block_days)
    if persistent is not None:
        moments = _with_persistent(moments, persistent, np.asarray(weight, dtype=np.float64))
    share = np.sqrt(min(1.0, days / planned_days))
    skew = -skewness_of_mean(difference)
    p = _p_value(-mean, moments, skew, share)
    z = stats.norm.isf(alpha / 4) / share
    critical = stats.t.isf(stats.norm.sf(z), moments.freedom)
    low = _bound(mean, base, moments, careful_critical(critical, skew), -1)
    high = _bound(mean, base, moments, careful_critical(critical, -skew), 1)
    return Evidence(effect, low, np.minimum(high, 1.0), p)


def slow_waves(days: int, block_days: float) -> tuple[Floats, Floats]:
    """Cosines (D, J) that sum to 0, their squares to 1, and weights (J,) of the waves: 1, of the last one a part."""
    number = min(days - 1.0, max(1.0, days / block_days))
    waves = np.arange(1, int(np.ceil(number)) + 1)
    weights = np.ones(len(waves))
    weights[-1] = number - (len(waves) - 1)
    middle = np.arange(days) + 0.5
    return np.sqrt(2 / days) * np.cos(np.pi * np.outer(middle, waves) / days), weights


def long_run_variance(values: Floats, block_days: float) -> Floats:
    """Variance per day of the mean of dependent days, (...) of (..., D): that of the mean is one D-th of it."""
    waves, weights = slow_waves(values.shape[-1], block_days)
    found: Floats = (values @ waves) ** 2 @ weights / weights.sum()
    return found


def skewness_of_mean(values: Floats) -> Floats:
    """Skewness (...) of the mean of (..., D): the days' own, over the root of D; 0 where they are all alike."""
    apart = values - values.mean(axis=-1, keepdims=True)
    squares = apart * apart
    spread: Floats = squares.mean(axis=-1) ** 1.5
    found: Floats = ratio((squares * apart).mean(axis=-1), spread) / np.sqrt(values.shape[-1])
    return found


def careful(t: Floats, skew: Floats) -> Floats:
    """Student's t, less where skewness (...) below 0 says that it flatters. t: (...), 0 or more."""
    bend = np.minimum(skew, 0.0)
    with np.errstate(invalid="ignore", over="ignore"):
        bent = t + bend * t**2 / 3 + bend**2 * t**3 / 27 + bend / 6
    found: Floats = np.fmin(t, bent)  # an infinite t stays one
    return found


def careful_critical(critical: Floats | float, skew: Floats) -> Floats:
    """The t that `careful` turns into `critical`."""
    bend = np.minimum(skew, 0.0)
    above = critical - bend / 6
    root = np.cbrt(1 + bend * above)
    with np.errstate(invalid="ignore"):
        bent = 3 * above / (root**2 + root + 1)  # of (root - 1) * 3 / bend, which a small bend makes inexact
    found: Floats = np.fmax(critical, bent)
    return found


def ratio(value: Floats, spread: Floats) -> Floats:
    """value / spread, 0 where both are 0, and infinite where only the spread is."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(value == 0, 0.0, value / spread)


def _p_value(saved: Floats, moments: _Moments, skew: Floats, share: float) -> Floats:
    t = careful(np.abs(ratio(saved, np.sqrt(moments.difference))), np.where(saved > 0, skew, -skew))
    z = stats.norm.isf(stats.t.sf(np.maximum(t, 0.0), moments.freedom))
    p: Floats = np.minimum(1.0, 4 * stats.norm.sf(z * share))
    return p


def _moments(difference: Floats, champion: Floats, block_days: float) -> _Moments:
    days = difference.shape[-1]
    waves, weights = slow_waves(days, block_days)
    ours, theirs = difference @ waves, champion @ waves
    parts = [(a * b) @ weights / weights.sum() / days for a, b in ((ours, ours), (ours, theirs), (theirs, theirs))]
    return _Moments(parts[0], parts[1], parts[2], freedom=float(weights.sum() ** 2 / (weights**2).sum()))


def _with_persistent(moments: _Moments, persistent: Persistent, weight: Floats) -> _Moments:
    """Variances between entities are added; degrees of freedom are those of the sum (Satterthwaite 1946)."""
    ours, theirs = weight**2 * persistent.champion, weight**2 * persistent.challenger
    total = moments.difference + ours + theirs
    entities = max(1, persistent.entities - 1)
    with np.errstate(invalid="ignore", divide="ignore"):
        freedom = total**2 / (moments.difference**2 / moments.freedom + (ours + theirs) ** 2 / entities)
    freedom = np.where(np.isfinite(freedom), freedom, moments.freedom)
    return _Moments(total, moments.covariance - ours, moments.champion + ours, freedom)


def _bound(mean: Floats, base: Floats, moments: _Moments, critical: Floats, side: int) -> Floats:
    """The least (side -1) or largest (1) e with mean(z)^2 <= critical^2 var(mean(z)), infinite without one."""
    with np.errstate(invalid="ignore", over="ignore", divide="ignore"):
        square = base**2 - critical**2 * moments.champion
        linear = mean * base - critical**2 * moments.covariance
        constant = mean**2 - critical**2 * moments.difference
        root = np.sqrt(np.maximum(linear**2 - square * constant, 0.0))
        found = (-linear + side * root) / square
    return np.where(square > 0, found, side * np.inf)
