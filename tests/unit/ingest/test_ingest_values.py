"""Consumes raw columns as CSV and Parquet give them, checks the times, texts and numbers that come of them."""

import datetime as dt
import math
from decimal import Decimal

import polars as pl
import pytest

from assay.config.dataset import TimeConfig
from assay.ingest.values import as_number, as_text, parse_time, time_rules

NOW = dt.datetime(2020, 1, 1, tzinfo=dt.timezone.utc)


def utc(*parts):
    return dt.datetime(*parts, tzinfo=dt.timezone.utc)


def times(values, dtype=None, **config):
    found = parse_time(pl.Series("t", values, dtype=dtype), TimeConfig(column="t", **config))
    assert found.dtype == pl.Datetime("us", "UTC")
    return found.to_list()


@pytest.mark.parametrize(
    ("format_", "value"),
    [("%s", 1_420_070_400), ("epoch_ms", 1_420_070_400_000), ("epoch_us", 1_420_070_400_000_000)],
)
def test_numbers_since_1970_are_utc_whatever_the_zone(format_, value):
    wanted = [utc(2015, 1, 1), None, None, None]
    assert times([value, None, 2**62, -(2**62)], format=format_, zone="America/Chicago") == wanted
    assert times([f" {value}.0", "", "soon", "9" * 30], format=format_) == wanted
    assert times([float(value), math.nan, math.inf, None], format=format_) == wanted


def test_billionths_of_seconds_lose_what_is_less_than_a_microsecond():
    assert times([1_420_070_400_000_001_999], format="epoch_ns") == [utc(2015, 1, 1, 0, 0, 0, 1)]


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2015-06-30", utc(2015, 6, 30)),
        (" 2015-06-30\t", utc(2015, 6, 30)),
        ("2015-06", utc(2015, 6, 1)),
        ("2015-06-30 10:05", utc(2015, 6, 30, 10, 5)),
        ("2015-06-30T10:05:07", utc(2015, 6, 30, 10, 5, 7)),
        ("2015-06-30 10:05:07.25", utc(2015, 6, 30, 10, 5, 7, 250_000)),
        ("2015-06-30T10:05:07.123456789", utc(2015, 6, 30, 10, 5, 7, 123_456)),
        ("2015-06-30T10:05:07Z", utc(2015, 6, 30, 10, 5, 7)),
        ("2015-06-30T10:05Z", utc(2015, 6, 30, 10, 5)),
        ("2015-06-30T10:05:07+02:00", utc(2015, 6, 30, 8, 5, 7)),
        ("2015-06-30 10:05:07.5-0530", utc(2015, 6, 30, 15, 35, 7, 500_000)),
        ("2015-06-30T01:00:00+02", utc(2015, 6, 29, 23)),
        ("2015-02-29", None),
        ("2015-13-01", None),
        ("30.06.2015", None),
        ("20150630", None),
        ("yesterday", None),
        ("", None),
        (None, None),
        ("0001-01-01", None),  # what databases write for "none" is no time
        ("1677-12-31", None),
        ("9999-12-31", None),
        ("1678-01-01", utc(1678, 1, 1)),
        ("2261-12-31", utc(2261, 12, 31)),
    ],
)
def test_iso_times_alone_and_among_others(text, moment):
    assert times([text], dtype=pl.String) == [moment]
    others = ["2015-06-30", "2015-06-30T10:05:07", "2015-06-30T10:05:07Z", "x", None]
    assert times([*others, text], dtype=pl.String)[-1] == moment


def test_times_without_a_zone_are_local_ones_even_beside_times_with_one():
    found = times(["2015-01-01", "2015-01-01T10:00:00Z", "2015-07-01 00:00:00"], zone="America/New_York")
    assert found == [utc(2015, 1, 1, 5), utc(2015, 1, 1, 10), utc(2015, 7, 1, 4)]


@pytest.mark.parametrize("format_", [None, "%Y-%m-%d %H:%M:%S"])
def test_daylight_saving(format_):
    skipped, twice = "2015-03-08 02:30:00", "2015-11-01 01:30:00"
    found = times([skipped, twice], zone="America/New_York", format=format_)
    assert found == [None, utc(2015, 11, 1, 5, 30)]  # of an hour that comes twice the first


@pytest.mark.parametrize(
    ("format_", "text", "moment"),
    [
        ("%Y%m%dT%H%M%S", "20141013T000000", utc(2014, 10, 13)),
        ("%d/%m/%Y", "30/06/2015", utc(2015, 6, 30)),
        ("%m/%d/%y %I:%M %p", "06/30/15 01:05 PM", utc(2015, 6, 30, 13, 5)),
        ("%Y-%m", "2015-06", utc(2015, 6, 1)),
        ("%b %Y", "Jun 2015", utc(2015, 6, 1)),
        ("%Y", "2015", utc(2015, 1, 1)),
        ("%s", "1435622400", utc(2015, 6, 30)),
        ("%Y-%m-%dT%H:%M:%S%z", "2015-06-30T10:00:00+0200", utc(2015, 6, 30, 8)),
        ("%Y-%m-%d %H:%M:%S.%f", "2015-06-30 10:00:00.25", utc(2015, 6, 30, 10, 0, 0, 250_000)),
        ("%Y-%m-%d", "30/06/2015", None),
    ],
)
def test_formats(format_, text, moment):
    assert times([text], format=format_) == [moment]


