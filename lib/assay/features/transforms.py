"""Consumes rows and pasts, produces statistical transforms: values on a scale that tames them, or on their own one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from assay.features.family import or_nan, past_feature
from assay.features.history import statistics
from assay.features.interactions import as_float32, combined, operands
from assay.features.plan import OWN, Feature, FeaturePlan

if TYPE_CHECKING:
    import polars as pl

    from assay.features.timeline import Numbers, Timeline

ROOTS = ("log1p", "sqrt")


class OwnScale:
    """Where the last known value stands among all known ones of the entity.

    ``zscore_ever``: distance from their mean in standard deviations (n - 1).  ``range_ever``: 0 at their least, 1 at
    their greatest. Null where they do not differ.
    """

    name = "own_scale"

    def features(self, plan: FeaturePlan, column: str, by: str) -> list[Feature]:
        """Of the entity's targets and outcomes, where the flag is on."""
        if not plan.interactions or by != OWN:
            return []
        kinds = [kind for kind in ("zscore", "range") if kind in plan.settings.interactions.transforms]
        return [past_feature(self.name, column, by, f"{kind}_ever", "all known values") for kind in kinds]

    def compute(
        self, timeline: Timeline, plan: FeaturePlan, column: str, by: str, delay_us: int
    ) -> Mapping[str, Numbers]:
        """Doubles per cell; nothing known: NaN."""
        since, until = timeline.oldest(delay_us), timeline.first_since(delay_us)
        known = timeline.known(column)
        seen, own = known.before[until], known.before[since]
        last = or_nan(seen > own, known.means, seen - 1)
        found = {}
        if "zscore" in plan.settings.interactions.transforms:
            figures = dict(statistics(timeline, column, since, until, ("mean", "std")))
            found[f"{column}__{by}__zscore_ever"] = _share(last - figures["mean"], figures["std"])
        if "range" in plan.settings.interactions.transforms:
            figures = dict(statistics(timeline, column, since, until, ("min", "max")))
            found[f"{column}__{by}__range_ever"] = _share(last - figures["min"], figures["max"] - figures["min"])
        return found


class Transforms:
    """``{a}__log1p``: sign(a) log(1 + abs(a)).  ``{a}__sqrt``: sign(a) sqrt(abs(a)). (Squares are interactions.)"""

    name = "transforms"

    def features(self, plan: FeaturePlan, earlier: Sequence[Feature]) -> list[Feature]:
        """Of the columns that `features.interactions` names, where the flag is on."""
        if not plan.interactions:
            return []
        made = {feature.name: feature for feature in earlier if feature.family != "category"}
        return [combined(f"{a}__{kind}", self.name, (a,), made) for a in operands(plan, made) for kind in _roots(plan)]

    def add(self, frame: pl.DataFrame, plan: FeaturePlan, features: Sequence[Feature]) -> pl.DataFrame:
        """The frame with the transforms; null where there is no finite number."""
        import polars as pl

        def transform(name: str, kind: str) -> pl.Expr:
            value = pl.col(name).cast(pl.Float64)
            size = value.abs().log1p() if kind == "log1p" else value.abs().sqrt()
            return as_float32(value.sign() * size).alias(f"{name}__{kind}")

        if not features:
            return frame
        return frame.with_columns(transform(a, kind) for a in operands(plan, frame.columns) for kind in _roots(plan))


def _roots(plan: FeaturePlan) -> list[str]:
    return [kind for kind in ROOTS if kind in plan.settings.interactions.transforms]


def _share(part: Numbers, whole: Numbers) -> Numbers:
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(whole > 0, part / whole, np.nan)
