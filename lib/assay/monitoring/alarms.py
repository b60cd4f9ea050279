"""Consumes health and detections of one run, produces its findings: what is wrong, and how bad that is."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from typing import Any

from assay.config.monitoring import MonitoringConfig
from assay.model.deployments import OURSELVES, Deployment, State
from assay.monitoring.drift import MISSING, reason_words
from assay.monitoring.findings import Examined, Finding, Level
from assay.monitoring.health import WHOLE

DRIFT, HEALTH, DEPLOYMENT = "drift", "health", "deployment"
HEALTH_LEVELS = ((20.0, Level.CRITICAL), (40.0, Level.HIGH), (60.0, Level.MEDIUM), (80.0, Level.LOW))
PART_LEVELS = ((10.0, Level.HIGH), (50.0, Level.MEDIUM), (80.0, Level.LOW))  # of parts that have no rule of their own
LARGE_PSI = 0.25  # of an input whose drift is more than a note, if the model goes by it
WEIGHS = ((0.10, Level.HIGH), (0.01, Level.MEDIUM))  # by its share of the model's importance
Row = Mapping[str, Any]


def findings_of(
    parts: Sequence[Row], drift: Sequence[Row], importance: Mapping[str, float], config: MonitoringConfig
) -> tuple[list[Finding], Examined]:
    """What a run found, and what it looked at.

    parts: rows of `health`.  drift: rows of `drift_detections`.  importance: input -> its share in the model.
    """
    found = [_drifted(row, importance) for row in drift if row["drifted"]]
    rules = [DRIFT] if drift else []
    for row in parts:
        if row["score"] is None:
            continue
        name = HEALTH if row["part"] == WHOLE else row["part"]
        rules.append(name)
        level = _level(row, config)
        if level is not None:
            found.append(Finding(name, "", level, row["value"], _limit(name, row, config), _words(name, row)))
    return found, Examined.of(rules=rules)


def taken_back(deployments: Sequence[Deployment], since: dt.datetime) -> tuple[list[Finding], Examined]:
    """Challengers that served and were taken back by themselves since then, and what was looked at."""
    found = [
        Finding(
            DEPLOYMENT,
            one.deployment_id,
            Level.HIGH,
            None,
            None,
            f"version {one.challenger} was taken back on {one.last.at:%Y-%m-%d}, {one.champion} serves: {one.last.why}",
        )
        for one in deployments
        if one.last.state == State.ROLLED_BACK and one.last.by == OURSELVES and one.last.at >= since
    ]
    return found, Examined.of(rules=[DEPLOYMENT])


def _level(row: Row, config: MonitoringConfig) -> Level | None:
    if row["part"] == WHOLE:
        return _below(row["score"], HEALTH_LEVELS)
    if row["part"] == "error":
        if row["low"] is None or row["low"] <= 0 or row["change"] <= config.performance:
            return None
        steps = (3 * config.concept, Level.CRITICAL), (config.concept, Level.HIGH), (config.performance, Level.MEDIUM)
        return next(level for limit, level in steps if row["change"] > limit)
    if row["part"] == "coverage":
        short = -row["change"]
        if row["high"] is None or row["high"] >= 0 or short <= config.coverage:
            return None
        return Level.CRITICAL if short > 3 * config.coverage else Level.HIGH
    return None if row["part"] == "features" else _below(row["score"], PART_LEVELS)


def _below(score: float, steps: Sequence[tuple[float, Level]]) -> Level | None:
    return next((level for limit, level in steps if score < limit), None)


def _limit(name: str, row: Row, config: MonitoringConfig) -> float | None:
    """What the value must not pass."""
    if name == "error":
        return float(row["reference"] * (1 + config.performance))
    if name == "coverage":
        return float(row["reference"] - config.coverage)
    return HEALTH_LEVELS[-1][0] if name == HEALTH else row["reference"]


def _words(name: str, row: Row) -> str:
    if name == HEALTH:
        return f"health is {row['score']:.0f} of 100"
    if name == "error":
        told = f"the error is {row['value']:.6g} ({row['unit']}), {row['change']:+.1%} against {row['reference']:.6g}"
        return f"{told}; {row['detail']}"
    if name == "coverage":
        return f"{row['value']:.1%} of outcomes are inside, {row['reference']:.0%} were promised; {row['detail']}"
    against = f", {row['reference']:.4g} before" if row["reference"] is not None else ""
    return f"{name} is {row['value']:.4g} {row['unit']}{against}"


def _drifted(row: Row, importance: Mapping[str, float]) -> Finding:
    share = importance.get(row["column"], 0.0)
    large = (row["psi"] or 0.0) > LARGE_PSI or MISSING in row["reasons"]
    level = next((level for least, level in WEIGHS if large and share >= least), Level.LOW)
    subject = "|".join(text for text in (row["column"], row["segment"]) if text)
    where = f" in {row['segment']}" if row["segment"] else ""
    told = ", ".join(reason_words(row, reason) for reason in row["reasons"])
    weight = f"; {share:.0%} of the model's importance" if share else ""
    return Finding(DRIFT, subject, level, row["psi"], None, f"{row['column']}{where}: {told}{weight}")
