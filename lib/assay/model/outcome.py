"""Consumes a target and an engine's settings, produces what kind of outcome a model predicts, and how wide that is."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from assay.config import TargetConfig

Kind = Literal["value", "quantiles", "binary", "multiclass"]
Floats = npt.NDArray[np.float64]


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What a learner predicts of a row.

    kind: `value`, one number on the model's scale; `quantiles`, one per level; `binary`, the probability of the second
        class; `multiclass`, the probability of each.
    classes: texts by their code.  levels: of the quantiles, rising.
    """

    kind: Kind = "value"
    classes: tuple[str, ...] = ()
    levels: tuple[float, ...] = ()

    @classmethod
    def of(cls, target: TargetConfig, quantiles: tuple[float, ...] = ()) -> Outcome:
        """Of a target. quantiles: levels asked for, which only a number has."""
        if target.task == "regression":
            return cls("quantiles", levels=tuple(sorted(quantiles))) if quantiles else cls()
        return cls(target.task, classes=target.class_names)

    @property
    def decides(self) -> bool:
        """Whether it is one of classes."""
        return bool(self.classes)

    @property
    def width(self) -> int:
        """How many numbers a learner predicts of a row."""
        return {"quantiles": len(self.levels), "multiclass": len(self.classes)}.get(self.kind, 1)

    @property
    def middle(self) -> int:
        """Which of the quantiles stands for the value: the median, or the level that is nearest to it."""
        return int(np.argmin(np.abs(np.array(self.levels) - 0.5)))

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, tree: dict[str, Any]) -> Outcome:
        """Read back `to_dict`."""
        return cls(tree["kind"], tuple(tree["classes"]), tuple(tree["levels"]))


VALUE = Outcome()


def every_class(probabilities: Floats) -> Floats:
    """P(second class) (n,) -> (n, 2); of several classes (n, K) as they are, but each row's sum is 1."""
    if probabilities.ndim == 1:
        return np.column_stack([1.0 - probabilities, probabilities])
    return np.asarray(probabilities / probabilities.sum(axis=1, keepdims=True))
