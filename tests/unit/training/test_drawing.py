"""Parts of rows that are drawn by the hash of a row, class by class or not."""

import datetime as dt

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from assay.errors import DataError
from assay.runtime.conditions import mask, period_conditions
from assay.training.drawing import BIN, ROW, SPREAD, CountSpread, Spread, drawn_folds, drawn_split
from assay.training.split import PERIODS, together

NOW = dt.datetime(1970, 1, 1, tzinfo=dt.timezone.utc)


def batch_of(rows, seed=0, rare=0.1):
    random = np.random.default_rng(seed)
    ids = random.integers(-(2**63), 2**63 - 1, rows, dtype=np.int64, endpoint=True)
    label = np.where(random.random(rows) < rare, "yes", "no")
    times = pa.array([NOW] * rows, pa.timestamp("us", "UTC"))
    return pa.record_batch({ROW: ids, "label": pa.array(label), "time": times})


def spread_over(batch, by):
    found = pa.Table.from_batches(list(CountSpread(by)([batch.slice(0, 40), batch.slice(40)])), schema=SPREAD)
    counts = {}
    for line in found.to_pylist():
        counts.setdefault(line["label"], np.zeros(1 << 16, dtype=np.int64))[line["bin"]] += line["rows"]
    return Spread(by, dict(sorted(counts.items(), key=str)), NOW, NOW)


def ids_of(batch, conditions):
    return set(mask(batch, conditions).column(ROW).to_pylist())


@pytest.mark.parametrize("by", [None, "label"])
def test_parts_are_disjoint_and_together_all_rows_with_the_promised_shares(by):
    batch = batch_of(2000)
    split = drawn_split(spread_over(batch, by), tune=0.1, calibrate=0.2, test=0.2)
    parts = [ids_of(batch, getattr(split, name).conditions()) for name in PERIODS]
    assert [len(part) for part in parts] == [getattr(split, name).rows for name in PERIODS]
    assert set.union(*parts) == set(batch.column(ROW).to_pylist())
    assert sum(map(len, parts)) == 2000
    np.testing.assert_allclose([len(part) / 2000 for part in parts], [0.5, 0.1, 0.2, 0.2], atol=0.002)
    assert ids_of(batch, together([split.train, split.tune]).conditions()) == parts[0] | parts[1]
    for name, part in zip(PERIODS, parts, strict=True):  # what is kept as data is the same part
        assert ids_of(batch, period_conditions(split.to_dict()[name])) == part


def test_each_class_is_cut_by_itself():
    batch = batch_of(1000, rare=0.04)
    split = drawn_split(spread_over(batch, "label"), tune=0.25, calibrate=0.25, test=0.25)
    yes = [mask(batch, getattr(split, name).conditions()).column("label").to_pylist().count("yes") for name in PERIODS]
    assert max(yes) - min(yes) <= 1


def test_what_a_row_is_drawn_for_does_not_change_when_rows_come_or_go():
    """A cut moves by the rows that came, so all but a few stay where they were."""
    batch = batch_of(4000)
    fewer = batch.slice(0, 3900)
    before, after = (drawn_split(spread_over(b, None), tune=0.1, calibrate=0.2, test=0.2) for b in (fewer, batch))
    moved = sum(
        len(ids_of(fewer, getattr(before, name).conditions()) - ids_of(fewer, getattr(after, name).conditions()))
        for name in PERIODS
    )
    assert moved < 80


@given(st.integers(2, 7), st.sampled_from([None, "label"]), st.integers(0, 5))
def test_each_row_that_may_be_seen_judges_once_and_teaches_all_other_folds(folds, by, seed):
    batch = batch_of(400, seed=seed)
    split = drawn_split(spread_over(batch, by), tune=0.1, calibrate=0.2, test=0.2)
    seen = together([split.train, split.tune, split.calibrate])
    allowed, judged = ids_of(batch, seen.conditions()), []
    for fold in drawn_folds(spread_over(mask(batch, seen.conditions()), by), seen, folds):
        train, judge = (ids_of(batch, part.conditions()) for part in (fold.train, fold.validate))
        assert train | judge == allowed
        assert not train & judge
        assert abs(len(judge) - len(allowed) / folds) <= 2
        judged += list(judge)
    assert sorted(judged) == sorted(allowed)


def test_the_ends_of_all_numbers_are_drawn_too():
    ids = pa.array([-(2**63), -1, 0, 2**63 - 1, BIN], pa.int64())
    batch = pa.record_batch({ROW: ids, "time": pa.array([NOW] * 5, pa.timestamp("us", "UTC"))})
    part = spread_over(batch, None).part(0.0, 1.0)
    assert part.rows == mask(batch, part.conditions()).num_rows == 5


def test_shares_that_leave_nothing_are_refused():
    spread = spread_over(batch_of(100), None)
    with pytest.raises(DataError, match="nothing is left to train on"):
        drawn_split(spread, tune=0.4, calibrate=0.3, test=0.3)
    with pytest.raises(DataError, match=r"of 3 labelled row\(s\) the part .* gets none"):
        drawn_split(spread_over(batch_of(3), None), tune=0.1, calibrate=0.1, test=0.1)