def test_numbers_are_times_only_with_a_format():
    assert times([20150630, None, 5], format="%Y%m%d") == [utc(2015, 6, 30), None, None]
    assert times([20150630.0, 2015.5], format="%Y%m%d") == [utc(2015, 6, 30), None]
    assert times([20150630]) == [None]
    assert times([True]) == [None]


def test_dates_and_timestamps_of_parquet():
    day, moment = dt.date(2015, 6, 30), dt.datetime(2015, 6, 30, 1)
    assert times([day], zone="America/Chicago") == [utc(2015, 6, 30, 5)]
    assert times([moment], zone="America/Chicago") == [utc(2015, 6, 30, 6)]
    assert times([moment], dtype=pl.Datetime("ns")) == [utc(2015, 6, 30, 1)]
    assert times([moment], dtype=pl.Datetime("ms", "Asia/Tokyo"), zone="America/Chicago") == [utc(2015, 6, 30, 1)]


def reasons_of(values, **config):
    time = TimeConfig(column="sold on", **config)
    raw = pl.Series("sold on", values)
    rules = time_rules(raw, parse_time(raw, time), time, NOW)
    return ["; ".join(filter(None, (rule[i] for rule in rules))) or None for i in range(len(raw))]


def test_each_time_that_cannot_be_used_has_the_reason_that_fits():
    found = reasons_of(
        ["x", "2015-03-08 02:30", "0001-01-01", "2019-12-31 23:00", "2019-01-01", None], zone="America/New_York"
    )
    assert found == [
        "column 'sold on': no readable time (dataset.time.format)",
        "column 'sold on': no such time in America/New_York, where clocks were put forward (dataset.time.zone)",
        "column 'sold on': not between 1678 and 2261, so no real time",
        "column 'sold on': in the future (dataset.time.future)",
        None,
        "column 'sold on': no readable time (dataset.time.format)",
    ]
    assert reasons_of(["2020-01-01", "2020-01-01 00:00:01"]) == [
        None,
        "column 'sold on': in the future (dataset.time.future)",
    ]
    assert reasons_of(["2030-01-01"], future="keep") == [None]


@pytest.mark.parametrize(
    ("values", "texts"),
    [
        ([1, -2, None], ["1", "-2", None]),
        ([1.0, 2.5, -0.0, float("nan"), None], ["1", "2.5", "0", None, None]),
        ([2.0**53, 1e20, float("inf")], ["9007199254740992", "1e+20", "inf"]),
        ([True, False, None], ["true", "false", None]),
        (["  São Paulo ", "\u00a0大阪", "", " \t", None], ["São Paulo", "大阪", None, None, None]),
        ([dt.date(2015, 6, 30)], ["2015-06-30"]),
        ([Decimal("1.50")], ["1.50"]),
        ([None, None], [None, None]),
    ],
)
def test_keys_and_categories_become_texts(values, texts):
    found = as_text(pl.Series("c", values))
    assert found.to_list() == texts
    assert found.dtype == pl.String
    assert found.name == "c"


def test_whole_floats_and_integers_are_one_category():
    assert as_text(pl.Series([98001.0])).to_list() == as_text(pl.Series([98001])).to_list()


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("5", 5.0),
        (" -1.5e3 ", -1500.0),
        ("+5", 5.0),
        (".5", 0.5),
        ("1e400", math.inf),
        ("-Infinity", -math.inf),
        ("", None),
        ("  ", None),
        (None, None),
    ],
)
def test_texts_that_are_numbers_or_nothing(text, number):
    found, bad = as_number(pl.Series([text], dtype=pl.String))
    assert found.to_list() == [number]
    assert bad.to_list() == [False]


@pytest.mark.parametrize("text", ["x", "1,5", "1 000", "1_000", "$5", "5%", "0x10", "TRUE", "1e", "--1", "2015-06-30"])
def test_texts_that_are_no_numbers(text):
    found, bad = as_number(pl.Series([text]))
    assert found.to_list() == [None]
    assert bad.to_list() == [True]


def test_nan_is_a_number_until_the_rules_judge_it():
    found, bad = as_number(pl.Series(["nan", "NaN"]))
    assert found.is_nan().all()
    assert not bad.any()


@pytest.mark.parametrize(
    ("values", "numbers"),
    [([1, None], [1.0, None]), ([True, False], [1.0, 0.0]), ([Decimal("1.25")], [1.25]), ([None], [None])],
)
def test_typed_values_that_are_numbers(values, numbers):
    found, bad = as_number(pl.Series(values))
    assert found.to_list() == numbers
    assert found.dtype == pl.Float64
    assert not bad.any()


@pytest.mark.parametrize("values", [[dt.date(2015, 1, 1)], [dt.datetime(2015, 1, 1)], [dt.timedelta(1)], [b"5"], [[5]]])
def test_times_and_bytes_are_no_numbers(values):
    found, bad = as_number(pl.Series([*values, None]))
    assert found.to_list() == [None, None]
    assert bad.to_list() == [True, False]
