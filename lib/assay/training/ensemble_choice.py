"""Consumes out-of-time predictions of members, produces what serves: the best member, or a combination that beats it.

Combinations are fitted on the earlier of these rows and judged on the later ones, where each is compared with every
member. One is taken only if its squared error there is below the best member's, and its absolute error not above it:
large errors that shrink do not pay for small ones that grow.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from assay.model.ensemble import MEDIAN, Combination
from assay.training.combination import ROWS_PER_MEMBER, equal_weights, stacked, trimmed, weighted
from assay.training.dynamic_weights import DAY, Measure, Track, track

Floats = npt.NDArray[np.float64]
Times = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]


@dataclasses.dataclass(frozen=True, eq=False)
class OutOfTime:
    """Rows as members saw them that had not learned from them or from later ones.

    times: (n,) microseconds since 1970, UTC.  truth: (n,).  members: (n, M).  Both on the model's scale.
    """

    names: tuple[str, ...]
    times: Times
    truth: Floats
    members: Floats

    def where(self, keep: Mask) -> OutOfTime:
        """Some of the rows."""
        return OutOfTime(self.names, self.times[keep], self.truth[keep], self.members[keep])

    def rmse(self, prediction: Floats) -> float:
        """Root of the mean squared error; NaN without rows."""
        return float(np.sqrt(np.mean((prediction - self.truth) ** 2))) if len(self.truth) else math.nan

    def mae(self, prediction: Floats) -> float:
        """Mean absolute error; NaN without rows."""
        return float(np.mean(np.abs(prediction - self.truth))) if len(self.truth) else math.nan


@dataclasses.dataclass(frozen=True, eq=False)
class Candidate:
    """A member or a combination. fitted_rmse, chosen_rmse: on the earlier and the later rows, on the model's scale.

    chosen_mae: mean absolute error on the later rows.
    combination: what would serve; of a member, itself alone.
    """

    name: str
    combination: Combination
    fitted_rmse: float
    chosen_rmse: float
    chosen_mae: float


@dataclasses.dataclass(frozen=True, eq=False)
class Choice:
    """The outcome. candidates: members, then combinations.  fit, judge: the rows of each part."""

    names: tuple[str, ...]
    candidates: Sequence[Candidate]
    chosen: Candidate
    fit: OutOfTime
    judge: OutOfTime

    @property
    def single(self) -> bool:
        """Whether a member serves alone."""
        return self.chosen.name in self.names

    @property
    def best_member(self) -> Candidate:
        """The member with the least error on the later rows."""
        return min(self.candidates[: len(self.names)], key=lambda c: c.chosen_rmse)

    def to_dict(self) -> dict[str, Any]:
        """Plain data for the record; what cannot be told is None."""

        def number(value: float) -> float | None:
            return value if math.isfinite(value) else None

        combination = self.chosen.combination
        return {
            "chosen": self.chosen.name,
            "single": self.single,
            "intercept": combination.intercept,
            "as_of": combination.as_of,
            "candidates": [
                {
                    "name": c.name,
                    "member": c.name in self.names,
                    "fitted_rmse": number(c.fitted_rmse),
                    "chosen_rmse": number(c.chosen_rmse),
                    "chosen_mae": number(c.chosen_mae),
                    "weights": [float(w) for w in c.combination.weights],
                }
                for c in self.candidates
            ],
            "fitted_on": _told(self.fit),
            "chosen_on": _told(self.judge),
        }


def choose(
    rows: OutOfTime, methods: Sequence[str], *, share: float, gap_days: float, delay_days: float, halflife_days: float
) -> Choice:
    """The best member on the later rows, or the combination with the least squared error of those that are no worse.

    methods: of `EnsembleConfig`, in the order in which the first of equal ones is taken; a member comes before them.
    share: of the rows, the later ones.  gap_days: between the last row that combinations are fitted on and the first
    that judges.  delay_days: until an outcome is known.
    """
    early, late = cut(rows.times, share, round(gap_days * DAY))
    fit, judge = rows.where(early), rows.where(late)
    candidates = [
        _compared(name, Combination("member", weights), fit, judge, [p.members @ weights for p in (fit, judge)])
        for name, weights in zip(rows.names, np.eye(len(rows.names)), strict=True)
    ]
    past = track(rows.times, rows.truth, rows.members, delay_days=delay_days, halflife_days=halflife_days)
    candidates += [found for method in methods if (found := _candidate(method, rows, fit, judge, past)) is not None]
    best = min(candidates[: len(rows.names)], key=lambda c: c.chosen_rmse)
    no_worse = [c for c in candidates if c.name not in rows.names and c.chosen_mae <= best.chosen_mae]
    chosen = min([best, *no_worse], key=lambda c: c.chosen_rmse)  # the member comes first, so a tie is its
    return Choice(rows.names, candidates, chosen, fit, judge)


def cut(times: Times, share: float, gap: int) -> tuple[Mask, Mask]:
    """Earlier and later rows: about `share` of them later, cut between distinct times, `gap` microseconds apart.

    With one distinct time all rows are later ones.
    """
    distinct, counts = np.unique(times, return_counts=True)
    later = np.cumsum(counts[::-1])[::-1]
    enough = np.flatnonzero(later >= share * len(times))
    start = distinct[min(max(int(enough[-1]), 1), len(distinct) - 1)] if len(distinct) else 0
    return times < start - gap, times >= start


def _candidate(method: str, rows: OutOfTime, fit: OutOfTime, judge: OutOfTime, past: Track) -> Candidate | None:
    """A combination, or None where there is too little to fit it on, or it says nothing of such a target."""
    width = len(rows.names)
    if method in ("average", MEDIAN):
        return _judged(Combination(method, equal_weights(width)), fit, judge)
    if method in ("weighted", "stacking"):
        if len(fit.truth) < ROWS_PER_MEMBER * width:
            return None
        found = (weighted if method == "weighted" else stacked)(fit.truth, fit.members)
        return _judged(found, fit, judge) if found is not None else None
    measure: Measure = "rmse" if method == "dynamic_rmse" else "sharpe"
    if measure == "sharpe" and not (rows.truth.min() < 0 < rows.truth.max()):
        return None  # a level, not a change: its sign is no signal
    each = [(past.weights(measure, part.times) * part.members).sum(axis=1) for part in (fit, judge)]
    as_of = dt.datetime.fromtimestamp(int(past.times[-1]) / 1e6, dt.UTC).isoformat()
    return _compared(method, Combination(method, trimmed(past.weights(measure)[0]), as_of=as_of), fit, judge, each)


def _judged(combination: Combination, fit: OutOfTime, judge: OutOfTime) -> Candidate:
    each = [combination.apply(part.members) for part in (fit, judge)]
    return _compared(combination.method, combination, fit, judge, each)


def _compared(
    name: str, combination: Combination, fit: OutOfTime, judge: OutOfTime, predictions: Sequence[Floats]
) -> Candidate:
    """predictions: of the earlier and of the later rows."""
    earlier, later = predictions
    return Candidate(name, combination, fit.rmse(earlier), judge.rmse(later), judge.mae(later))


def _told(rows: OutOfTime) -> dict[str, Any]:
    moments = (
        [dt.datetime.fromtimestamp(int(t) / 1e6, dt.UTC).isoformat() for t in rows.times[[0, -1]]]
        if len(rows.times)
        else [None, None]
    )
    return {"rows": len(rows.times), "first": moments[0], "last": moments[1]}
