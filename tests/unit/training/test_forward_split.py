"""Consumes invented calendars of labelled rows, checks that the forward split never lets the future teach."""

from __future__ import annotations

import datetime as dt
import json
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from assay.config.profile import SplitConfig
from assay.errors import DataError
from assay.runtime.conditions import period_conditions
from assay.training.split import PERIODS, forward_split

FIRST = dt.datetime(2000, 1, 1, tzinfo=dt.timezone.utc)
DAY = dt.timedelta(days=1)

steps = st.lists(st.tuples(st.integers(1, 60), st.integers(1, 50)), min_size=4, max_size=60)
share = st.floats(0.02, 0.32)
days = st.integers(0, 45)


def calendar(steps):
    """Distinct times, ascending, and the rows at each."""
    times, moment = [], FIRST
    for gap, _ in steps:
        moment += gap * DAY
        times.append(moment)
    return times, [rows for _, rows in steps]


def config(tune=0.1, calibrate=0.15, test=0.2, embargo_days=0.0):
    return SplitConfig(tune=tune, calibrate=calibrate, test=test, embargo_days=embargo_days)


def holds(moment, conditions):
    compare = {">=": moment.__ge__, "<": moment.__lt__}
    return all(compare[c.op](c.value) for c in conditions)


def months(count):
    return [FIRST + 31 * number * DAY for number in range(count)]


@given(steps, share, share, share, days, days)
def test_periods_are_in_order_disjoint_and_a_gap_apart(steps, tune, calibrate, test, embargo, delay):
    times, counts = calendar(steps)
    try:
        split = forward_split(times, counts, config(tune, calibrate, test, embargo), label_delay_days=delay)
    except DataError as error:
        refusal = str(error)
        assert max(embargo, delay) > 0
        assert "period has no labelled rows" in refusal
        return
    periods = [getattr(split, name) for name in PERIODS]
    for period in periods:
        inside = [(t, c) for t, c in zip(times, counts, strict=True) if holds(t, period.conditions())]
        assert inside
        assert period.rows == sum(c for _, c in inside)
        assert (period.first, period.last) == (inside[0][0], inside[-1][0])
    for earlier, later in pairwise(periods):
        assert earlier.end + max(embargo, delay) * DAY == later.start
        # What is learned from a row was known, and its embargo over, before the next period began.
        assert earlier.last + max(embargo, delay) * DAY < later.start <= later.first
    for moment in times:
        assert sum(holds(moment, period.conditions()) for period in periods) <= 1
    assert split.train.start is None
    assert split.test.end is None


@given(steps, share, share, share)
def test_without_a_gap_every_row_serves_once_and_shares_are_as_near_as_whole_times_allow(steps, tune, calibrate, test):
    times, counts = calendar(steps)
    split = forward_split(times, counts, config(tune, calibrate, test), label_delay_days=0)
    assert sum(getattr(split, name).rows for name in PERIODS) == sum(counts)
    wanted, end = 0.0, len(times)
    for position, part in ((3, test), (2, calibrate), (1, tune)):
        wanted += part * sum(counts)
        cut = times.index(getattr(split, PERIODS[position]).first)
        later = sum(counts[cut:])
        assert later <= wanted * (1 + 1e-6) or cut == end - 1  # at most its share, or a single time
        assert later + counts[cut - 1] > wanted * (1 - 1e-6) or cut == position  # another time would be too much
        end = cut


@given(st.integers(20, 120), share)
def test_even_months_are_split_close_to_the_shares_asked_for(count, part):
    split = forward_split(months(count), [100] * count, config(test=part), label_delay_days=0)
    total, one = 100 * count, 100
    for name, asked in (("tune", 0.1), ("calibrate", 0.15), ("test", part)):
        assert abs(getattr(split, name).rows - asked * total) <= 2 * one


def test_the_longer_of_embargo_and_label_delay_counts():
    for embargo, delay in ((40, 0), (0, 40), (40, 10), (10, 40)):
        split = forward_split(months(40), [1] * 40, config(embargo_days=embargo), label_delay_days=delay)
        assert split.tune.start - split.train.end == 40 * DAY


def test_a_period_that_the_gap_empties_is_an_error_that_names_the_settings():
    with pytest.raises(DataError, match=r"the tune period has no labelled rows .* gap of 62.5 days") as caught:
        forward_split(months(20), [5] * 20, config(embargo_days=62.5), label_delay_days=0)
    assert "split.embargo_days" in str(caught.value)
    assert "availability_delay_days" in str(caught.value)
    assert "split.tune" in str(caught.value)


@pytest.mark.parametrize("count", [1, 2, 3])
def test_fewer_times_than_periods_are_an_error_that_counts_them(count):
    with pytest.raises(DataError, match=rf"{count * 50:,} labelled row\(s\) at {count} distinct time\(s\)"):
        forward_split(months(count), [50] * count, config(), label_delay_days=0)


def test_four_times_give_each_period_one():
    split = forward_split(months(4), [1, 1, 1, 997], config(), label_delay_days=0)
    assert [getattr(split, name).rows for name in PERIODS] == [1, 1, 1, 997]


def test_shares_that_leave_nothing_to_train_on_are_an_error():
    with pytest.raises(DataError, match=r"split.tune \+ split.calibrate \+ split.test = 1: nothing is left"):
        forward_split(months(20), [5] * 20, config(0.3, 0.3, 0.4), label_delay_days=0)


def test_kept_as_json_a_period_selects_the_same_rows():
    times = months(30)
    split = forward_split(times, [3] * 30, config(embargo_days=10), label_delay_days=0)
    kept = json.loads(json.dumps(split.to_dict()))
    for name in PERIODS:
        again, before = period_conditions(kept[name]), getattr(split, name).conditions()
        assert [holds(t, again) for t in times] == [holds(t, before) for t in times]
