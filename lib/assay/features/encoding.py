"""Consumes what is known of a target by category, produces categories as numbers: target encoding out of time.

The encoding of a category is (n * mean + m * overall) / (n + m): n values of its rows that were known before, their
mean, the mean of all rows' values known before, and the smoothing m (Micci-Barreca, 2001). As no row sees its own
target or a later one, it can be learned from as it stands. It rests on groups' histories, one for each column and one
for all rows, so that it stands as of the start of the row's day or hour.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from assay.features.family import FLOAT32_MAX
from assay.features.plan import OWN, Feature, FeaturePlan, group_label

if TYPE_CHECKING:
    import polars as pl

    from assay.features.timeline import Numbers, Timeline

PARTS = "parts of target_encoding"  # family of what the groups' tables hold for it and the features table does not
OVERALL = group_label(())


class EncodingParts:
    """``{target}__{label}__encoding_count`` and ``..._mean`` of all known values of a group that encodings rest on."""

    name = PARTS

    def features(self, plan: FeaturePlan, column: str, by: str) -> list[Feature]:
        """Of targets, by every group that is encoded, and by all rows together."""
        encoded = encoded_columns(plan)
        if by == OWN or column not in plan.targets or not encoded or by not in (*encoded, OVERALL):
            return []
        names = [_part(column, by, part) for part in ("count", "mean")]
        return [Feature(name, PARTS, (column,), "all known values", by, "sums") for name in names]

    def compute(
        self, timeline: Timeline, plan: FeaturePlan, column: str, by: str, delay_us: int
    ) -> Mapping[str, Numbers]:
        """Doubles per cell; the mean of nothing is NaN."""
        since, until = timeline.oldest(delay_us), timeline.first_since(delay_us)
        n = timeline.count(column, since, until)
        with np.errstate(invalid="ignore"):
            mean = timeline.sums(column, "s")(since, until) / n
        return {_part(column, by, "count"): n, _part(column, by, "mean"): mean}


class TargetEncoding:
    """``{target}__{column}__encoding`` for every target and every column of `features.target_encoding`."""

    name = "target_encoding"

    def features(self, plan: FeaturePlan, earlier: Sequence[Feature]) -> list[Feature]:
        """One for each target and column."""
        return [
            Feature(f"{target}__{column}__encoding", self.name, (target, column), "all known values", cost="sums")
            for target in plan.targets
            for column in encoded_columns(plan)
        ]

    def add(self, frame: pl.DataFrame, plan: FeaturePlan, features: Sequence[Feature]) -> pl.DataFrame:
        """The frame with the encodings; null where no target at all is known."""
        import polars as pl

        smoothing = plan.settings.target_encoding.smoothing

        def encoding(target: str, column: str) -> pl.Expr:
            n = pl.col(_part(target, column, "count")).cast(pl.Float64).fill_null(0.0)
            mean, overall = (pl.col(_part(target, by, "mean")).cast(pl.Float64) for by in (column, OVERALL))
            total = n * mean.fill_null(0.0) + smoothing * overall.fill_null(0.0)
            known = pl.when(overall.is_not_null() & (n + smoothing > 0)).then(total / (n + smoothing))
            return known.clip(-FLOAT32_MAX, FLOAT32_MAX).cast(pl.Float32)

        return frame.with_columns(encoding(*feature.inputs).alias(feature.name) for feature in features)


def encoded_columns(plan: FeaturePlan) -> tuple[str, ...]:
    """Columns to be encoded, which are labels of groups as well."""
    return plan.settings.target_encoding.columns if plan.temporal else ()


def _part(target: str, by: str, part: str) -> str:
    return f"{target}__{by}__encoding_{part}"
