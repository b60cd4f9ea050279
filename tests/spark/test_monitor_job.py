"""Consumes a finished pipeline, checks that the job `monitor` tells exactly what changed between two windows."""

from __future__ import annotations

import contextlib
import datetime as dt

import polars as pl
import pytest
from scipy import stats

from assay.config import load_run
from assay.errors import ConfigError, DataError
from assay.monitoring.watching import Watching
from assay.runtime.job import JobContext
from assay.runtime.progress import Reporter
from assay.runtime.session import SparkSettings

pytestmark = pytest.mark.spark

DAYS = ("monitoring.window_days=200",)


@pytest.fixture(scope="module")
def monitored(finished, run_in):
    """The job's result, the detections that it wrote, its settings, and its other tables."""
    settings = (*finished.settings, *DAYS, "monitoring.by=[kind]", "monitoring.least_rows=10")
    result = run_in(finished.folder, "monitor", finished.dataset, overrides=settings)
    rows = finished.table("drift_detections").filter(pl.col("as_of") == pl.col("as_of").max())
    return result, rows, settings, {name: finished.table(name) for name in ("performance", "health")}


def windows(finished, rows, table):
    """Rows of a table in both windows, as the detections tell of them."""
    told, found = rows.row(0, named=True), finished.table(table)
    return [
        found.filter((pl.col("time") >= told[f"{name}_start"]) & (pl.col("time") < told[f"{name}_end"]))
        for name in ("reference", "current")
    ]


def residuals(predictions, finished):
    """Rows that have a residual, of days that are over when the run was made."""
    columns = ["row_id", "kind", "price"]
    known = predictions.join(finished.table("features").select(columns), on="row_id").drop_nulls(
        ["price", "prediction"]
    )
    newest = finished.table("features")["time"].max()
    known = known.filter(pl.col("time").dt.date() < newest.date())
    return known.with_columns((pl.col("price").cast(pl.Float64) - pl.col("prediction")).alias("residual"))


def test_numbers_are_scipys_for_all_rows_and_each_segment(finished, monitored):
    _, rows, *_ = monitored
    of_features = windows(finished, rows, "features")
    of_predictions = windows(finished, rows, "predictions")
    of_residuals = [residuals(part, finished) for part in of_predictions]
    assert all(part.height > 20 for part in (*of_features, *of_predictions))
    checked = 0
    for row in rows.filter(pl.col("kind") != "category").to_dicts():
        parts = {"prediction": of_predictions, "residual": of_residuals}.get(row["kind"], of_features)
        if row["segment"]:
            parts = [part.filter(pl.col("kind") == row["segment"].removeprefix("kind=")) for part in parts]
        values = [part[row["column"]].cast(pl.Float64).drop_nulls().drop_nans() for part in parts]
        assert [row["rows_reference"], row["rows_current"]] == [part.height for part in parts]
        if min(map(len, values)):
            wanted = stats.ks_2samp(*values, method="asymp")
            assert (row["ks"], row["ks_p"]) == pytest.approx((wanted.statistic, wanted.pvalue), rel=1e-9)
            assert row["wasserstein"] == pytest.approx(stats.wasserstein_distance(*values), rel=1e-9, abs=1e-12)
            checked += 1
    assert checked > 50
    assert set(rows["segment"]) == {"", "kind=big", "kind=small"}
    assert {"prediction", "width_80", "width_90", "residual", "city", "price__own__lag_1"} <= set(rows["column"])
    assert not [name for name in rows["column"] if name.startswith("calendar__")]


def test_categories_have_pearsons_test(finished, monitored):
    _, rows, *_ = monitored
    parts = windows(finished, rows, "features")
    (row,) = rows.filter((pl.col("column") == "city") & (pl.col("segment") == "")).to_dicts()
    cities = sorted(set(parts[0]["city"]))
    table = [[part.filter(pl.col("city") == city).height for city in cities] for part in parts]
    assert row["chi2"] == pytest.approx(stats.chi2_contingency(table, correction=False).statistic)
    assert row["ks"] is None


