"""Consumes out-of-time predictions, checks that the chosen one is never worse on later rows than the best member."""

from __future__ import annotations

import datetime as dt
import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from assay.config.ensemble import METHODS
from assay.training.dynamic_weights import DAY
from assay.training.ensemble_choice import OutOfTime, choose, cut

TOLD = {"share": 0.5, "gap_days": 0.0, "delay_days": 0.0, "halflife_days": 20.0}


def rows(seed, count=300, members=3, *, days=60, bias=0.3):
    random = np.random.default_rng(seed)
    times = np.sort(random.integers(0, days, count)) * DAY
    truth = random.normal(size=count)
    errors = random.normal(0, random.uniform(0.2, 1.5, members), (count, members))
    found = truth[:, None] + errors + random.normal(0, bias, members)
    return OutOfTime(tuple(f"m{i}" for i in range(members)), times, truth, found)


@settings(deadline=None)
@given(st.integers(0, 10_000), st.integers(2, 300), st.integers(2, 4), st.sets(st.sampled_from(METHODS), min_size=1))
def test_the_chosen_one_is_never_worse_there_than_the_best_member(seed, count, members, methods):
    found = choose(rows(seed, count, members), sorted(methods), **TOLD)
    each = [found.judge.figures(found.judge.members[:, m])["rmse"] for m in range(members)]
    assert found.best_member.loss == min(each)
    assert found.chosen.loss <= min(each)
    if not found.single:
        assert found.chosen.loss < min(each)
        assert found.chosen.chosen["mae"] <= found.best_member.chosen["mae"]
        if not found.chosen.name.startswith("dynamic"):  # what was judged is what serves
            serving = found.chosen.combination.apply(found.judge.members)
            assert found.judge.figures(serving) == pytest.approx(found.chosen.chosen, rel=1e-12)
    json.dumps(found.to_dict(), allow_nan=False)


def test_equal_members_are_a_tie_which_a_single_one_wins():
    given = rows(1)
    same = OutOfTime(given.names, given.times, given.truth, np.repeat(given.members[:, :1], 3, axis=1))
    assert choose(same, ["average", "voting"], **TOLD).chosen.name == "m0"


def test_errors_of_their_own_average_out():
    random = np.random.default_rng(0)
    truth = random.normal(size=900)
    members = truth[:, None] + random.normal(0, 1, (900, 3))
    found = choose(OutOfTime(("a", "b", "c"), np.arange(900) * DAY, truth, members), METHODS, **TOLD)
    assert not found.single
    assert found.chosen.loss < 0.75 * found.best_member.loss


def test_fewer_large_errors_do_not_pay_for_many_small_ones():
    random = np.random.default_rng(0)
    truth = random.normal(size=1000)
    rare = np.where(np.arange(1000) % 50 == 0, 10.0, 0.0)  # seldom far off, and else never
    members = truth[:, None] + np.stack([rare, random.choice([-1.6, 1.6], 1000)], axis=1)
    found = choose(OutOfTime(("a", "b"), np.arange(1000) * DAY, truth, members), ["average"], **TOLD)
    average = found.candidates[-1]
    assert average.loss < found.best_member.loss
    assert average.chosen["mae"] > found.best_member.chosen["mae"]
    assert found.chosen.name == "a"


def test_nothing_of_the_later_rows_moves_what_is_fitted():
    given = rows(2)
    later = given.times >= choose(given, METHODS, **TOLD).judge.times[0]
    other = OutOfTime(
        given.names,
        given.times,
        np.where(later, -given.truth, given.truth),
        np.where(later[:, None], given.members[:, ::-1], given.members),
    )
    one, two = (
        {c.name: c.combination for c in choose(g, ["weighted", "stacking"], **TOLD).candidates} for g in (given, other)
    )
    for method in ("weighted", "stacking"):
        np.testing.assert_array_equal(one[method].weights, two[method].weights)
        assert one[method].intercept == two[method].intercept


def test_dynamic_weights_serve_as_of_the_newest_error_and_say_so():
    given = rows(3, days=90)
    found = {c.name: c for c in choose(given, METHODS, **TOLD).candidates}
    as_of = dt.datetime.fromisoformat(found["dynamic_rmse"].combination.as_of)
    assert as_of == dt.datetime.fromtimestamp(given.times[-1] / 1e6, dt.timezone.utc)
    assert found["dynamic_rmse"].combination.weights.sum() == pytest.approx(1)
    assert found["average"].combination.as_of == ""


def test_signals_of_a_target_that_is_no_change_say_nothing():
    given = rows(4)
    level = OutOfTime(given.names, given.times, given.truth + 100, given.members + 100)
    assert "dynamic_sharpe" in {c.name for c in choose(given, METHODS, **TOLD).candidates}
    assert "dynamic_sharpe" not in {c.name for c in choose(level, METHODS, **TOLD).candidates}


@settings(deadline=None)
@given(st.lists(st.integers(0, 40), min_size=1, max_size=200), st.floats(0.05, 0.95), st.integers(0, 10))
def test_the_cut_is_between_times_and_keeps_the_gap(days, share, gap):
    times = np.sort(np.array(days)) * DAY
    early, late = cut(times, share, gap * DAY)
    assert late.any()
    assert not (early & late).any()
    if early.any():
        assert times[early].max() + gap * DAY < times[late].min()
    distinct = np.unique(times)
    if len(distinct) > 1:
        assert not late.all()
        start = times[late].min()
        assert late.sum() >= share * len(times) or start == distinct[1]
        assert (times > start).sum() < share * len(times)
    else:
        assert late.all()


def test_with_too_few_earlier_rows_only_what_needs_no_fit_is_tried():
    names = {c.name for c in choose(rows(5, count=20), METHODS, **TOLD).candidates}
    assert {"average", "voting"} <= names
    assert not {"weighted", "stacking"} & names
