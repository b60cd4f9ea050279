"""Consumes out-of-time predictions of members, produces what serves: the best member, or a combination that beats it.

Combinations are fitted on the earlier of these rows and judged on the later ones, where each is compared with every
member. One is taken only if it is better there than the best of them: of numbers in squared error, while its absolute
error is not above the member's, so that large errors that shrink do not pay for small ones that grow; of quantiles in
pinball loss; of classes in log loss.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from assay.class_metrics import log_losses
from assay.metrics import pinball_losses
from assay.model.ensemble import MEDIAN, STACKING, Combination
from assay.model.outcome import VALUE, Outcome
from assay.training.class_combination import pooled, stacked_classes
from assay.training.combination import ROWS_PER_MEMBER, equal_weights, stacked, trimmed, weighted
from assay.training.dynamic_weights import DAY, Measure, surprise, track
from assay.training.quantile_combination import averaged_quantiles

Floats = npt.NDArray[np.float64]
Times = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]
DYNAMIC: Mapping[str, Measure] = {"dynamic_rmse": "rmse", "dynamic_sharpe": "sharpe"}
SURPRISED = "dynamic_log_loss"


@dataclasses.dataclass(frozen=True, eq=False)
class OutOfTime:
    """Rows as members saw them that had not learned from them or from later ones.

    times: (n,) microseconds since 1970, UTC.  truth: (n,), of classes their codes.  members: (n, M), of quantiles
    (n, M, Q), of classes (n, M, K).  Both on the model's scale.
    """

    names: tuple[str, ...]
    times: Times
    truth: Floats
    members: Floats
    outcome: Outcome = VALUE

    def where(self, keep: Mask) -> OutOfTime:
        """Some of the rows."""
        return dataclasses.replace(self, times=self.times[keep], truth=self.truth[keep], members=self.members[keep])

    def figures(self, prediction: Floats) -> dict[str, float]:
        """Errors of one prediction of all rows, (n,) or (n, K); NaN without rows. The first one decides.

        Of numbers `rmse` and `mae`, of quantiles `pinball`, of classes `log_loss`.
        """
        if self.outcome.decides:
            return {"log_loss": _mean(log_losses(self.truth, prediction))}
        if self.outcome.kind == "quantiles":
            return {
                "pinball": _mean(pinball_losses(self.truth, prediction, self.outcome.levels))
                if len(self.truth)
                else math.nan
            }
        error = prediction - self.truth
        return {"rmse": math.sqrt(_mean(error**2)), "mae": _mean(np.abs(error))}


def _mean(values: Floats) -> float:
    return float(np.mean(values)) if len(values) else math.nan


@dataclasses.dataclass(frozen=True, eq=False)
class Candidate:
    """A member or a combination. fitted, chosen: `OutOfTime.figures` on the earlier and on the later rows.

    combination: what would serve; of a member, itself alone.
    """

    name: str
    combination: Combination
    fitted: Mapping[str, float]
    chosen: Mapping[str, float]

    @property
    def loss(self) -> float:
        """What decides: the first figure on the later rows."""
        return next(iter(self.chosen.values()))

    def no_worse(self, other: Candidate) -> bool:
        """Whether no further figure on the later rows is above the other's."""
        return all(self.chosen[name] <= other.chosen[name] for name in list(self.chosen)[1:])


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
        return min(self.candidates[: len(self.names)], key=lambda c: c.loss)

    @property
    def loss(self) -> str:
        """Name of the figure that decides."""
        return next(iter(self.chosen.chosen))

    def to_dict(self) -> dict[str, Any]:
        """Plain data for the record; what cannot be told is None."""

        def figures(prefix: str, found: Mapping[str, float]) -> dict[str, float | None]:
            return {f"{prefix}_{k}": value if math.isfinite(value) else None for k, value in found.items()}

        combination = self.chosen.combination
        return {
            "chosen": self.chosen.name,
            "single": self.single,
            "loss": self.loss,
            "intercept": combination.intercept,
            **({"intercepts": combination.intercepts.tolist()} if len(combination.intercepts) else {}),
            "as_of": combination.as_of,
            "candidates": [
                {
                    "name": c.name,
                    "member": c.name in self.names,
                    **figures("fitted", c.fitted),
                    **figures("chosen", c.chosen),
                    "weights": [float(w) for w in c.combination.weights],
                }
                for c in self.candidates
            ],
            "fitted_on": _told(self.fit),
            "chosen_on": _told(self.judge),
        }


