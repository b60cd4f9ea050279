"""Consumes several stored learners and how they are combined, produces one prediction and how far they disagree."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from assay.model.arrays import from_bytes, to_bytes
from assay.model.encoding import Matrix
from assay.model.outcome import Kind, every_class

if TYPE_CHECKING:
    from assay.model.predictors import Explains, Predictor

Floats = npt.NDArray[np.float64]
MEDIAN, STACKING = "voting", "stacking"
DECIDES: tuple[Kind, ...] = ("binary", "multiclass")
LEAST = 1e-7  # probability whose logarithm is stacked, and its distance from 1: singles near 1 are no finer


@dataclasses.dataclass(frozen=True, eq=False)
class Combination:
    """How predictions of M members become one: intercept + their weighted sum, or, for `voting`, their median.

    Of numbers a member predicts one, of Q quantiles and of K classes as many; each is combined by itself, with the same
    weights. The medians of probabilities are divided by their sum. Classes are stacked by their logarithms: P(k) is in
    proportion to exp(intercepts[k] + weighted sum of members' log P(k)).

    weights: (M,), not negative and not all 0.  as_of: time of the newest error that dynamic weights know, ISO.
    intercepts: (K,), of stacked classes alone.
    """

    method: str
    weights: Floats
    intercept: float = 0.0
    as_of: str = ""
    kind: Kind = "value"
    intercepts: Floats = dataclasses.field(default_factory=lambda: np.zeros(0))

    @property
    def decides(self) -> bool:
        """Whether members predict probabilities of classes."""
        return self.kind in DECIDES

    @property
    def linear(self) -> bool:
        """Whether what members' inputs add, adds up: to the value, or to the logit of two classes."""
        if self.kind == "binary":
            return self.method == STACKING
        return self.kind == "value" and self.method != MEDIAN

    def apply(self, members: Floats) -> Floats:
        """(n, M) predictions, or (n, M, K), -> (n,) or (n, K). A row's result is the same in any batch."""
        if self.decides and self.method == STACKING:
            return self._stacked(members)
        if self.method == MEDIAN:
            middle: Floats = np.median(members, axis=1)
            return _shares(middle, members) if self.decides else middle
        result = np.full(members.shape[:1] + members.shape[2:], self.intercept)
        for position, weight in enumerate(self.weights):
            result += weight * members[:, position]
        return result

    def _stacked(self, members: Floats) -> Floats:
        raised = np.tile(self.intercepts, (len(members), 1))
        for position, weight in enumerate(self.weights):
            raised += weight * logarithms(members[:, position])
        raised = np.exp(raised - raised.max(axis=1, keepdims=True))
        return np.asarray(raised / raised.sum(axis=1, keepdims=True))

    def spread(self, members: Floats) -> Floats:
        """How far a row's members are apart, each with its share of all weights: (n, M) or (n, M, K) -> (n,).

        Of numbers their standard deviation. Of quantiles the same with the mean square over the levels, which is the
        2-Wasserstein distance of members from the distribution with the mean quantiles (Agueh and Carlier, 2011), as
        the levels show it. Of classes the mean total variation distance from the mean probabilities: half the sum of
        absolute differences (Levin and Peres, 2017, proposition 4.2), 0 to 1.
        """
        share = self.weights / self.weights.sum()
        mean, apart = np.zeros(members.shape[:1] + members.shape[2:]), np.zeros(len(members))
        for position, weight in enumerate(share):
            mean += weight * members[:, position]
        for position, weight in enumerate(share):
            off = members[:, position] - mean
            if self.decides:
                apart += weight * np.abs(off).sum(axis=1) / 2
            else:
                apart += weight * (off**2 if off.ndim == 1 else (off**2).mean(axis=1))
        return apart if self.decides else np.sqrt(apart)

    def of(self, positions: Sequence[int]) -> Combination:
        """The same for these members alone."""
        return dataclasses.replace(self, weights=self.weights[list(positions)])


def logarithms(probabilities: Floats) -> Floats:
    """Of probabilities (..., K), none closer to 0 or 1 than `LEAST`."""
    return np.asarray(np.log(np.clip(probabilities, LEAST, 1 - LEAST)))


def _shares(middle: Floats, members: Floats) -> Floats:
    """Medians (n, K) as probabilities; where all of them are 0, the mean of the members."""
    total = middle.sum(axis=1, keepdims=True)
    return np.where(total > 0, middle / np.where(total > 0, total, 1.0), members.mean(axis=1))


@dataclasses.dataclass(frozen=True)
class Member:
    """A member's name, its engine, and its learner in the engine's own format."""

    name: str
    engine: str
    stored: bytes


def packed(members: Sequence[Member], combination: Combination) -> bytes:
    """Members and their combination as npz; equal ones give equal bytes."""
    learners = {f"member_{i}": np.frombuffer(member.stored, np.uint8) for i, member in enumerate(members)}
    wide = {"kind": np.array(combination.kind), "intercepts": combination.intercepts}
    return to_bytes(
        names=np.array([member.name for member in members]),
        engines=np.array([member.engine for member in members]),
        method=np.array(combination.method),
        weights=combination.weights,
        intercept=np.float64(combination.intercept),
        as_of=np.array(combination.as_of),
        **(wide if combination.kind != "value" else {}),
        **learners,
    )


def unpacked(stored: bytes) -> tuple[list[Member], Combination]:
    """Read back `packed`."""
    arrays = from_bytes(stored)
    pairs = zip(arrays["names"].tolist(), arrays["engines"].tolist(), strict=True)
    members = [Member(name, engine, arrays[f"member_{i}"].tobytes()) for i, (name, engine) in enumerate(pairs)]
    combination = Combination(
        str(arrays["method"]), arrays["weights"], float(arrays["intercept"]), str(arrays["as_of"])
    )
    if "kind" in arrays:
        told = {"kind": arrays["kind"].item(), "intercepts": arrays["intercepts"]}
        combination = dataclasses.replace(combination, **told)
    return members, combination


@dataclasses.dataclass(frozen=True, eq=False)
class Ensemble:
    """Learners that predict together. They share one encoding. members: by name, in order of the weights."""

    members: Mapping[str, Predictor]
    combination: Combination

    def predict(self, matrix: Matrix) -> Floats:
        """(n, features) -> (n,), or (n, K); of two classes the probability of the second one."""
        return self._told(self.combination.apply(self.predict_members(matrix))) if len(matrix) else np.zeros(0)

    def predict_with_spread(self, matrix: Matrix) -> tuple[Floats, Floats]:
        """What `predict` gives, and how far the members are apart, (n,)."""
        if not len(matrix):
            return np.zeros(0), np.zeros(0)
        members = self.predict_members(matrix)
        return self._told(self.combination.apply(members)), self.combination.spread(members)

    def predict_members(self, matrix: Matrix) -> Floats:
        """(n, features) -> (n, M); (n, M, Q) quantiles, each row's rising; (n, M, K) probabilities of all classes."""
        return np.stack([self._shaped(member.predict(matrix)) for member in self.members.values()], axis=1)

    def _shaped(self, found: Floats) -> Floats:
        if self.combination.decides:
            return every_class(found)
        return np.sort(found.reshape(len(found), -1), axis=1) if self.combination.kind == "quantiles" else found

    def _told(self, combined: Floats) -> Floats:
        return combined[:, 1] if self.combination.kind == "binary" else combined

    def importance(self) -> dict[int, float]:
        """Shares: what a feature is worth to each member, as a share of all its features, weighted as the member is."""
        share = self.combination.weights / self.combination.weights.sum()
        found: dict[int, float] = {}
        for weight, member in zip(share, self.members.values(), strict=True):
            worth = member.importance()
            total = sum(worth.values())
            for position, value in worth.items() if total > 0 else ():
                found[position] = found.get(position, 0.0) + float(weight) * value / total
        return found


@dataclasses.dataclass(frozen=True, eq=False)
class ExplainedEnsemble(Ensemble):
    """One whose members can all say what an input adds, and that adds them up."""

    explaining: Sequence[Explains] = ()

    def contributions(self, matrix: Matrix) -> npt.NDArray[np.float32]:
        """Weighted sum of the members' SHAP values: (n, features) -> (n, features + 1), last the base value.

        SHAP values of a weighted sum are the weighted sum of SHAP values (linearity; Lundberg and Lee, 2017). Of two
        stacked classes it is the logit that is one.
        """
        result = np.zeros((len(matrix), matrix.shape[1] + 1))
        for weight, member in zip(self.combination.weights, self.explaining, strict=True):
            result += weight * member.contributions(matrix)
        result[:, -1] += self.combination.intercept + sum(np.diff(self.combination.intercepts))
        return result.astype(np.float32)
