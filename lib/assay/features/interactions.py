"""Consumes rows with their features, produces combinations of two of them, and powers of one.

Which combinations help is found out where models are prepared, among more features than these; here they are chosen by
hand, or are those of the first few columns.
"""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterator, Sequence
from typing import TYPE_CHECKING

from assay.config.dataset import stored_name
from assay.config.strict import nearest
from assay.errors import ConfigError
from assay.features.family import FLOAT32_MAX
from assay.features.plan import OWN, Feature, FeaturePlan

if TYPE_CHECKING:
    import polars as pl

FIRST_NUMERIC = 4
WORDS = {"ratio": "over", "product": "times", "difference": "minus"}
POWERS = {2: "squared", 3: "cubed"}


class Interactions:
    """``{a}__over__{b}``, ``{a}__times__{b}``, ``{a}__minus__{b}``, ``{a}__squared``, ``{a}__cubed``.

    Null where a side is missing or a ratio divides by 0; what float32 cannot hold is its largest number.
    """

    name = "interactions"

    def features(self, plan: FeaturePlan, earlier: Sequence[Feature]) -> list[Feature]:
        """Those of `features.interactions`, where the flag is on.

        Raises:
            ConfigError: a name is no numeric feature.
        """
        if not plan.interactions:
            return []
        made = {feature.name: feature for feature in earlier if feature.family != "category"}
        return [combined(name, self.name, sides, made) for name, _, sides in _combinations(plan, made)]

    def add(self, frame: pl.DataFrame, plan: FeaturePlan, features: Sequence[Feature]) -> pl.DataFrame:
        """The frame with the combinations."""
        if not features:
            return frame
        return frame.with_columns(
            as_float32(_expression(kind, sides)).alias(name) for name, kind, sides in _combinations(plan, frame.columns)
        )


def operands(plan: FeaturePlan, names: Collection[str]) -> list[str]:
    """Features that stand for the chosen columns, or for the targets and the first few numeric attributes.

    names: of the numeric features made so far.
    """
    chosen = plan.settings.interactions
    if chosen.columns or chosen.pairs:
        return [_operand(plan, name, names, "columns") for name in chosen.columns]
    lasts = [last for target in plan.targets if (last := plan.anchor(target)) in names]
    return [*lasts, *plan.numeric[:FIRST_NUMERIC]]


def combined(name: str, family: str, sides: Sequence[str], made: dict[str, Feature]) -> Feature:
    """A feature made of others: of all their inputs, over the longest that any of them looks back."""
    inputs = dict.fromkeys(column for side in sides for column in made[side].inputs)
    windows = dict.fromkeys(made[side].window for side in sides if made[side].window)
    return Feature(name, family, tuple(inputs), ", ".join(windows))


def as_float32(value: pl.Expr) -> pl.Expr:
    """NaN and 1/0 as null, what is too large as the largest number."""
    import polars as pl

    return pl.when(value.is_finite()).then(value.clip(-FLOAT32_MAX, FLOAT32_MAX)).cast(pl.Float32)


def _combinations(plan: FeaturePlan, names: Collection[str]) -> Iterator[tuple[str, str, tuple[str, ...]]]:
    """Name, kind and sides of each feature, every one once."""
    chosen = plan.settings.interactions
    columns = operands(plan, names)
    pairs = [*itertools.combinations(columns, 2)]
    pairs += [(_operand(plan, a, names, "pairs"), _operand(plan, b, names, "pairs")) for a, b in chosen.pairs]
    seen: set[tuple[str, ...]] = set()
    for a, b in pairs:
        for kind in chosen.kinds:
            key = (kind, a, b) if kind == "ratio" else (kind, *sorted((a, b)))
            if key not in seen:
                seen.add(key)
                yield f"{a}__{WORDS[kind]}__{b}", kind, (a, b)
    for power in range(2, chosen.degree + 1):
        for column in columns:
            yield f"{column}__{POWERS[power]}", POWERS[power], (column,)


def _expression(kind: str, sides: tuple[str, ...]) -> pl.Expr:
    import polars as pl

    first, last = (pl.col(name).cast(pl.Float64) for name in (sides[0], sides[-1]))
    if kind == "ratio":
        return pl.when(last != 0).then(first / last)
    if kind == "product":
        return first * last
    if kind == "difference":
        return first - last
    return first * first if kind == POWERS[2] else first * first * first


def _operand(plan: FeaturePlan, name: str, names: Collection[str], key: str) -> str:
    """The feature that a name of the configuration stands for."""
    if name in plan.numeric:
        return name
    path = f"dataset.features.interactions.{key}"
    if name in {item.column for item in plan.history}:
        last = f"{name}__{OWN}__lag_1"
        if last not in names:
            raise ConfigError(f"{path}: {name!r} stands for its last known value: add 1 to dataset.features.lags")
        return last
    stored = {stored_name(feature): feature for feature in names}
    if name not in stored:
        known = {*stored, *plan.numeric, *(item.column for item in plan.history)}
        raise ConfigError(f"{path}: {name!r} is no numeric column and no feature{nearest(name, known)}")
    return stored[name]
