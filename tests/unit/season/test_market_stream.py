"""Consumes the raw files of a season, checks that each day brings its own rows, late outcomes, and what is planted."""

import datetime as dt

import numpy as np
import polars as pl
import pytest

from assay.season.faults import FIRST_DAY, LABEL_DAYS, calendar_of
from assay.season.market import ENTITIES, LEVEL, NEW_REGION, NEWCOMERS, Stream

JOBS = {"deploy"}
DAY = dt.timedelta(days=1)


@pytest.fixture(scope="module")
def stream():
    return Stream(calendar_of(30, 7, JOBS))


@pytest.fixture(scope="module")
def raw(stream, tmp_path_factory):
    """The folder after the whole season, and after each day the prices that were known: day -> file -> count."""
    folder, known = tmp_path_factory.mktemp("raw"), {}
    for day in [FIRST_DAY - DAY, *stream.calendar.dates]:
        stream.deliver(folder, day)
        known[day] = {path.name: read(path)["price"].count() for path in folder.glob("*.csv")}
    return folder, known


def read(path):
    return pl.read_csv(path, infer_schema_length=None, schema_overrides={"observed_at": pl.String})


def test_the_same_seed_gives_the_same_rows_and_another_one_others(stream):
    again = Stream(calendar_of(30, 7, JOBS))
    assert again.rows.equals(stream.rows, null_equal=True)
    assert not Stream(calendar_of(30, 8, JOBS)).rows["price"].equals(stream.rows["price"], null_equal=True)


def test_outcomes_come_late_and_then_for_good(stream, raw):
    _, known = raw
    for day in stream.calendar.dates:
        for back in range(LABEL_DAYS):
            assert known[day][f"{day - back * DAY}.csv"] == 0
        due = f"{day - LABEL_DAYS * DAY}.csv"
        assert known[day][due] > 0
        assert known[stream.calendar.dates[-1]][due] == known[day][due]


def test_files_together_are_all_rows_once(stream, raw):
    folder, _ = raw
    for path in folder.glob("*.csv"):
        mine = stream.rows.filter(pl.col("file") == path.name)
        assert read(path)["entity"].to_list() == mine["entity"].to_list()
        assert mine["place"].to_list() == list(range(1, mine.height + 1))
    assert {path.name for path in folder.iterdir()} == set(stream.rows["file"])
    assert min(path.name for path in folder.iterdir()).endswith("-and-before.csv")  # the first of doubles stays


def test_a_delivery_that_is_made_again_touches_no_file(stream, raw):
    folder, _ = raw
    before = {path: path.stat().st_mtime_ns for path in folder.iterdir()}
    stream.deliver(folder, stream.calendar.dates[-1])
    assert {path: path.stat().st_mtime_ns for path in folder.iterdir()} == before


def test_a_broken_column_is_zero_on_its_days_alone(stream):
    fault = stream.calendar.fault("broken_feature")
    zero = stream.rows.filter(pl.col("condition") == 0.0)
    assert set(zero["day"]) == {fault.first + place * DAY for place in range((fault.last - fault.first).days + 1)}
    assert stream.rows.filter(pl.col("day").is_in(zero["day"].unique())).height == zero.height


def test_the_price_level_moves_by_what_was_planted():
    quiet = {one.kind: one for one in calendar_of(30, 7, JOBS).faults}
    calendar = calendar_of(30, 7, JOBS)
    shock = quiet["price_level"].first
    kept = tuple(one for one in calendar.faults if one.kind != "price_level")
    calm = Stream(type(calendar)(30, 7, kept, ()))
    one, other = (s.rows.filter(pl.col("fault").is_null()) for s in (Stream(calendar), calm))
    apart = np.log(one["price"].to_numpy() / other["price"].to_numpy())
    after = one["day"].to_numpy() >= np.datetime64(shock)
    assert apart[after] == pytest.approx(LEVEL)
    assert apart[~after] == pytest.approx(0.0)


def test_a_new_segment_comes_on_its_day_and_stays(stream):
    first = stream.calendar.fault("new_segment").first
    new = stream.rows.filter(pl.col("region") == NEW_REGION)
    assert set(new["day"]) == {day for day in stream.calendar.dates if day >= first}
    assert new["entity"].n_unique() == NEWCOMERS
    assert stream.rows.filter(pl.col("region") != NEW_REGION)["entity"].n_unique() == ENTITIES + 1  # the missing one


def test_expected_rows_are_all_rows_apart_by_the_rules_that_show_on_the_day(stream):
    late = set()
    for day in stream.calendar.dates:
        expected = stream.expected(day)
        rows = stream.rows.filter(pl.col("day") <= day)
        assert expected.observations.total() + expected.quarantine.total() == rows.height
        assert max(expected.observations.values()) == max(expected.quarantine.values()) == 1
        hidden = rows.filter(pl.col("fault").str.starts_with("target_") & (pl.col("day") > day - LABEL_DAYS * DAY))
        late |= set(hidden["fault"])
        assert expected.quarantine.total() == rows["fault"].count() - hidden.height
        assert stream.scored(day).total() == rows.filter(pl.col("day") == day).height - (
            rows.filter((pl.col("day") == day) & pl.col("fault").is_not_null()).height
            - hidden.filter(pl.col("day") == day).height
        )
    assert late  # some rows turn out bad when their price is known
