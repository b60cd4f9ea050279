"""Consumes numbers known before the test period, produces bands of them, and the band of each later row."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Mapping

import numpy as np

from assay.model.scale import Floats
from assay.pages.formats import edge

FEW_VALUES = 12  # up to so many different ones, each is a segment of its own


@dataclasses.dataclass(frozen=True)
class Cuts:
    """Bands of a number: up to the first edge, from it to the next, above the last. values: instead, each its own."""

    edges: tuple[float, ...] = ()
    values: tuple[float, ...] = ()

    @classmethod
    def of(cls, known: Floats, bands: int, *, whole: bool = False) -> Cuts:
        """`bands` bands that hold equally many of the numbers known (n,); fewer where values repeat.

        Edges have three digits, so that a band is what its name says. whole: few different values are not cut.
        """
        finite = known[np.isfinite(known)]
        if not finite.size:
            return cls()
        different = np.unique(finite)
        if whole and different.size <= FEW_VALUES:
            return cls(values=tuple(float(v) for v in different))
        inner = np.quantile(finite, np.arange(1, bands) / bands)
        edges = sorted({float(f"{end:.3g}") for end in inner})
        return cls(tuple(end for end in edges if finite.min() <= end < finite.max()))

    @property
    def names(self) -> list[str]:
        """Of the bands, in order; they sort so as text too, up to nine."""
        if self.values:
            return [edge(value) for value in self.values]
        told = [edge(end) for end in self.edges]
        if not told:
            return ["all"]
        middle = [f"{low} to {high}" for low, high in itertools.pairwise(told)]
        return [f"{k}: {name}" for k, name in enumerate([f"up to {told[0]}", *middle, f"above {told[-1]}"], 1)]

    def assign(self, values: Floats) -> list[str | None]:
        """Name of each number's band (n,); None where it is missing."""
        names = np.array([*self.names, None], dtype=object)
        if self.values:
            # A value never seen before goes with the nearest one that was.
            middles = (np.array(self.values[:-1]) + np.array(self.values[1:])) / 2
            place = np.searchsorted(middles, values, side="left")
        else:
            place = np.searchsorted(np.array(self.edges), values, side="left")
        return list(names[np.where(np.isnan(values), len(names) - 1, place)])


def numeric_cuts(past: Mapping[str, Floats], columns: tuple[str, ...]) -> dict[str, Cuts]:
    """Quartile bands of numeric segment columns."""
    return {name: Cuts.of(past[name], 4, whole=True) for name in columns}
