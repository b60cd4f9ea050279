"""Rows that make a model raise are found, however many there are; batches keep their rows and their order."""

from __future__ import annotations

import itertools

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from assay.errors import AssayError
from assay.model.isolation import Isolating, rebatched


def doubled(bad, calls=None):
    """Twice the number, unless one of the rows is bad."""

    def score(batch):
        if calls is not None:
            calls.append(batch.num_rows)
        values = batch.column("x").to_pylist()
        if bad & set(values):
            raise ValueError(f"cannot take {bad & set(values)}")
        return pa.record_batch({"x": [2 * v for v in values]})

    return score


def numbers(rows):
    return pa.record_batch({"x": pa.array(range(rows), pa.int64())})


@settings(deadline=None)  # the first example pays for imports
@given(st.integers(1, 200), st.sets(st.integers(0, 199)))
def test_bad_rows_alone_are_set_apart_in_their_place(rows, bad):
    found = []
    for part in Isolating(doubled(bad)).parts(numbers(rows)):
        found += [None] if isinstance(part, ValueError) else part.column("x").to_pylist()
    assert found == [None if x in bad else 2 * x for x in range(rows)]


def test_one_bad_row_of_many_costs_few_calls():
    calls = []
    list(Isolating(doubled({700}, calls)).parts(numbers(1024)))
    assert len(calls) == 1 + 2 * 10
    calls.clear()
    list(Isolating(doubled(set(), calls)).parts(numbers(1024)))
    assert calls == [1024]


def test_a_model_that_scores_nothing_is_said_so_and_one_that_scored_something_goes_on():
    with pytest.raises(AssayError, match="none of the first 20 rows: ValueError: cannot take"):
        list(Isolating(doubled(set(range(100))), hopeless_rows=20).parts(numbers(100)))
    isolating = Isolating(doubled(set(range(1, 100))), hopeless_rows=20)
    assert sum(isinstance(part, ValueError) for part in isolating.parts(numbers(100))) == 99


def test_an_error_of_ours_is_nobodys_row():
    def changed(_):
        raise AssayError("file model.json was changed")

    with pytest.raises(AssayError, match="was changed"):
        list(Isolating(changed).parts(numbers(8)))


@settings(deadline=None)  # the first example pays for imports
@given(st.lists(st.integers(0, 30), max_size=12), st.integers(1, 40))
def test_batches_are_cut_and_joined_without_losing_a_row(sizes, rows):
    start, batches = 0, []
    for size in sizes:
        batches.append(pa.record_batch({"x": pa.array(range(start, start + size), pa.int64())}))
        start += size
    found = list(rebatched(iter(batches), rows))
    assert [x for batch in found for x in batch.column("x").to_pylist()] == list(range(start))
    assert all(0 < batch.num_rows <= rows for batch in found)
    assert all(one.num_rows + other.num_rows > rows for one, other in itertools.pairwise(found))
