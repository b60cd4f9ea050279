"""Consumes an assessment, produces recommendations: the figure that led to each, and the key that acts on it."""

from __future__ import annotations

from collections.abc import Callable

from assay.config import DatasetConfig
from assay.ingest.quality_metrics import Measure, Measured
from assay.ingest.quality_scores import Assessment, Verdict

NAMED = 3  # columns that one sentence names

Words = Callable[[Measure, Measured, DatasetConfig], str]


def recommendations(assessment: Assessment, measured: Measured, dataset: DatasetConfig) -> dict[str, str]:
    """Metric -> what to do about it, the most pressing first. Only for metrics that are pointed out."""
    return {v.measure.metric: recommendation(v, measured, dataset) for v in assessment.by_points}


def recommendation(verdict: Verdict, measured: Measured, dataset: DatasetConfig) -> str:
    """What to do about one metric."""
    return WORDS[verdict.measure.metric](verdict.measure, measured, dataset)


def percent(part: int, whole: int) -> str:
    """A share in words: never 0.0 % where there is something, never 100.0 % where something is missing."""
    share = 100 * part / whole if whole else 0.0
    if part and share < 0.05:
        return "less than 0.1 %"
    return f"{min(share, 99.9) if part < whole else share:.1f} %"


def counted(number: int, noun: str) -> str:
    """1 row, 1,234 rows."""
    return f"{number:,} {noun if number == 1 else noun + 's'}"


def _rows(measure: Measure) -> str:
    return f"{counted(measure.bad, 'row')} ({percent(measure.bad, measure.of)})"


def key_of(column: str, dataset: DatasetConfig) -> str:
    """The key under which the dataset names a column."""
    if any(target.name == column for target in dataset.targets):
        return "dataset.targets"
    for kind in ("numeric", "categorical", "outcomes"):
        if column in getattr(dataset.columns, kind):
            return f"dataset.columns.{kind}"
    return "dataset.entity" if column in dataset.entity else "dataset.segments"


def _worst(metric: str, measured: Measured, *, key: str) -> str:
    """`'a' (12 values, key.a), 'b' (3 values, key.b)`: the columns that most of it comes from."""
    found = sorted((m for m in measured.columns(metric) if m.bad), key=lambda m: (-m.bad, m.column))
    named = [f"{m.column!r} ({m.bad:,}, {key.format(m.column)})" for m in found[:NAMED]]
    more = f" and {len(found) - NAMED} more columns" if len(found) > NAMED else ""
    return ", ".join(named) + more


def _completeness(measure: Measure, measured: Measured, dataset: DatasetConfig) -> str:
    worst = [m for m in measured.columns("completeness") if m.bad][:NAMED]
    named = ", ".join(f"{m.column!r} ({percent(m.bad, m.of)}, {key_of(m.column, dataset)})" for m in worst)
    return (
        f"{percent(measure.bad, measure.of)} of the cells are empty, most of all in {named}: leave such columns out, "
        "fill them at the source, or add the text that stands for a value to dataset.source.null_values if it is none"
    )


def _gaps(measure: Measure, measured: Measured, dataset: DatasetConfig) -> str:
    longest = measured.series.longest
    told = f"; the longest gap, {longest[0]} from {longest[1]:%Y-%m-%d} to {longest[2]:%Y-%m-%d}" if longest else ""
    step = f" (one every {measured.series.step_days:g} days)" if measured.series.step_days else ""
    return (
        f"{measure.bad:,} of {measure.of:,} expected moments{step} have no row{told}: add the rows, or say with "
        "dataset.quality.frequency how often a series has one"
    )


def _stale(measure: Measure, measured: Measured, dataset: DatasetConfig) -> str:
    since = f" on {measured.series.reference:%Y-%m-%d}" if measured.series.reference else ""
    return (
        f"{measure.bad:,} of {measure.of:,} series were old{since}, such as {measured.series.stalest}: bring newer "
        "rows, or set the age that is allowed with dataset.quality.max_age_days"
    )


def _duplicate_rows(measure: Measure, measured: Measured, dataset: DatasetConfig) -> str:
    return (
        f"{_rows(measure)} the same as another in every column: look for a file "
        f"that was delivered twice; dataset.duplicates={dataset.duplicates} decides what happens to them"
    )


