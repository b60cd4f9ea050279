"""Consumes evaluated rows and the facts of a run, produces `ReportContent`: all that the report says, typed."""

from __future__ import annotations

import datetime as dt
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import polars as pl
from matplotlib.figure import Figure

from assay.metrics import binomial_band, interval_metrics, point_metrics
from assay.runtime.tables import level_label

if TYPE_CHECKING:
    from assay.evaluation.story import Story

BASELINE_PREFIX = "baseline_"


@dataclass(frozen=True)
class BaselineResult:
    """A simple rule on the test rows. metrics: `point_metrics`; rows: test rows for which the rule had an answer."""

    name: str
    metrics: Mapping[str, float]
    rows: int


@dataclass(frozen=True)
class CoverageResult:
    """One promised level on the test rows. metrics: `interval_metrics`, of classes `set_metrics`; low, high: share that
    chance allows.
    """

    level: float
    metrics: Mapping[str, float]
    low: float
    high: float


@dataclass(frozen=True)
class Split:
    """One period of the run: train, tune, calibrate or test. start, end: first and last time in it, UTC."""

    name: str
    start: dt.datetime
    end: dt.datetime
    rows: int


@dataclass(frozen=True)
class Gate:
    """One threshold. found, required: in `unit` ("%" or empty); at_least: whether more is better."""

    name: str
    found: float
    required: float
    passed: bool
    unit: str = ""
    at_least: bool = True


@dataclass(frozen=True)
class QualityMetric:
    """A quality metric of the whole source, as ingest measured and judged it.

    value, limit: shares from 0 to 1, None where there is none.  status: ok, warn, fail or info (not judged).  points:
    of its score, 0 to 100, that it took away; None where it is not scored.  meaning: what the share is of.
    """

    name: str
    score: str
    value: float | None
    status: str
    limit: float | None
    at_least: bool
    points: float | None
    meaning: str
    detail: str = ""


@dataclass(frozen=True)
class SeriesPattern:
    """Trend and season of one series. trend, season: strengths, 0 to 1, None where it could not be decomposed."""

    target: str
    series: str
    moments: int
    gaps: int
    trend: float | None
    season: float | None
    period_days: float | None
    words: str


@dataclass(frozen=True)
class DataFacts:
    """What ingest made of the source, and what it found of its quality.

    quarantined: reason -> rows; a row may break several rules.  scores: overall, completeness, consistency, validity,
    0 to 100.  advice: recommendations, the most pressing first.  missing: column -> share of its cells that are empty.
    """

    rows_read: int
    rows_kept: int
    quarantined: Mapping[str, int] = field(default_factory=dict)
    scores: Mapping[str, float] = field(default_factory=dict)
    metrics: Sequence[QualityMetric] = ()
    advice: Sequence[str] = ()
    missing: Mapping[str, float] = field(default_factory=dict)
    patterns: Sequence[SeriesPattern] = ()


@dataclass(frozen=True)
class Figures:
    """The plots of `plots.py`; None leaves one out."""

    predicted: Figure | None = None
    residuals: Figure | None = None
    coverage: Figure | None = None
    importance: Figure | None = None
    fan: Figure | None = None
    missing: Figure | None = None
    contributions: Figure | None = None
    rivals: Figure | None = None
    over_time: Figure | None = None
    kept: Figure | None = None


@dataclass(frozen=True)
class Drivers:
    """What moves the predictions of some rows most. column, segment: empty for all rows.

    rows: how many were sampled.  inputs: (name, share of all inputs' mean absolute contributions), greatest first.
    """

    column: str
    segment: str
    rows: int
    inputs: Sequence[tuple[str, float]]


@dataclass(frozen=True)
class Refit:
    """What it is worth to learn again from more rows. until: newest outcome that the serving model learned from, or
    None where rows have no time.

    rmse, without: of the tested model on the test period, and of the same as it was before; in the target's unit.
    """

    until: dt.datetime | None
    rmse: float
    without: float


@dataclass(frozen=True)
class Rival:
    """A member of an ensemble, or a combination of members, as training compared them.

    fitted_loss, chosen_loss: on the rows that combinations were fitted on and on the later ones that decided, both on
    the model's scale; None where there were none.  weight: of a member in what was chosen; None for a combination.
    """

    name: str
    fitted_loss: float | None
    chosen_loss: float | None
    chosen: bool
    weight: float | None


