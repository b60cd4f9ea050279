"""Consumes irregular times and rows, checks the periods that they fall in and what becomes of rows of one period."""

import datetime as dt
import statistics
from zoneinfo import ZoneInfo

import polars as pl
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from assay.ingest.alignment import period_start

NOW = "2019-12-31"
HEADER = ["sold_on", "flat", "price", "rooms", "district"]


def utc(*parts):
    return dt.datetime(*parts, tzinfo=dt.timezone.utc)


def starts(moments, frequency, zone="UTC"):
    found = period_start(pl.Series(moments, dtype=pl.Datetime("us", "UTC")), frequency, zone)
    assert found.dtype == pl.Datetime("us", "UTC")
    return found.to_list()


@pytest.mark.parametrize(
    ("frequency", "start"),
    [
        ("15m", utc(2015, 6, 30, 10, 45)),
        ("1h", utc(2015, 6, 30, 10)),
        ("6h", utc(2015, 6, 30, 6)),
        ("1d", utc(2015, 6, 30)),
        ("1w", utc(2015, 6, 29)),
        ("1mo", utc(2015, 6, 1)),
        ("1q", utc(2015, 4, 1)),
        ("1y", utc(2015, 1, 1)),
    ],
)
def test_the_start_of_a_period(frequency, start):
    assert starts([utc(2015, 6, 30, 10, 59, 59, 999_999), start, None], frequency) == [start, start, None]


def test_periods_are_those_of_the_zones_clocks():
    chicago = "America/Chicago"
    assert starts([utc(2015, 7, 1, 4, 59)], "1mo", chicago) == [utc(2015, 6, 1, 5)]
    assert starts([utc(2015, 1, 1, 5, 59)], "1y", chicago) == [utc(2014, 1, 1, 6)]
    assert starts([utc(2015, 6, 30, 12)], "1h", "Asia/Kolkata") == [utc(2015, 6, 30, 11, 30)]


def test_days_of_23_and_25_hours():
    berlin = "Europe/Berlin"
    assert starts([utc(2015, 3, 28, 23), utc(2015, 3, 29, 21, 59)], "1d", berlin) == [utc(2015, 3, 28, 23)] * 2
    assert starts([utc(2015, 3, 29, 22)], "1d", berlin) == [utc(2015, 3, 29, 22)]
    assert starts([utc(2015, 10, 24, 22), utc(2015, 10, 25, 22, 59)], "1d", berlin) == [utc(2015, 10, 24, 22)] * 2


def test_the_hour_that_comes_twice_is_two_hours_and_part_of_one_longer_period():
    twice = [utc(2015, 10, 25, 0, 30), utc(2015, 10, 25, 1, 30)]  # 02:30 in Berlin, both times
    assert starts(twice, "1h", "Europe/Berlin") == [utc(2015, 10, 25, 0), utc(2015, 10, 25, 1)]
    assert starts(twice, "2h", "Europe/Berlin") == [utc(2015, 10, 25, 0)] * 2


def test_a_day_whose_midnight_was_skipped_starts_with_its_first_moment():
    assert starts([utc(2018, 11, 4, 12)], "1d", "America/Sao_Paulo") == [utc(2018, 11, 4, 3)]


ZONES = ["UTC", "America/New_York", "Europe/London", "Australia/Lord_Howe", "America/Sao_Paulo", "Asia/Kathmandu"]


