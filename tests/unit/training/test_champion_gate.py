"""Consumes errors of two models, checks when the new one counts as worse than the champion."""

from __future__ import annotations

import dataclasses
import datetime as dt

import numpy as np
import pytest

from assay.config.profile import GatesConfig
from assay.model.bundle import Model
from assay.model.encoding import Encoding
from assay.model.registry import Champion
from assay.model.scale import TargetScale
from assay.training.champion import compare, incomparable, verdict
from assay.training.split import Period

GATES = GatesConfig()
ACTUAL = 100.0


def compared(new, champion, days, *, seed=1, **settings):
    """Two models' errors on rows of some days."""
    gates = dataclasses.replace(GATES, **settings)
    actual = np.full(len(days), ACTUAL)
    return compare(actual, actual + new, actual + champion, np.asarray(days, dtype=float), gates, seed=seed)


def test_equal_models_differ_by_nothing():
    random = np.random.default_rng(0)
    errors = random.normal(0, 3, 400)
    found = compared(errors, errors, np.arange(400) // 10)
    assert (found.low, found.high, found.worse) == (0.0, 0.0, False)
    assert found.rmse == found.champion_rmse == pytest.approx(np.sqrt(np.mean(errors**2)))


@pytest.mark.parametrize(("factor", "worse"), [(1.3, True), (0.7, False)])
def test_what_is_worse_on_every_day_is_worse_and_what_is_better_is_not(factor, worse):
    random = np.random.default_rng(0)
    errors = random.normal(0, 3, 400)
    found = compared(errors * factor, errors, np.arange(400) // 10)
    assert found.worse is worse
    assert (found.low > 0) is worse
    assert (found.high < 0) is not worse


def test_one_bad_day_of_twenty_is_no_proof_however_many_rows_it_has():
    random = np.random.default_rng(0)
    days = np.repeat(np.arange(20), 500)
    champion = random.normal(0, 1, len(days))
    new = champion + (days == 7) * 3.0
    found = compared(new, champion, days)
    assert found.rmse > found.champion_rmse
    assert not found.worse
    rowwise = compared(new, champion, np.arange(len(days)))  # as if rows erred one by one
    assert rowwise.worse


def test_the_interval_is_that_of_a_loop_over_resampled_days():
    random = np.random.default_rng(4)
    days = random.integers(0, 60, 900)
    champion = random.normal(0, 2, 900) + random.normal(0, 1, 60)[days]
    new = champion + random.normal(0.2, 1, 900)
    found = compared(new, champion, days, champion_resamples=4_000)
    differences = []
    for _ in range(4_000):
        rows = np.concatenate([np.flatnonzero(days == day) for day in random.choice(np.unique(days), 60)])
        differences.append(np.sqrt(np.mean(new[rows] ** 2)) - np.sqrt(np.mean(champion[rows] ** 2)))
    width = np.quantile(differences, 0.95) - np.quantile(differences, 0.05)
    assert found.low == pytest.approx(np.quantile(differences, 0.05), abs=0.08 * width)
    assert found.high == pytest.approx(np.quantile(differences, 0.95), abs=0.08 * width)


def test_of_equally_good_models_few_are_refused():
    """One in twenty is what 95 % confidence allows; days share their errors."""
    random = np.random.default_rng(9)
    days = np.repeat(np.arange(50), 8)
    refused = 0
    for seed in range(300):
        new, champion = (random.normal(0, 1, 400) + random.normal(0, 1, 50)[days] for _ in range(2))
        refused += compared(new, champion, days, seed=seed, champion_resamples=300).worse
    assert refused <= 0.05 * 300 + 3 * np.sqrt(300 * 0.05 * 0.95)


def test_equal_seeds_give_equal_ends():
    random = np.random.default_rng(2)
    new, champion = random.normal(0, 1, (2, 90))
    assert compared(new, champion, np.arange(90)) == compared(new, champion, np.arange(90))


def test_on_a_single_day_the_figures_themselves_decide():
    found = compared(np.full(9, 2.0), np.full(9, 1.0), np.zeros(9))
    assert np.isnan(found.low)
    assert found.worse
    assert not compared(np.full(9, 1.0), np.full(9, 1.0), np.zeros(9)).worse


def model(plan_hash="p", numeric=("a",), learned_until="2011-12-01T00:00:00+00:00"):
    facts = {"split": {"tune": {"last": learned_until}}}
    return Model("xgboost", b"", Encoding(numeric, {}), TargetScale("y"), {}, plan_hash, facts)


def champion(**changes):
    return Champion(model(**changes), {}, "c", number="4", run_id="run")


def test_a_champion_is_asked_only_about_what_it_knows_and_has_not_seen():
    first = dt.datetime(2012, 1, 1, tzinfo=dt.timezone.utc)
    test = Period(first, None, 10, first, first + dt.timedelta(days=90))
    assert incomparable(champion(), model(), test, {"a", "b"}) is None
    assert "other features" in incomparable(champion(plan_hash="q"), model(), test, {"a", "b"})
    assert "other features" in incomparable(champion(numeric=("a", "gone")), model(), test, {"a", "b"})
    late = champion(learned_until="2012-01-01T00:00:00+00:00")
    assert "learned from rows up to 2012-01-01" in incomparable(late, model(), test, {"a", "b"})


def test_the_verdict_names_both_figures_the_version_and_the_setting():
    found = compared(np.tile([3.0, -3.0], 50), np.tile([1.0, -1.0], 50), np.arange(100) // 2)
    told = verdict(found, champion(), GATES)
    assert (told.gate, told.passed, told.figure, told.threshold) == ("not_worse_than_champion", False, 3.0, 1.0)
    assert "version 4" in told.rule
    assert "95% confidence" in told.rule
    assert "gates.champion" in told.rule
    same = verdict(compared(np.ones(100), np.ones(100), np.arange(100)), champion(), GATES)
    assert same.passed
    assert "confidence" not in same.rule