def _duplicate_keys(measure: Measure, measured: Measured, dataset: DatasetConfig) -> str:
    names = ", ".join(dataset.entity)
    return (
        f"{_rows(measure)} with an entity ({names}) and a time that "
        "another row has too: add the column that tells them apart to dataset.entity, or set dataset.duplicates=allow "
        "if they are separate events"
    )


def _ordering(measure: Measure, measured: Measured, dataset: DatasetConfig) -> str:
    return (
        f"{measure.bad:,} of {measure.of:,} rows are earlier than their entity's row before them: rows need no order "
        "here, but day and month may be swapped: check dataset.time.format"
    )


def _constant(measure: Measure, measured: Measured, dataset: DatasetConfig) -> str:
    found = [m.column for m in measured.columns("constant_columns")]
    named = ", ".join(f"{name!r} ({key_of(name, dataset)})" for name in found[:NAMED])
    more = f" and {len(found) - NAMED} more" if len(found) > NAMED else ""
    return f"{measure.bad} of {measure.of} columns have one value or none, so they say nothing: leave out {named}{more}"


def _checks(measure: Measure, measured: Measured, dataset: DatasetConfig) -> str:
    found = [m for m in measured.columns("cross_column") if m.bad]
    named = ", ".join(f"{m.column!r} ({percent(m.bad, m.of)})" for m in found[:NAMED])
    times = counted(measure.bad, "time")
    return f"{times} a rule of dataset.quality.checks does not hold: {named}; correct the rows or the rule"


def _types(measure: Measure, measured: Measured, dataset: DatasetConfig) -> str:
    worst = _worst("type_validity", measured, key="dataset.source.null_values")
    broken = f" {measure.detail} (dataset.source.delimiter);" if measure.detail else ""
    columns = f" values that are no numbers in {worst};" if worst else ""
    return (
        f"{percent(measure.bad, measure.of)} of the filled cells cannot be read:{broken}{columns} name texts that mean "
        "'no value' in dataset.source.null_values"
    )


def _ranges(measure: Measure, measured: Measured, dataset: DatasetConfig) -> str:
    worst = _worst("range_validity", measured, key="dataset.bounds.{}")
    numbers = counted(measure.bad, "number")
    return f"{numbers} infinite or outside the bounds: {worst}; widen bounds that real values exceed"


def _categories(measure: Measure, measured: Measured, dataset: DatasetConfig) -> str:
    worst = _worst("category_validity", measured, key="dataset.quality.categories.{}")
    values = counted(measure.bad, "value")
    return f"{values} not among the allowed categories: {worst}; correct them, or add new ones there"


def _dates(measure: Measure, measured: Measured, dataset: DatasetConfig) -> str:
    return (
        f"{_rows(measure)} without a usable time in {dataset.time.column!r}: "
        "check dataset.time.format and dataset.time.zone"
    )


def _future(measure: Measure, measured: Measured, dataset: DatasetConfig) -> str:
    return (
        f"{_rows(measure)} later than now: dataset.time.future decides "
        "whether they wait in quarantine or are kept; check dataset.time.zone if they are hours ahead"
    )


def _outliers(measure: Measure, measured: Measured, dataset: DatasetConfig) -> str:
    worst = sorted(measured.columns("outlier_share"), key=lambda m: (-m.bad, m.column))
    name = worst[0].column
    low, high = measured.fences[name]
    return (
        f"{percent(measure.bad, measure.of)} of the numbers are far out, most of all in {name!r} "
        f"({percent(worst[0].bad, worst[0].of)} outside {low:.4g} to {high:.4g}): where such values cannot be real, "
        f"say so in dataset.bounds.{name}"
    )


def _targets(measure: Measure, measured: Measured, dataset: DatasetConfig) -> str:
    worst = _worst("target_validity", measured, key="dataset.targets")
    return (
        f"{counted(measure.bad, 'filled target')} cannot be learned from: {worst}; no number, not finite, or not "
        "above 0 as dataset.targets.transform=log needs"
    )


WORDS: dict[str, Words] = {
    "completeness": _completeness,
    "time_gaps": _gaps,
    "staleness": _stale,
    "duplicate_rows": _duplicate_rows,
    "duplicate_keys": _duplicate_keys,
    "ordering": _ordering,
    "constant_columns": _constant,
    "cross_column": _checks,
    "type_validity": _types,
    "range_validity": _ranges,
    "category_validity": _categories,
    "date_validity": _dates,
    "future_dates": _future,
    "outlier_share": _outliers,
    "target_validity": _targets,
}
