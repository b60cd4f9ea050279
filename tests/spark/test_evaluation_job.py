"""Consumes a finished pipeline, checks that every figure of the evaluation can be computed again from its tables."""

from __future__ import annotations

import re

import numpy as np
import polars as pl
import pytest
from scipy import stats

from assay.metrics import point_metrics

pytestmark = pytest.mark.spark


@pytest.fixture(scope="module")
def outcomes(finished):
    """Predictions with a known outcome, and what the baselines need."""
    features = finished.table("features").select("row_id", "price", "kind", "price__own__lag_1")
    return finished.table("predictions").join(features, on="row_id").filter(pl.col("price").is_not_null())


def test_point_figures_are_those_of_the_tables(finished, outcomes):
    expected = point_metrics(outcomes["price"].to_numpy(), outcomes["prediction"].to_numpy())
    for name in ("r2", "rmse", "mae", "median_ape", "within_20pct"):
        assert finished.result.metrics[f"test_{name}"] == pytest.approx(expected[name], rel=1e-12)


def test_coverage_and_width_are_those_of_the_tables(finished, outcomes):
    actual = outcomes["price"].to_numpy()
    for label in ("80", "90"):
        lower, upper = outcomes[f"lower_{label}"].to_numpy(), outcomes[f"upper_{label}"].to_numpy()
        metrics = finished.result.metrics
        assert metrics[f"coverage_{label}"] == np.mean((lower <= actual) & (actual <= upper))
        assert metrics[f"width_{label}"] == pytest.approx(np.mean(upper - lower), rel=1e-12)
        assert metrics[f"coverage_{label}_chance_low"] <= int(label) / 100 <= metrics[f"coverage_{label}_chance_high"]


def test_evaluation_and_training_agree_on_the_test_period(finished):
    """Two ways to the same figures: the trainer's own test, and predictions read back from the table."""
    tracking = finished.tracking()
    runs = {
        job: tracking.client.search_runs([tracking.experiment_id], f"tags.`assay.job` = '{job}'")[0].data.metrics
        for job in ("train", "evaluate")
    }
    for name in ("test_rmse", "test_r2", "test_mae", "best_baseline_rmse"):
        assert runs["evaluate"][name] == pytest.approx(runs["train"][name], rel=1e-9)


def test_the_segment_table_says_the_same_for_each_segment_with_its_rows_and_band(finished, outcomes):
    table = finished.table("segment_metrics")
    assert set(table["target"]) == {"price"}
    values = {(r["segment_column"], r["segment"], r["metric"]): r for r in table.to_dicts()}
    assert len(values) == table.height
    for kind in ("big", "small"):
        rows = outcomes.filter(pl.col("kind") == kind)
        actual = rows["price"].to_numpy()
        rmse = values["kind", kind, "rmse"]
        assert (rmse["rows"], rmse["low"]) == (rows.height, None)
        assert rmse["value"] == pytest.approx(np.sqrt(np.mean((actual - rows["prediction"].to_numpy()) ** 2)), rel=1e-9)
        covered = values["kind", kind, "coverage_90"]
        inside = (rows["lower_90"].to_numpy() <= actual) & (actual <= rows["upper_90"].to_numpy())
        assert covered["value"] == pytest.approx(np.mean(inside))
        assert covered["low"] <= covered["high"]
        assert covered["low"] >= stats.binom.ppf(0.001, rows.height, 0.5) / rows.height
    assert values["", "", "rmse"]["value"] == pytest.approx(finished.result.metrics["test_rmse"])


def test_bands_months_and_decisions_split_all_rows_and_rivals_are_met_on_them(finished, outcomes):
    table = finished.table("segment_metrics")
    for column in ("price band", "month", "decision at 80", "decision at 90"):
        parts = table.filter((pl.col("segment_column") == column) & (pl.col("metric") == "rmse"))
        assert parts["rows"].sum() == outcomes.height, column
    months = table.filter((pl.col("segment_column") == "month") & (pl.col("metric") == "coverage_90"))
    for segment, value, rows in months.select("segment", "value", "rows").iter_rows():
        part = outcomes.filter(pl.col("time").dt.strftime("%Y-%m") == segment)
        held = (part["lower_90"] <= part["price"]) & (part["price"] <= part["upper_90"])
        assert (value, rows) == (pytest.approx(held.mean()), part.height)
    rivals = table.filter((pl.col("segment_column") == "compared with") & (pl.col("metric") == "rmse"))
    told = dict(rivals.select("segment", "value").iter_rows())
    last = outcomes.filter(pl.col("price__own__lag_1").is_not_null())
    assert last.height == outcomes.height
    expected = np.sqrt(np.mean((last["price"] - last["price__own__lag_1"].cast(pl.Float64)).to_numpy() ** 2))
    assert told["last_value"] == pytest.approx(expected, rel=1e-6)
    moved = (outcomes["price"] - outcomes["price__own__lag_1"].cast(pl.Float64)).to_numpy()
    called = (outcomes["prediction"] - outcomes["price__own__lag_1"].cast(pl.Float64)).to_numpy()
    right = np.mean(np.sign(moved[moved != 0]) == np.sign(called[moved != 0]))
    assert finished.result.metrics["direction_accuracy"] == pytest.approx(right)


