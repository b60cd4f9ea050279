"""Folds that move forward in time."""

import datetime as dt
import itertools

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from assay.errors import DataError
from assay.runtime.conditions import mask
from assay.training.validation import blocked, rolling_origin

START = dt.datetime(2020, 1, 1, tzinfo=dt.timezone.utc)
DAY = dt.timedelta(days=1)


def test_each_fold_learns_from_all_that_was_before_its_block_and_blocks_cover_the_end() -> None:
    times = [START + i * DAY for i in range(100)]
    folds = rolling_origin(times, [3] * 100, folds=3, share=0.1, gap=2 * DAY)
    assert [fold.validate.first for fold in folds] == [times[70], times[80], times[90]]
    assert [fold.validate.last for fold in folds] == [times[79], times[89], times[99]]
    assert [fold.train.last for fold in folds] == [times[67], times[77], times[87]]
    assert [fold.train.rows for fold in folds] == [3 * 68, 3 * 78, 3 * 88]
    assert all(fold.validate.end is not None for fold in folds), "an open end would reach into the test period"


def test_too_many_folds_are_refused_with_what_there_is() -> None:
    with pytest.raises(DataError, match=r"give 1 of 3 folds"):
        rolling_origin([START, START + DAY], [1, 1], folds=3, share=0.1, gap=DAY * 0)


def test_a_gap_that_leaves_nothing_to_learn_from_is_refused() -> None:
    with pytest.raises(DataError, match=r"gap of 50 days"):
        rolling_origin([START + i * DAY for i in range(40)], [1] * 40, folds=2, share=0.2, gap=50 * DAY)


@given(st.lists(st.integers(1, 50), min_size=12, max_size=60), st.integers(1, 4), st.integers(0, 2))
def test_no_row_teaches_a_judge_of_its_own_time_or_of_an_earlier_one(counts: list[int], folds: int, gap: int) -> None:
    times = [START + i * DAY for i in range(len(counts))]
    try:
        found = rolling_origin(times, counts, folds=folds, share=0.08, gap=gap * DAY)
    except DataError:
        return
    assert len(found) == folds
    for earlier, later in itertools.pairwise(found):
        assert earlier.validate.last < later.validate.first
    for fold in found:
        assert fold.train.last + gap * DAY < fold.validate.first
        assert fold.validate.rows == sum(
            c for t, c in zip(times, counts, strict=True) if fold.validate.first <= t <= fold.validate.last
        )
    assert found[-1].validate.last == times[-1]


@given(st.lists(st.integers(1, 50), min_size=12, max_size=60), st.integers(2, 5), st.integers(0, 2), st.integers(0, 3))
def test_blocks_judge_every_row_once_and_their_neighbours_within_the_gaps_do_not_teach(
    counts: list[int], folds: int, purge: int, embargo: int
) -> None:
    times = [START + i * DAY for i in range(len(counts))]
    try:
        found = blocked(times, counts, folds=folds, purge=purge * DAY, embargo=embargo * DAY)
    except DataError:
        return
    batch = pa.record_batch({"time": pa.array(times, pa.timestamp("us", "UTC"))})
    judged: list[dt.datetime] = []
    for fold in found:
        train, judge = (
            mask(batch, part.conditions()).column("time").to_pylist() for part in (fold.train, fold.validate)
        )
        judged += judge
        wanted = [t for t in times if t < judge[0] - purge * DAY or t > judge[-1] + embargo * DAY]
        assert train == wanted
        assert fold.train.rows == sum(c for t, c in zip(times, counts, strict=True) if t in set(train))
    assert judged == times