def test_adjusted_p_values_are_those_of_the_whole_run(monitored):
    _, rows, *_ = monitored
    assert rows["p_adjusted"].to_list() == pytest.approx(list(stats.false_discovery_control(rows["p"])))


def test_both_roads_say_the_same(finished, monitored, run_in):
    _, rows, settings, _ = monitored
    other = (*settings, "runtime.road=spark", "monitoring.task_bytes=1000000000")
    run_in(finished.folder, "monitor", finished.dataset, overrides=other)
    again = finished.table("drift_detections").filter(pl.col("as_of") == rows["as_of"][0])
    key = ["column", "segment"]
    assert again.sort(key).drop("new_categories").equals(rows.sort(key).drop("new_categories"), null_equal=True)


@pytest.mark.parametrize("road", ["arrow", "spark"])
def test_sketched_numbers_are_within_their_stated_error_of_scipys(finished, monitored, run_in, road):
    """Of sketches so small that they lose something; counts, categories and segments are what they were."""
    _, exact, settings, _ = monitored
    sketched = ("monitoring.sketch=always", "monitoring.sketch_points=16", f"runtime.road={road}")
    run_in(finished.folder, "monitor", finished.dataset, overrides=(*settings, *sketched))
    rows = finished.table("drift_detections").filter(pl.col("as_of") == exact["as_of"][0])
    assert set(exact["error"].drop_nulls()) == {0.0}
    whole, counts = pl.col("segment") == "", ["column", "rows_reference", "missing_current", "new_share", "chi2"]
    key = ["column", "segment"]
    assert (
        rows.filter(~whole)
        .sort(key)
        .drop("p_adjusted", "drifted", "reasons")
        .equals(exact.filter(~whole).sort(key).drop("p_adjusted", "drifted", "reasons"), null_equal=True)
    )
    assert rows.filter(whole).select(counts).sort("column").equals(exact.filter(whole).select(counts).sort("column"))
    of_features, of_predictions = windows(finished, rows, "features"), windows(finished, rows, "predictions")
    of_residuals = [residuals(part, finished) for part in of_predictions]
    lost = 0
    for row in rows.filter(whole & (pl.col("kind") != "category")).to_dicts():
        parts = {"prediction": of_predictions, "residual": of_residuals}.get(row["kind"], of_features)
        values = [part[row["column"]].cast(pl.Float64).drop_nulls().drop_nans() for part in parts]
        if min(map(len, values)):
            wanted = stats.ks_2samp(*values, method="asymp")
            assert abs(row["ks"] - wanted.statistic) <= row["error"] + 1e-9
            assert row["ks_p"] >= wanted.pvalue * (1 - 1e-9)
            lost += row["error"] > 0
    assert lost > 20


def test_windows_of_many_rows_are_sketched(finished, monitored, run_in):
    _, exact, settings, _ = monitored
    settings = (*settings, "monitoring.sketch_points=16", "monitoring.by=[]")
    for most, lost in ((1_000_000, False), (10, True)):
        run_in(finished.folder, "monitor", finished.dataset, overrides=(*settings, f"monitoring.exact_rows={most}"))
        rows = finished.table("drift_detections").filter(pl.col("as_of") == exact["as_of"][0])
        assert (rows["error"].max() > 0) == lost


def test_a_second_run_changes_nothing_and_another_date_stands_beside_it(finished, monitored, run_in):
    result, rows, settings, _ = monitored
    run_in(finished.folder, "monitor", finished.dataset, overrides=settings)  # the other road wrote last
    assert run_in(finished.folder, "monitor", finished.dataset, overrides=settings).status == "unchanged"
    earlier = run_in(finished.folder, "monitor", finished.dataset, overrides=settings, date="2012-11-15")
    assert earlier.metrics["columns"] == result.metrics["columns"]
    found = finished.table("drift_detections")
    assert set(found["as_of"]) == {rows["as_of"][0], "2012-11-15"}
    assert found.filter(pl.col("as_of") == rows["as_of"][0]).height == rows.height
    past = found.filter(pl.col("as_of") == "2012-11-15")
    assert past["current_end"].max() < dt.datetime(2012, 11, 16, tzinfo=dt.timezone.utc)


