"""Consumes small frames, checks the segment table against `metrics.py` and the choice of best and worst."""

import datetime as dt
import math
import re
import time

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from assay.evaluation.segments import BestAndWorst, SegmentValue, best_and_worst, segment_table
from assay.metrics import binomial_band, interval_metrics, point_metrics, wilson_bands

LEVELS = (0.8, 0.975)


def frame(actual, prediction, segment=None, *, half_width=10.0, name="city"):
    prediction = np.asarray(prediction, dtype=float)
    return pl.DataFrame(
        {
            "time": [dt.datetime(2020, 1, 1, tzinfo=dt.timezone.utc)] * len(prediction),
            "actual": np.asarray(actual, dtype=float),
            "prediction": prediction,
            "lower_80": prediction - half_width,
            "upper_80": prediction + half_width,
            "lower_97_5": prediction - 2 * half_width,
            "upper_97_5": prediction + 2 * half_width,
            name: pl.Series(segment or ["a"] * len(prediction), dtype=pl.String),
        }
    )


def as_dict(table, column, segment):
    part = table.filter((pl.col("segment_column") == column) & (pl.col("segment") == segment))
    return {
        metric: math.nan if value is None else value for metric, value in part.select("metric", "value").iter_rows()
    }


MORE = re.compile(r"(pinball_50$|shortfall_|lower_total_|predicted_total_|actual_total_)|_(confidence|adjusted_p)$")


def known(found):
    """Metrics that `metrics.py` has too; the others are checked elsewhere."""
    return {name: value for name, value in found.items() if not MORE.search(name)}


def expected(rows):
    found = point_metrics(rows["actual"].to_numpy(), rows["prediction"].to_numpy())
    for level, label in zip(LEVELS, ("80", "97_5"), strict=True):
        bounds = (rows[f"{end}_{label}"].cast(pl.Float64).to_numpy() for end in ("lower", "upper"))
        for name, value in interval_metrics(rows["actual"].to_numpy(), *bounds, level).items():
            found[f"{name}_{label}"] = value
    return found


number = st.sampled_from([0.0, 0.1, -3.0, 250.0, 1e6]) | st.floats(-1e4, 1e4).map(lambda v: round(v, 3))
bound = st.sampled_from([0.0, 5.0, math.inf, None, math.nan]) | st.floats(0, 1e3)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(number, number, bound, bound, st.sampled_from(["x", "ünï cödé", "", None])), min_size=1))
def test_every_segment_equals_the_array_metrics(values):
    actual, prediction, below, above, segment = zip(*values, strict=True)
    rows = frame(actual, prediction, list(segment), name="a column, with $ and é")
    for label in ("80", "97_5"):
        rows = rows.with_columns(
            (pl.col("prediction") - pl.Series(below, dtype=pl.Float64)).alias(f"lower_{label}"),
            (pl.col("prediction") + pl.Series(above, dtype=pl.Float64)).alias(f"upper_{label}"),
        )
    name = "a column, with $ and é"
    table = segment_table(rows, [name], LEVELS)
    assert known(as_dict(table, "", "")) == pytest.approx(expected(rows), nan_ok=True, rel=1e-9, abs=1e-9)
    for value in set(segment):
        part = rows.filter(pl.col(name).eq_missing(pl.lit(value, dtype=pl.String)))
        found = as_dict(table, name, "(missing)" if value is None else value)
        assert known(found) == pytest.approx(expected(part), nan_ok=True, rel=1e-9, abs=1e-9)


def test_grain_schema_and_bands():
    rows = frame(range(1, 101), [v * 1.1 for v in range(1, 101)], ["big"] * 90 + ["small"] * 10)
    table = segment_table(rows, ["city", "city"], LEVELS)
    assert table.schema == {
        "segment_column": pl.String,
        "segment": pl.String,
        "metric": pl.String,
        "value": pl.Float64,
        "low": pl.Float64,
        "high": pl.Float64,
        "rows": pl.Int64,
    }
    assert not table.select("segment_column", "segment", "metric").is_duplicated().any()
    assert table.null_count().select("segment_column", "segment", "metric", "rows").row(0) == (0, 0, 0, 0)
    coverage = table.filter(pl.col("metric") == "coverage_97_5").sort("rows")
    assert coverage.select("rows", "low", "high").rows() == [(n, *binomial_band(0.975, n)) for n in (10, 90, 100)]
    assert table.filter(~pl.col("metric").str.starts_with("coverage"))["low"].null_count() > 0
    assert table.filter(pl.col("low").is_not_null())["metric"].unique().sort().to_list() == [
        "coverage_80",
        "coverage_80_confidence",
        "coverage_97_5",
        "coverage_97_5_confidence",
    ]


def test_bands_count_only_rows_that_have_an_interval():
    rows = frame([1.0] * 40, [1.0] * 40).with_columns(
        pl.when(pl.int_range(pl.len()) < 25).then("lower_80").alias("lower_80")
    )
    line = segment_table(rows, [], [0.8]).filter(pl.col("metric") == "coverage_80").row(0, named=True)
    assert (line["low"], line["high"], line["rows"]) == (*binomial_band(0.8, 25), 40)


def test_a_segment_column_may_be_called_like_a_metric_or_hold_numbers():
    rows = frame([1.0, 2.0], [1.0, 2.0]).with_columns(r2=pl.Series(["p", "q"]), rows=pl.Series([1, 2]))
    table = segment_table(rows, ["r2", "rows"], [0.8])
    assert set(table["segment"]) == {"", "p", "q", "1", "2"}
    assert "mae" in table["metric"].to_list()


def test_without_levels_there_are_point_metrics_only():
    assert "coverage" not in "".join(segment_table(frame([1.0], [2.0]), [], [])["metric"])


