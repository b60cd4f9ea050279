"""Consumes columns and their grains, produces candidates for the target, the likeliest first, each on its scale."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np

from assay.config.target import TargetConfig
from assay.describing.columns import Codes, Column
from assay.describing.granularity import Looked
from assay.describing.names import target_hint

MOST_CLASSES = 20
FEW = 10  # whole numbers that may be classes as well
MOSTLY_ONE = 0.5  # share of rows with the commonest value
SHOWN = 5
SKEWED = 1.0
RARE = 0.001  # share of values that may not be above 0 where a logarithm is learned
NEARER = 0.9  # the last value's mean distance, in those of the mean of all
POSITIVE = frozenset({"yes", "y", "true", "1", "t", "positive", "bad", "fraud", "churned", "default"})


@dataclasses.dataclass(frozen=True)
class Candidate:
    """A column that may be the target.

    target: as the dataset would have it. score: higher is more like a target. reasons: why. missing: share of rows.
    """

    target: TargetConfig
    score: float
    reasons: tuple[str, ...]
    missing: float

    @property
    def column(self) -> str:
        """The column of the source."""
        return self.target.source_column


def candidates(looked: Looked) -> list[Candidate]:
    """Columns that may be what is to be predicted, the likeliest first."""
    able = {name: column for name, column in looked.columns.items() if _able(name, column, looked)}
    extremes = _extremes(looked, able)
    found = [candidate(column, looked, extremes.get(name, "")) for name, column in able.items()]
    return sorted(found, key=lambda one: -one.score)


def _able(name: str, column: Column, looked: Looked) -> bool:
    if name in looked.keys or column.kind == "time" or column.distinct < 2 or column.missing > 0.8:
        return False
    if looked.grains.get(name) in {"entity", "time", "part", "held", "clock"}:
        return False
    if column.running or column.like_codes or (column.trouble and column.kind == "text"):
        return False
    return column.kind == "number" or column.distinct <= MOST_CLASSES


def candidate(column: Column, looked: Looked, extreme: str = "") -> Candidate:
    """A column as a target, whatever it is like."""
    numeric = column.kind == "number" and column.distinct > 2
    score, reasons = (_number if numeric else _classes)(column, looked)
    hint = target_hint(column.name)
    if hint:
        reasons.append("its name is like a target's")
    if extreme:
        reasons.append(extreme)
    if column.name == list(looked.columns)[-1]:
        score += 0.5
        reasons.append("the last column")
    if column.missing:
        reasons.append(f"missing in {column.missing:.1%} of rows")
    score += hint - 2 * column.missing - bool(extreme)
    if not numeric:
        return Candidate(_as_classes(column, reasons), score, tuple(reasons), column.missing)
    target, carried = _as_number(column, looked, reasons)
    score += carried
    return Candidate(target, score, tuple(reasons), column.missing)


def _number(column: Column, looked: Looked) -> tuple[float, list[str]]:
    values = column.numbers[np.isfinite(column.numbers)]
    rows: int = max(len(values), 2)
    score, reasons = 1.5 * math.log(column.distinct) / math.log(rows), [f"{column.distinct:,} different numbers"]
    if looked.entity.has_history:
        score += 1.0
        reasons.append("each row has its own")
    money = _like_money(values)
    if money:
        score += 0.75
        reasons.append(money)
    if values.min() >= 0 and _skewness(values) > SKEWED and column.distinct > MOST_CLASSES:
        score += 0.5
    usual = float(np.bincount(column.codes[column.codes > 0]).max()) / rows
    if usual > MOSTLY_ONE:
        score -= 1.0
        reasons.append(f"one of them in {usual:.0%} of rows")
    if column.whole and column.distinct > 0.99 * rows and not money:
        score -= 1.0
        reasons.append("whole numbers, nearly each once: a key?")
    if column.distinct <= MOST_CLASSES:
        score -= 2.0
    if column.like_years or column.like_codes or _like_degrees(values):
        score -= 1.5
    return score, reasons


def _classes(column: Column, looked: Looked) -> tuple[float, list[str]]:
    filled = int(np.count_nonzero(column.codes))
    shares = np.bincount(column.codes)[1:] / filled
    score = 0.5 + 0.5 * (column.distinct == 2) + 0.5 * (looked.time is None) - (shares.min() < 0.005)
    if looked.entity.has_history:
        score -= 0.5
    return score, [f"{column.distinct} classes, the rarest in {shares.min():.1%} of rows"]


def _like_money(values: Codes) -> str:
    """Two decimals, or amounts rounded to tens and hundreds."""
    whole = values == np.round(values)
    if whole.mean() < 0.9:
        cents = np.abs(values * 100 - np.round(values * 100)) < 1e-6 * np.maximum(1, np.abs(values))
        return "two decimals, as money has" if cents.mean() > 0.95 else ""
    large = values[np.abs(values) >= 10_000]
    if len(large) < 0.5 * len(values):
        return ""
    share = float(np.mean(large % 1000 == 0))  # by chance one in a thousand
    return f"{share:.0%} of its values are whole thousands, as of prices" if share > 0.05 else ""


def _like_degrees(values: Codes) -> bool:
    """Latitudes and longitudes: three decimals or more, of little spread."""
    if np.abs(values).max() > 180 or not np.any(values != np.round(values, 2)) or values.std() > 60:
        return False
    return bool(values.std() < 0.05 * np.abs(values.mean()))


def _skewness(values: Codes) -> float:
    spread = values.std()
    return float(np.mean(((values - values.mean()) / spread) ** 3)) if spread else 0.0


def _extremes(looked: Looked, able: dict[str, Column]) -> dict[str, str]:
    """Of columns that nearly agree in each row, such as prices of one day, those that are the highest or the lowest."""
    numbers = {n: c for n, c in able.items() if c.kind == "number" and c.distinct > MOST_CLASSES and not c.missing}
    found = {}
    for name, column in numbers.items():
        spread = float(column.numbers.std())
        kin = [
            other.numbers
            for other in numbers.values()
            if other.name != name and np.median(np.abs(other.numbers - column.numbers)) < 0.1 * spread
        ]
        if len(kin) < 2:
            continue
        for word, share in (
            ("highest", np.mean(column.numbers >= np.max(kin, axis=0) - 1e-9)),
            ("lowest", np.mean(column.numbers <= np.min(kin, axis=0) + 1e-9)),
        ):
            if share > 0.99:
                found[name] = f"the {word} of {len(kin) + 1} columns that nearly agree, in {share:.1%} of rows"
    return found


def _as_number(column: Column, looked: Looked, reasons: list[str]) -> tuple[TargetConfig, float]:
    """The target, and 0 to 1 for how much of it its last value carries on: levels such as prices are worth most."""
    values = column.numbers
    inside = values[np.isfinite(values)]
    low = float(np.mean(inside <= 0))
    transform: Any = "none"
    if low <= RARE and column.distinct > MOST_CLASSES:
        above = inside[inside > 0]
        skew, skew_log = _skewness(above), _skewness(np.log(above))
        if skew > SKEWED and abs(skew_log) < skew:
            transform = "log"
            reasons.append(f"skewed ({skew:.1f}, its logarithm {skew_log:.1f})")
            if low:
                reasons.append(f"{int((inside <= 0).sum()):,} values are not above 0: ingest sets those rows aside")
    relative: Any = "nothing"
    distance = last_value_distance(
        np.log(np.where(values > 0, values, np.nan)) if transform == "log" else values, looked
    )
    if distance is not None:
        told = f"the entity's last value is {distance:.2f} times as far off as its mean"
        reasons.append(told)
        relative = "last_value" if distance < NEARER else "nothing"
    if column.whole and column.distinct <= FEW:
        classes = ", ".join(f"{value:g}" for value in sorted(set(inside.tolist())))
        reasons.append(f"as classes: task: multiclass, classes: [{classes}]")
    carried = 0.0 if distance is None else max(0.0, 1 - distance)
    return TargetConfig(column.name, transform=transform, relative_to=relative), carried


def last_value_distance(values: Codes, looked: Looked) -> float | None:
    """Mean distance of a value from the one before, in mean distances from the mean of its entity; (rows,).

    None where entities have no history.
    """
    if not looked.entity.has_history:
        return None
    order, follows = looked.in_order
    sorted_values = values[order]
    steps = np.abs(np.diff(sorted_values))[follows]
    series = np.concatenate([[0], np.cumsum(~follows)])
    known = np.isfinite(sorted_values)
    counts = np.bincount(series, known)
    means = np.bincount(series, np.where(known, sorted_values, 0.0)) / np.maximum(counts, 1)
    away = np.abs(sorted_values - means[series])[known & (counts[series] >= 3)]
    steps = steps[np.isfinite(steps)]
    return float(steps.mean() / away.mean()) if len(steps) > 10 and len(away) and away.mean() > 0 else None


def _as_classes(column: Column, reasons: list[str]) -> TargetConfig:
    if column.kind == "number":
        values = sorted(float(value) for value in column.values.drop_nulls().unique().to_list())
        if values == [0.0, 1.0]:
            return TargetConfig(column.name, task="binary")
        if len(values) == 2 and all(value.is_integer() for value in values):
            return TargetConfig(column.name, task="binary", positive=int(values[1]), negative=int(values[0]))
        return TargetConfig(column.name)  # two odd numbers: a number after all
    if column.kind == "truth":
        return TargetConfig(column.name, task="binary")
    counts = column.values.drop_nulls().value_counts(sort=True)
    names = [str(name) for name in counts[column.name].to_list()]
    if len(names) > 2:
        return TargetConfig(column.name, task="multiclass", classes=tuple(sorted(names)))
    positive = next((name for name in names if name.casefold() in POSITIVE), names[-1])
    reasons.append(f"positive is {positive!r}")
    return TargetConfig(
        column.name, task="binary", positive=positive, negative=next(name for name in names if name != positive)
    )
