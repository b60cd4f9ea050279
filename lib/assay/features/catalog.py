"""Consumes a feature plan, produces the list of its features, in the order of the table's columns."""

from __future__ import annotations

from collections.abc import Sequence

from assay.errors import ConfigError
from assay.features.calendar import Calendar
from assay.features.family import PastFamily, RowFamily
from assay.features.history import Expanding, Lags, Windows
from assay.features.market import Market
from assay.features.plan import OWN, Feature, FeaturePlan
from assay.features.relative import Relative
from assay.features.technical import Technical
from assay.features.trend import Seasonality, Smoothing, Trend

PAST_FAMILIES: tuple[PastFamily, ...] = (
    Lags(),
    Windows(),
    Smoothing(),
    Expanding(),
    Trend(),
    Seasonality(),
    Technical(),
    Market(),
)
ROW_FAMILIES: tuple[RowFamily, ...] = (Calendar(), Relative())


def features_of(plan: FeaturePlan) -> list[Feature]:
    """Every feature in the order of the table's columns."""
    found = [Feature(name, "raw", (name,)) for name in plan.numeric]
    found += [Feature(name, "category", (name,)) for name in plan.categorical]
    for by in (OWN, *plan.groups):
        for item in plan.history:
            found += past_features(plan, item.column, by)
    for family in ROW_FAMILIES:
        found += family.features(plan, found)
    return found


def past_features(plan: FeaturePlan, column: str, by: str) -> list[Feature]:
    """Features of one column's past, of the entity itself (`own`) or of a group."""
    return [feature for family in PAST_FAMILIES for feature in family.features(plan, column, by)]


def numeric_features(plan: FeaturePlan) -> list[str]:
    """Names of the float32 features."""
    return [f.name for f in features_of(plan) if f.family != "category"]


def check_names(plan: FeaturePlan, features: Sequence[Feature]) -> None:
    """Two columns of one name, which Spark takes to be so whatever their case, would be one column.

    Raises:
        ConfigError: names the feature and what has its name already.
    """
    seen = {name.casefold(): "a column" for name in ("row_id", "time", "month", *plan.texts, *plan.targets)}
    for feature in features:
        kin = seen.get(feature.name.casefold())
        if kin is not None and feature.family != "category":
            raise ConfigError(
                f"dataset.columns: the {feature.family} feature {feature.name!r} would have the name of {kin} of "
                "the dataset; rename the column in the source"
            )
        seen[feature.name.casefold()] = f"the {feature.family} feature {feature.name!r}"
