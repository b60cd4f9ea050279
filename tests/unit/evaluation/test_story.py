"""Consumes invented rows whose truth is known, checks slabs, time, rows kept, decisions and comparisons."""

import datetime as dt
import math

import numpy as np
import polars as pl
import pytest

from assay.config.evaluation import EvaluationConfig
from assay.evaluation.decisions import ABSTAIN, ACT, REVIEW, rules_of
from assay.evaluation.over_time import coverage_over_time
from assay.evaluation.parts import TallySpec
from assay.evaluation.risk import abstention, direction, lower_bounds, ranked_decisions
from assay.evaluation.rivals import compared
from assay.evaluation.row_figures import REFERENCE
from assay.evaluation.slabs import worst_slab
from assay.evaluation.story_wording import direction_sentence, drift_sentence, kept_sentence, slab_sentence
from assay.evaluation.tally import Tally
from assay.model.row_sample import row_hash

START = dt.datetime(2021, 1, 1, tzinfo=dt.timezone.utc)


def rows_of(days=200, a_day=20, seed=1, half_width=1.2816):
    """Rows whose outcomes are normal around 100 and whose 80 % intervals are right."""
    random = np.random.default_rng(seed)
    n = days * a_day
    prediction = np.full(n, 100.0)
    return pl.DataFrame(
        {
            "row_id": np.arange(n),
            "time": [START + dt.timedelta(days=int(k)) for k in np.repeat(np.arange(days), a_day)],
            "actual": prediction + random.normal(0, 1, n),
            "prediction": prediction,
            "lower_80": prediction - half_width,
            "upper_80": prediction + half_width,
            "size": random.uniform(0, 10, n),
            "age": random.uniform(0, 10, n),
        }
    ).with_columns(pl.Series("hash", row_hash(np.arange(n))))


def tally_of(rows, rivals=()):
    return Tally.measure(rows, TallySpec((0.8,), rivals=rivals))


GRID = {name: np.arange(1.0, 10.0) for name in ("size", "age")}


