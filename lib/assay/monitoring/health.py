"""Consumes drift and performance of two windows, produces the health of a model: 0 to 100, part by part.

Each part is 100 where all is as it was, and falls in a straight line to 0 at twice what is called too much. What chance
may explain is not held against the model: of an error's and a coverage's change the end that favours it counts.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import polars as pl

from assay.config.monitoring import MonitoringConfig
from assay.monitoring.performance import Changed, coverage_changed, error_awaited, error_changed

WHOLE = "all"
WEIGHTS = {"error": 0.3, "coverage": 0.25, "features": 0.2, "quality": 0.1, "volume": 0.1, "response": 0.05}
DRIFTED = 0.25  # share of the inputs' importance that too much drift is
LOST = 0.05  # share of rows of quality bad, those without a prediction among them, that is too much
FEWER = 0.5  # share of the usual rows a day that is too few


@dataclasses.dataclass(frozen=True)
class Part:
    """One part of a model's health, as the table `health` has it. score: None where it could not be told."""

    part: str
    score: float | None
    weight: float
    value: float | None = None
    reference: float | None = None
    change: float | None = None
    low: float | None = None
    high: float | None = None
    unit: str = ""
    detail: str = ""


def score_of(harm: float, limit: float) -> float:
    """100 of no harm, 50 at the limit, 0 at twice the limit."""
    return float(min(100.0, max(0.0, 100.0 * (1 - harm / (2 * limit)))))


def health_of(parts: Iterable[Part]) -> list[Part]:
    """The parts and the whole: their mean by weight, of those that could be told."""
    found = list(parts)
    known = [(part.score, part.weight) for part in found if part.score is not None]
    weight = sum(weight for _, weight in known)
    whole = sum(score * weight for score, weight in known) / weight if weight else None
    untold = [part.part for part in found if part.score is None]
    detail = f"without {', '.join(untold)}" if untold else ""
    return [Part(WHOLE, whole, 1.0, value=whole, unit="points", detail=detail), *found]


def error_part(
    reference: pl.DataFrame,
    current: pl.DataFrame,
    awaiting: pl.DataFrame,
    level: float,
    config: MonitoringConfig,
    *,
    classes: bool,
) -> Part:
    """Error of matured days against the reference's. awaiting: days without all outcomes, which are estimated."""
    found = error_changed(reference, current, rooted=not classes)
    if math.isnan(found.change):
        return _unknown("error")
    estimate = _estimate(reference, current, awaiting, level)
    detail = [f"{found.rows:,} outcomes of {found.days} days", *([estimate] if estimate else [])]
    unit = "log loss" if classes else "RMSE, target's unit"
    return _of_change("error", found, _sure(found.change, found.low), config.concept, unit, "; ".join(detail))


def _estimate(reference: pl.DataFrame, current: pl.DataFrame, awaiting: pl.DataFrame, level: float) -> str:
    mean, low, high = error_awaited(pl.concat([reference, current]), awaiting, level)
    if math.isnan(mean):
        return ""
    rows = float(awaiting["awaited"].sum())
    told = f"a mean absolute error of {mean:.6g} ({low:.6g} to {high:.6g})"
    return f"{rows:,.0f} outcomes awaited, whose widths promise {told}"


def coverage_part(
    reference: pl.DataFrame, current: pl.DataFrame, levels: Sequence[float], config: MonitoringConfig
) -> Part:
    """The level that holds least of its promise."""
    found = {level: coverage_changed(current, level, reference) for level in levels}
    known = {level: one for level, one in found.items() if not math.isnan(one.change)}
    if not known:
        return _unknown("coverage")
    level = min(known, key=lambda one: (known[one].change, one))
    one = known[level]
    harm = -one.high if not math.isnan(one.high) else 0.0
    detail = f"of {level:.0%} intervals, {one.rows:,} outcomes of {one.days} days"
    return _of_change("coverage", dataclasses.replace(one, reference=level), harm, config.coverage, "share", detail)


def _unknown(name: str) -> Part:
    return Part(name, None, WEIGHTS[name], detail="no outcome of the current window is known yet")


def _of_change(name: str, found: Changed, harm: float, limit: float, unit: str, detail: str) -> Part:
    low, high = (None if math.isnan(end) else end for end in (found.low, found.high))
    told = {"value": found.current, "reference": found.reference, "change": found.change, "low": low, "high": high}
    return Part(name, score_of(harm, limit), WEIGHTS[name], **told, unit=unit, detail=detail)


def _sure(change: float, low: float) -> float:
    """How much of a change chance does not explain."""
    return 0.0 if math.isnan(low) else max(0.0, min(change, low))


def features_part(drifted: Sequence[Mapping[str, Any]], importance: Mapping[str, float]) -> Part:
    """Share of the inputs' importance that drifted. drifted: rows of `drift_detections` of all rows.

    importance: input -> its share; where none is known, all inputs count alike.
    """
    inputs = [row for row in drifted if row["kind"] in ("number", "category")]
    if not inputs:
        return Part("features", None, WEIGHTS["features"], detail="no input was compared")
    weights = [importance.get(row["column"], 0.0) if importance else 1.0 for row in inputs]
    whole = sum(weights)
    share = sum(w for w, row in zip(weights, inputs, strict=True) if row["drifted"]) / whole if whole else 0.0
    worst = sorted((row for row in inputs if row["drifted"]), key=lambda row: -importance.get(row["column"], 0.0))
    detail = f"{len(worst)} of {len(inputs)} inputs drifted" + "".join(f"; {row['column']}" for row in worst[:3])
    return Part(
        "features", score_of(share, DRIFTED), WEIGHTS["features"], share, 0.0, share, unit="share", detail=detail
    )


def quality_part(reference: pl.DataFrame, current: pl.DataFrame) -> Part:
    """Share of rows of quality bad, among them those that have no prediction."""
    before, now = (_share(days) for days in (reference, current))
    if math.isnan(now):
        return Part("quality", None, WEIGHTS["quality"], detail="no row was to be scored")
    rise = now - (0.0 if math.isnan(before) else before)
    known = None if math.isnan(before) else before
    score = score_of(max(rise, 0.0), LOST)
    return Part("quality", score, WEIGHTS["quality"], now, known, rise, unit="share", detail="rows of quality bad")


def _share(days: pl.DataFrame) -> float:
    rows = float(days["rows"].sum())
    return float(days["bad"].sum()) / rows if rows else math.nan


def volume_part(reference: pl.DataFrame, current: pl.DataFrame) -> Part:
    """Rows to be scored on a median day of each window."""
    one, other = (float(np.median(days["rows"])) if days.height else 0.0 for days in (reference, current))
    if not one:
        return Part("volume", None, WEIGHTS["volume"], other, unit="rows a day", detail="the reference has no row")
    harm = 1 - min(one, other) / max(one, other)
    return Part("volume", score_of(harm, FEWER), WEIGHTS["volume"], other, one, other / one - 1, unit="rows a day")


def response_part(milliseconds: float, limit: float) -> Part:
    """Time that the prediction of one row takes; up to the limit no part of it is too much."""
    score = score_of(max(milliseconds - limit, 0.0), limit)
    return Part("response", score, WEIGHTS["response"], milliseconds, limit, unit="milliseconds")