def test_explanations_add_up_to_the_predictions_in_the_table(finished, outcomes):
    """On the model's scale: the logarithm of the price over the last one."""
    table = finished.table("explanations")
    sums = table.group_by("row_id").agg(pl.col("contribution").sum(), pl.col("feature").n_unique(), pl.len())
    assert sums.height == outcomes.height  # fewer rows than a sample has
    assert (sums["feature"] == sums["len"]).all()
    assert set(sums["len"]) == {1 + finished.config.profile.explain.features + 1}
    joined = sums.join(outcomes, on="row_id", validate="1:1").filter(pl.col("price__own__lag_1").is_not_null())
    ratio = np.log(joined["prediction"].to_numpy() / joined["price__own__lag_1"].cast(pl.Float64).to_numpy())
    np.testing.assert_allclose(joined["contribution"].to_numpy(), ratio, atol=2e-6)
    assert set(table["model_version"]) == set(outcomes["model_version"])
    page = open(finished.result.report, encoding="utf-8").read()  # noqa: SIM115
    assert "What moves predictions most" in page
    assert "kind small" in page


def test_the_report_is_one_file_that_needs_no_other_and_holds_the_figures(finished):
    page = open(finished.result.report, encoding="utf-8").read()  # noqa: SIM115
    assert not re.search(r"""(?:src|href)\s*=\s*["'](?!data:|#)""", page)
    assert "@import" not in page
    assert "<script src" not in page
    assert page.count("<svg") >= 4
    metrics = finished.result.metrics
    for text in (
        f"{metrics['test_rmse']:,.0f}",
        f"{100 * metrics['coverage_80']:.1f}",
        f"{100 * metrics['coverage_90']:.1f}",
        "kind",
    ):
        assert text in page, text
    assert re.search(r"town \d", page)  # one of them, drawn with its intervals


def test_report_plots_and_segments_are_kept_in_mlflow_too(finished):
    tracking = finished.tracking()
    (run,) = tracking.client.search_runs([tracking.experiment_id], "tags.`assay.job` = 'evaluate'")
    names = {item.path for item in tracking.client.list_artifacts(run.info.run_id)}
    assert {"report.html", "segment_metrics.csv", "plots"} <= names
    plots = {item.path for item in tracking.client.list_artifacts(run.info.run_id, "plots")}
    assert {
        f"plots/{name}.svg"
        for name in ("predicted", "residuals", "coverage", "importance", "rivals", "over_time", "kept")
    } <= plots
    with tracking.download(run.info.run_id, "report.html") as path, open(finished.result.report, "rb") as report:
        assert path.read_bytes() == report.read()


def test_again_nothing_changes_and_a_lost_report_comes_back(finished, run_in):
    again = run_in(finished.folder, "evaluate", finished.dataset, overrides=finished.settings)
    assert (again.status, again.report) == ("unchanged", finished.result.report)
    assert again.tables["segment_metrics"] == finished.result.tables["segment_metrics"]
    before = finished.table("segment_metrics")
    report = finished.folder / "reports" / "evaluation-price.html"
    page = report.read_bytes()
    report.unlink()
    assert run_in(finished.folder, "evaluate", finished.dataset, overrides=finished.settings).status == "done"
    assert report.read_bytes() == page
    columns = sorted(before.columns)
    assert finished.table("segment_metrics").select(columns).sort(columns).equals(before.select(columns).sort(columns))


def test_the_summary_tells_error_coverage_and_segments(finished):
    text = "\n".join(finished.result.summary)
    for word in ("RMSE", "80", "90", "Best segment: kind", "Worst segment: kind", "quality gates"):
        assert word in text
