"""Consumes scored rows of many segments, produces a `Timeline`: miscoverage and quantiles of each of them at each step.

Adaptive conformal inference (Gibbs and Candès 2021). Each group of a tree of segments aims at a miscoverage alpha of
its own, for each promised level. With m of the n rows of group g whose outcomes became known at step t outside of the
intervals that they were given at their own steps,

    share[g] = (m + damping_rows * share[parent]) / (n + damping_rows), where above the top share is 1 - level,
    alpha[g, t] = alpha[g, t - 1] + step_size * ((1 - level) - share[g]),

and the quantile at step t is the conformal one at 1 - alpha[g, t], of scores known by then. A segment of few rows a
step thus moves with those around it when the whole market is missed, and on its own account as far as its rows bear
that out: partial pooling of the published rule, which is that of one row per step and no damping. Whatever the data do,
the shares come to 1 - level in the long run, at a rate of 1 / (steps * step_size); so do, where groups have as many
rows at every step, the misses of each of them.

n / (n + damping_rows) is the gain of a Kalman filter that follows a drifting level through n noisy looks. In standing,
the variance of a group on top is about step_size * (1 - level) * level / (2 * (n + damping_rows)): with one row per
step it trembles no more than with `damping_rows` of them, and 500 rows move alpha by nearly the whole of `step_size`,
once, and not 500 times. Without damping, groups know nothing of one another, and one without rows stays where it is.

That is one of two ways to follow. In the other alpha is the same, but moves the quantile of the promised level itself
(`widths.py`), and is not kept between 0 and 1.

alpha is kept in whole billionths, weights in whole multiples of 2^-32, and all else are counts: results are the same to
the last bit in any order of rows, and whether steps are run at once or one after another.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from assay.conformal.experts import HORIZON, Experts
from assay.conformal.known_scores import Flags, KnownScores, stable_order
from assay.conformal.quantiles import exact_level
from assay.conformal.selection import UNIT, Floats, Integers
from assay.conformal.timeline import Timeline
from assay.conformal.tree import ancestors_of, by_depth, checked_parents
from assay.conformal.weighted import BILLION, needed_billionths
from assay.conformal.widths import Widths

NEVER = 2**62  # a step that no timeline comes to


@dataclass(frozen=True)
class Adaptation:
    """How intervals follow their misses.

    levels: promised coverages, (L,), of at most nine decimals. columns: (L,) score column of each, else all the first.
    step_size: how far a step of many rows moves alpha, for each unit that their share of misses is off; 0 never adapts.
    damping_rows: rows of a step that the group above speaks for as well. min_rows: known rows below which a group is
    given what the group above it is given, alpha and quantile; it starts from them once it has enough.
    window: steps of scores that are kept, by the step of their prediction; None keeps all.
    halflife: steps after which a score weighs half; None weighs all the same.
    step_sizes: of experts, whose alphas are weighted by how well each did, instead of `step_size` (`experts.py`).
    horizon: steps of a stretch on each of which they are to do nearly as well as the best alpha.
    above_zero: (L,) of each level, whether its scores cannot be below 0. Where it is given, alpha moves the quantiles
    of the promised levels; else it says the levels of the quantiles.
    bounded: where alpha asks for more than the group's scores can say, give their largest, or the quantile of the group
    above if that is larger, and keep alpha in [0, 1]. Else such intervals are infinite, or empty, as published.
    Either way a group with too few rows for the promised level itself is infinite if all above it are.

    Raises ValueError naming the setting that makes no sense.
    """

    levels: tuple[float, ...]
    step_size: float
    columns: tuple[int, ...] = ()
    damping_rows: float = 10.0
    min_rows: int = 50
    window: int | None = None
    halflife: float | None = None
    bounded: bool = True
    step_sizes: tuple[float, ...] = ()
    horizon: float = HORIZON
    above_zero: tuple[bool, ...] = ()

    def __post_init__(self) -> None:
        exact = [exact_level(level) for level in self.levels]
        if not exact or any(BILLION % level.denominator for level in exact):
            raise ValueError(f"levels must be at least one, with at most nine decimals, found {list(self.levels)}")
        columns = self.columns or (0,) * len(exact)
        if len(columns) != len(exact) or min(columns) < 0:
            raise ValueError(f"columns must name a score column for each of {len(exact)} levels, found {columns}")
        object.__setattr__(self, "columns", columns)
        if len(set(zip(exact, columns, strict=True))) != len(exact):
            raise ValueError(f"levels of one score column must be different, found {list(self.levels)}")
        for name, value, least in (
            ("step_size", self.step_size, 0.0),
            ("damping_rows", self.damping_rows, 0.0),
            ("min_rows", self.min_rows, 1),
            ("window", 1 if self.window is None else self.window, 1),
        ):
            if not least <= value < np.inf:
                raise ValueError(f"{name} must be at least {least:g}, found {value}")
        if not all(0 < size < np.inf for size in self.step_sizes) or not 1 <= self.horizon < np.inf:
            raise ValueError(
                f"step_sizes must be above 0 and horizon at least 1, found {list(self.step_sizes)} and {self.horizon}"
            )
        if self.above_zero and (len(self.above_zero) != len(exact) or self.step_sizes or not self.bounded):
            raise ValueError(
                f"above_zero must be one of each of {len(exact)} levels, without step_sizes and with bounded, found "
                f"{self.above_zero}"
            )
        if self.halflife is not None and not 0 < self.halflife < np.inf:
            raise ValueError(f"halflife must be above 0, found {self.halflife}")

    @property
    def promised(self) -> Integers:
        """Levels in billionths, (L,)."""
        return np.array([int(exact_level(level) * BILLION) for level in self.levels], dtype=np.int64)

    @property
    def nested(self) -> list[list[int]]:
        """Places of the levels of each score column, the lowest level first."""
        rising = sorted(range(len(self.levels)), key=lambda place: self.levels[place])
        return [[place for place in rising if self.columns[place] == column] for column in sorted(set(self.columns))]


@dataclass(frozen=True)
class ScoredRows:
    """Rows with a known outcome.

    groups: (n,) the row's own group.  scores: (n, S), or (n,) for one column.  at: (n,) the step of its prediction.
    known: (n,) the first step that may use its outcome; later than `at`, but for what was predicted before the origin.

    Raises ValueError for NaN scores, numbers that are no integers, and shapes that do not fit.
    """

    groups: Integers
    scores: Floats
    at: Integers
    known: Integers

    def __post_init__(self) -> None:
        scores = np.asarray(self.scores, dtype=np.float64) + 0.0
        scores = scores[:, None] if scores.ndim == 1 else scores
        object.__setattr__(self, "scores", scores)
        if scores.ndim != 2:
            raise ValueError(f"scores must be (rows,) or (rows, columns), found shape {scores.shape}")
        for name in ("groups", "at", "known"):
            values = np.asarray(getattr(self, name))
            if values.shape != (len(scores),) or (len(scores) and not np.issubdtype(values.dtype, np.integer)):
                raise ValueError(f"{name} must be {len(scores)} integers, found {values.dtype} of shape {values.shape}")
            object.__setattr__(self, name, values.astype(np.int64))
        missing = int(np.count_nonzero(np.isnan(scores).any(axis=1)))
        if missing:
            raise ValueError(f"{missing} of {len(scores)} rows have NaN scores; leave out rows without an outcome")

    def where(self, kept: Flags) -> ScoredRows:
        """Return some of the rows."""
        return ScoredRows(self.groups[kept], self.scores[kept], self.at[kept], self.known[kept])


def adapt(
    rows: ScoredRows,
    parents: npt.ArrayLike,
    settings: Adaptation,
    *,
    stop: int,
    start: int = 0,
    earlier: Timeline | None = None,
) -> Timeline:
    """Return the timeline from `start`, or from where `earlier` stops, to before `stop`.

    rows: those predicted before the origin are calibration: they are known once `known` says, and never judged. Rows
    whose outcome is not known before `stop` are left alone. parents: (G,) the group above each, -1 for those on top.
    Going on from an earlier timeline needs its last steps, as far back as outcomes are still awaited, and of the
    earlier rows those that the window still holds; the result equals that of one run to the last bit.
    Takes O(n log n) once, and per step O(rows that come or go + n / 64 + G * L).

    Raises ValueError for groups outside the tree, rows that are known before they are predicted, score columns that are
    not there, outcomes that come for predictions from before the earlier timeline, and experts that are to go on from
    one: a timeline does not have the state of each of them.
    """
    above = checked_parents(parents)
    origin, first = (start, start) if earlier is None else (earlier.origin, earlier.stop)
    if len(rows.known) and rows.known.max() >= stop:
        rows = rows.where(rows.known < stop)
    _check(rows, above, settings, origin=origin, first=first, earlier=earlier)
    run = _Run(rows, above, settings, origin=origin, first=first, steps=max(stop - first, 0), earlier=earlier)
    for step in range(first, stop):
        run.take(step)
    return run.timeline(first)


def _check(
    rows: ScoredRows, parents: Integers, settings: Adaptation, *, origin: int, first: int, earlier: Timeline | None
) -> None:
    if len(rows.groups) and not (rows.groups.min() >= 0 and rows.groups.max() < len(parents)):
        raise ValueError(
            f"groups run from {rows.groups.min()} to {rows.groups.max()}, but the tree has {len(parents)} groups"
        )
    if max(settings.columns) >= rows.scores.shape[1]:
        raise ValueError(f"columns {settings.columns} need more than the {rows.scores.shape[1]} columns of scores")
    leaks = int(np.count_nonzero((rows.known <= rows.at) & (rows.at >= origin)))
    if leaks:
        raise ValueError(f"{leaks} of {len(rows.at)} rows are known in the step of their own prediction, or before it")
    if earlier is None:
        return
    if settings.step_sizes:
        raise ValueError("experts of several step sizes begin at the origin: leave out the earlier timeline")
    if earlier.shape[2] != len(settings.levels) or earlier.shape[1] > len(parents) or not len(earlier.rows):
        raise ValueError(
            f"an earlier timeline of shape {earlier.shape} does not fit {len(parents)} groups and "
            f"{len(settings.levels)} levels"
        )
    late = int(np.count_nonzero((rows.known >= first) & (rows.at >= origin) & (rows.at < earlier.start)))
    if late:
        raise ValueError(f"{late} outcomes are of predictions before step {earlier.start}: give a longer timeline")


class _Run:
    """A timeline in the making."""

    def __init__(
        self,
        rows: ScoredRows,
        parents: Integers,
        settings: Adaptation,
        *,
        origin: int,
        first: int,
        steps: int,
        earlier: Timeline | None,
    ) -> None:
        self.settings, self.parents, self.origin = settings, parents, origin
        self.promised, self.columns_nested = settings.promised, settings.nested
        self.widths = Widths(self.promised, settings.above_zero) if settings.above_zero else None
        self.ancestors = ancestors_of(parents)
        self.depths = by_depth(parents)
        before = 0 if earlier is None else len(earlier.rows)
        self.start = first - before
        shape = (before + steps, len(parents))
        self.alpha = np.empty((*shape, len(settings.levels)), dtype=np.int64)  # billionths
        self.quantiles = np.empty(self.alpha.shape)
        self.rows, self.source = np.zeros(shape, dtype=np.int64), np.empty(shape, dtype=np.int64)
        if earlier is not None:
            self._remember(earlier, before)
        self._await(rows, first)
        enter = np.maximum(rows.known, first)
        leave = np.full(len(enter), NEVER) if settings.window is None else rows.at + settings.window + 1
        useful = slice(None) if (leave > enter).all() else np.flatnonzero(leave > enter)
        self.known = KnownScores(
            self.ancestors.astype(np.int32)[rows.groups[useful]],
            rows.scores[useful],
            at=rows.at[useful],
            enter=enter[useful],
            leave=leave[useful],
            groups=len(parents),
            halflife=settings.halflife,
        )
        self.experts: Experts | None = None
        if settings.step_sizes:
            judged = self.ancestors[self.judged_groups]
            at = self.judged_at + self.start
            self.experts = Experts(settings, len(parents), judged, self.judged_scores, at=at, known=self.judged_known)
            self.experts.find(self.known)

    def take(self, step: int) -> None:
        """One step: what became known moves alpha and joins the scores, then quantiles are taken."""
        settings, place = self.settings, step - self.start
        self.known.move_to(step)
        alpha = self._alpha(step)
        if self.widths is not None:
            alpha = self.widths.kept(alpha)
        elif settings.bounded:
            alpha = np.clip(alpha, 0, BILLION)
        self.rows[place] = self.known.rows
        source = self.source[place] = self._sources()
        self.alpha[place] = alpha[source]
        self.quantiles[place] = self._quantiles(alpha)[source]
        if self.experts is not None:
            self.experts.keep(step, source, self.known)

    def timeline(self, first: int) -> Timeline:
        """What was found from step `first` on."""
        new = slice(first - self.start, None)
        alpha = self.alpha[new] / BILLION
        return Timeline(self.origin, first, alpha, self.quantiles[new], self.rows[new], self.source[new])

    def _remember(self, earlier: Timeline, before: int) -> None:
        """The earlier timeline, where groups that are new had what the group above them had."""
        old = earlier.shape[1]
        self.alpha[:before, :old] = np.rint(earlier.alpha * BILLION).astype(np.int64)
        self.quantiles[:before, :old] = earlier.quantiles
        self.rows[:before, :old], self.source[:before, :old] = earlier.rows, earlier.source
        for depth in self.depths:
            new = depth[depth >= old]
            above = self.parents[new]
            if (above < 0).any():
                raise ValueError(f"group {new[0]} is on top of the tree, but the earlier timeline does not know it")
            for values in (self.alpha, self.quantiles, self.source):
                values[:before, new] = values[:before, above]

    def _await(self, rows: ScoredRows, first: int) -> None:
        """Rows to be judged, by the step in which their outcomes become known; one line for each of their groups."""
        judged = np.flatnonzero((rows.known >= first) & (rows.at >= self.origin))
        judged = judged[stable_order(rows.known[judged])]
        self.judged_known = rows.known[judged]
        self.judged_groups, self.judged_at = rows.groups[judged], rows.at[judged] - self.start
        self.judged_scores = rows.scores[judged]

    def _alpha(self, step: int) -> Integers:
        """Miscoverage of every group by its own rows, billionths, (G, L)."""
        if step <= self.origin:
            return np.tile(BILLION - self.promised, (len(self.parents), 1))
        if self.experts is None:
            return np.asarray(self.alpha[step - self.start - 1] + self._correction(step))
        self.experts.hear(step, self.source, self.start)
        return self.experts.mean()

    def _correction(self, step: int) -> Integers:
        """What the outcomes that became known at `step` add to alpha, in billionths, (G, L)."""
        settings, parents = self.settings, self.parents
        now = slice(*np.searchsorted(self.judged_known, [step, step + 1]))
        given, row_at = self.judged_groups[now], self.judged_at[now]
        groups = self.ancestors[given]
        row, depth = np.nonzero(groups >= 0)
        group, at = groups[row, depth], row_at[row]
        rows = np.bincount(group, minlength=len(parents))
        # An interval of the group above says nothing of this group's own alpha.
        own = self.source[at, group] == group
        own_row, own_group, own_at = row[own], group[own], at[own]
        own_rows = np.bincount(own_group, minlength=len(parents))
        moved = own_rows > 0 if settings.damping_rows == 0 else np.ones(len(parents), dtype=bool)
        added = np.zeros(self.alpha.shape[1:], dtype=np.int64)
        for level, column in enumerate(settings.columns):
            aim = (BILLION - self.promised[level]) / BILLION
            scores = self.judged_scores[now, column]
            missed = group[(scores > self.quantiles[row_at, given, level])[row]]
            own_missed = own_group[scores[own_row] > self.quantiles[own_at, own_group, level]]
            misses, own_misses = (np.bincount(found, minlength=len(parents)) for found in (missed, own_missed))
            share, around = np.full(len(parents), aim), np.full(len(parents), aim)
            for groups_below in self.depths:
                above = parents[groups_below]
                around[groups_below] = np.where(above >= 0, share[above], aim)
                share[groups_below] = self._mixed(misses, rows, around, groups_below)
            told = self._mixed(own_misses, own_rows, around, slice(None))
            added[moved, level] = np.rint((aim - told[moved]) * settings.step_size * BILLION).astype(np.int64)
        return added

    def _mixed(self, misses: Integers, rows: Integers, around: Floats, groups: Integers | slice) -> Floats:
        """Shares of misses of groups, mixed with what is told of the groups above them; theirs alone without rows."""
        damping = self.settings.damping_rows
        count, of = rows[groups] + damping, misses[groups] + damping * around[groups]
        return np.asarray(np.divide(of, count, out=around[groups].copy(), where=count > 0))

    def _sources(self) -> Integers:
        source = np.arange(len(self.parents))
        for depth in self.depths[1:]:
            few = depth[self.known.rows[depth] < self.settings.min_rows]
            source[few] = source[self.parents[few]]
        return source

    def _quantiles(self, alpha: Integers) -> Floats:
        """Quantiles of every group by its own scores, (G, L); a higher level of the same column is never lower."""
        settings = self.settings
        if self.widths is not None:
            return _nested(self.widths.quantiles(alpha, self.known, settings.columns), self.columns_nested)
        billionths = BILLION - alpha
        if settings.bounded:
            billionths = np.maximum(billionths, 1)  # the smallest score, and not the empty interval
        quantiles, largest = self.known.quantiles(billionths, settings.columns)
        if not settings.bounded:
            return _nested(quantiles, self.columns_nested)
        masses = self.known.masses()
        promised = np.broadcast_to(self.promised, alpha.shape)
        held = np.isposinf(quantiles) & (needed_billionths(masses + UNIT, promised) <= masses[:, None])
        quantiles[held] = largest[held]
        quantiles = _nested(quantiles, self.columns_nested)
        for depth in self.depths[1:]:
            group, level = np.nonzero(held[depth])
            group = depth[group]
            quantiles[group, level] = np.maximum(quantiles[group, level], quantiles[self.parents[group], level])
            quantiles[depth] = _nested(quantiles[depth], self.columns_nested)
        return quantiles


def _nested(quantiles: Floats, columns: Sequence[Sequence[int]]) -> Floats:
    for places in columns:
        quantiles[:, places] = np.maximum.accumulate(quantiles[:, places], axis=1)
    return quantiles