@dataclass(frozen=True)
class Disagreement:
    """How members' disagreement goes with errors on evaluated rows.

    correlation: Spearman's, with the error's size, of classes the log loss.  mean: on the model's scale.  ratio: mean
    size of the error in the fifth of rows with most disagreement over that in the fifth with least; None where the
    latter is 0.
    """

    correlation: float
    mean: float
    ratio: float | None


@dataclass(frozen=True)
class EnsembleResult:
    """Members and combinations. fitted_rows, chosen_rows: of the comparison.  as_of: see `Combination`.

    loss: by which they were compared, `rmse`, `pinball` or `log_loss`.
    """

    rivals: Sequence[Rival]
    fitted_rows: int
    chosen_rows: int
    loss: str = "rmse"
    as_of: str = ""
    disagreement: Disagreement | None = None


@dataclass(frozen=True, kw_only=True)
class Content:
    """What the page of any target says.

    target: what is valued.  rows: test rows, evaluated between start and end (UTC).
    segments: long table of metrics.  run: label -> value, shown as it is (dataset, profile, model and calibration
    version, config hash, git revision, ...).  tables: table name -> version read.
    drivers: what moves predictions, of all rows and of the largest segments.
    gates_enforced: whether a failed gate keeps the model from being registered.
    """

    title: str
    description: str = ""
    target: str
    created: dt.datetime
    rows: int
    start: dt.datetime
    end: dt.datetime
    segments: pl.DataFrame
    data: DataFacts
    splits: Sequence[Split]
    run: Mapping[str, str]
    tables: Mapping[str, int]
    drivers: Sequence[Drivers] = ()
    gates: Sequence[Gate] = ()
    gates_enforced: bool = True

    @property
    def splits_in_order(self) -> bool:
        """Whether each period begins after the one before it has ended."""
        return all(early.end < late.start for early, late in itertools.pairwise(self.splits))


@dataclass(frozen=True, kw_only=True)
class ReportContent(Content):
    """Everything that the page of numbers says.

    unit: of the target ("USD").  metrics: `point_metrics`.  segments: `segment_table`.
    ensemble: members and combinations, where there were several learners.
    story: what is told beyond errors and coverage of all rows.
    """

    unit: str
    metrics: Mapping[str, float]
    baselines: Sequence[BaselineResult]
    coverage: Sequence[CoverageResult]
    figures: Figures
    ensemble: EnsembleResult | None = None
    refit: Refit | None = None
    story: Story | None = None
    min_segment_rows: int = 30

    @property
    def strongest_baseline(self) -> BaselineResult | None:
        """The baseline with the lowest RMSE, among those that answered for every row where there is one."""
        complete = [baseline for baseline in self.baselines if baseline.rows == self.rows]
        return min(complete or self.baselines, key=lambda baseline: baseline.metrics["rmse"], default=None)

    @property
    def skill(self) -> float | None:
        """1 - RMSE of the model / RMSE of the strongest baseline; below 0 the simple rule is better."""
        strongest = self.strongest_baseline
        if strongest is None or not strongest.metrics["rmse"] > 0:
            return None
        return 1 - self.metrics["rmse"] / strongest.metrics["rmse"]


def baseline_results(rows: pl.DataFrame) -> list[BaselineResult]:
    """Point metrics of each column `baseline_<name>` of `rows` (as in `segments.py`), where it has an answer."""
    results = []
    for column in (name for name in rows.columns if name.startswith(BASELINE_PREFIX)):
        known = rows.filter(pl.col(column).is_finite())
        if known.height:
            metrics = point_metrics(known["actual"].to_numpy(), known[column].to_numpy())
            results.append(BaselineResult(column.removeprefix(BASELINE_PREFIX), metrics, known.height))
    return results


def coverage_results(
    rows: pl.DataFrame, levels: Sequence[float], calibration_rows: int | None = None
) -> list[CoverageResult]:
    """Interval metrics of each level over all `rows`, with `binomial_band`; see there for calibration_rows."""
    results = []
    for level in sorted(levels):
        lower, upper = (rows[f"{end}_{level_label(level)}"].cast(pl.Float64).to_numpy() for end in ("lower", "upper"))
        metrics = interval_metrics(rows["actual"].to_numpy(), lower, upper, level)
        given = round(rows.height * (1 - metrics["missing_share"]))
        band = binomial_band(level, given, calibration_rows=calibration_rows)
        results.append(CoverageResult(level, metrics, *band))
    return results
