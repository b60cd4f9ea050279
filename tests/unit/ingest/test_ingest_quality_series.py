"""Consumes series with known steps, checks gaps, age, and the trend and season that were put into them."""

from __future__ import annotations

import datetime as dt

import numpy as np
import polars as pl
import pytest
from quality_harness import NOW, run_config
from statsmodels.tsa.seasonal import STL

from assay.ingest.quality_partial import WHOLE, Partial
from assay.ingest.quality_series import series_facts
from assay.ingest.quality_temporal import MARKET, SEASON_WINDOW, candidates, decompose, patterns

START = dt.datetime(2010, 1, 4, tzinfo=dt.timezone.utc)  # a Monday
HOUR, DAY, WEEK = dt.timedelta(hours=1), dt.timedelta(days=1), dt.timedelta(days=7)


def series_of(times, values=None):
    """(entity, time, file, row, target) as a partial has them: name -> times."""
    parts, names = [], []
    for entity, (name, moments) in enumerate(times.items(), 1):
        numbers = values[name] if values else np.ones(len(moments))
        parts.append(
            pl.DataFrame(
                {
                    "entity": pl.Series([entity] * len(moments), dtype=pl.UInt64),
                    "time": pl.Series([int(t.timestamp() * 1e6) for t in moments], dtype=pl.Int64),
                    "file": pl.Series([7] * len(moments), dtype=pl.UInt64),
                    "row": pl.Series(range(len(moments)), dtype=pl.Int64),
                    "target_sales": pl.Series(numbers, dtype=pl.Float64),
                }
            )
        )
        names.append((entity, name))
    return pl.concat(parts), pl.DataFrame(names, schema={"entity": pl.UInt64, "name": pl.String}, orient="row")


def facts(tmp_path, times, now=NOW, zone="UTC", **quality):
    dataset = run_config(tmp_path, quality=quality, time={"column": "day", "zone": zone}).dataset
    return series_facts(*series_of(times), dataset, now)


def every(step, count, start=START):
    return [start + i * step for i in range(count)]


