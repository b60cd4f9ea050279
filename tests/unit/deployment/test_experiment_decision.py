"""Promote, reject or extend: each rule at its edge, with its words, and the row that it leaves."""

import dataclasses

import numpy as np
import pyarrow as pa
import pytest
from experiment_rows import series, steady

from assay.config.experiments import ExperimentsConfig
from assay.deployment.experiment import Decision, decide
from assay.deployment.experiment_days import ARMS, Persistent, Series, paired_days
from assay.runtime.deployment_tables import EXPERIMENTS

CONFIG = ExperimentsConfig()
NOBODY = paired_days([], [], [], [])


def told(decision: Decision) -> str:
    return "; ".join(decision.reasons)


def test_a_challenger_that_is_better_for_sure_and_by_enough_is_promoted():
    found = decide(steady(0.05), CONFIG)
    assert found.decision == "promote"
    assert found.effect == pytest.approx(0.05)
    assert found.low > 0
    assert found.p < 0.05
    assert told(found).startswith("better: the challenger saves 5.00 % of the champion's loss, 3.92 % at least, p = ")


def test_better_for_sure_but_by_too_little_is_extended_and_rejected_at_the_end():
    """The upper bound is still above the share that is asked."""
    config = ExperimentsConfig(min_effect=0.052)
    found = decide(steady(0.05, days=49), config)
    assert found.low > 0
    assert found.decision == "extend"
    assert "saves 5.00 % of the champion's loss; more than 5.2 % are asked (experiments.min_effect)" in told(found)
    assert decide(steady(0.05), config).decision == "reject"


def test_the_estimate_must_be_above_the_least_effect_not_at_it():
    at_it = ExperimentsConfig(min_effect=decide(steady(0.05), CONFIG).effect)
    below = ExperimentsConfig(min_effect=np.nextafter(at_it.min_effect, 0))
    assert decide(steady(0.05), at_it).decision == "reject"
    assert decide(steady(0.05), below).decision == "promote"


def test_a_challenger_that_is_worse_for_sure_is_rejected_before_the_end():
    found = decide(steady(-0.08, days=40), CONFIG)
    assert found.decision == "reject"
    assert found.high < 0
    assert told(found).startswith("worse: the challenger loses another 8.00 % of the champion's loss, 6.34 % at best")


def test_a_challenger_that_cannot_save_enough_any_more_is_rejected_before_the_end():
    found = decide(steady(0.002, days=40, noise=0.005), CONFIG)
    assert found.decision == "reject"
    assert 0 < found.high < 0.01
    assert told(found).startswith("too little: the challenger saves 0.20 %")


def test_in_doubt_it_goes_on_and_ends_in_rejection():
    found = decide(steady(0.02, days=55, noise=0.2), CONFIG)
    assert found.decision == "extend"
    assert "(experiments.alpha)" in told(found)
    last = decide(steady(0.02, days=56, noise=0.2), CONFIG)
    assert last.decision == "reject"
    assert last.reasons[0] == "no evidence by the end, after 56 days"
    assert "(experiments.alpha)" in told(last)


def test_the_end_may_come_by_the_calendar_with_fewer_days():
    short = steady(0.02, days=30, noise=0.2)
    assert decide(short, CONFIG).decision == "extend"
    assert decide(short, CONFIG, ended=True).reasons[0] == "no evidence by the end, after 30 days"
    assert decide(steady(0.05, noise=0.005, days=40), CONFIG, ended=True).decision == "promote"


def test_nothing_is_decided_before_the_least_days():
    eager = steady(0.3, days=13, noise=0.0001)
    found = decide(eager, CONFIG)
    assert found.decision == "extend"
    assert "13 of at least 14 days (experiments.min_days)" in found.reasons
    assert decide(steady(0.3, days=14, noise=0.0001), CONFIG).decision == "promote"
    assert decide(steady(-0.3, days=13, noise=0.0001), CONFIG).decision == "extend"


def test_nothing_is_decided_before_the_least_rows():
    found = decide(steady(0.05, days=50, rows=19), CONFIG)
    assert found.decision == "extend"
    assert found.reasons == ("950 of at least 1,000 rows (experiments.min_rows)",)
    assert decide(steady(0.05, days=50, rows=20), CONFIG).decision == "promote"
    assert decide(steady(-0.08, days=50, rows=19), CONFIG).decision == "extend"
    assert decide(steady(0.05, days=56, rows=10), CONFIG).decision == "reject"


