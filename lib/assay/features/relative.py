"""Consumes a target's history features, produces the same relative to its last value: what a change is learned from.

A target that is learned as a change since its last known value depends on where that value stands: above its usual
level, below last year's, out of line with its market. A tree would need many splits to find such a ratio by itself.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from assay.features.family import FLOAT32_MAX
from assay.features.plan import OWN, Feature, FeaturePlan

if TYPE_CHECKING:
    import polars as pl

SUFFIX = "__relative"


# Names, after ``{target}__{by}__``, of what is in the target's own unit.
LEVELS = ("lag_", "mean_", "ewm_", "ever_mean", "ever_min", "ever_max", "min_", "max_", "market_level")


class Relative:
    """``{feature}__relative`` for every earlier level of an anchored target."""

    name = "relative"

    def features(self, plan: FeaturePlan, earlier: Sequence[Feature]) -> list[Feature]:
        """One for each level but the anchor itself."""
        if not plan.temporal:
            return []
        return [
            Feature(f.name + SUFFIX, self.name, (target,), f"{f.window}, to the last", f.group)
            for target in plan.anchors
            for f in earlier
            if f.inputs == (target,)
            and f.name != plan.anchor(target)
            and f.name.removeprefix(f"{target}__{f.group or OWN}__").startswith(LEVELS)
        ]

    def add(self, frame: pl.DataFrame, plan: FeaturePlan, features: Sequence[Feature]) -> pl.DataFrame:
        """The frame with the relative columns."""
        for target in plan.anchors:
            columns = [f.name.removesuffix(SUFFIX) for f in features if f.inputs == (target,)]
            frame = relative(frame, anchor=plan.anchor(target), columns=columns, ratio=target in plan.ratios)
        return frame


def relative(frame: pl.DataFrame, *, anchor: str, columns: Iterable[str], ratio: bool) -> pl.DataFrame:
    """Add ``{column}__relative`` (float32) for each column: column / anchor - 1, or column - anchor.

    Args:
        frame: any rows with the anchor and the columns.
        anchor: column with the last known value.
        columns: levels in the target's unit.
        ratio: whether the target is learned as a logarithm. A ratio is null unless both values are above 0.
    """
    import polars as pl

    last = pl.col(anchor).cast(pl.Float64)

    def one(name: str) -> pl.Expr:
        value = pl.col(name).cast(pl.Float64)
        change = pl.when((last > 0) & (value > 0)).then(value / last - 1) if ratio else value - last
        return change.clip(-FLOAT32_MAX, FLOAT32_MAX).cast(pl.Float32).alias(f"{name}{SUFFIX}")

    return frame.with_columns(one(name) for name in columns)
