"""Consumes parts of health and detections, checks what becomes a finding, of which level, and what was looked at."""

from __future__ import annotations

import datetime as dt

import pytest

from assay.config.deployment import DeploymentConfig
from assay.config.experiments import ExperimentsConfig
from assay.config.monitoring import MonitoringConfig
from assay.model.deployments import Deployment, Move, State
from assay.monitoring.alarms import findings_of, taken_back
from assay.monitoring.findings import Level

CONFIG = MonitoringConfig()


def part(name, score=100.0, **more):
    empty = dict.fromkeys(("value", "reference", "change", "low", "high"))
    return {"part": name, "score": score, "unit": "", "detail": "so many outcomes", **empty, **more}


def detection(column, *, psi=0.3, segment="", reasons=("distribution",)):
    shares = {"missing_reference": 0.0, "missing_current": 0.4, "new_share": 0.2, "new_categories": ["c", "d"]}
    medians = {"median_reference": 10.0, "median_current": 0.0}
    told = {"column": column, "segment": segment, "psi": psi, "drifted": bool(reasons), "reasons": list(reasons)}
    return {**told, **shares, **medians}


def levels(parts=(), drift=(), importance=None):
    found, _ = findings_of(parts, drift, importance or {}, CONFIG)
    return {finding.key: finding.level for finding in found}


@pytest.mark.parametrize(
    ("score", "level"),
    [(95.0, None), (79.0, Level.LOW), (59.0, Level.MEDIUM), (39.0, Level.HIGH), (19.0, Level.CRITICAL)],
)
def test_health_has_levels(score, level):
    assert levels([part("all", score, value=score)]).get(("health", "")) == level


def error(change, low):
    return part("error", 50.0, value=10 * (1 + change), reference=10.0, change=change, low=low, high=1.0)


@pytest.mark.parametrize(
    ("change", "low", "level"),
    [
        (0.2, -0.01, None),
        (0.2, None, None),
        (0.04, 0.01, None),
        (0.07, 0.01, Level.MEDIUM),
        (0.2, 0.01, Level.HIGH),
        (0.4, 0.1, Level.CRITICAL),
    ],
)
def test_an_error_is_found_where_it_rose_by_enough_and_not_by_chance(change, low, level):
    assert levels([error(change, low)]).get(("error", "")) == level


def coverage(change, high):
    return part("coverage", 50.0, value=0.8 + change, reference=0.8, change=change, low=-1.0, high=high)


@pytest.mark.parametrize(
    ("change", "high", "level"),
    [
        (-0.1, 0.01, None),
        (-0.1, None, None),
        (-0.04, -0.01, None),
        (-0.1, -0.02, Level.HIGH),
        (-0.2, -0.1, Level.CRITICAL),
    ],
)
def test_coverage_is_found_where_it_is_short_by_enough_and_not_by_chance(change, high, level):
    assert levels([coverage(change, high)]).get(("coverage", "")) == level


def test_other_parts_go_by_their_score():
    parts = [part("volume", 5.0, value=0.0), part("quality", 45.0, value=0.03), part("response", 99.0, value=3.0)]
    assert levels(parts) == {("volume", ""): Level.HIGH, ("quality", ""): Level.MEDIUM}


def test_drift_of_what_matters_is_worse():
    drift = [detection(name) for name in ("much", "some", "little")] + [detection("small", psi=0.15)]
    drift += [detection("gone", psi=None, reasons=("missing",)), detection("fine", reasons=())]
    importance = {"much": 0.5, "some": 0.05, "little": 0.005, "small": 0.4, "gone": 0.2}
    found = {subject: level for (rule, subject), level in levels((), drift, importance).items()}
    assert found == {
        "much": Level.HIGH,
        "some": Level.MEDIUM,
        "little": Level.LOW,
        "small": Level.LOW,
        "gone": Level.HIGH,
    }


def test_words_have_the_figures():
    drift = [detection("size", segment="shop=North", reasons=("distribution", "missing", "new_categories"))]
    (first, second), _ = findings_of([error(0.2, 0.1)], drift, {"size": 0.25}, CONFIG)
    assert first.subject == "size|shop=North"
    assert first.message == (
        "size in shop=North: PSI 0.30, median 10 -> 0, 40.0% missing (0.0% before), 20.0% in new categories (c, d); "
        "25% of the model's importance"
    )
    assert second.message == "the error is 12 (), +20.0% against 10; so many outcomes"
    assert second.limit == pytest.approx(10.5)


def test_only_what_was_looked_at_can_recover():
    _, examined = findings_of([part("all"), part("error", None), part("volume")], [], {}, CONFIG)
    assert [rule for rule in ("health", "volume", "error", "drift") if (rule, "") in examined] == ["health", "volume"]
    _, examined = findings_of([], [detection("size", reasons=())], {}, CONFIG)
    assert ("drift", "a column that is gone") in examined


@pytest.mark.parametrize(
    ("state", "by", "day", "told"),
    [
        (State.ROLLED_BACK, "assay", 10, True),
        (State.ROLLED_BACK, "assay", 3, False),  # long ago
        (State.ROLLED_BACK, "ann", 10, False),  # who did it knows
        (State.REJECTED, "assay", 10, False),
    ],
)
def test_a_challenger_that_was_taken_back_is_told(state, by, day, told):
    move = Move(state, 0.0, 0, dt.datetime(2024, 3, day, tzinfo=dt.timezone.utc), by, "it does harm")
    settings = DeploymentConfig(), ExperimentsConfig()
    deployment = Deployment("price-1-to-2", "price", "1", "2", ("a", "b"), *settings, (move,))
    found, examined = taken_back([deployment], dt.datetime(2024, 3, 5, tzinfo=dt.timezone.utc))
    assert [one.message for one in found] == ["version 2 was taken back on 2024-03-10, 1 serves: it does harm"] * told
    assert ("deployment", "price-1-to-2") in examined