@pytest.mark.parametrize("road", ["arrow", "spark"])
def test_a_window_of_monthly_rows_has_eight_dates_without_being_told(finished, road):
    config = load_run(
        dataset=finished.folder / "dataset.yml",
        workspace=finished.folder,
        overrides=(*finished.settings, f"runtime.road={road}"),
    )
    with contextlib.closing(JobContext(config, SparkSettings(), Reporter(quiet=True))) as context:
        reference, current = Watching.of(context, config.dataset.targets[0]).windows
    times = finished.table("features")["time"]
    of_window = times.filter((times >= current.start) & (times < current.end)).n_unique()
    assert of_window in {7, 8}  # eight times 28 days, or half of what there is since the test began
    assert reference.end <= current.start


def test_days_are_those_of_predictions_beside_outcomes(finished, monitored):
    days = monitored[-1]["performance"]
    outcomes = finished.table("features").select("row_id", actual="price")
    joined = finished.table("predictions").join(outcomes, on="row_id").with_columns(day=pl.col("time").dt.date())
    assert days["rows"].sum() == joined.height
    for row in days.to_dicts():
        mine = joined.filter((pl.col("day") == row["day"]) & (pl.col("model_version") == row["model_version"]))
        known = mine.drop_nulls("actual")
        assert (row["rows"], row["known"], row["awaited"]) == (mine.height, known.height, mine.height - known.height)
        if known.height:
            error = known["prediction"] - known["actual"]
            held = known.filter(pl.col("actual").is_between("lower_80", "upper_80")).height / known.height
            told = [row[name] for name in ("rmse", "mae", "bias", "coverage_80", "width_80")]
            wanted = [(error**2).mean() ** 0.5, error.abs().mean(), error.mean(), held, known["width_80"].mean()]
            assert told == pytest.approx(wanted)
    assert days["matured"].to_list() == (days["day"] < days["day"].max()).to_list()
    assert set(days["role"]) == {"champion"}


def test_health_is_made_of_its_parts(monitored):
    result, *_, tables = monitored
    parts = {row["part"]: row for row in tables["health"].to_dicts()}
    assert set(parts) == {"all", "error", "coverage", "features", "volume", "quality", "response"}
    assert result.metrics["health"] == pytest.approx(parts["all"]["score"])
    known = [part for name, part in parts.items() if name != "all" and part["score"] is not None]
    mean = sum(p["score"] * p["weight"] for p in known) / sum(p["weight"] for p in known)
    assert parts["all"]["score"] == pytest.approx(mean)
    assert parts["volume"]["value"] == 6
    assert any("health of price" in line for line in result.summary)


def test_mistakes_are_told(finished, run_in):
    with pytest.raises(ConfigError, match=r"monitoring\.by: the features have no column shop"):
        run_in(finished.folder, "monitor", finished.dataset, overrides=(*finished.settings, "monitoring.by=[shop]"))
    with pytest.raises(DataError, match="no row to watch"):
        run_in(finished.folder, "monitor", finished.dataset, overrides=finished.settings, date="1999-01-01")


def test_a_page_tells_of_health(finished, monitored, run_in):
    _, _, settings, _ = monitored
    result = run_in(finished.folder, "monitor", finished.dataset, overrides=(*settings, "monitoring.response_ms=4999"))
    path = finished.folder / "reports" / "health-price.html"
    assert result.report == str(path)
    text = path.read_text(encoding="utf-8")
    whole = finished.table("health").filter(pl.col("part") == "all").sort("as_of")
    assert f"price is at {whole['score'][-1]:.0f} of 100" in text
    alerts = finished.table("alerts").filter(pl.col("status") == "open")
    assert alerts.height
    words = "alert is" if alerts.height == 1 else "alerts are"
    assert f"<strong>{alerts.height}</strong><span>{words} open" in text
    none = run_in(finished.folder, "monitor", finished.dataset, overrides=(*settings, "monitoring.report=false"))
    assert none.report is None
    assert path.read_text(encoding="utf-8") == text
