"""Consumes a feature plan, produces what a person wants to know of each feature, without Spark and without data."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from assay.features.catalog import features_of
from assay.features.plan import Feature, FeaturePlan
from assay.runtime import printed

if TYPE_CHECKING:
    from rich.table import Table

IN_ADVANCE = ("calendar", "business", "trading")


@dataclasses.dataclass(frozen=True)
class Explained:
    """A feature, and when what it is made of is known.

    availability: in words.  delay_days: how old a value must at least be to be seen, the horizon counted in; 0 for any
    earlier value and for attributes of the row itself, None for what is known in advance.
    """

    name: str
    family: str
    inputs: tuple[str, ...]
    window: str
    group: str | None
    availability: str
    delay_days: float | None
    cost: str

    def as_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return dataclasses.asdict(self) | {"inputs": list(self.inputs)}


def explained(plan: FeaturePlan) -> list[Explained]:
    """Every feature in the order of the table's columns."""
    return [
        Explained(f.name, f.family, f.inputs, f.window, f.group, *availability(f, plan), f.cost)
        for f in features_of(plan)
    ]


def availability(feature: Feature, plan: FeaturePlan) -> tuple[str, float | None]:
    """When what a feature is made of is known, in words and as days (see `Explained`)."""
    if feature.family in IN_ADVANCE:
        return "known in advance", None
    delays = [item.delay_days for item in plan.history if item.column in feature.inputs]
    if not delays:
        return "known at the row's own time", 0.0
    days, ahead = max(delays), plan.settings.horizon_days
    words = "values before the row's time"
    if days:
        parts = [f"delay {days - ahead:g}"] * (days > ahead) + [f"horizon {ahead:g}"] * (ahead > 0)
        words = f"values more than {days:g} days old ({', '.join(parts)})"
    if feature.family in {"market", "rank"}:
        words += ", of months that are over"
    elif feature.group is not None or feature.family == "target_encoding":
        words += f", as of the start of the {'hour' if plan.settings.group_step == '1h' else 'day'}"
    return words, days


def table(features: Sequence[Explained]) -> Table:
    """A table for the terminal, a row per feature."""
    headings = ("feature", "family", "made of", "window", "availability", "cost")
    return printed.table(
        headings, ((f.name, f.family, ", ".join(f.inputs), f.window, f.availability, f.cost) for f in features)
    )


def summary(features: Sequence[Explained]) -> str:
    """How many features there are, by family."""
    families: dict[str, int] = {}
    for feature in features:
        families[feature.family] = families.get(feature.family, 0) + 1
    return f"{len(features)} features: " + ", ".join(f"{count} {family}" for family, count in families.items())
