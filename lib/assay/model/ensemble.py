"""Consumes several stored learners and how they are combined, produces one prediction and how far they disagree."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from assay.model.arrays import from_bytes, to_bytes
from assay.model.encoding import Matrix

if TYPE_CHECKING:
    from assay.model.predictors import Explains, Predictor

Floats = npt.NDArray[np.float64]
MEDIAN = "voting"


@dataclasses.dataclass(frozen=True, eq=False)
class Combination:
    """How predictions of M members become one: intercept + their weighted sum, or, for `voting`, their median.

    weights: (M,), not negative and not all 0.  as_of: time of the newest error that dynamic weights know, ISO.
    """

    method: str
    weights: Floats
    intercept: float = 0.0
    as_of: str = ""

    @property
    def linear(self) -> bool:
        """Whether what members' inputs add, adds up."""
        return self.method != MEDIAN

    def apply(self, members: Floats) -> Floats:
        """(n, M) predictions, or (n, M, K) of K classes, -> (n,) or (n, K). A row's result is the same in any batch."""
        if not self.linear:
            middle: Floats = np.median(members, axis=1)
            return middle
        result = np.full(members.shape[:1] + members.shape[2:], self.intercept)
        for position, weight in enumerate(self.weights):
            result += weight * members[:, position]
        return result

    def spread(self, members: Floats) -> Floats:
        """(n, M) -> (n,): standard deviation of a row's members, each with its share of all weights."""
        share = self.weights / self.weights.sum()
        mean, square = np.zeros(len(members)), np.zeros(len(members))
        for position, weight in enumerate(share):
            mean += weight * members[:, position]
        for position, weight in enumerate(share):
            square += weight * (members[:, position] - mean) ** 2
        return np.sqrt(square)

    def of(self, positions: Sequence[int]) -> Combination:
        """The same for these members alone."""
        return dataclasses.replace(self, weights=self.weights[list(positions)])


@dataclasses.dataclass(frozen=True)
class Member:
    """A member's name, its engine, and its learner in the engine's own format."""

    name: str
    engine: str
    stored: bytes


def packed(members: Sequence[Member], combination: Combination) -> bytes:
    """Members and their combination as npz; equal ones give equal bytes."""
    learners = {f"member_{i}": np.frombuffer(member.stored, np.uint8) for i, member in enumerate(members)}
    return to_bytes(
        names=np.array([member.name for member in members]),
        engines=np.array([member.engine for member in members]),
        method=np.array(combination.method),
        weights=combination.weights,
        intercept=np.float64(combination.intercept),
        as_of=np.array(combination.as_of),
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
    return members, combination


@dataclasses.dataclass(frozen=True, eq=False)
class Ensemble:
    """Learners that predict together. They share one encoding. members: by name, in order of the weights."""

    members: Mapping[str, Predictor]
    combination: Combination

    def predict(self, matrix: Matrix) -> Floats:
        """(n, features) -> (n,)."""
        return self.combination.apply(self.predict_members(matrix))

    def predict_members(self, matrix: Matrix) -> Floats:
        """(n, features) -> (n, M)."""
        return np.stack([member.predict(matrix) for member in self.members.values()], axis=1)

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

        SHAP values of a weighted sum are the weighted sum of SHAP values (linearity; Lundberg and Lee, 2017).
        """
        result = np.zeros((len(matrix), matrix.shape[1] + 1))
        for weight, member in zip(self.combination.weights, self.explaining, strict=True):
            result += weight * member.contributions(matrix)
        result[:, -1] += self.combination.intercept
        return result.astype(np.float32)
