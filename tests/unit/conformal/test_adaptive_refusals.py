"""What adaptive inference refuses, settings, rows, earlier timelines and trees, with what it says of them."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from adaptive_cases import series

from assay.conformal import Adaptation, ScoredRows, Timeline, adapt, nested_groups


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"levels": ()}, "levels must be at least one"),
        ({"levels": (0.8, 0.8), "columns": (0, 0)}, "levels of one score column must be different"),
        ({"levels": (0.1234567891,)}, "at most nine decimals"),
        ({"levels": (1.0,)}, "level 1.0 must lie between 0 and 1"),
        ({"columns": (0, 1)}, "columns must name a score column for each of 1 levels"),
        ({"columns": (-1,)}, "columns must name"),
        ({"step_size": -0.1}, "step_size must be at least 0, found -0.1"),
        ({"step_size": float("nan")}, "step_size must be at least 0"),
        ({"damping_rows": -1}, "damping_rows must be at least 0"),
        ({"min_rows": 0}, "min_rows must be at least 1"),
        ({"window": 0}, "window must be at least 1"),
        ({"halflife": 0.0}, "halflife must be above 0"),
    ],
)
def test_settings_that_make_no_sense_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(Adaptation((0.8,), step_size=0.1), **change)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"scores": [1.0, np.nan]}, "1 of 2 rows have NaN scores"),
        ({"scores": np.ones((2, 2, 2))}, "scores must be"),
        ({"at": [0]}, "at must be 2 integers"),
        ({"known": [0.5, 1.5]}, "known must be 2 integers, found float64"),
        ({"groups": [0, 3]}, "groups run from 0 to 3, but the tree has 2 groups"),
        ({"known": [1, 2], "at": [0, 2]}, "1 of 2 rows are known in the step of their own prediction"),
    ],
)
def test_wrong_rows_are_refused(fields, message):
    fitting = {"groups": [0, 0], "scores": [1.0, 2.0], "at": [0, 1], "known": [1, 2]}
    with pytest.raises(ValueError, match=message):
        adapt(ScoredRows(**{**fitting, **fields}), [1, -1], Adaptation((0.8,), step_size=0.1), stop=9)


def test_columns_that_are_not_there_are_refused():
    with pytest.raises(ValueError, match=r"columns \(1,\) need more than the 1 columns of scores"):
        adapt(series([1.0]), [-1], Adaptation((0.8,), step_size=0.1, columns=(1,)), stop=2)


def test_an_earlier_timeline_that_is_too_short_is_refused():
    how = Adaptation((0.8,), step_size=0.1)
    rows = series(np.arange(9.0), delay=4)
    first = adapt(rows, [-1], how, stop=6)
    with pytest.raises(ValueError, match="2 outcomes are of predictions before step 4: give a longer timeline"):
        adapt(rows, [-1], how, stop=9, earlier=first.last(2))
    with pytest.raises(ValueError, match="does not fit"):
        adapt(rows, [-1], Adaptation((0.8, 0.9), step_size=0.1), stop=9, earlier=first)
    with pytest.raises(ValueError, match="on top of the tree"):
        adapt(rows, [-1, -1], how, stop=9, earlier=first)


def test_stored_rows_that_do_not_fit_are_refused():
    found = adapt(series(np.arange(3.0)), [-1], Adaptation((0.8, 0.9), step_size=0.1), stop=3)
    table = found.table()
    with pytest.raises(ValueError, match="1 missing, 0 repeated, 1 origins"):
        Timeline.from_table({name: np.delete(values, 2) for name, values in table.items()})
    with pytest.raises(ValueError, match="0 missing, 1 repeated"):
        Timeline.from_table({name: np.append(values, values[:1]) for name, values in table.items()})
    with pytest.raises(ValueError, match="without rows"):
        Timeline.from_table({name: values[:0] for name, values in table.items()})
    with pytest.raises(ValueError, match="cannot go on"):
        found.then(found)


# --- the tree ---------------------------------------------------------------------------------------------------------


def test_groups_of_all_levels_become_one_tree():
    groups, parents = nested_groups([[0, 1, 0], [1, 0, 0], [2, 1, 0]])
    assert groups.tolist() == [0, 1, 2]
    assert parents.tolist() == [4, 3, 4, 5, 5, -1]


@pytest.mark.parametrize(
    ("codes", "message"),
    [
        ([[0, 0], [0, 1]], "1 rows are of a segment that lies in more than one segment above it"),
        ([[0.0, 1.0]], "codes must be integers"),
        ([0, 1], "codes must be integers of shape"),
        ([[-1, 0]], "codes must not be negative"),
    ],
)
def test_what_is_no_hierarchy_is_refused(codes, message):
    with pytest.raises(ValueError, match=message):
        nested_groups(codes)


@pytest.mark.parametrize(
    ("parents", "message"),
    [([1, 0], "circle"), ([2, -1], "parents run from -1 to 2"), ([], "at least one"), ([0.0], "at least one integer")],
)
def test_what_is_no_tree_is_refused(parents, message):
    with pytest.raises(ValueError, match=message):
        adapt(series([1.0]), parents, Adaptation((0.8,), step_size=0.1), stop=2)
