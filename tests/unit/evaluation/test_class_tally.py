"""Consumes cut-up rows of classes, checks that sums of parts are those of the whole and what scikit-learn says."""

from __future__ import annotations

import datetime as dt
import math

import numpy as np
import polars as pl
import pyarrow as pa
import pytest
from class_pages import LEVELS, THREE, TWO, rows_of, tallied

from assay.class_counts import BUCKET, bucket_of, counted_metrics, counted_ranking
from assay.class_metrics import checked, class_metrics, confusion, log_losses, ranking, reliability, top_lift
from assay.conformal.class_probabilities import Temperature
from assay.evaluation.class_segments import (
    class_figures_of,
    class_segment_table,
    confusion_of,
    day_band,
    ranking_error,
    reliability_of,
)
from assay.evaluation.class_tally import ClassTally, TallyClasses, probabilities_of
from assay.evaluation.evaluated import BEFORE, KnownRows
from assay.evaluation.over_time import coverage_over_time
from assay.evaluation.parts import PARTS
from assay.evaluation.rivals import compared, rival_lines
from assay.metrics import adjusted_p_values, wilson_bands
from assay.model.rates import RateBaselines


def known(classes, count=600, seed=0, skew=0.0):
    """`rows_of` with ids, a rival and a model that is the surer the larger `skew`."""
    rows = rows_of(classes, count, seed)
    p = np.array(rows["probabilities"].to_list())
    rows = rows.with_columns(probabilities=pl.Series((Temperature(1 / (1 + skew))(p)).tolist()))
    return rows.with_columns(pl.Series("row_id", range(7_000, 7_000 + count)), baseline_rare=pl.lit(0.4))


def through_tasks(rows, spec, tasks):
    parts = []
    for task in range(tasks):
        mine = rows.gather_every(tasks, task)
        parts += list(TallyClasses(spec)(iter(mine.to_arrow().to_batches(max_chunksize=17))))
    return ClassTally.unpacked(pa.Table.from_batches(parts, PARTS), spec)