def months(count, step=1):
    return [dt.datetime(2010 + m // 12, m % 12 + 1, 1, tzinfo=dt.timezone.utc) for m in range(0, count * step, step)]


@pytest.mark.parametrize("moments", [every(HOUR, 60), every(DAY, 60), every(WEEK, 60), months(60), months(20, 3)])
def test_missing_moments_are_counted_at_any_frequency(tmp_path, moments):
    found = facts(tmp_path, {"whole": moments, "holed": moments[:9] + moments[11:14] + moments[15:]})
    assert (found.gaps, found.expected, found.even) == (3, 2 * len(moments), 2)
    assert found.longest == ("holed", moments[8], moments[11], 2)
    assert found.step_days == pytest.approx((moments[10] - moments[9]) / DAY, rel=0.11)


def test_the_frequency_of_the_dataset_goes_before_that_of_the_data(tmp_path):
    weekly = every(WEEK, 10)
    assert facts(tmp_path, {"a": weekly}).gaps == 0
    assert facts(tmp_path, {"a": weekly}, frequency="1d").gaps == 9 * 6
    assert facts(tmp_path, {"a": weekly}, frequency="2w").gaps == 0
    assert facts(tmp_path, {"a": [weekly[0], weekly[5]]}, frequency="1w").gaps == 4
    assert facts(tmp_path, {"a": [*months(3), *months(9)[6:]]}, frequency="1mo").gaps == 3
    assert facts(tmp_path, {"a": months(5, 3)}, frequency="1q").gaps == 0
    assert facts(tmp_path, {"a": months(5, 12)}, frequency="1y").gaps == 0


def test_weekends_are_no_gaps_of_a_series_of_business_days(tmp_path):
    days = [day for day in every(DAY, 140) if day.weekday() < 5]
    assert facts(tmp_path, {"a": days}).gaps == 0
    assert facts(tmp_path, {"a": days[:20] + days[22:]}).gaps == 2
    assert facts(tmp_path, {"a": days}, frequency="business_day").gaps == 0
    assert facts(tmp_path, {"a": days}, frequency="1d").gaps == 2 * 19
    # The same with one Saturday worked is a series of days, and then weekends are missing.
    assert facts(tmp_path, {"a": sorted([*days, START + 5 * DAY])}).gaps == 2 * 19 - 1


def test_local_midnights_around_clock_changes_are_a_day_apart(tmp_path):
    import zoneinfo

    zone = zoneinfo.ZoneInfo("Europe/Berlin")
    days = [dt.datetime(2010, 3, 1, tzinfo=zone) + i * DAY for i in range(300)]
    found = facts(
        tmp_path, {"a": [day.astimezone(dt.timezone.utc) for day in days if day.weekday() < 5]}, zone="Europe/Berlin"
    )
    assert (found.gaps, found.even) == (0, 1)


def test_uneven_series_have_no_gaps_to_count(tmp_path):
    random = np.random.default_rng(0)
    events = {f"e{i}": sorted(START + DAY * float(x) for x in random.uniform(0, 400, 30)) for i in range(20)}
    found = facts(tmp_path, events)
    assert (found.even, found.gaps, found.aged) == (0, 0, 0)
    few = facts(tmp_path, events | {"regular": every(DAY, 8)})  # even by chance, as far as anybody knows
    assert few.even == 0


def test_a_series_is_stale_after_five_of_its_own_steps_or_the_age_that_is_set(tmp_path):
    times = {"daily": every(DAY, 100), "ended": every(DAY, 94), "weekly": every(WEEK, 12)}
    found = facts(tmp_path, times)
    assert (found.stale, found.aged, found.stalest) == (1, 3, "ended")
    assert found.reference == START + 99 * DAY
    late = facts(tmp_path, times, now=START + 106 * DAY, max_age_days=9)
    assert (late.stale, late.aged, late.stalest) == (2, 3, "weekly")
    assert facts(tmp_path, times, now=START + 106 * DAY, max_age_days=40).stale == 0
    assert facts(tmp_path, {"one": [START]}, now=START + 3 * DAY, max_age_days=2).stale == 1


def test_rows_of_the_future_make_nothing_old_and_no_gap(tmp_path):
    times = {"a": [*every(DAY, 30), dt.datetime(2150, 1, 1, tzinfo=dt.timezone.utc)], "b": every(DAY, 30)}
    found = facts(tmp_path, times)
    assert (found.gaps, found.stale) == (0, 0)


def partial_of(times, values):
    series, names = series_of(times, values)
    days = series.with_columns(
        target=pl.lit("sales"), day=pl.from_epoch("time", "us").dt.date(), total=pl.col("target_sales")
    )
    days = days.group_by("target", "day").agg(pl.col("total").sum(), pl.len().cast(pl.Int64).alias("rows"))
    empty = pl.DataFrame()
    kept = pl.DataFrame({"of": ["sample", "series"], "threshold": pl.Series([WHOLE, WHOLE], dtype=pl.UInt64)})
    return Partial(empty, empty, empty, empty, empty, series, names, days.sort("day"), kept)


def found_patterns(tmp_path, times, values, *overrides):
    config = run_config(tmp_path, *overrides)
    return {p.series: p for p in patterns(partial_of(times, values), config.dataset, config.profile.quality)}


def test_planted_trend_and_season_are_found_with_their_period(tmp_path):
    random = np.random.default_rng(5)
    n, at = 120, np.arange(120)
    noise = random.normal(0, 1, (3, n))
    year = 6 * np.sin(2 * np.pi * at / 12)
    times = dict.fromkeys(("noise", "season", "trend", "short"), months(n)) | {"short": months(20)}
    values = {"noise": noise[0], "season": year + noise[1], "trend": 0.3 * at + noise[2], "short": at[:20]}
    found = found_patterns(tmp_path, times, values)
    assert found["season"].season > 0.9 > 0.6 > found["season"].trend
    assert found["season"].words == "a strong season of a year"
    assert found["trend"].trend > 0.9 > 0.6 > found["trend"].season
    assert found["trend"].words == "a strong trend"
    assert max(found["noise"].season, found["noise"].trend) < 0.6
    assert found["noise"].words == "neither a strong trend nor a strong season"
    assert {p.period_steps for p in found.values() if p.season is not None} == {12}
    assert "short" not in found
    assert found[MARKET].moments == n


def test_hours_have_days_and_weeks_and_other_steps_their_own_period(tmp_path):
    random = np.random.default_rng(6)
    at = np.arange(24 * 7 * 8)
    daily, weekly = 5 * np.sin(2 * np.pi * at / 24), 5 * np.sin(2 * np.pi * at / 168)
    times = {"daily": every(HOUR, len(at)), "weekly": every(HOUR, len(at))}
    noise = random.normal(0, 1, (2, len(at)))
    found = found_patterns(tmp_path, times, {"daily": daily + noise[0], "weekly": weekly + noise[1]})
    assert found["daily"].period_days == pytest.approx(1)
    assert found["weekly"].period_days == pytest.approx(7)
    odd = 5 * np.sin(2 * np.pi * np.arange(200) / 9) + random.normal(0, 1, 200)
    three = found_patterns(tmp_path, {"a": every(3 * DAY, 200)}, {"a": odd})
    assert MARKET not in three  # a single series is the market
    assert (three["a"].period_steps, three["a"].period_days) == (9, 27)


def test_gaps_keep_their_place_and_too_many_stop_it(tmp_path):
    at = np.arange(120)
    year, keep = 6 * np.sin(2 * np.pi * at / 12), at % 17 != 3
    noise = np.random.default_rng(7).normal(0, 0.5, 120)
    holed = [m for m, k in zip(months(120), keep, strict=True) if k]
    found = found_patterns(tmp_path, {"a": holed}, {"a": (year + noise)[keep]})["a"]
    assert found.gaps == int((~keep).sum())
    assert found.season > 0.9
    half = [m for i, m in enumerate(months(120)) if i < 40 or i > 100]
    broken = found_patterns(tmp_path, {"a": half}, {"a": np.delete(year, np.arange(40, 101))})["a"]
    assert (broken.season, broken.words) == (None, "too many gaps for a decomposition")


def test_strengths_are_those_of_the_textbook():
    random = np.random.default_rng(8)
    values = 0.05 * np.arange(144) + 3 * np.sin(2 * np.pi * np.arange(144) / 12) + random.normal(0, 1, 144)
    plain = STL(values, period=12, seasonal=SEASON_WINDOW, seasonal_deg=0).fit()
    rest = np.var(plain.resid)
    trend, season, period = decompose(values, 12)
    assert trend == pytest.approx(1 - rest / np.var(plain.trend + plain.resid), abs=0.01)  # loess is interpolated
    assert season == pytest.approx(1 - rest / np.var(plain.seasonal + plain.resid), abs=0.01)
    assert period == 12
    assert candidates(values, 30.4) == [12]
    assert candidates(values[:20], 30.4) == []


def test_as_many_series_as_are_asked_for_the_longest_first(tmp_path):
    times = {f"s{i}": months(30 + i) for i in range(6)}
    values = {name: np.random.default_rng(1).normal(0, 1, len(m)) for name, m in times.items()}
    assert list(found_patterns(tmp_path, times, values, "quality.series=2")) == [MARKET, "s5", "s4"]
    assert found_patterns(tmp_path, times, values, "quality.series=0") == {}
