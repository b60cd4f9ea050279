"""Consumes the merged partial of a run, produces its measures: what share is in order, per column and overall."""

from __future__ import annotations

import dataclasses
import datetime as dt
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from assay.config import DatasetConfig
from assay.config.dataset import stored_name
from assay.config.quality import METRICS, QualityConfig
from assay.ingest.quality_partial import WHOLE, Partial
from assay.ingest.quality_series import SeriesFacts, series_facts

if TYPE_CHECKING:
    import polars as pl

MIN_QUARTILE_VALUES = 20
UNORDERED = "rows of tables have no order"


@dataclasses.dataclass(frozen=True)
class Measure:
    """One metric of one column, or of the whole table where `column` is empty.

    value: share from 0 to 1 as `METRICS` defines it; None where it cannot be measured.  bad, of: the counts behind it.
    judged: whether the dataset allows what it measures; then it is neither scored nor limited.
    detail: what it was taken from, or why there is no value.
    """

    metric: str
    column: str
    value: float | None
    bad: int = 0
    of: int = 0
    judged: bool = True
    detail: str = ""


@dataclasses.dataclass(frozen=True)
class Measured:
    """All measures of a run. rows: that arrived.  until: newest time that is not in the future."""

    rows: int
    until: dt.datetime | None
    measures: tuple[Measure, ...]
    series: SeriesFacts
    fences: Mapping[str, tuple[float, float]]

    def overall(self, metric: str) -> Measure:
        """A metric of the whole table."""
        return next(m for m in self.measures if m.metric == metric and not m.column)

    def columns(self, metric: str) -> list[Measure]:
        """A metric of single columns, worst first."""
        sign = 1 if METRICS[metric].at_least else -1
        found = [m for m in self.measures if m.metric == metric and m.column and m.value is not None]
        return sorted(found, key=lambda m: (sign * (m.value or 0.0), m.column))


def measures_of(partial: Partial, dataset: DatasetConfig, config: QualityConfig, now: dt.datetime) -> Measured:
    """All 15 metrics, overall and per column."""
    import polars as pl

    counts: dict[str, dict[str, int]] = {}
    for column, measure, value in partial.counts.iter_rows():
        counts.setdefault(column, {})[measure] = value
    facts = series_facts(partial.series, partial.names, dataset, now)
    far, fences = _outliers(partial, dataset, config)
    whole = counts[""]
    found = [
        *_completeness(counts, dataset),
        *_series_metrics(facts, partial.entity_threshold, dataset),
        _at_most("duplicate_rows", whole["duplicate_rows"], whole["keyed"]),
        dataclasses.replace(
            _at_most("duplicate_keys", whole["duplicate_keys"], whole["keyed"]),
            judged=dataset.duplicates != "allow",
            detail="dataset.duplicates allows them" if dataset.duplicates == "allow" else "",
        ),
        *_constant(partial, counts, dataset),
        *_checks(counts, dataset),
        *_types(counts, dataset),
        *_ranges(counts, dataset),
        *_categories(counts, dataset),
        _at_least("date_validity", whole["rows"] - whole["broken"] - whole["timed"], whole["rows"] - whole["broken"]),
        dataclasses.replace(
            _at_most("future_dates", whole["future"], whole["timed"]),
            judged=dataset.time.future != "keep",
            detail="dataset.time.future keeps them" if dataset.time.future == "keep" else "",
        ),
        *far,
        *_targets(counts, dataset),
    ]
    past = partial.days.filter(pl.col("day") <= now.date())["day"].max()
    until = dt.datetime.combine(past, dt.time(), dt.timezone.utc) if isinstance(past, dt.date) else None
    return Measured(whole["rows"], until, tuple(found), facts, fences)


def _at_least(metric: str, bad: int, of: int, column: str = "", detail: str = "") -> Measure:
    """A share of what is in order. Nothing to look at is no value."""
    return Measure(metric, column, 1 - bad / of if of else None, bad, of, detail=detail)


def _at_most(metric: str, bad: int, of: int, column: str = "", detail: str = "") -> Measure:
    """A share of what is in trouble."""
    return Measure(metric, column, bad / of if of else None, bad, of, detail=detail)


def _columns(dataset: DatasetConfig) -> tuple[str, ...]:
    return (*dataset.text_columns, *dataset.numeric_columns)


def _summed(parts: list[Measure]) -> tuple[int, int]:
    return sum(part.bad for part in parts), sum(part.of for part in parts)


def _completeness(counts: Mapping[str, Mapping[str, int]], dataset: DatasetConfig) -> Iterator[Measure]:
    rows = counts[""]["rows"] - counts[""]["broken"]
    parts = [_at_least("completeness", counts[name]["missing"], rows, name) for name in _columns(dataset)]
    yield _at_least("completeness", *_summed(parts))
    yield from parts