def alike(first, second):
    assert first.select(pl.col(pl.String)).equals(second.select(pl.col(pl.String)))
    numbers = [frame.select(pl.col(pl.Float64).fill_null(-1)).to_numpy() for frame in (first, second)]
    np.testing.assert_allclose(*numbers, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("classes", [TWO, THREE])
def test_any_number_of_tasks_gives_the_table_of_one(classes):
    rows = known(classes)
    whole, spec = tallied(rows, classes)
    table = class_segment_table(whole, spec)
    for tasks in (1, 9):
        found = through_tasks(rows, spec, tasks)
        assert found.complete
        assert found.sample["row_id"].to_list() == whole.sample["row_id"].to_list()
        alike(class_segment_table(found, spec), table)
        alike(found.days, whole.days)


@pytest.mark.parametrize("classes", [TWO, THREE])
def test_sums_say_of_every_segment_what_its_rows_say(classes):
    rows = known(classes)
    tally, spec = tallied(rows, classes)
    for column, segment, part in (
        ("", "", rows),
        ("town", "t1", rows.filter(pl.col("town") == "t1")),
        ("town", "(missing)", rows.filter(pl.col("town").is_null())),
    ):
        actual, each = part["actual"].to_numpy(), probabilities_of(part, len(classes))
        found = class_figures_of(tally, spec, column)[segment]
        expected = class_metrics(actual, each)
        assert {name: found[name] for name in expected} == pytest.approx(expected)
    actual, each = rows["actual"].to_numpy(), probabilities_of(rows, len(classes))
    np.testing.assert_array_equal(confusion_of(tally, spec), confusion(actual, each.argmax(axis=1), classes))
    np.testing.assert_allclose(reliability_of(tally), reliability(actual, each)[1:])


@pytest.mark.parametrize(
    "counts",
    [[[5, 0], [0, 0]], [[0, 4], [0, 3]], [[2, 0], [7, 0]], [[1, 2, 0], [0, 0, 0], [3, 0, 4]]],
    ids=["one class alone", "one is never said", "the other never said", "one never came"],
)
def test_counts_of_classes_that_never_came_say_what_scikit_learn_says(counts):
    counts = np.array(counts)
    actual, said = (np.repeat(place.ravel(), counts.ravel()) for place in np.indices(counts.shape))
    expected = class_metrics(actual, np.eye(len(counts))[said] * 0.9 + 0.1 / len(counts))
    found = counted_metrics(counts)
    assert found == pytest.approx({name: expected[name] for name in found})


@pytest.mark.parametrize("seed", range(3))
def test_a_ranking_of_buckets_is_right_to_the_bound_that_it_tells(seed):
    rows = known(TWO, 4_000, seed)
    tally, spec = tallied(rows, TWO, most=50)
    assert not tally.complete
    actual, p = rows["actual"].to_numpy(), probabilities_of(rows, 2)[:, 1]
    exact, found = ranking(actual, p), class_figures_of(tally, spec, "")[""]
    bound = ranking_error(tally, spec)
    assert 0 < abs(found["auc"] - exact["auc"]) <= bound < 0.001
    assert found["average_precision"] == pytest.approx(exact["average_precision"], abs=0.001)
    assert found["top_tenth_lift"] == pytest.approx(exact["top_tenth_lift"], abs=0.01)
    assert ranking_error(*tallied(rows, TWO)) == 0
    coarse = {c: np.bincount((p[actual == c] * 8).astype(int), minlength=8) for c in (0, 1)}
    worse, wide = counted_ranking(coarse[0], coarse[1])
    assert abs(worse["auc"] - exact["auc"]) > bound  # the control: eight buckets miss it, within their own bound
    assert abs(worse["auc"] - exact["auc"]) <= wide
    eighths = top_lift(actual, np.floor(p * 8))  # ties stand for their mean in both
    assert worse["top_tenth_lift"] == pytest.approx(eighths)
    assert abs(eighths - exact["top_tenth_lift"]) > 0.01


def test_buckets_keep_the_order_of_probabilities_and_take_any():
    p = np.sort(np.concatenate([np.random.default_rng(0).uniform(size=500), [0.0, 1e-300, 1.0]]))
    found = bucket_of(p)
    assert (np.diff(found) >= 0).all()
    middle = bucket_of(np.array([0.5, 0.5 + BUCKET / 2]))
    assert 0 <= middle[1] - middle[0] <= 2


def test_every_segment_says_whether_its_sets_are_off_their_promise():
    rows = known(TWO)
    table = class_segment_table(*tallied(rows, TWO))
    towns = table.filter(pl.col("segment_column") == "town").pivot("metric", index=["segment", "rows"], values="value")
    inside = (towns["coverage_80"] * towns["rows"]).round().to_numpy()
    expected = adjusted_p_values(inside, towns["rows"].to_numpy(), 0.8)
    np.testing.assert_allclose(towns["coverage_80_adjusted_p"], expected)
    ends = table.filter((pl.col("segment_column") == "town") & (pl.col("metric") == "coverage_80_confidence"))
    low, high = wilson_bands(inside, towns["rows"].to_numpy())
    np.testing.assert_allclose(ends["low"], low)
    np.testing.assert_allclose(ends["high"], high)


def test_bands_by_day_are_wider_where_rows_of_a_day_err_together():
    """600 rows on 60 days. Days that err as one have ten times less to say; rows alone would not see it."""
    random, width = np.random.default_rng(1), {}
    start = dt.datetime(2020, 1, 1, tzinfo=dt.timezone.utc)
    for together in (False, True):
        draws = random.uniform(size=(60, 1 if together else 10)).repeat(10 if together else 1, axis=1).ravel()
        rows = pl.DataFrame(
            {
                "time": [start + dt.timedelta(days=n // 10) for n in range(600)],
                "actual": (draws < 0.3).astype(float),
                "probabilities": [[0.7, 0.3]] * 600,
                **{f"set_{label}": [["no"]] * 600 for label in ("80", "90")},
                "town": ["a"] * 600,
            }
        )
        tally, _ = tallied(rows, TWO)
        low, high = day_band(tally, "accuracy")
        assert low < 0.7 < high or together
        width[together] = high - low
    assert width[False] == pytest.approx(2 * 1.96 * np.sqrt(0.3 * 0.7 / 600), rel=0.3)
    assert width[True] > 2 * width[False]
    few, _ = tallied(rows.head(70), TWO)
    assert day_band(few, "log_loss") is None


def test_rivals_are_compared_on_the_same_rows_by_whole_days():
    rows = known(TWO, skew=0.0)
    tally, _ = tallied(rows, TWO)
    found = {one.name: one for one in compared(tally, seed=1, root=False)}
    losses = class_metrics(rows["actual"].to_numpy(), probabilities_of(rows, 2))["log_loss"]
    assert found["global_rate"].loss == pytest.approx(losses)
    assert found["global_rate"].rival_loss == pytest.approx(np.log(2))
    assert found["global_rate"].verdict == "better"
    assert found["rare"].verdict == "worse"
    lines = rival_lines(list(found.values()), "log_loss")
    assert set(lines["metric"]) == {"log_loss", "log_loss_difference"}
    over = coverage_over_time(tally, LEVELS, window_days=28, false_discovery_rate=0.05)
    assert [one.level for one in over] == LEVELS
    assert sum(month.rows for month in over[0].months) == 600


def test_baselines_and_the_champion_before_are_told_by_their_log_loss():
    line = {"days": [None], "slope_0": [None], "slope_1": [None]}
    groups = ({"rate_0": [0.75], "rate_1": [0.25], **line},)
    rules = RateBaselines(
        classes=2, group_columns=(), end_days=18_000.0, span_days=300.0, groups=groups,
        seasons=({"season": [], "rate_0": [], "rate_1": []},),
    )  # fmt: skip

    class Sure:
        input_columns = ("town",)

        def model(self):
            return self

        def probabilities(self, batch):
            return np.tile([0.9, 0.1], (batch.num_rows, 1))

    kernel = KnownRows("sold", ("town",), {}, None, (), rules, before=Sure(), before_map=Temperature(2.0))
    batch = pa.record_batch(
        {
            "row_id": [1, 2],
            "time": pa.array([dt.datetime(2019, 5, 1, tzinfo=dt.timezone.utc)] * 2, pa.timestamp("us", "UTC")),
            "sold": [1.0, 0.0],
            "town": ["a", "b"],
        }
    )
    (found,) = kernel(iter([batch]))
    assert found.column("baseline_global_rate").to_pylist() == pytest.approx(-np.log([0.25, 0.75]))
    served = Temperature(2.0)([[0.9, 0.1]])[0]
    assert found.column(BEFORE).to_pylist() == pytest.approx((-np.log(served[[1, 0]])).tolist())


def test_rows_without_days_have_bands_as_wide_as_their_own():
    rows = known(TWO, count=2_000).with_columns(time=pl.lit(dt.datetime(1970, 1, 1, tzinfo=dt.timezone.utc)))
    one_day, _ = tallied(rows, TWO)
    assert day_band(one_day, "accuracy") is None
    assert math.isnan(compared(one_day, seed=1, root=False)[0].low)
    tally, spec = tallied(rows, TWO, dated=False)
    alike(through_tasks(rows, spec, 7).days, tally.days)
    low, high = day_band(tally, "accuracy")
    share = class_metrics(rows["actual"].to_numpy(), probabilities_of(rows, 2))["accuracy"]
    assert (high - low) / 2 == pytest.approx(1.96 * np.sqrt(share * (1 - share) / 2_000), rel=0.2)
    (rare,) = (one for one in compared(tally, seed=1, root=False, dated=False) if one.name == "rare")
    assert rare.verdict == "worse"
    assert rare.drawn.replace("\u00a0", " ") == "200 random groups"
    p, codes = checked(rows["actual"].to_numpy(), probabilities_of(rows, 2))
    spread = np.std(log_losses(codes, p) - 0.4)
    assert rare.high - rare.low == pytest.approx(2 * 1.96 * spread / np.sqrt(2_000), rel=0.2)