@pytest.mark.parametrize(
    ("rows", "columns", "levels", "message"),
    [
        (frame([], []), [], LEVELS, "no rows"),
        (frame([1.0], [2.0]), ["town"], LEVELS, "rows lack the columns 'town'"),
        (frame([1.0], [2.0]), [], [0.9], "'lower_90', 'upper_90'"),
        (frame([1.0], [2.0]), [], [80], "level must be a share"),
        (frame([1.0, 1.0], [2.0, math.nan]), [], LEVELS, "prediction is null, NaN or infinite in 1 of 2"),
        (frame([1.0], [2.0]).with_columns(actual=pl.lit(None, dtype=pl.Float64)), [], LEVELS, "actual is null"),
        (frame([1.0], [2.0], half_width=-1), [], LEVELS, "1 of 1 intervals have lower_80 above upper_80"),
    ],
)
def test_unusable_rows_are_refused(rows, columns, levels, message):
    with pytest.raises(ValueError, match=message):
        segment_table(rows, columns, levels)


def graded(**errors):
    """A frame with `errors[name] = (relative error, rows)` per city."""
    names = [name for name, (_, n) in errors.items() for _ in range(n)]
    actual = 100 + np.arange(len(names), dtype=float)
    return frame(actual, [a * (1 + errors[c][0]) for a, c in zip(actual, names, strict=True)], names)


def test_best_and_worst_with_sample_sizes():
    table = segment_table(graded(fine=(0.01, 40), bad=(0.3, 50), tiny=(0.9, 5), middle=(0.1, 30)), ["city"], [0.8])
    found = best_and_worst(table)
    assert found is not None
    assert found.best == SegmentValue("city", "fine", pytest.approx(0.01), 40)
    assert found.worst == SegmentValue("city", "bad", pytest.approx(0.3), 50)
    assert (found.segments, found.left_out) == (3, 1)
    by_share = best_and_worst(table, "within_5pct", min_rows=1)
    assert by_share is not None
    assert (by_share.best.segment, by_share.worst.segment) == ("fine", "bad")  # the larger of two that are equally bad
    by_promise = best_and_worst(table, "coverage_80", min_rows=1)
    assert isinstance(by_promise, BestAndWorst)
    assert best_and_worst(table, segment_column="other") is None


def test_best_and_worst_need_two_segments_that_differ():
    assert best_and_worst(segment_table(graded(one=(0.1, 50)), ["city"], [])) is None
    assert best_and_worst(segment_table(graded(one=(0.1, 5), two=(0.2, 5)), ["city"], [])) is None
    assert best_and_worst(segment_table(frame([1.0] * 80, [1.0] * 80, ["a", "b"] * 40), ["city"], [])) is None
    assert best_and_worst(segment_table(graded(one=(0.1, 50)), [], [])) is None


def test_bias_is_best_near_zero_and_coverage_near_its_promise():
    table = segment_table(graded(under=(-0.3, 40), fair=(0.01, 40), over=(0.1, 40)), ["city"], [])
    found = best_and_worst(table, "bias")
    assert found is not None
    assert (found.best.segment, found.worst.segment) == ("fair", "under")


def test_a_thousand_segments_of_a_million_rows_in_seconds():
    random = np.random.default_rng(3)
    n = 1_000_000
    actual = np.exp(random.normal(12, 0.5, n))
    rows = frame(actual, actual * np.exp(random.normal(0, 0.1, n))).with_columns(
        city=pl.Series(random.integers(0, 1000, n)).cast(pl.String)
    )
    start = time.perf_counter()
    table = segment_table(rows, ["city"], LEVELS)
    assert time.perf_counter() - start < 20  # about 1 s on two idle cores
    assert table["segment"].n_unique() == 1001


def test_coverages_have_their_own_band_and_are_judged_as_many():
    """Twenty segments that hold and one that does not: chance puts some outside their band, but only one is off."""
    random = np.random.default_rng(6)
    actual = random.normal(0, 1, 21 * 200)
    actual[-200:] *= 3
    names = [f"s{place:02d}" for place in range(21) for _ in range(200)]
    rows = frame(actual, np.zeros(len(actual)), names, half_width=1.2816)
    table = segment_table(rows, ["city"], (0.8,)).filter(pl.col("segment_column") == "city")
    found = {
        (s, m): (v, low, high)
        for s, m, v, low, high in table.select("segment", "metric", "value", "low", "high").iter_rows()
    }
    inside = int((np.abs(actual[-200:]) <= 1.2816).sum())
    value, low, high = found["s20", "coverage_80_confidence"]
    wilson = stats.binomtest(inside, 200).proportion_ci(method="wilson")
    assert (value, low, high) == pytest.approx((inside / 200, wilson.low, wilson.high))
    adjusted = {s: found[s, "coverage_80_adjusted_p"][0] for s in sorted(set(names))}
    assert [s for s, p in adjusted.items() if p <= 0.05] == ["s20"]
    single = [
        2 * min(stats.binom.cdf(k, 200, 0.8), stats.binom.sf(k - 1, 200, 0.8))
        for k in (round(200 * found[s, "coverage_80"][0]) for s in adjusted)
    ]
    expected_p = stats.false_discovery_control(np.minimum(single, 1))
    np.testing.assert_allclose(list(adjusted.values()), expected_p)


def test_wilson_bands_are_scipys_and_hold_no_rows():
    low, high = wilson_bands([0, 3, 10, 0], [10, 10, 10, 0])
    for k, (a, b) in enumerate(zip(low[:3], high[:3], strict=True)):
        ends = stats.binomtest((0, 3, 10)[k], 10).proportion_ci(method="wilson")
        assert (a, b) == pytest.approx((ends.low, ends.high))
    assert (low[3], high[3]) == (0, 1)