def _series_metrics(facts: SeriesFacts, threshold: int, dataset: DatasetConfig) -> Iterator[Measure]:
    some = "" if threshold == WHOLE else f"from a sample of {facts.series:,} whole series"
    if not facts.series and threshold != WHOLE:
        some = "no series fits the sample: raise quality.sample_moments"
    yield _at_least("ordering", facts.late, facts.pairs, detail=some if dataset.source.in_files else UNORDERED)
    why = some or (
        "" if facts.even else "no series has even steps; dataset.quality.frequency says how often it has rows"
    )
    yield _at_most("time_gaps", facts.gaps, facts.expected, detail=why)
    since = f"counted from {facts.reference:%Y-%m-%d}" if facts.reference else ""
    why = "; ".join(filter(None, (some, since))) if facts.aged else some or "no series has even steps"
    yield _at_most("staleness", facts.stale, facts.aged, detail=why)


def _constant(partial: Partial, counts: Mapping[str, Mapping[str, int]], dataset: DatasetConfig) -> Iterator[Measure]:
    import polars as pl

    same = {
        column
        for frame in (partial.numbers, partial.texts)
        for column in frame.filter(pl.col("low") == pl.col("high"))["column"]
    }
    rows = counts[""]["rows"] - counts[""]["broken"]
    looked_at = [name for name in _columns(dataset) if name not in dataset.entity] if rows > 1 else []
    constant = [
        name
        for name in looked_at
        if not counts[name]["filled"] or (name in same and not counts[name].get("infinite", 0))
    ]
    yield _at_most("constant_columns", len(constant), len(looked_at))
    yield from (Measure("constant_columns", name, 1.0, 1, 1) for name in constant)


def _checks(counts: Mapping[str, Mapping[str, int]], dataset: DatasetConfig) -> Iterator[Measure]:
    parts = [
        _at_least("cross_column", counts[text]["known"] - counts[text]["held"], counts[text]["known"], text)
        for text in dataset.quality.checks
    ]
    detail = "" if parts else "dataset.quality.checks has none"
    yield _at_least("cross_column", *_summed(parts), detail=detail)
    yield from parts


def _types(counts: Mapping[str, Mapping[str, int]], dataset: DatasetConfig) -> Iterator[Measure]:
    parts = []
    for name in dataset.numeric_columns:
        count = counts[name]
        parts.append(_at_least("type_validity", count["invalid"], count["filled"] + count["invalid"], name))
    bad, of = _summed(parts)
    texts = sum(counts[name]["filled"] for name in dataset.text_columns)
    lost = counts[""]["broken"] * len(dataset.source_columns)  # no cell of such a row can be told from another
    detail = f"rows that cannot be cut into cells: {counts['']['broken']:,}" if lost else ""
    yield _at_least("type_validity", bad + lost, of + texts + lost, detail=detail)
    yield from parts


def _ranges(counts: Mapping[str, Mapping[str, int]], dataset: DatasetConfig) -> Iterator[Measure]:
    parts = []
    for name in dataset.numeric_columns:
        count = counts[name]
        parts.append(_at_least("range_validity", count["outside"] + count["infinite"], count["filled"], name))
    detail = "" if dataset.bounds else "dataset.bounds has none, so only infinite ones count"
    yield _at_least("range_validity", *_summed(parts), detail=detail)
    yield from parts


def _categories(counts: Mapping[str, Mapping[str, int]], dataset: DatasetConfig) -> Iterator[Measure]:
    parts = [
        _at_least("category_validity", counts[name]["unlisted"], counts[name]["filled"], name)
        for name in dataset.quality.categories
    ]
    yield _at_least("category_validity", *_summed(parts), detail="" if parts else "dataset.quality.categories has none")
    yield from parts


def _targets(counts: Mapping[str, Mapping[str, int]], dataset: DatasetConfig) -> Iterator[Measure]:
    parts = []
    for name in (target.name for target in dataset.observed_targets):
        count = counts[name]
        parts.append(_at_least("target_validity", count["unusable"], count["filled"] + count["invalid"], name))
    yield _at_least("target_validity", *_summed(parts))
    yield from parts


def _outliers(
    partial: Partial, dataset: DatasetConfig, config: QualityConfig
) -> tuple[list[Measure], dict[str, tuple[float, float]]]:
    """Shares beyond Tukey's outer fences, from the sample; a column whose middle half is one value has no fences."""
    parts: list[Measure] = []
    fences: dict[str, tuple[float, float]] = {}
    for name in (n for n in dataset.numeric_columns if n not in dataset.labels):
        values: pl.Series = partial.sample[stored_name(name)].drop_nulls()
        values = values.filter(values.is_finite())
        if values.len() < MIN_QUARTILE_VALUES:
            continue
        low, high = (float(values.quantile(q, "linear") or 0.0) for q in (0.25, 0.75))
        if not high > low:
            continue
        fences[name] = low - config.outlier_fence * (high - low), high + config.outlier_fence * (high - low)
        outside = int(((values < fences[name][0]) | (values > fences[name][1])).sum())
        parts.append(_at_most("outlier_share", outside, values.len(), name))
    some = f"from a uniform sample of {partial.sample.height:,} rows" if partial.row_threshold != WHOLE else ""
    if not parts:
        some = f"no numeric column has {MIN_QUARTILE_VALUES} values and a spread"
    return [_at_most("outlier_share", *_summed(parts), detail=some), *parts], fences