@settings(max_examples=200, deadline=None)
@given(
    st.datetimes(dt.datetime(2000, 1, 1), dt.datetime(2025, 1, 1)),
    st.sampled_from(ZONES),
    st.sampled_from(["30m", "1h", "1d", "1w", "1mo", "1q", "1y"]),
)
@example(dt.datetime(2018, 11, 4, 12), "America/Sao_Paulo", "1d")
def test_a_start_is_not_later_and_its_own_start_and_of_the_same_local_period(moment, zone, frequency):
    moment = moment.replace(tzinfo=dt.timezone.utc)
    (start,) = starts([moment], frequency, zone)
    assert start <= moment
    assert starts([start], frequency, zone) == [start]
    here, there = (m.astimezone(ZoneInfo(zone)) for m in (moment, start))
    same = {
        "1y": lambda m: m.year,
        "1q": lambda m: (m.year, (m.month - 1) // 3),
        "1mo": lambda m: (m.year, m.month),
        "1w": lambda m: m.isocalendar()[:2],
        "1d": lambda m: m.date(),
        "1h": lambda m: (m.date(), m.hour),
        "30m": lambda m: (m.date(), m.hour, m.minute // 30),
    }[frequency]
    assert same(here) == same(there)
    if frequency in {"1h", "30m"}:
        assert moment - start < dt.timedelta(hours=1)


AGGREGATES = {
    "last": lambda values: values[-1],
    "first": lambda values: values[0],
    "mean": statistics.fmean,
    "sum": sum,
    "min": min,
    "max": max,
}
ROWS = st.lists(
    st.tuples(
        st.integers(0, 80),
        st.sampled_from("ab"),
        st.sampled_from(["1", "2", "3.5", ""]),
        st.sampled_from(["4", ""]),
        st.sampled_from(["north", "south", ""]),
    ),
    min_size=1,
    max_size=25,
)


@settings(max_examples=60, deadline=None)
@given(ROWS, st.sampled_from(sorted(AGGREGATES)), st.sampled_from(["keep_last", "keep_first", "allow"]))
def test_rows_of_one_period_become_one_and_none_is_lost(tmp_path_factory, dataset, ingest, rows, aggregate, rule):
    path = tmp_path_factory.getbasetemp() / "aligned.csv"
    start = dt.datetime(2015, 1, 1)
    lines = [f"{start + dt.timedelta(hours=row[0])},{','.join(row[1:])}" for row in rows]
    path.write_text("\n".join([",".join(HEADER), *lines, "?,a,1,1,x", ""]))
    align = {"frequency": "1d", "aggregate": aggregate}
    kept, bad = ingest(dataset(time={"column": "sold_on", "align": align}, duplicates=rule), [path])
    assert kept["source_rows"].sum() + bad.height == len(rows) + 1
    assert kept.select("flat", "time").is_unique().all()
    assert kept["row_id"].n_unique() == kept.height
    assert bad.filter(pl.col("source_row") == len(rows) + 1).height == 1

    alive = [(row, n) for n, row in enumerate(rows, start=1) if n not in set(bad["source_row"])]
    periods = {}
    for row, number in sorted(alive, key=lambda found: (found[0][0], found[1])):
        periods.setdefault(
            (row[1], start.replace(tzinfo=dt.timezone.utc) + dt.timedelta(days=row[0] // 24)), []
        ).append((row, number))
    assert {(r["flat"], r["time"]) for r in kept.iter_rows(named=True)} == set(periods)
    for found in kept.iter_rows(named=True):
        members = periods[found["flat"], found["time"]]
        assert found["source_rows"] == len(members)
        assert found["source_row"] == members[-1][1]
        for index, name in ((2, "price"), (3, "rooms")):
            values = [float(row[index]) for row, _ in members if row[index]]
            assert found[name] == (pytest.approx(AGGREGATES[aggregate](values)) if values else None)
        texts = [row[4] for row, _ in members if row[4]]
        assert found["district"] == (texts[-1] if texts else None)
        assert found["month"] == found["time"].strftime("%Y-%m")


def test_bad_rows_keep_their_own_time(dataset, ingest, tmp_path):
    path = tmp_path / "aligned.csv"
    path.write_text("\n".join([",".join(HEADER), "2015-01-05 10:30,a,x,1,n", "2015-01-05 10:45,a,1,1,n", ""]))
    kept, bad = ingest(dataset(time={"column": "sold_on", "align": {"frequency": "1mo"}}), [path])
    assert bad["time"].to_list() == [utc(2015, 1, 5, 10, 30)]
    assert kept["time"].to_list() == [utc(2015, 1, 1)]
