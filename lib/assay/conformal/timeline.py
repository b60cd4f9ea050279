"""Consumes what adaptive inference found step by step, produces the quantiles of any row, and rows to go on from."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from assay.conformal.selection import Floats, Integers


@dataclass(frozen=True)
class Timeline:
    """What is valid at each step: T steps from `start` on, G groups, L levels. It is all the state that there is.

    origin: first step of the first run; what was predicted before it is calibration and is not judged.
    alpha: (T, G, L) miscoverage aimed at, whole billionths.  quantiles: (T, G, L), infinite where nothing is promised.
    rows: (T, G) known rows of the group itself.  source: (T, G) the group whose alpha and quantile serve it: itself,
    or the nearest above it with enough rows.

    Raises ValueError for shapes that do not fit.
    """

    origin: int
    start: int
    alpha: Floats
    quantiles: Floats
    rows: Integers
    source: Integers

    def __post_init__(self) -> None:
        steps, groups = self.rows.shape
        levels = self.alpha.shape[-1] if self.alpha.ndim else 0
        if self.source.shape != self.rows.shape or {self.alpha.shape, self.quantiles.shape} != {
            (steps, groups, levels)
        }:
            shapes = {field.name: np.shape(getattr(self, field.name)) for field in dataclasses.fields(self)[2:]}
            raise ValueError(f"a timeline needs one number of steps, groups and levels, found {shapes}")
        if not self.origin <= self.start:
            raise ValueError(
                f"a timeline from step {self.start} cannot have its origin at the later step {self.origin}"
            )

    @property
    def stop(self) -> int:
        """The step after the last one."""
        return self.start + len(self.rows)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Steps, groups and levels."""
        steps, groups, levels = self.alpha.shape
        return steps, groups, levels

    def quantiles_for(self, groups: npt.ArrayLike, at: npt.ArrayLike) -> Floats:
        """Return the quantiles (n, L) of rows of `groups` (n,) that are predicted at steps `at` (n,).

        Raises ValueError for steps that are not in the timeline, and for shapes that differ.
        """
        group, step = np.asarray(groups), np.asarray(at)
        if group.ndim != 1 or group.shape != step.shape:
            raise ValueError(f"groups have shape {group.shape}, steps {step.shape}")
        if len(step) and not (self.start <= step.min() and step.max() < self.stop):
            raise ValueError(
                f"steps run from {step.min()} to {step.max()}, the timeline from {self.start} to {self.stop - 1}"
            )
        return np.asarray(self.quantiles[step - self.start, group])

    def last(self, steps: int) -> Timeline:
        """Return the last steps alone: one more than the longest delay of an outcome are enough to go on from."""
        first = max(len(self.rows) - steps, 0)
        fields = {name: getattr(self, name)[first:] for name in ("alpha", "quantiles", "rows", "source")}
        return Timeline(self.origin, self.start + first, **fields)

    def then(self, later: Timeline) -> Timeline:
        """Return both in one. Raises ValueError unless `later` goes on where this one stops, with the same groups."""
        if later.start != self.stop or later.shape[1:] != self.shape[1:] or later.origin != self.origin:
            raise ValueError(f"a timeline that stops at {self.stop} cannot go on with one that starts at {later.start}")
        fields = {
            name: np.concatenate([getattr(self, name), getattr(later, name)])
            for name in ("alpha", "quantiles", "rows", "source")
        }
        return Timeline(self.origin, self.start, **fields)

    def table(self) -> dict[str, npt.NDArray[Any]]:
        """Return columns of T * G * L rows: origin, step, group, level (its place), alpha, quantile, rows, source."""
        steps, groups, levels = self.shape
        step, group, level = (index.ravel() for index in np.indices((steps, groups, levels)))
        return {
            "origin": np.full(step.shape, self.origin),
            "step": step + self.start,
            "group": group,
            "level": level,
            "alpha": self.alpha.ravel(),
            "quantile": self.quantiles.ravel(),
            "rows": np.repeat(self.rows.ravel(), levels),
            "source": np.repeat(self.source.ravel(), levels),
        }

    @classmethod
    def from_table(cls, columns: Mapping[str, npt.ArrayLike]) -> Timeline:
        """Return the timeline whose `table` this is, rows in any order, equal to the last bit.

        Raises ValueError when a row is missing or there twice, and for more than one origin.
        """
        found = {name: np.asarray(values) for name, values in columns.items()}
        keys = [found[name].astype(np.int64) for name in ("step", "group", "level")]
        if not len(keys[0]):
            raise ValueError("a timeline without rows cannot be gone on from")
        start = int(keys[0].min())
        places = [keys[0] - start, *keys[1:]]
        shape = tuple(int(place.max()) + 1 for place in places)
        seen = np.zeros(shape, dtype=np.int64)
        np.add.at(seen, tuple(places), 1)
        origins = np.unique(found["origin"])
        if (seen != 1).any() or len(origins) != 1:
            raise ValueError(
                f"a timeline needs one row per step, group and level, and one origin: found {int((seen == 0).sum())} "
                f"missing, {int((seen > 1).sum())} repeated, {len(origins)} origins"
            )

        def shaped(name: str, kind: type) -> Any:
            values: npt.NDArray[Any] = np.empty(shape, dtype=kind)
            values[tuple(places)] = found[name]
            return values

        return cls(
            origin=int(origins[0]),
            start=start,
            alpha=shaped("alpha", np.float64),
            quantiles=shaped("quantile", np.float64),
            rows=shaped("rows", np.int64)[:, :, 0],
            source=shaped("source", np.int64)[:, :, 0],
        )
