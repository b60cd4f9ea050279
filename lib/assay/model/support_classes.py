"""Consumes support vectors of each class, produces probabilities: a machine per class, its values through a sigmoid."""

from __future__ import annotations

import dataclasses

import numpy as np
import numpy.typing as npt

from assay.model.arrays import from_bytes, to_bytes
from assay.model.encoding import Matrix
from assay.model.learner_inputs import LearnerInputs
from assay.model.support_vectors import SupportVectors, load_support_vectors

Floats = npt.NDArray[np.float64]
LEAST = 1e-6  # probability of a class before the classes' are made to add up


@dataclasses.dataclass(frozen=True, eq=False)
class SupportClasses:
    """P(class) = 1 / (1 + exp(-(slope * value + offset))) of each class's machine, which is Platt's scaling (1999).

    machines: one per class against all others; of two classes the second one's alone.  slope, offset: (machines,).
    """

    inputs: LearnerInputs
    machines: tuple[SupportVectors, ...]
    slope: Floats
    offset: Floats

    def predict(self, matrix: Matrix) -> Floats:
        """(n, features) -> (n,) of two classes, else (n, classes)."""
        values = np.column_stack([machine.predict(matrix) for machine in self.machines])
        found = 1 / (1 + np.exp(-(values * self.slope + self.offset)))
        return np.asarray(found[:, 0] if len(self.machines) == 1 else np.maximum(found, LEAST))

    def importance(self) -> dict[int, float]:
        """None: distances use all inputs alike."""
        return {}

    def store(self) -> bytes:
        """As npz."""
        own = {
            f"{number}_{name}": value
            for number, machine in enumerate(self.machines)
            for name, value in (
                ("vectors", machine.vectors),
                ("share", machine.share),
                ("intercept", np.float64(machine.intercept)),
                ("gamma", np.float64(machine.gamma)),
            )
        }
        return to_bytes(**self.inputs.arrays(), slope=self.slope, offset=self.offset, **own)


def load_support(stored: bytes, threads: int = 1) -> SupportVectors | SupportClasses:
    """Read back what either kind of machine stored."""
    arrays = from_bytes(stored)
    if "slope" not in arrays:
        return load_support_vectors(stored, threads)
    inputs = LearnerInputs.of(arrays)
    machines = tuple(
        SupportVectors(
            inputs,
            arrays[f"{number}_vectors"],
            arrays[f"{number}_share"],
            float(arrays[f"{number}_intercept"]),
            float(arrays[f"{number}_gamma"]),
        )
        for number in range(len(arrays["slope"]))
    )
    return SupportClasses(inputs, machines, arrays["slope"], arrays["offset"])