def choose(
    rows: OutOfTime,
    methods: Sequence[str],
    *,
    share: float,
    gap_days: float,
    delay_days: float,
    halflife_days: float,
    drawn: bool = False,
) -> Choice:
    """The best member on the later rows, or the combination with the least error of those that are no worse.

    methods: of `EnsembleConfig`, in the order in which the first of equal ones is taken; a member comes before them.
    Those that are not of such an outcome are left out.
    share: of the rows, the later ones.  gap_days: between the last row that combinations are fitted on and the first
    that judges.  delay_days: until an outcome is known.
    drawn: rows are in an order that tells nothing; the last ones judge, and there is no lately.
    """
    if drawn:
        late = np.arange(len(rows.times)) >= round((1 - share) * len(rows.times))
        early = ~late
    else:
        early, late = cut(rows.times, share, round(gap_days * DAY))
    fit, judge = rows.where(early), rows.where(late)
    alone = [Combination("member", weights, kind=rows.outcome.kind) for weights in np.eye(len(rows.names))]
    candidates = [_judged(one, fit, judge, name) for name, one in zip(rows.names, alone, strict=True)]
    lately = {} if drawn else _lately(rows, methods, delay_days=delay_days, halflife_days=halflife_days)
    for method in methods:
        if method in lately:
            candidates.append(_dynamic(method, lately[method], int(rows.times.max()), fit, judge))
        elif (found := _fitted(method, fit)) is not None:
            candidates.append(_judged(found, fit, judge, method))
    best = min(candidates[: len(rows.names)], key=lambda c: c.loss)
    no_worse = [c for c in candidates if c.name not in rows.names and c.no_worse(best)]
    chosen = min([best, *no_worse], key=lambda c: c.loss)  # the member comes first, so a tie is its
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


def _fitted(method: str, fit: OutOfTime) -> Combination | None:
    """What serves and is judged alike, or None where there is too little to fit it on, or it is not of such rows."""
    width, kind = len(fit.names), fit.outcome.kind
    if method in ("average", MEDIAN):
        return Combination(method, equal_weights(width), kind=kind)
    if method not in ("weighted", STACKING) or len(fit.truth) < ROWS_PER_MEMBER * width:
        return None
    if fit.outcome.decides:
        return (pooled if method == "weighted" else stacked_classes)(fit.truth, fit.members, kind)
    if kind == "quantiles":
        return averaged_quantiles(fit.truth, fit.members, fit.outcome.levels) if method == "weighted" else None
    return (weighted if method == "weighted" else stacked)(fit.truth, fit.members)


def _lately(
    rows: OutOfTime, methods: Sequence[str], *, delay_days: float, halflife_days: float
) -> dict[str, Callable[[Times | None], Floats]]:
    """Weights as of given times, or at last, by those of the dynamic methods that say something of such an outcome."""
    told = {"delay_days": delay_days, "halflife_days": halflife_days}
    if rows.outcome.decides and SURPRISED in methods:
        losses = np.stack([log_losses(rows.truth, one) for one in rows.members.swapaxes(0, 1)], axis=1)
        return {SURPRISED: surprise(rows.times, losses, **told).weights}
    if rows.outcome.kind != "value":
        return {}
    past = track(rows.times, rows.truth, rows.members, **told)
    changes = rows.truth.min() < 0 < rows.truth.max()  # the sign of a level is no signal
    return {name: partial(past.weights, one) for name, one in DYNAMIC.items() if one == "rmse" or changes}


def _dynamic(
    method: str, weights: Callable[[Times | None], Floats], newest: int, fit: OutOfTime, judge: OutOfTime
) -> Candidate:
    """Judged with the weights of each row's moment; what serves has those of the newest error."""
    each = []
    for part in (fit, judge):
        share = weights(part.times).reshape(*part.members.shape[:2], *(1,) * (part.members.ndim - 2))
        each.append(part.figures((share * part.members).sum(axis=1)))
    as_of = dt.datetime.fromtimestamp(newest / 1e6, dt.timezone.utc).isoformat()
    serves = Combination(method, trimmed(weights(None)[0]), as_of=as_of, kind=fit.outcome.kind)
    return Candidate(method, serves, *each)


def _judged(combination: Combination, fit: OutOfTime, judge: OutOfTime, name: str) -> Candidate:
    return Candidate(name, combination, *(part.figures(combination.apply(part.members)) for part in (fit, judge)))


def _told(rows: OutOfTime) -> dict[str, Any]:
    moments = (
        [
            dt.datetime.fromtimestamp(int(t) / 1e6, dt.timezone.utc).isoformat()
            for t in (rows.times.min(), rows.times.max())
        ]
        if len(rows.times)
        else [None, None]
    )
    return {"rows": len(rows.times), "first": moments[0], "last": moments[1]}