def test_days_after_the_planned_end_are_not_looked_at():
    late = steady(0.05, days=80, seed=3)
    found = decide(late, CONFIG)
    assert found == decide(late.first(56), CONFIG)
    assert found.days == 56
    assert found.last_day == late.days[55].astype(object)


def test_without_a_row_there_is_nothing_to_say_yet():
    found = decide(NOBODY, CONFIG)
    assert found.decision == "extend"
    assert (found.days, found.rows, found.first_day, found.last_day) == (0, 0, None, None)
    assert np.isnan([found.champion_loss, found.challenger_loss, found.effect, found.low, found.high, found.p]).all()
    assert decide(NOBODY, CONFIG, ended=True).decision == "reject"


def test_one_day_is_extended():
    found = decide(series([50.0], [-25.0]), CONFIG)
    assert (found.decision, found.effect, found.low, found.high, found.p) == ("extend", 0.5, -np.inf, 1.0, 1.0)


def test_the_same_predictions_are_rejected_as_soon_as_decisions_are_made():
    found = decide(series(np.full(30, 50.0), np.zeros(30)), CONFIG)
    assert (found.decision, found.effect, found.low, found.high, found.p) == ("reject", 0.0, 0.0, 0.0, 1.0)
    assert told(found).startswith("too little")


def test_the_same_predictions_are_extended_before():
    assert decide(series(np.full(13, 50.0), np.zeros(13)), CONFIG).decision == "extend"


def test_a_champion_without_error_cannot_be_beaten():
    for difference, effect in ((0.0, 0.0), (2.0, -np.inf)):
        found = decide(series(np.zeros(20), np.full(20, difference)), CONFIG)
        assert found.decision == "reject"
        assert found.effect == effect
        assert "makes no error" in told(found)


def test_a_share_without_a_lower_bound_is_not_promoted():
    """The difference is beyond doubt, but two days have nearly all of the champion's loss."""
    wild = np.zeros(56)
    wild[[0, 1]] = 1000.0
    found = decide(series(wild + 0.01, np.full(56, -0.005)), ExperimentsConfig(min_effect=0.0))
    assert found.decision == "reject"
    assert (found.low, found.high) == (-np.inf, 1.0)
    assert found.p < 0.05
    assert "no share of it has a lower bound" in told(found)


def test_arms_whose_days_have_more_weight_say_the_same_of_shares():
    """Twice the weight of every day, as if each row came twice."""
    rng = np.random.default_rng(4)
    days = np.arange(40).astype("datetime64[D]")
    champion, difference = 10 + rng.normal(size=40), rng.normal(size=40) - 1.5
    one, other = (
        decide(Series(ARMS, days, many, many, many * champion, many * difference, Persistent(0.1, 0.1, 30)), CONFIG)
        for many in (np.full(40, 50.0), np.full(40, 100.0))
    )
    assert 1e-12 < one.p < 0.9
    assert other.p == pytest.approx(one.p)
    assert (other.effect, other.low, other.high) == pytest.approx((one.effect, one.low, one.high))


def test_looking_again_says_the_same():
    days = steady(0.03, days=33)
    assert decide(days, CONFIG) == decide(days, CONFIG)


def test_a_look_fits_its_table():
    own = {field.name for field in dataclasses.fields(Decision)}
    assert own <= set(EXPERIMENTS.columns)
    schema = pa.schema([EXPERIMENTS.schema().field(name) for name in sorted(own)])
    looks = [decide(days, CONFIG).to_row() for days in (NOBODY, steady(0.05), series([50.0], [-25.0]))]
    table = pa.Table.from_pylist(looks, schema=schema)
    assert table["decision"].to_pylist() == ["extend", "promote", "extend"]
    assert table["effect"].to_pylist()[0] is None
    assert table["low"].to_pylist()[2] == -np.inf
    assert table["last_day"].to_pylist()[1].isoformat() == "2024-04-25"


def test_the_key_and_the_partitions_are_columns_of_the_table():
    assert {*EXPERIMENTS.key, *EXPERIMENTS.partition_by} <= set(EXPERIMENTS.columns)
    settings = {"alpha", "min_effect", "max_days", "harm_margin"}
    assert settings <= {f.name for f in dataclasses.fields(ExperimentsConfig)} & set(EXPERIMENTS.columns)
