"""Consumes sources that miss a limit, checks that ingest refuses, what it leaves, and that each run's report stays."""

from __future__ import annotations

import json

import polars as pl
import pytest
from deltalake import DeltaTable

from assay.config import load_run
from assay.errors import EXIT_REFUSED, GateRefused
from assay.runtime.job import raise_if_refused
from assay.runtime.tracking import Tracking

pytestmark = pytest.mark.spark


def table(folder, name):
    frame = pl.from_arrow(DeltaTable(folder / "lake" / name).to_pyarrow_table())
    assert isinstance(frame, pl.DataFrame)
    return frame


def repeated(dataset, share):
    """The source with this share of its rows delivered twice."""
    path = dataset["source"]["path"]
    rows = pl.read_csv(path, infer_schema=False)
    pl.concat([rows, rows.head(int(share * rows.height))]).write_csv(path)


def test_a_missed_limit_stops_the_job_and_leaves_observations_alone(run_job, workspace, towns):
    dataset = towns(workspace, towns=3, months=40)
    first = run_job("ingest", dataset)
    assert first.metrics["quality_overall"] > 95
    before = table(workspace, "observations")
    repeated(dataset, 0.08)
    limit = ["ingest.quality_limits.duplicate_rows=0.05"]
    refused = run_job("ingest", dataset, overrides=limit)
    assert refused.status == "refused"
    told = refused.summary[0]
    assert "duplicate_rows is 0.06977 (9 of 129), above ingest.quality_limits.duplicate_rows=0.05" in told
    assert "observations were left as they were" in told
    with pytest.raises(GateRefused) as caught:
        raise_if_refused(refused)
    assert caught.value.exit_code == EXIT_REFUSED == 3
    assert table(workspace, "observations").equals(before)
    assert table(workspace, "observations_quarantine").height == 9

    reports = table(workspace, "quality_reports")
    assert set(reports["run"]) == {first.identity, refused.identity}  # the first run's report is still there
    row = reports.filter(
        (pl.col("run") == refused.identity) & (pl.col("measure") == "duplicate_rows") & (pl.col("column") == "")
    ).row(0, named=True)
    assert (row["status"], row["limit"], row["value"]) == ("fail", 0.05, pytest.approx(9 / 129))
    assert "dataset.duplicates=keep_last" in row["recommendation"]
    again = run_job("ingest", dataset, overrides=limit)
    assert (again.status, again.run_id, list(again.summary)) == ("refused", refused.run_id, list(refused.summary))
    assert table(workspace, "quality_reports").height == reports.height

    allowed = run_job("ingest", dataset, overrides=["runtime.road=spark"])
    assert allowed.status == "done"
    assert table(workspace, "observations").height == before.height
    kept = table(workspace, "quality_reports")
    assert set(kept["run"]) == {first.identity, refused.identity, allowed.identity}
    low_score = run_job("ingest", dataset, overrides=["ingest.min_quality_score=99.99"])
    assert "below ingest.min_quality_score=99.99" in low_score.summary[0]

    config = load_run(dataset=workspace / "dataset.yml", workspace=workspace)
    tracking = Tracking(config)
    run = tracking.client.get_run(allowed.run_id)
    assert run.data.metrics["quality_overall"] == pytest.approx(allowed.metrics["quality_overall"])
    assert run.data.metrics["quality_metric.duplicate_rows"] == pytest.approx(9 / 129)
    with tracking.download(allowed.run_id, "patterns.json") as path:
        patterns = json.loads(path.read_text())
    assert patterns[0]["series"] == "all rows together"
    assert patterns[0]["period_steps"] == 12
    assert {p["series"] for p in patterns[1:]} == {"town 0", "town 1", "town 2"}


def test_the_evaluation_report_tells_of_the_data_it_stands_on(finished):
    page = (finished.folder / "reports" / "evaluation-price.html").read_text(encoding="utf-8")
    assert "The data scored" in page
    reports = finished.table("quality_reports").filter(pl.col("column") == "")
    overall = reports.filter(pl.col("measure") == "score_overall")["value"].item()
    assert f"<strong>{overall:.1f}</strong>" in page
    for text in reports["recommendation"].drop_nulls():
        assert text.replace("'", "&#39;") in page
    assert "Trend and season of the longest series" in page
    assert "town 3" in page
