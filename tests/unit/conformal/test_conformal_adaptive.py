"""Adaptive inference against a slow copy of its definition, in parts and in one run, and against what it promises."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from adaptive_cases import FIELDS, STOP, TREE, adaptations, assert_same, scored, series, shuffled
from adaptive_reference import slow_adapt
from hypothesis import given, settings
from hypothesis import strategies as st

from assay.conformal import Adaptation, ScoredRows, Timeline, adapt, grouped_quantiles


def one_column(how: Adaptation) -> Adaptation:
    levels = tuple(sorted(set(how.levels), reverse=True))
    return dataclasses.replace(how, levels=levels, columns=(0,) * len(levels))


@settings(max_examples=300, deadline=None)
@given(scored(), adaptations)
def test_every_step_is_the_definition_to_the_bit(rows, how):
    assert_same(adapt(rows, TREE, how, stop=STOP), slow_adapt(rows, TREE, how, stop=STOP))


@settings(deadline=None)
@given(scored(), adaptations, st.integers(1, STOP - 1), st.integers(0, 99))
def test_going_on_from_a_stored_state_equals_one_run_to_the_bit(rows, how, pause, seed):
    whole = adapt(rows, TREE, how, stop=STOP)
    first = adapt(shuffled(rows, seed), TREE, how, stop=pause)
    table = first.last(6).table()  # no outcome comes later than 5 steps after its prediction
    order = np.random.default_rng(seed).permutation(len(table["step"]))
    stored = Timeline.from_table({name: values[order] for name, values in table.items()})
    assert_same(stored, first.last(6))
    later = adapt(shuffled(rows, seed + 1), TREE, how, stop=STOP, earlier=stored)
    assert_same(first.then(later), whole)


@settings(deadline=None)
@given(scored(), adaptations, st.integers(2, STOP - 1))
def test_going_on_needs_no_rows_that_the_window_has_lost(rows, how, pause):
    how = dataclasses.replace(how, window=3)
    first = adapt(rows, TREE, how, stop=pause)
    held = rows.where((rows.at + 3 >= pause) | (rows.known >= pause))
    assert_same(first.then(adapt(held, TREE, how, stop=STOP, earlier=first)), adapt(rows, TREE, how, stop=STOP))


@settings(deadline=None)
@given(scored(), adaptations, st.integers(0, STOP - 1))
def test_what_is_not_known_yet_changes_nothing(rows, how, step):
    """The label-maturity rule: outcomes known after a step leave it, and all before it, as they are."""
    later = rows.known > step
    other = ScoredRows(rows.groups, np.where(later[:, None], rows.scores * -3 + 9, rows.scores), rows.at, rows.known)
    for one in (other, rows.where(~later)):
        assert_same(adapt(one, TREE, how, stop=step + 1), adapt(rows, TREE, how, stop=step + 1))


@settings(deadline=None)
@given(scored(), adaptations, st.integers(-50, 50))
def test_only_differences_of_steps_count(rows, how, shift):
    moved = ScoredRows(rows.groups, rows.scores, rows.at + shift, rows.known + shift)
    one, other = adapt(rows, TREE, how, stop=STOP), adapt(moved, TREE, how, start=shift, stop=STOP + shift)
    for name in FIELDS:
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name))


@settings(deadline=None)
@given(scored(), adaptations)
def test_a_higher_level_is_never_narrower(rows, how):
    how = one_column(how)
    quantiles = adapt(rows, TREE, how, stop=STOP).quantiles[:, :, np.argsort(how.levels)]
    assert (np.maximum.accumulate(quantiles, axis=2) == quantiles).all()


@settings(deadline=None)
@given(scored(), adaptations)
def test_without_adaptation_the_first_quantiles_are_split_conformal(rows, how):
    how = dataclasses.replace(one_column(how), halflife=None, window=None, min_rows=1)
    found = adapt(rows, TREE, how, stop=1)
    known = rows.where(rows.known <= 0)
    lines = [(g, s) for own, s in zip(known.groups, known.scores[:, 0], strict=True) for g in _chain(own)]
    codes, scores = (np.array(c) for c in zip(*lines, strict=True)) if lines else (np.zeros(0, int), np.zeros(0))
    plain, counts = grouped_quantiles(codes, scores, len(TREE), how.levels)
    np.testing.assert_array_equal(found.rows[0], counts)
    np.testing.assert_array_equal(found.quantiles[0], plain[found.source[0]])


def _chain(group: int) -> list[int]:
    return [group] if TREE[group] < 0 else [group, *_chain(TREE[group])]


def test_a_miss_widens_and_a_hit_narrows_by_the_published_rule():
    how = Adaptation((0.9,), step_size=0.02, damping_rows=0, min_rows=1)
    rows = series([100.0, 0.0, 0.0], calibration=np.arange(1, 20))
    found = adapt(rows, [-1], how, stop=4)
    np.testing.assert_allclose(found.alpha[:, 0, 0], [0.1, 0.082, 0.084, 0.086], rtol=0, atol=0)
    assert found.rows[:, 0].tolist() == [19, 20, 21, 22]
    assert found.quantiles[:2, 0, 0].tolist() == [18, 100]  # ranks 18 of 19, 20 = ceil(21 * 0.918) of 20


def test_a_row_is_judged_by_the_interval_of_its_own_step():
    """Known four steps late: 5 lay outside of what step 0 gave, though scores known by then would hold it."""
    how = Adaptation((0.5,), step_size=0.1, damping_rows=0, min_rows=1)
    at = np.array([-1, -1, -1, 0, 1, 1, 1, 1])
    rows = ScoredRows(np.zeros(8, int), np.array([1.0, 2, 3, 5, 9, 9, 9, 9]), at, np.array([0, 0, 0, 4, 5, 5, 5, 5]))
    found = adapt(rows, [-1], how, stop=6)
    assert found.alpha[:, 0, 0].tolist() == [0.5, 0.5, 0.5, 0.5, 0.45, 0.4]


def test_a_step_of_many_rows_moves_alpha_more_than_one_of_few_but_at_most_by_the_step_size():
    how = Adaptation((0.9,), step_size=0.05, damping_rows=10, min_rows=1)
    moved = []
    for count in (1, 10, 10_000):
        at = np.concatenate([np.full(50, -1), np.zeros(count, dtype=int)])
        rows = ScoredRows(np.zeros(len(at), int), np.where(at < 0, 1.0, 2.0), at, at + 1)
        moved.append(0.1 - adapt(rows, [-1], how, stop=2).alpha[1, 0, 0])
    np.testing.assert_allclose(moved, [0.045 / 11, 0.045 / 2, 0.045], rtol=1e-2)
    assert max(moved) < 0.05


def panel(groups: int, scores) -> ScoredRows:
    """A row per step of each segment; scores (steps, groups), the first 50 steps calibrate."""
    step, group = np.indices(scores.shape)
    at = step.ravel() - 50
    return ScoredRows(group.ravel(), scores.ravel(), at, np.maximum(at, -1) + 1)


def test_small_segments_move_together_when_all_of_them_are_missed():
    rng = np.random.default_rng(11)
    scores = rng.exponential(size=(110, 24)) * np.where(np.arange(110) < 50, 1.0, 2.0)[:, None]
    rows, parents = panel(24, scores), [24] * 24 + [-1]
    together = Adaptation((0.8,), step_size=0.05, damping_rows=10.0, min_rows=20)
    found = adapt(rows, parents, together, stop=60)
    alone = adapt(rows, [-1] * 24, together, stop=60)
    late = slice(20, 60)
    missed = {
        name: np.mean(scores[70:] > one.quantiles[late, :24, 0]) for name, one in (("pooled", found), ("alone", alone))
    }
    assert abs(missed["pooled"] - 0.2) < 0.03 < missed["alone"] - 0.2


def test_a_segment_that_is_missed_more_than_the_others_widens_more():
    rng = np.random.default_rng(12)
    harder = np.where(np.arange(24) < 4, 1.0, 0.0) * (np.arange(450) >= 50)[:, None]
    scores = rng.exponential(size=(450, 24)) * (1 + harder)
    how = Adaptation((0.8,), step_size=0.05, damping_rows=10.0, min_rows=20, window=1000)
    found = adapt(panel(24, scores), [24] * 24 + [-1], how, stop=400)
    missed = scores[250:] > found.quantiles[200:, :24, 0]
    assert abs(missed[:, :4].mean() - 0.2) < 0.03
    assert abs(missed[:, 4:].mean() - 0.2) < 0.03


def test_a_group_of_few_rows_is_given_what_the_one_above_it_is_given_and_starts_from_there():
    how = Adaptation((0.8,), step_size=0.1, damping_rows=0, min_rows=5)
    scores = [np.full(20, 1.0), np.full(6, 9.0)]  # all segments together miss at every step
    groups = np.concatenate([np.zeros(20, int), np.full(6, 1)])
    at = np.concatenate([np.full(20, -1), np.arange(6)])
    rows = ScoredRows(groups, np.concatenate(scores), at, at + 1)
    found = adapt(rows, [2, 2, -1], how, stop=8)
    assert found.source[:, 1].tolist() == [2, 2, 2, 2, 2, 1, 1, 1]
    few = slice(0, 5)
    np.testing.assert_array_equal(found.alpha[few, 1], found.alpha[few, 2])
    np.testing.assert_array_equal(found.quantiles[few, 1], found.quantiles[few, 2])
    assert found.alpha[5, 1, 0] == pytest.approx(
        found.alpha[4, 2, 0]
    )  # its first own step: judged by the others' interval
    assert found.alpha[4, 2, 0] < 0.2
    unseen = adapt(rows, [2, 2, -1, 2], how, stop=8)
    assert (unseen.source[:, 3] == 2).all()


def test_alpha_below_zero_is_infinite_as_published_and_held_to_the_largest_score_where_bounded():
    rows = series([100.0 + step for step in range(12)], calibration=np.arange(1, 30))
    how = Adaptation((0.8,), step_size=0.2, damping_rows=0, min_rows=1)
    published = adapt(rows, [-1], dataclasses.replace(how, bounded=False), stop=8)
    assert published.alpha.min() <= 0
    np.testing.assert_array_equal(
        np.isposinf(published.quantiles), published.alpha <= 1 / (published.rows + 1)[:, :, None]
    )
    bounded = adapt(rows, [-1], how, stop=8)
    assert np.isfinite(bounded.quantiles).all()
    assert bounded.alpha.min() == 0
    largest = [29.0, *(100.0 + step for step in range(7))]
    held = bounded.alpha[:, 0, 0] < 1 / (bounded.rows[:, 0] + 1)
    assert held.any()
    assert bounded.quantiles[held, 0, 0].tolist() == [
        one for one, is_held in zip(largest, held, strict=True) if is_held
    ]


def test_too_few_rows_for_the_promise_itself_are_infinite_even_where_bounded():
    found = adapt(series([1.0, 2, 3, 4, 5, 6]), [-1], Adaptation((0.8,), step_size=0.1, min_rows=1), stop=6)
    assert np.isposinf(found.quantiles[:, 0, 0]).tolist() == [True, True, True, True, False, False]


def test_alpha_above_one_is_the_empty_interval_as_published_and_the_smallest_score_where_bounded():
    rows = series(np.zeros(30), calibration=np.arange(1, 30))
    how = Adaptation((0.5,), step_size=0.9, damping_rows=0, min_rows=1)
    published = adapt(rows, [-1], dataclasses.replace(how, bounded=False), stop=4)
    assert np.isneginf(published.quantiles[published.alpha > 1]).all()
    assert (published.alpha > 1).any()
    bounded = adapt(rows, [-1], how, stop=4)
    assert bounded.quantiles[3, 0, 0] == 0.0
    assert bounded.alpha.max() == 1


@settings(deadline=None)
@given(st.lists(st.floats(0, 1e6), min_size=60, max_size=120), st.sampled_from([0.05, 0.2]))
def test_misses_come_to_the_promise_whatever_the_scores_are(scores, step_size):
    """Gibbs and Candès 2021, proposition 4.1: |misses / T - alpha| <= (max(alpha, 1 - alpha) + step) / (T * step)."""
    how = Adaptation((0.8,), step_size=step_size, damping_rows=0, min_rows=1, bounded=False)
    rows = series(np.array(scores), calibration=np.arange(20.0))
    found = adapt(rows, [-1], how, stop=len(scores))
    misses = np.mean(np.array(scores) > found.quantiles[:, 0, 0])
    assert abs(misses - 0.2) <= (0.8 + step_size) / (len(scores) * step_size) + 1e-9


def test_quantiles_of_rows_are_those_of_their_step_and_group():
    found = adapt(series(np.arange(9.0)), [-1], Adaptation((0.5, 0.7), step_size=0.1, min_rows=1), stop=9)
    got = found.quantiles_for([0, 0, 0], [4, 8, 4])
    np.testing.assert_array_equal(got, found.quantiles[[4, 8, 4], 0])
    with pytest.raises(ValueError, match="steps run from 4 to 9, the timeline from 0 to 8"):
        found.quantiles_for([0, 0], [4, 9])


def test_a_group_that_is_new_has_had_what_the_group_above_it_had():
    rng = np.random.default_rng(2)
    at = np.sort(rng.integers(-20, 12, 400))
    rows = ScoredRows(np.where(at >= 6, rng.integers(1, 3, 400), 1), rng.exponential(size=400), at, at + 1)
    how = Adaptation((0.8,), step_size=0.1, min_rows=8, window=5)
    parents = [-1, 0, 0]
    first = adapt(rows, parents[:2], how, start=-5, stop=6)
    later = adapt(rows, parents, how, stop=12, earlier=first)
    whole = adapt(rows, parents, how, start=-5, stop=12)
    for name in FIELDS:
        np.testing.assert_array_equal(getattr(later, name), getattr(whole, name)[11:])
    assert (later.source[-1] == [0, 1, 2]).all()
