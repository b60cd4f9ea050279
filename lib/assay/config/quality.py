"""Consumes nothing, produces what data quality is measured by: metrics, their defaults, and the rules of a dataset."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Collection
from typing import Annotated, Any, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from assay.config.strict import STRICT, Name
from assay.errors import ConfigError

SCORES = ("completeness", "consistency", "validity")
FREQUENCY = r"^([1-9][0-9]{0,3}(m|h|d|w|mo|q|y)|business_day)$"
OPERATORS = ("<=", ">=", "==", "!=", "<", ">")

Weight = Annotated[float, Field(ge=0, le=1000)]
Share = Annotated[float, Field(ge=0, le=1)]


@dataclasses.dataclass(frozen=True)
class Metric:
    """A quality metric: a share from 0 to 1.

    score: which of the three scores it is part of, with which weight.  at_least: whether more is better.
    warn, fail: default limits; None never does.  meaning: what the share is of.
    """

    name: str
    score: Literal["completeness", "consistency", "validity"]
    at_least: bool
    weight: float
    warn: float | None
    fail: float | None
    meaning: str

    def good(self, value: float) -> float:
        """The part of 1 that it brings to its score."""
        return min(1.0, max(0.0, value if self.at_least else 1.0 - value))

    def misses(self, value: float, limit: float | None) -> bool:
        """Whether a value is on the wrong side of a limit; a value on the limit is on the right side."""
        if limit is None:
            return False
        return value < limit - 1e-12 if self.at_least else value > limit + 1e-12


# Defaults refuse only what nobody would call usable, and have no limit for faults that put a row into quarantine: those
# have `ingest.max_quarantine_share`.
METRICS = {
    metric.name: metric
    for metric in (
        Metric("completeness", "completeness", True, 3, 0.9, 0.25, "cells that are filled"),
        Metric("time_gaps", "completeness", False, 1, 0.05, None, "expected moments of a series that have no row"),
        Metric("staleness", "completeness", False, 1, 0.2, None, "series whose newest row is old"),
        Metric("duplicate_rows", "consistency", False, 2, 0.0, 0.5, "rows that repeat another in every column"),
        Metric("duplicate_keys", "consistency", False, 2, 0.0, None, "rows whose entity and time another row has too"),
        Metric("ordering", "consistency", True, 1, 0.95, None, "rows not earlier than their entity's row before them"),
        Metric("constant_columns", "consistency", False, 1, 0.0, None, "columns that have one value only, or none"),
        Metric("cross_column", "consistency", True, 2, 1.0, 0.5, "answers to the dataset's checks that are yes"),
        Metric("type_validity", "validity", True, 2, 1.0, None, "filled cells that can be read as their type"),
        Metric("range_validity", "validity", True, 1, 1.0, None, "numbers that are finite and inside their bounds"),
        Metric("category_validity", "validity", True, 1, 1.0, 0.5, "categories that are among the allowed ones"),
        Metric("date_validity", "validity", True, 2, 1.0, None, "rows with a usable time"),
        Metric("future_dates", "validity", False, 1, 0.0, None, "rows later than the run"),
        Metric("outlier_share", "validity", False, 0.5, 0.05, None, "numbers far outside the middle half"),
        Metric("target_validity", "validity", True, 2, 1.0, None, "filled targets that a model can learn from"),
    )
}


@dataclass(frozen=True, config=STRICT)
class QualityRules:
    """What only somebody who knows the data can say. Rows that break these rules are counted, not quarantined.

    categories: column -> the values that it may have.
    checks: comparisons of two columns, such as `low <= high`; rows where either is missing do not count.
    frequency: how often a series has a row: `1h`, `1d`, `1w`, `1mo`, `1q`, `1y`, several of them (`15m`), or
        `business_day`. Without it, it is the median step between a series' rows, where its steps are even.
    max_age_days: age above which a series' newest row is stale. Without it, one that ends five steps or more before the
        newest row of all.
    """

    categories: dict[str, tuple[Name, ...]] = Field(default_factory=dict)
    checks: tuple[Name, ...] = ()
    frequency: Annotated[str, Field(pattern=FREQUENCY)] | None = None
    max_age_days: Annotated[float, Field(gt=0, le=36_500)] | None = None


@dataclass(frozen=True, config=STRICT)
class QualityConfig:
    """How quality is measured and scored.

    enabled: measure it; without it only rows are counted, and no limit can refuse.
    scope: what a run measures that adds files to earlier ones: `all` data, which reads all observations, or only the
        months that it `touched`.
    metric_weights: metric -> its weight within its score.  score_weights: score -> its weight within the overall one.
    warn_limits: metric -> value beyond which it is pointed out.
    outlier_fence: a number is far out beyond the quartiles by more than this many interquartile ranges (Tukey 1977).
    sample_rows: rows that quartiles are taken from; all rows where there are no more, else a uniform sample.
    sample_moments: rows of whole series that ordering, gaps, staleness and seasons are taken from, likewise.
    series: how many series, the longest first, are analysed for trend and season.
    """

    enabled: bool = True
    scope: Literal["all", "touched"] = "all"
    metric_weights: dict[str, Weight] = Field(default_factory=dict)
    score_weights: dict[str, Weight] = Field(default_factory=dict)
    warn_limits: dict[str, Share] = Field(default_factory=dict)
    outlier_fence: Annotated[float, Field(gt=0, le=1000)] = 3.0
    sample_rows: Annotated[int, Field(ge=100, le=10_000_000)] = 50_000
    sample_moments: Annotated[int, Field(ge=100, le=10_000_000)] = 1_000_000
    series: Annotated[int, Field(ge=0, le=1000)] = 20


@dataclasses.dataclass(frozen=True)
class Check:
    """A comparison of two columns, by their names in the source."""

    text: str
    left: str
    operator: Literal["<=", ">=", "==", "!=", "<", ">"]
    right: str


def parse_check(text: str, columns: Collection[str]) -> Check:
    """Read `low <= high`. Column names may have blanks, and operators too: the split that fits known names counts.

    Raises:
        ConfigError: it is no comparison of two of these columns.
    """
    from assay.config.strict import nearest

    unknown: list[str] = []
    for found in re.finditer("|".join(map(re.escape, OPERATORS)), text):
        left, right = text[: found.start()].strip(), text[found.end() :].strip()
        operator: Any = found.group()
        if left in columns and right in columns:
            return Check(text, left, operator, right)
        unknown += [name for name in (left, right) if name not in columns]
    if not unknown:
        raise ConfigError(f"{text!r}: expected two columns and one of {' '.join(OPERATORS)}, such as 'low <= high'")
    raise ConfigError(f"{text!r}: {unknown[0]!r} is no column of the dataset{nearest(unknown[0], columns)}")
