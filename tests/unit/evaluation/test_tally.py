"""Consumes cut-up rows, checks that sums of parts are those of the whole, and medians of buckets right."""

import numpy as np
import polars as pl
import pyarrow as pa
import pytest

from assay.evaluation.parts import DAY, PARTS, TallySpec
from assay.evaluation.row_figures import REFERENCE
from assay.evaluation.segments import rival_table, segment_table, table_of
from assay.evaluation.tally import ACCURACY, Tally, TallyRows, medians
from assay.metrics import pinball_losses, point_metrics

LEVELS = (0.8, 0.9)


def evaluated(market, **changes):
    rows = market(entities=20, times=30, **changes)
    return rows.with_columns(
        pl.Series("row_id", range(1000, 1000 + rows.height)),
        (pl.col("actual") * 0.99).alias(REFERENCE),
    )


def spec_of(rows, most=10**6, **changes):
    rivals = tuple(name for name in rows.columns if name.startswith("baseline_"))
    kept = ("time", "actual", "prediction", "city", *rivals)
    return TallySpec(LEVELS, ("city",), rivals, kept, most=most, **changes)


def through_tasks(rows, spec, tasks):
    """Rows dealt to tasks, in small batches, each through the kernel; what the driver makes of it."""
    parts = []
    for task in range(tasks):
        mine = rows.gather_every(tasks, task)
        parts += list(TallyRows(spec)(iter(mine.to_arrow().to_batches(max_chunksize=17))))
    return Tally.unpacked(pa.Table.from_batches(parts, PARTS), spec)


def test_any_number_of_tasks_gives_the_table_of_one(market):
    rows = evaluated(market)
    spec = spec_of(rows)
    one, many = (through_tasks(rows, spec, tasks) for tasks in (1, 7))
    assert one.rows == many.rows == rows.height
    assert one.complete
    assert one.sample.equals(many.sample)
    table = table_of(one, spec)
    at_once = segment_table(rows, ["city"], LEVELS)
    for first, second in ((table, table_of(many, spec)), (one.days, many.days), (table, at_once)):
        assert first.select(pl.col(pl.String)).equals(second.select(pl.col(pl.String)))
        numbers = [frame.select(pl.col(pl.Float64).fill_null(-1)).to_numpy() for frame in (first, second)]
        np.testing.assert_allclose(*numbers, rtol=1e-9, atol=1e-12)


def test_medians_of_a_sampled_tally_are_right_to_their_bound(market):
    rows = evaluated(market)
    spec = spec_of(rows, most=50)
    tally = through_tasks(rows, spec, 3)
    assert tally.sample.height == 50
    assert not tally.complete
    exact = {
        (r["segment_column"], r["segment"]): r["value"]
        for r in segment_table(rows, ["city"], LEVELS).filter(pl.col("metric") == "median_ape").to_dicts()
    }
    found = table_of(tally, spec).filter(pl.col("metric") == "median_ape")
    assert found.height == len(exact) == 21
    for line in found.to_dicts():
        assert line["value"] == pytest.approx(exact[line["segment_column"], line["segment"]], rel=ACCURACY)


def test_buckets_take_errors_of_any_size_and_none():
    sizes = np.array([0.0, 0.0, 0.0, 1e-12, 1e12])
    rows = pl.DataFrame({"time": [None] * 5, "actual": [1.0] * 5, "prediction": 1 + sizes}).cast({"time": pl.Datetime})
    tally = Tally.measure(rows, TallySpec(()))
    assert medians(tally.buckets)["median_ape"].to_list() == [0.0]


def test_every_rival_is_measured_where_it_predicts(market):
    rows = evaluated(market).with_columns(
        pl.when(pl.col("city") == "city 0003").then(pl.col("baseline_group_median")).alias("baseline_rare")
    )
    spec = spec_of(rows)
    tally = through_tasks(rows, spec, 2)
    lines = {line["segment"]: line for line in rival_table(tally, spec).to_dicts()}
    assert set(lines) == set(spec.rivals)
    part = rows.filter(pl.col("baseline_rare").is_not_null())
    expected = point_metrics(part["actual"].to_numpy(), part["baseline_rare"].to_numpy())
    assert lines["baseline_rare"]["rows"] == part.height
    for name in ("rmse", "r2", "median_ape", "within_20pct"):
        assert lines["baseline_rare"][name] == pytest.approx(expected[name])
    days = tally.days.filter(pl.col("rival") == "baseline_rare")
    assert days["other"].sum() == pytest.approx(expected["rmse"] ** 2 * part.height)
    assert days["model"].sum() == pytest.approx(((part["prediction"] - part["actual"]) ** 2).sum())


def test_pinball_is_that_of_both_ends_as_quantiles(market):
    rows = evaluated(market)
    table = segment_table(rows, [], LEVELS)
    value = dict(table.select("metric", "value").iter_rows())
    for label, level in (("80", 0.8), ("90", 0.9)):
        ends = rows.select(f"lower_{label}", f"upper_{label}").to_numpy()
        expected = pinball_losses(rows["actual"].to_numpy(), ends, [(1 - level) / 2, (1 + level) / 2]).mean()
        assert value[f"pinball_{label}"] == pytest.approx(expected)
    middle = pinball_losses(rows["actual"].to_numpy(), rows.select("prediction").to_numpy(), [0.5]).mean()
    assert value["pinball_50"] == pytest.approx(middle)


def test_direction_counts_moves_calls_and_what_following_them_gave():
    rows = pl.DataFrame(
        {
            "time": pl.Series(["2020-01-01"] * 6).str.to_datetime(time_zone="UTC"),
            REFERENCE: [100.0, 100.0, 100.0, 100.0, None, 0.0],
            "actual": [110.0, 90.0, 120.0, 100.0, 7.0, 1.0],
            "prediction": [105.0, 101.0, 100.0, 104.0, 9.0, 1.0],
        }
    )
    (line,) = Tally.measure(rows, TallySpec(())).of(DAY).to_dicts()
    # Moved: rows 1, 2, 3 and 6; called: those but the third; right: the first and the last.
    assert (line["moved_sum"], line["called_sum"], line["right_sum"]) == (4, 3, 2)
    # Relative returns: +10 %, -10 %, no position, none made; nothing is known of row 5, nothing relative of row 6.
    assert (line["returns_rows"], line["returns_sum"]) == (4, pytest.approx(0.0))
    (plain,) = Tally.measure(rows, TallySpec((), relative=False)).of(DAY).to_dicts()
    assert (plain["returns_rows"], plain["returns_sum"]) == (5, pytest.approx(10 - 10 + 0 + 0 + 1))
