"""Consumes a feature plan, produces the list of its features, in the order of the table's columns."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from assay import extensions
from assay.errors import ConfigError, UserError
from assay.features.business import Business, Trading
from assay.features.calendar import Calendar
from assay.features.encoding import PARTS, EncodingParts, TargetEncoding
from assay.features.family import PastFamily, RowFamily
from assay.features.fill import filled_columns
from assay.features.history import Expanding, Lags, Windows
from assay.features.interactions import Interactions
from assay.features.market import Market
from assay.features.plan import OWN, Feature, FeaturePlan
from assay.features.ranks import rank_features
from assay.features.relative import Relative
from assay.features.standing import Standing, beta_features
from assay.features.technical import Technical
from assay.features.transforms import OwnScale, Transforms
from assay.features.trend import Seasonality, Smoothing, Trend

_ENCODING_PARTS = EncodingParts()
PAST_FAMILIES: tuple[PastFamily, ...] = (
    *(Lags(), Windows(), Smoothing(), Expanding(), Trend(), Seasonality(), Technical(), OwnScale(), Market()),
    _ENCODING_PARTS,
)
NO_FAMILIES = ("raw", "category", "rank", "beta")  # which features have for a family all the same
ROW_FAMILIES: tuple[RowFamily, ...] = (
    *(Calendar(), Business(), Trading(), Relative(), Standing(), TargetEncoding(), Interactions(), Transforms()),
)


def features_of(plan: FeaturePlan) -> list[Feature]:
    """Every feature in the order of the table's columns."""
    filled = filled_columns(plan)
    found = [Feature(n, "raw", (n,), "last known value" if n in filled else "") for n in plan.numeric]
    found += [Feature(name, "category", (name,)) for name in plan.categorical]
    for by in (OWN, *plan.markets):
        for item in plan.history:
            found += [feature for feature in past_features(plan, item.column, by) if feature.family != PARTS]
    for by in plan.markets:
        found += beta_features(plan, by) + rank_features(plan, by)
    for family in row_families(plan):
        found += family.features(plan, found)
    return found


def past_families(plan: FeaturePlan, by: str) -> tuple[PastFamily, ...]:
    """Families of the past of the entity itself (`own`) or of a group."""
    if by in plan.encoding_groups:
        return (_ENCODING_PARTS,)
    return (*PAST_FAMILIES, *(family for family in extended(plan) if hasattr(family, "compute")))


def row_families(plan: FeaturePlan) -> tuple[RowFamily, ...]:
    """Families of rows, in the order in which they are built."""
    return (*ROW_FAMILIES, *(family for family in extended(plan) if hasattr(family, "add")))


def extended(plan: FeaturePlan) -> list[Any]:
    """Families of extensions, in the order in which the dataset names them.

    Raises:
        UserError: one is not here, or is not the one that the plan was made with.
    """
    if not plan.families:
        return []
    own, found = {*(one.name for one in PAST_FAMILIES), *(one.name for one in ROW_FAMILIES), *NO_FAMILIES}, []
    extensions.check_own("features", own)
    for name, told in plan.families.items():
        family = extensions.get("features", name, told=told)
        if family.told != told:
            raise UserError(
                f"feature family {name!r}: module {family.module} is not what the features were planned with ({told}, "
                f"found {family.told}): restore it, or run build_features and train again"
            )
        found.append(family.item)
    return found


def past_features(plan: FeaturePlan, column: str, by: str) -> list[Feature]:
    """What is built of one column's past: features, and what a group's table holds for target encoding beside them."""
    return [feature for family in past_families(plan, by) for feature in family.features(plan, column, by)]


def numeric_features(plan: FeaturePlan) -> list[str]:
    """Names of the float32 features."""
    return [f.name for f in features_of(plan) if f.family != "category"]


def check_names(plan: FeaturePlan, features: Sequence[Feature]) -> None:
    """Two columns of one name, which Spark takes to be so whatever their case, would be one column.

    Raises:
        ConfigError: names the feature and what has its name already.
    """
    seen = {name.casefold(): "a column" for name in ("row_id", "time", "month", *plan.texts, *plan.labels)}
    for feature in features:
        kin = seen.get(feature.name.casefold())
        if kin is not None and feature.family != "category":
            raise ConfigError(
                f"dataset.columns: the {feature.family} feature {feature.name!r} would have the name of {kin} of "
                "the dataset; rename the column in the source"
            )
        seen[feature.name.casefold()] = f"the {feature.family} feature {feature.name!r}"
