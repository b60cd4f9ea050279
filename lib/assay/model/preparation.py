"""Consumes the numeric inputs of a batch, produces them cleaned and transformed as training fitted it.

The order is fixed: indicators and the isolation forest look at values as they come; then values are clipped, missing
ones filled, then scaled, then turned into principal components. Each row's numbers depend on that row alone, to the
last bit, so that a table, a single request and a notebook get the same ones.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from assay.model.arrays import from_bytes, to_bytes
from assay.model.preparation_forest import Forest
from assay.model.preparation_impute import Chained, Neighbours
from assay.model.preparation_rows import weighted_sums

Array = npt.NDArray[Any]
Floats = npt.NDArray[np.float64]
Arrays = dict[str, Array]

MISSING = "__missing"
COMPONENT = "pca__"
FOREST = "isolation_forest__"
BLOCK_ROWS = 16_384
FLOAT32_MAX = float(np.finfo(np.float32).max)


@dataclasses.dataclass(frozen=True)
class Components:
    """Principal components. mean: (p,) of scaled inputs.  axes: (k, p), rows of length 1; variance: (k,) of each."""

    mean: Floats
    axes: Floats
    variance: Floats

    def apply(self, values: Floats) -> Floats:
        """(n, p) -> (n, k)."""
        return weighted_sums(values - self.mean, self.axes.T)


@dataclasses.dataclass(frozen=True, eq=False)
class Preparation:
    """What training found out about numeric inputs.

    columns: p columns of a batch that are needed, in order.
    missing: those of them that get an indicator.  forest: with `forest_gives`, `flag` or `score`, one more input.
    low, high: (p,) bounds of values, infinite where there are none.
    fill: (p,) stands in for missing values, NaN where they stay.  joint: imputers that look at several columns.
    centre, spread: (p,) scaling, (value - centre) / spread.
    components: of the scaled inputs; keeps_columns: they stand beside the inputs, not instead of them.
    """

    columns: tuple[str, ...]
    missing: tuple[str, ...] = ()
    forest: Forest | None = None
    forest_gives: str = "flag"
    low: Floats | None = None
    high: Floats | None = None
    fill: Floats | None = None
    joint: tuple[Neighbours | Chained, ...] = ()
    centre: Floats | None = None
    spread: Floats | None = None
    components: Components | None = None
    keeps_columns: bool = False

    @cached_property
    def outputs(self) -> tuple[str, ...]:
        """Names of what `apply` makes, in order: inputs, components, indicators, the forest's."""
        keeps = self.components is None or self.keeps_columns
        names = list(self.columns) if keeps else []
        names += [f"{COMPONENT}{i + 1}" for i in range(len(self.components.axes))] if self.components else []
        names += [f"{name}{MISSING}" for name in self.missing]
        return (*names, *([FOREST + self.forest_gives] if self.forest else []))

    def apply(self, raw: npt.NDArray[np.float32]) -> Floats:
        """(n, p), missing and infinite as NaN -> (n, len(outputs)), all finite or NaN and within float32."""
        result = np.empty((len(raw), len(self.outputs)))
        for first in range(0, len(raw), BLOCK_ROWS):  # what lies between the steps is several times as large
            block = slice(first, first + BLOCK_ROWS)
            result[block] = self._block(raw[block])
        return result

    def _block(self, raw: npt.NDArray[np.float32]) -> Floats:
        values = raw.astype(np.float64)
        extras = []
        if self.missing:
            extras.append(np.isnan(values[:, [self.columns.index(name) for name in self.missing]]).astype(np.float64))
        if self.forest is not None:
            found = self.forest.flags(raw) if self.forest_gives == "flag" else self.forest.scores(raw)
            extras.append(found.astype(np.float64)[:, None])
        values = self.scaled(self.cleaned(values))
        blocks = [values] if self.components is None or self.keeps_columns else []
        blocks += [self.components.apply(values)] if self.components is not None else []
        return np.clip(np.hstack([*blocks, *extras]), -FLOAT32_MAX, FLOAT32_MAX)

    def cleaned(self, values: Floats) -> Floats:
        """Clipped and imputed (n, p)."""
        if self.low is not None and self.high is not None:
            values = np.clip(values, self.low, self.high)  # NaN stays
        for imputer in self.joint:
            values = imputer.apply(values)
        if self.fill is not None:
            values = np.where(np.isnan(values), self.fill, values)
        return values

    def scaled(self, values: Floats) -> Floats:
        """Scaled (n, p)."""
        return values if self.centre is None or self.spread is None else (values - self.centre) / self.spread

    def narrowed(self, wanted: Collection[str]) -> Preparation:
        """Without what no wanted output needs; inputs that the others are made from stay."""
        forest = self.forest if FOREST + self.forest_gives in wanted else None
        missing = tuple(name for name in self.missing if name + MISSING in wanted)
        needs_all = forest or self.joint or self.components
        keep = [i for i, n in enumerate(self.columns) if needs_all or n in wanted or n in missing]

        def part(array: Floats | None) -> Floats | None:
            return None if array is None else array[keep]

        return dataclasses.replace(
            self,
            columns=tuple(self.columns[i] for i in keep),
            missing=missing,
            forest=forest,
            low=part(self.low),
            high=part(self.high),
            fill=part(self.fill),
            centre=part(self.centre),
            spread=part(self.spread),
        )

    def to_files(self) -> tuple[dict[str, Any], bytes]:
        """Plain data for JSON, and the arrays as npz; equal preparations give equal bytes."""
        tree: dict[str, Any] = {
            "columns": list(self.columns),
            "missing": list(self.missing),
            "forest_gives": self.forest_gives,
            "keeps_columns": self.keeps_columns,
            "joint": [KINDS[type(imputer)] for imputer in self.joint],
        }
        arrays: Arrays = {}
        for name in PLAIN:
            found = getattr(self, name)
            if found is not None:
                arrays[name] = found
        for name, part in {"forest": self.forest, "components": self.components}.items():
            arrays |= _arrays_of(name, part)
        for index, imputer in enumerate(self.joint):
            arrays |= _arrays_of(f"joint{index}", imputer)
        return tree, to_bytes(**arrays)

    @classmethod
    def from_files(cls, tree: Mapping[str, Any], stored: bytes) -> Preparation:
        """Read back `to_files`."""
        arrays = from_bytes(stored)
        kinds = {kind: imputer for imputer, kind in KINDS.items()}
        return cls(
            columns=tuple(tree["columns"]),
            missing=tuple(tree["missing"]),
            forest=_part_of(Forest, "forest", arrays),
            forest_gives=tree["forest_gives"],
            joint=tuple(_part_of(kinds[kind], f"joint{index}", arrays) for index, kind in enumerate(tree["joint"])),
            components=_part_of(Components, "components", arrays),
            keeps_columns=tree["keeps_columns"],
            **{name: arrays.get(name) for name in PLAIN},
        )

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Preparation) and self.to_files() == other.to_files()

    __hash__ = None  # type: ignore[assignment]


PLAIN = ("low", "high", "fill", "centre", "spread")
KINDS: dict[type, str] = {Neighbours: "neighbours", Chained: "chained"}


def _arrays_of(name: str, part: Any) -> Arrays:
    """Fields of a part as arrays, numbers as arrays without axes."""
    if part is None:
        return {}
    return {f"{name}.{f.name}": np.asarray(getattr(part, f.name)) for f in dataclasses.fields(part)}


def _part_of(kind: Any, name: str, arrays: Arrays) -> Any:
    found = {key.partition(".")[2]: array for key, array in arrays.items() if key.startswith(f"{name}.")}
    return kind(**{key: array if array.ndim else array.item() for key, array in found.items()}) if found else None
