"""Adaptive inference as its docstrings define it, a row at a time, in integers and fractions: slow and plain."""

from __future__ import annotations

from fractions import Fraction
from statistics import NormalDist

import numpy as np

from assay.conformal import Adaptation, ScoredRows, Timeline, exponential_weights

BILLION = 10**9
UNIT = 2**32


def chain(group: int, parents) -> list[int]:
    found = [group]
    while parents[found[-1]] >= 0:
        found.append(int(parents[found[-1]]))
    return found


def quantile(scores: list[float], masses: list[int], level: Fraction) -> float:
    if level <= 0:
        return -np.inf
    if level >= 1:
        return np.inf
    enough = level * (sum(masses) + UNIT)
    for t in sorted(set(scores)):
        if sum(m for s, m in zip(scores, masses, strict=True) if s <= t) >= enough:
            return t
    return np.inf


def moved(found: float, alpha: int, level: float, *, above_zero: bool, scores: list[float], masses: list[int]) -> float:
    """A quantile of the promised level, and by how much alpha is off: the quantile that is given."""
    normal = NormalDist()
    z = normal.inv_cdf((1 + level) / 2 if above_zero else level)
    units = (1 / (2 * z * normal.pdf(z)) if above_zero else 1 / normal.pdf(z)) * (round((1 - level) * BILLION) - alpha)
    unit, least = found, -np.inf
    if not above_zero:
        high, low = (quantile(scores, masses, Fraction(round(normal.cdf(x) * BILLION), BILLION)) for x in (1, -1))
        unit = (high - low) / 2 if np.isfinite([high, low]).all() else 0.0
        least = quantile(scores, masses, Fraction(1, BILLION))
    return max(found + units / BILLION * unit, least) if np.isfinite([found, unit]).all() else max(found, least)


def far(level: float, *, above_zero: bool) -> tuple[int, int]:
    """The least and the largest alpha that is kept."""
    normal, aim = NormalDist(), round((1 - level) * BILLION)
    z = normal.inv_cdf((1 + level) / 2 if above_zero else level)
    one = BILLION * (2 * z * normal.pdf(z) if above_zero else normal.pdf(z))
    return aim - int(9 * one), aim + int((0.95 if above_zero else 9) * one)


def slow_adapt(rows: ScoredRows, parents, settings: Adaptation, *, stop: int, start: int = 0) -> Timeline:
    groups, levels = len(parents), len(settings.levels)
    order = sorted(range(groups), key=lambda g: len(chain(g, parents)))  # those on top first
    promised = [Fraction(str(level)) for level in settings.levels]
    aims = [int((1 - level) * BILLION) for level in promised]
    lists = [
        (chain(int(g), parents), s.tolist(), int(at), int(known))
        for g, s, at, known in zip(rows.groups, rows.scores, rows.at, rows.known, strict=True)
    ]
    alpha = np.zeros((stop - start, groups, levels), dtype=object)
    quantiles, counts = np.zeros((stop - start, groups, levels)), np.zeros((stop - start, groups), dtype=int)
    source = np.zeros((stop - start, groups), dtype=int)
    for step in range(start, stop):
        t = step - start
        own_quantiles: dict[int, list[float]] = {g: [] for g in order}
        shares: dict[tuple[int, int], float] = {}
        for g in order:
            for level, column in enumerate(settings.columns):
                missed = [  # by the intervals that rows were given, whosever those were
                    scores[column] > quantiles[at - start, of[0], level]
                    for of, scores, at, known in lists
                    if g in of and known == step and at >= start
                ]
                above = shares[parents[g], level] if parents[g] >= 0 else aims[level] / BILLION
                weight = len(missed) + settings.damping_rows
                shares[g, level] = (sum(missed) + settings.damping_rows * above) / weight if weight else above
        for g in order:
            own, masses = [], []
            for of, scores, at, known in lists:
                if g in of and known <= step and (settings.window is None or step - at <= settings.window):
                    own.append(scores)
                    age = np.array([step - at])
                    weight = 1.0 if settings.halflife is None else float(exponential_weights(age, settings.halflife)[0])
                    masses.append(round(Fraction(weight) * UNIT))
            counts[t, g] = len(own)
            for level, column in enumerate(settings.columns):
                if t == 0:
                    now = aims[level]
                else:
                    heard = [
                        scores[column] > quantiles[at - start, g, level]
                        for of, scores, at, known in lists
                        if g in of and known == step and at >= start and source[at - start, g] == g
                    ]
                    now = alpha[t - 1, g, level]
                    if heard or settings.damping_rows:
                        aim = aims[level] / BILLION
                        above = shares[parents[g], level] if parents[g] >= 0 else aim
                        share = (sum(heard) + settings.damping_rows * above) / (len(heard) + settings.damping_rows)
                        now += round((aim - share) * settings.step_size * BILLION)
                column_scores = [scores[column] for scores in own]
                if settings.above_zero:
                    way = {"above_zero": settings.above_zero[level]}
                    least, most = far(settings.levels[level], **way)
                    now = alpha[t, g, level] = min(max(now, least), most)
                    found = quantile(column_scores, masses, promised[level])
                    way |= {"scores": column_scores, "masses": masses}
                    own_quantiles[g].append(moved(found, now, settings.levels[level], **way))
                    continue
                if settings.bounded:
                    now = min(max(now, 0), BILLION)
                wanted = Fraction(BILLION - now, BILLION)
                if settings.bounded:
                    wanted = max(wanted, Fraction(1, BILLION))
                found = quantile(column_scores, masses, wanted)
                if settings.bounded and found == np.inf and promised[level] * (sum(masses) + UNIT) <= sum(masses):
                    found = max(s for s, m in zip(column_scores, masses, strict=True) if m)
                    if parents[g] >= 0:
                        found = max(found, own_quantiles[parents[g]][level])
                own_quantiles[g].append(found)
                alpha[t, g, level] = now
            for place in sorted(range(levels), key=lambda p: promised[p]):
                below = [
                    other
                    for other in range(levels)
                    if promised[other] < promised[place] and settings.columns[other] == settings.columns[place]
                ]
                own_quantiles[g][place] = max(own_quantiles[g][other] for other in [*below, place])
        for g in order:
            stands = parents[g] < 0 or counts[t, g] >= settings.min_rows
            source[t, g] = g if stands else source[t, parents[g]]
        for g in order:
            alpha[t, g] = alpha[t, source[t, g]]
            quantiles[t, g] = own_quantiles[source[t, g]]
    return Timeline(start, start, alpha.astype(np.int64) / BILLION, quantiles, counts, source)
