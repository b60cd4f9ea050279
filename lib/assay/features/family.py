"""The contract of feature families: what a family lists, it builds, from the past of a key or from a row.

A family of the past gets a timeline of whole keys and gives figures at the cells that were asked for. It may use what
was known strictly before a cell's time and nothing else: `timeline.first_since(delay_us)` is the first position that it
must not see. A family of rows gets rows with the features made so far and adds its own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Protocol

import numpy as np
import numpy.typing as npt

from assay.features.plan import OWN, Feature, FeaturePlan

if TYPE_CHECKING:
    import polars as pl

    from assay.features.timeline import Numbers, Timeline

FLOAT32_MAX = float(np.finfo(np.float32).max)


class PastFamily(Protocol):
    """Features of one column's past, of the entity itself or of a group."""

    name: str

    def features(self, plan: FeaturePlan, column: str, by: str) -> list[Feature]:
        """What is built for a column; by: `own`, or the label of a group."""
        ...

    def compute(
        self, timeline: Timeline, plan: FeaturePlan, column: str, by: str, delay_us: int
    ) -> Mapping[str, Numbers]:
        """Feature name -> doubles, one per cell asked for; NaN where nothing is known. All that `features` lists."""
        ...


class RowFamily(Protocol):
    """Features made from a row: its attributes, its time, and features that were made before."""

    name: str

    def features(self, plan: FeaturePlan, earlier: Sequence[Feature]) -> list[Feature]:
        """What is built; earlier: features of the families before this one."""
        ...

    def add(self, frame: pl.DataFrame, plan: FeaturePlan, features: Sequence[Feature]) -> pl.DataFrame:
        """The frame with `features` as float32 columns."""
        ...


def past_feature(family: str, column: str, by: str, name: str, window: str, *, cost: str = "sums") -> Feature:
    """A feature of a column's past, named ``{column}__{by}__{name}``."""
    own = by == OWN
    return Feature(
        f"{column}__{by}__{name}", family if own else f"group_{family}", (column,), window, None if own else by, cost
    )


def float32_columns(columns: Mapping[str, Numbers]) -> pl.DataFrame:
    """Doubles as float32 columns; NaN becomes null, and what float32 cannot hold its largest number."""
    import polars as pl

    return pl.DataFrame(
        [
            pl.Series(name, np.clip(array, -FLOAT32_MAX, FLOAT32_MAX).astype(np.float32), nan_to_null=True)
            for name, array in columns.items()
        ]
    )


def or_nan(there: npt.NDArray[np.bool_], values: Numbers, positions: npt.NDArray[np.int64]) -> Numbers:
    """values[positions] where `there`, else NaN."""
    found = np.full(len(positions), np.nan)
    found[there] = values[positions[there]]
    return found
