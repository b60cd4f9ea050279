"""Consumes measures and limits, produces the three scores, the overall one, each metric's status, and what is refused.

A score is 100 times the weighted mean of its metrics' good parts (the value of a metric that should be high, 1 minus
the value of one that should be low), over those that could be measured. The overall score is the weighted mean of the
three. So a metric of weight w whose good part lacks b takes `100 * w * b / (sum of the weights)` points from its score.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

from assay.config import RunConfig
from assay.config.quality import METRICS, SCORES, Metric
from assay.ingest.quality_metrics import Measure, Measured

OK, WARN, FAIL, INFO = "ok", "warn", "fail", "info"


@dataclasses.dataclass(frozen=True)
class Verdict:
    """A metric of the whole table, judged.

    limit: the one that it missed, else the one nearest to it; None where there is none.  setting: its key.
    weight: within its score; 0 where it is not scored.  points: of that score, which it took away.
    """

    measure: Measure
    status: str
    limit: float | None
    setting: str
    weight: float
    points: float


@dataclasses.dataclass(frozen=True)
class Assessment:
    """What a run's data are worth.

    scores: completeness, consistency, validity and overall, 0 to 100; a score without any metric is left out.
    verdicts: one per metric, in the order of `METRICS`.  columns: status of each measure of a single column.
    refusals: why the job must stop, each with value, limit and setting.
    """

    scores: Mapping[str, float]
    verdicts: tuple[Verdict, ...]
    columns: Mapping[tuple[str, str], str]
    refusals: tuple[str, ...]

    @property
    def by_points(self) -> list[Verdict]:
        """Metrics that are pointed out: failed ones first, then those that cost their score most."""
        found = [verdict for verdict in self.verdicts if verdict.status in {WARN, FAIL}]
        return sorted(found, key=lambda v: (v.status != FAIL, -v.points, v.measure.metric))


def assess(measured: Measured, config: RunConfig) -> Assessment:
    """Score and judge a run's measures."""
    verdicts: list[Verdict] = []
    scores: dict[str, float] = {}
    for score in SCORES:
        metrics = [metric for metric in METRICS.values() if metric.score == score]
        weights = {m.name: _weight(m, measured.overall(m.name), config) for m in metrics}
        total = sum(weights.values())
        for metric in metrics:
            verdicts.append(_verdict(metric, measured.overall(metric.name), weights[metric.name], total, config))
        if total > 0:
            scores[score] = max(
                0.0, 100.0 - sum(v.points for v in verdicts if METRICS[v.measure.metric].score == score)
            )
    shares = {name: config.profile.quality.score_weights.get(name, 1.0) for name in scores}
    if sum(shares.values()) > 0:
        scores["overall"] = sum(scores[name] * share for name, share in shares.items()) / sum(shares.values())
    columns = {(m.metric, m.column): _status(METRICS[m.metric], m, config)[0] for m in measured.measures if m.column}
    refusals = tuple(_refused(verdict) for verdict in verdicts if verdict.status == FAIL)
    least = config.profile.ingest.min_quality_score
    if scores.get("overall", 100.0) < least:
        parts = ", ".join(f"{name} {scores[name]:.1f}" for name in SCORES if name in scores)
        refusals = (
            f"the quality score is {scores['overall']:.1f} ({parts}), below ingest.min_quality_score={least:g}",
            *refusals,
        )
    return Assessment(scores, tuple(verdicts), columns, refusals)


def _weight(metric: Metric, measure: Measure, config: RunConfig) -> float:
    if measure.value is None or not measure.judged:
        return 0.0
    return config.profile.quality.metric_weights.get(metric.name, metric.weight)


def _verdict(metric: Metric, measure: Measure, weight: float, total: float, config: RunConfig) -> Verdict:
    status, limit, setting = _status(metric, measure, config)
    lost = 1.0 - metric.good(measure.value) if measure.value is not None else 0.0
    return Verdict(measure, status, limit, setting, weight, 100.0 * weight * lost / total if weight else 0.0)


def _status(metric: Metric, measure: Measure, config: RunConfig) -> tuple[str, float | None, str]:
    """Status, the limit that decided, and its setting. Single columns are pointed out, never refused."""
    fail = config.profile.ingest.quality_limits.get(metric.name, metric.fail)
    warn = config.profile.quality.warn_limits.get(metric.name, metric.warn)
    names = f"ingest.quality_limits.{metric.name}", f"quality.warn_limits.{metric.name}"
    if measure.value is None or not measure.judged:
        return INFO, None, ""
    if not measure.column and metric.misses(measure.value, fail):
        return FAIL, fail, names[0]
    if metric.misses(measure.value, warn):
        return WARN, warn, names[1]
    return OK, *((warn, names[1]) if warn is not None else (fail, names[0] if fail is not None else ""))


def _refused(verdict: Verdict) -> str:
    metric = METRICS[verdict.measure.metric]
    side = "below" if metric.at_least else "above"
    return (
        f"{metric.name} is {figure(verdict.measure.value)} ({verdict.measure.bad:,} of {verdict.measure.of:,}"
        f"{' miss it' if metric.at_least else ''}), {side} {verdict.setting}={verdict.limit:g}"
    )


def figure(value: float | None) -> str:
    """A share as a limit is written: 0.873."""
    return "not measured" if value is None else f"{value:.4g}"