def test_the_worst_slab_is_found_where_it_was_planted():
    rows = rows_of()
    inside = (pl.col("size") > 3) & (pl.col("size") <= 5)
    rows = rows.with_columns(
        pl.when(inside).then(100 + 3 * (pl.col("actual") - 100)).otherwise("actual").alias("actual")
    )
    slab = worst_slab(rows, 0.8, GRID, least_share=0.1)
    assert slab.where.startswith("size above")
    truth = rows.filter(inside & (((pl.col("hash") // 2) % 2) == 0))
    assert slab.coverage == pytest.approx(0.33, abs=0.08)  # P(|3 z| <= 1.28)
    assert slab.low < 0.33 < slab.high
    assert slab.p_value < 1e-6
    assert slab.others == pytest.approx(0.8, abs=0.04)
    assert slab.rows <= truth.height
    assert "beyond chance" in slab_sentence(slab)


def test_of_intervals_that_hold_everywhere_the_search_finds_nothing():
    """The half that a slab was found on always looks bad; the other half does not."""
    found = [worst_slab(rows_of(seed=seed), 0.8, GRID, least_share=0.1) for seed in range(12)]
    assert np.mean([slab.found for slab in found]) < 0.76
    assert np.mean([slab.coverage for slab in found]) == pytest.approx(0.8, abs=0.015)
    assert sum(slab.p_value < 0.05 for slab in found) <= 3


def test_a_slab_has_at_least_its_share_and_few_rows_have_none():
    slab = worst_slab(rows_of(), 0.8, GRID, least_share=0.3)
    assert slab.found_rows >= 0.3 * 0.45 * 4000
    assert worst_slab(rows_of(days=5), 0.8, GRID, least_share=0.1) is None


def test_coverage_over_time_names_the_drift_and_the_worst_month():
    rows = rows_of(days=365)
    later = pl.col("time") >= START + dt.timedelta(days=243)  # 1 September
    rows = rows.with_columns(
        pl.when(later).then(100 + 2 * (pl.col("actual") - 100)).otherwise("actual").alias("actual")
    )
    (each,) = coverage_over_time(tally_of(rows), [0.8], window_days=28, false_discovery_rate=0.05)
    assert [month.start for month in each.months] == [dt.date(2021, m, 1) for m in range(1, 13)]
    assert sum(month.rows for month in each.months) == rows.height
    assert {m.start.month for m in each.months if m.off} >= {9, 10, 11, 12}
    assert each.worst_month.start.month >= 9
    march = rows.filter(pl.col("time").dt.month() == 3)
    held = march.select((pl.col("lower_80") <= pl.col("actual")) & (pl.col("actual") <= pl.col("upper_80"))).to_series()
    assert each.months[2].coverage == pytest.approx(held.mean())
    assert len(each.windows) == 365 - 27
    assert {w.rows for w in each.windows} == {28 * 20}
    assert each.worst_window.end >= dt.date(2021, 9, 20)
    assert each.drift.certain
    assert each.drift.change < -0.1
    assert each.drift.since == dt.date(2021, 7, 3)
    told = drift_sentence(each)
    assert "drifted down" in told
    assert "beyond chance" in told


def test_steady_coverage_does_not_drift():
    found = [
        coverage_over_time(tally_of(rows_of(seed=s)), [0.8], window_days=28, false_discovery_rate=0.05)[0].drift
        for s in range(20)
    ]
    assert sum(drift.certain for drift in found) <= 3


def test_days_that_err_together_make_drift_less_certain():
    """Twenty copies of each row are no more evidence than the row itself."""
    rows = rows_of(days=60, a_day=1)
    copied = pl.concat([rows] * 20)
    one, many = (
        coverage_over_time(tally_of(r), [0.8], window_days=28, false_discovery_rate=0.05)[0].drift
        for r in (rows, copied)
    )
    assert (many.low, many.high) == pytest.approx((one.low, one.high))


def test_widths_that_tell_save_error_and_widths_that_do_not_save_none():
    random = np.random.default_rng(0)
    spread = random.uniform(0.1, 2, 4000)
    error = spread * random.normal(0, 1, 4000)
    telling = pl.DataFrame(
        {"actual": 100 + error, "prediction": 100.0, "lower_80": 100 - spread, "upper_80": 100 + spread}
    )
    found = abstention(telling, 0.8)
    ape = np.abs(error) / np.abs(100 + error)
    kept = np.argsort(spread)[:2000]
    assert found.shares[9] == 0.5
    assert found.median_ape[9] == pytest.approx(np.median(ape[kept]))
    assert found.mae[9] == pytest.approx(np.abs(error[kept]).mean())
    assert (found.median_ape[-1], found.mae[-1]) == pytest.approx((np.median(ape), np.abs(error).mean()))
    assert found.area == pytest.approx(np.mean(found.median_ape) / found.median_ape[-1])
    assert found.ideal < found.area < 0.8
    assert "tell sure from unsure" in kept_sentence(found)
    absolute = abstention(telling, 0.8, typical=5.0)
    assert absolute.area == pytest.approx(np.mean(absolute.mae) / absolute.mae[-1])
    shuffled = telling.with_columns(pl.col("actual").shuffle(seed=1))
    assert abstention(shuffled, 0.8).area == pytest.approx(1, abs=0.08)
    assert abstention(telling.head(10), 0.8) is None
    turned = telling.with_columns((100 - 2 + (100 - pl.col("lower_80"))).alias("lower_80"))
    turned = turned.with_columns((200 - pl.col("lower_80")).alias("upper_80"))
    assert abstention(turned, 0.8).area > 1.2
    assert "mislead" in kept_sentence(abstention(turned, 0.8))


def test_rows_without_an_interval_are_left_undecided_first():
    rows = rows_of(days=10)
    rows = rows.with_columns(
        pl.when(pl.col("row_id") < 20).then(math.inf).otherwise("upper_80").alias("upper_80"),
        pl.when(pl.col("row_id") < 20).then(500.0).otherwise("actual").alias("actual"),
    )
    found = abstention(rows, 0.8)
    assert found.mae[17] < 2 < found.mae[-1]


def test_decisions_follow_the_width_over_the_prediction():
    config = EvaluationConfig(act_width=0.5, review_width=1.0)
    frame = pl.DataFrame(
        {
            "prediction": [100.0, 100.0, 100.0, 100.0, 100.0, 0.0],
            "lower_80": [75.0, 74.9, 50.0, 49.9, None, -1.0],
            "upper_80": [125.0, 125.0, 150.0, 150.0, None, 1.0],
            "lower_95": [0.0, 0.0, 0.0, 0.0, 0.0, 0.0],
            "upper_95": [math.inf, 30.0, 80.0, 120.0, math.nan, 1.0],
        }
    )
    standard, high = rules_of(config, (0.8, 0.95))
    assert (standard.level, high.level, high.stakes) == (0.8, 0.95, "high stakes")
    assert frame.select(standard.expression()).to_series().to_list() == [ACT, REVIEW, REVIEW, ABSTAIN, ABSTAIN, ABSTAIN]
    assert frame.select(high.expression()).to_series().to_list() == [ABSTAIN, ACT, REVIEW, ABSTAIN, ABSTAIN, ABSTAIN]
    (typical,) = rules_of(config, (0.8,), typical=4.0)
    assert frame.select(typical.expression()).to_series().to_list()[-1] == ACT


def test_lower_ends_add_up_and_undercut_ones_are_counted():
    rows = rows_of()
    (bound,) = lower_bounds(tally_of(rows), [0.8])
    below = rows.filter(pl.col("actual") < pl.col("lower_80"))
    assert bound.lower == pytest.approx(rows["lower_80"].sum())
    assert bound.predicted == pytest.approx(rows["prediction"].sum())
    assert bound.actual == pytest.approx(rows["actual"].sum())
    assert bound.below == pytest.approx(below.height / rows.height)
    assert bound.promised == pytest.approx(0.1)
    assert bound.shortfall == pytest.approx((below["lower_80"] - below["actual"]).mean())


def test_the_better_model_is_told_apart_and_a_twin_is_not():
    random = np.random.default_rng(4)
    rows = rows_of()
    noise = random.normal(0, 0.05, rows.height)
    rows = rows.with_columns(
        pl.Series("baseline_worse", 100 + random.normal(0, 1, rows.height)),
        pl.Series("baseline_twin", 100 + noise * np.sign(random.normal(size=rows.height))),
        (pl.col("actual") * 0.5 + 50).alias("baseline_champion before"),
    )
    rivals = ("baseline_worse", "baseline_twin", "baseline_champion before")
    found = {one.name: one for one in compared(tally_of(rows, rivals), seed=1)}
    assert found["worse"].verdict == "better"
    assert found["worse"].gain == pytest.approx(1 - 1 / math.sqrt(2), abs=0.03)
    assert found["worse"].gains[0] < found["worse"].gain < found["worse"].gains[1]
    assert found["champion before"].verdict == "worse"
    assert found["twin"].verdict == "not told apart"
    assert found["worse"].days == 200
    undated = TallySpec((0.8,), rivals=rivals, dated=False)
    drawn = {one.name: one for one in compared(Tally.measure(rows, undated), seed=1, dated=False)}
    assert drawn["worse"].loss == pytest.approx(found["worse"].loss)
    assert drawn["worse"].high - drawn["worse"].low == pytest.approx(found["worse"].high - found["worse"].low, rel=0.3)


def test_sharpe_is_of_days_and_reasons_are_said():
    rows = rows_of().with_columns(pl.lit(100.0).alias(REFERENCE), (pl.col("actual") * 0.2 + 80.1).alias("prediction"))
    found = direction(tally_of(rows), "last_value", "")
    gain = (rows["prediction"] - 100).sign() * (rows["actual"] - 100) / 100
    daily = rows.with_columns(gain.alias("gain")).group_by("time").agg(pl.col("gain").mean())["gain"]
    assert found.sharpe == pytest.approx(daily.mean() / daily.std())
    assert found.yearly == pytest.approx(found.sharpe * math.sqrt(365.25), rel=1e-6)
    right = ((rows["prediction"] - 100).sign() == (rows["actual"] - 100).sign()).mean()
    assert found.accuracy == found.win_rate == pytest.approx(right)
    rare = rows.with_columns(pl.when(pl.col("row_id") < 40).then(100.0).alias(REFERENCE))
    told = direction(tally_of(rare), "last_value", "")
    assert "only 40 of 4,000 rows" in told.why
    assert "left out" in direction_sentence(told)
    assert direction(tally_of(rows), None, "no reason").why == "no reason"


def test_tenths_of_the_combined_score_fall_where_it_orders_well():
    random = np.random.default_rng(0)
    score = random.uniform(size=1000)
    found = ranked_decisions(pl.Series(score), pl.Series(score + random.normal(0, 0.1, 1000)), ["a", "b"])
    assert found.correlation > 0.9
    assert all(before > after for before, after in zip(found.tenths[:-1], found.tenths[1:], strict=True))
    assert found.mean == pytest.approx(np.mean(found.tenths))
    assert ranked_decisions(pl.Series([0.5] * 100), pl.Series(score[:100]), ["a"]) is None
