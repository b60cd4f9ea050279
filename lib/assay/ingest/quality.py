"""Consumes the partials of all tasks, produces a run's quality: rows of `quality_reports`, words, patterns, refusals.

Quality is counted inside the flow that ingest runs anyway: each task looks at its rows once, after they were brought
together by month and before duplicates are set aside, and hands small frames to the driver before anything is
committed. So faulty rows are seen as they came, no table is read again, and a limit can still leave the observations
as they were.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import functools
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pyarrow as pa

from assay.config import DatasetConfig, RunConfig
from assay.config.quality import METRICS, SCORES
from assay.ingest.quality_advice import recommendations
from assay.ingest.quality_increment import restored
from assay.ingest.quality_metrics import Measure, Measured, measures_of
from assay.ingest.quality_partial import Partial, Sampling, measure, merge, reasons_of, unpack
from assay.ingest.quality_scores import INFO, OK, Assessment, Verdict, assess
from assay.ingest.quality_temporal import Pattern, patterns
from assay.ingest.rules import SEPARATOR
from assay.runtime.arrow_files import conform_table
from assay.runtime.plane import Aside, Kernel
from assay.runtime.tables import QUALITY_REPORTS

PART, PAYLOAD = "quality_part", "quality_payload"
PARTIALS = pa.schema([pa.field(PART, pa.string()), pa.field(PAYLOAD, pa.binary())])
WORST = 3
NEXT_REASON = re.compile(f"{SEPARATOR}(?=column ['\"])")  # a reason may have the separator inside


def measured_schema(checked: pa.Schema) -> pa.Schema:
    """`checked_schema` with room for partials among the rows."""
    return pa.schema([*checked, *PARTIALS])


@dataclasses.dataclass(frozen=True)
class MeasureQuality:
    """Kernel: the rows of `resolve`, and behind them what was counted of the rows that came.

    months: where not None, observations of other months are counted only, and go no further.
    """

    dataset: DatasetConfig
    now: dt.datetime
    sampling: Sampling
    resolve: Kernel
    reasons_only: bool = False
    months: tuple[str, ...] | None = None

    def __call__(self, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """Batches of `measured_schema`; rows that carry a partial have nothing else."""
        import polars as pl

        kept = list(batches)
        if not kept:
            return
        schema = measured_schema(kept[0].schema)
        checked = kept[0].schema
        frame = pl.from_arrow(pa.Table.from_batches(kept))
        assert isinstance(frame, pl.DataFrame)
        if not frame.height:
            return
        seen = frame.head(0) if self.reasons_only else restored(frame, self.dataset)
        partial = measure(seen, self.dataset, self.now, self.sampling)
        if self.months is not None:
            goes_on = pl.col("reasons").is_not_null() | pl.col("month").is_in(self.months)
            kept = list(conform_table(frame.filter(goes_on).to_arrow(), checked))
        del frame, seen
        reasons: dict[str, int] = {}
        for batch in self.resolve(iter(kept)):
            _count(batch.column("reasons"), reasons)
            rows = [*batch.columns, *(pa.nulls(batch.num_rows, field.type) for field in PARTIALS)]
            yield pa.RecordBatch.from_arrays(rows, schema=schema)
        names, payloads = zip(*reasons_of(reasons, partial).packed(), strict=True)
        told = {**{field.name: pa.nulls(len(names), field.type) for field in schema}}
        told |= {PART: pa.array(names, pa.string()), PAYLOAD: pa.array(payloads, pa.binary())}
        yield from conform_table(pa.table(told, schema=schema), schema)


def _count(texts: Any, reasons: dict[str, int]) -> None:
    for item in texts.drop_null().value_counts().to_pylist():
        for reason in NEXT_REASON.split(item["values"]):
            reasons[reason] = reasons.get(reason, 0) + item["counts"]


class Watch:
    """Collects the partials of a run and judges them, once, when asked."""

    def __init__(
        self, config: RunConfig, now: dt.datetime, *, rows_hint: int, months: tuple[str, ...] | None = None
    ) -> None:
        quality = config.profile.quality
        self.config = config
        self.now = now
        self.sampling = Sampling.of(quality.sample_rows, quality.sample_moments, rows_hint=rows_hint)
        self.months = months
        self.day = measured_day(config, now)
        self.partial: Partial | None = None

    def over(self, resolve: Kernel) -> MeasureQuality:
        """The kernel that measures what goes into `resolve`."""
        enabled = self.config.profile.quality.enabled
        return MeasureQuality(self.config.dataset, self.now, self.sampling, resolve, not enabled, self.months)

    @property
    def aside(self) -> Aside:
        """Where partials leave the flow."""
        return Aside(PARTIALS, PART, self._take)

    def _take(self, rows: pa.Table) -> None:
        parts = list(unpack(rows, PART, PAYLOAD))
        self.partial = merge(parts, self.sampling) if parts else None

    def report(self) -> QualityReport:
        """What was found. There must have been a row."""
        assert self.partial is not None
        return quality_report(self.partial, self.config, self.now)


def measured_day(config: RunConfig, now: dt.datetime) -> str | None:
    """The day for which a report holds, where the age of rows is judged; else it holds for ever."""
    aged = config.dataset.quality.max_age_days is not None and config.profile.quality.enabled
    return f"{config.as_of or now:%Y-%m-%d}" if aged else None


@dataclasses.dataclass(frozen=True)
class QualityReport:
    """A run's quality.

    reasons: why rows were quarantined, most frequent first.  sampled: how much there is of what was sampled.
    patterns: works out trend and season, which takes longer than all else; nothing is refused by them.
    """

    measured: Measured
    assessment: Assessment
    advice: Mapping[str, str]
    reasons: Mapping[str, int]
    sampled: Mapping[str, int]
    patterns: Callable[[], list[Pattern]]

    @property
    def refusals(self) -> list[str]:
        """Why the job must stop: metric, value, limit and setting, and what to do about it."""
        told = []
        for reason in self.assessment.refusals:
            advice = self.advice.get(reason.split(" ", 1)[0], "")
            told.append(f"{reason}; observations were left as they were{f'. {advice}' if advice else ''}")
        return told

    @property
    def figures(self) -> dict[str, float]:
        """Scores and metrics, for MLflow and `--json`."""
        values = {v.measure.metric: v.measure.value for v in self.assessment.verdicts}
        metrics = {f"quality_metric.{name}": value for name, value in values.items() if value is not None}
        return {f"quality_{name}": value for name, value in self.assessment.scores.items()} | metrics

    @property
    def summary(self) -> list[str]:
        """Scores and the most pressing recommendations, for the terminal."""
        scores = self.assessment.scores
        if "overall" not in scores:
            return []
        parts = ", ".join(f"{name} {scores[name]:.1f}" for name in SCORES if name in scores)
        return [
            f"quality {scores['overall']:.1f} of 100: {parts}",
            *(f"  {text}" for text in list(self.advice.values())[:WORST]),
        ]

    def as_dict(self) -> dict[str, Any]:
        """Plain data, for the MLflow artifact `quality.json`."""
        return {
            "scores": dict(self.assessment.scores),
            "metrics": [_plain(v) for v in self.assessment.verdicts],
            "recommendations": dict(self.advice),
            "reasons": dict(self.reasons),
            "sampled": dict(self.sampled),
        }

    def patterns_as_dict(self) -> list[dict[str, Any]]:
        """Plain data, for the MLflow artifact `patterns.json`."""
        return [dataclasses.asdict(pattern) for pattern in self.patterns()]

    def rows(self, run: str, counts: Mapping[str, float]) -> pa.Table:
        """Rows of `quality_reports`: scores, metrics overall and per column, counts of rows, reasons."""
        found: list[dict[str, Any]] = [
            {"measure": f"score_{name}", "value": value, "unit": "points", "status": INFO, "score": name}
            for name, value in self.assessment.scores.items()
        ]
        for verdict in self.assessment.verdicts:
            one = verdict.measure
            found.append(
                _shared(one, verdict.status)
                | {"weight": verdict.weight, "points_lost": verdict.points, "limit": verdict.limit}
                | {"recommendation": self.advice.get(one.metric), "detail": one.detail}
                | {"meaning": METRICS[one.metric].meaning}
            )
        for one in self.measured.measures:
            if one.column:
                found.append(_shared(one, self.assessment.columns.get((one.metric, one.column), OK)))
        found += [{"measure": name, "value": float(n), "unit": "rows", "status": INFO} for name, n in counts.items()]
        found += [
            {"measure": reason, "value": float(n), "unit": "quarantined rows", "status": INFO}
            for reason, n in self.reasons.items()
        ]
        schema = QUALITY_REPORTS.schema()
        whole = {"column": "", "run": run, "data_until": self.measured.until}
        return pa.Table.from_pylist([{**whole, **row} for row in found], schema=schema)


def _shared(one: Measure, status: str) -> dict[str, Any]:
    metric = METRICS[one.metric]
    return {
        "column": one.column,
        "measure": one.metric,
        "value": one.value,
        "unit": "share",
        "status": status,
        "score": metric.score,
        "at_least": metric.at_least,
    }


def _plain(verdict: Verdict) -> dict[str, Any]:
    plain = dataclasses.asdict(verdict)
    return {**plain.pop("measure"), **plain}


def quality_report(partial: Partial, config: RunConfig, now: dt.datetime) -> QualityReport:
    """Measure, judge and advise."""
    dataset, quality = config.dataset, config.profile.quality
    if measured_day(config, now) and config.as_of is not None:
        now = config.as_of
    measured = measures_of(partial, dataset, quality, now)
    assessment = assess(measured, config)
    reasons = sorted(partial.reasons.iter_rows(), key=lambda item: (-item[1], item[0]))
    return QualityReport(
        measured,
        assessment,
        recommendations(assessment, measured, dataset),
        dict(reasons),
        {"rows": partial.sample.height, "series": measured.series.series, "moments": partial.series.height},
        functools.partial(patterns, partial, dataset, quality),
    )
