"""Consumes nothing but the installed packages, checks what a stranger gets from the demo, once and again."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from job_process import finished

pytestmark = pytest.mark.e2e

METRICS = {
    *("test_r2", "test_rmse", "test_mae", "test_median_ape", "test_within_20pct", "best_baseline_rmse"),
    *("coverage_80", "coverage_90", "width_80", "width_90"),
}


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    """The demo twice in one folder: two finished processes."""
    folder = tmp_path_factory.mktemp("a place")
    return [finished("demo", "--json", cwd=folder) for _ in range(2)]


def test_it_prints_what_a_person_wants_to_know(demo):
    first = demo[0]
    assert first.returncode == 0, first.stderr
    sentences = ("Half of all predictions", "smaller than that of the strongest simple rule", "report: ", "mlflow ui")
    for words in (*sentences, "Best segment: city", "Worst segment: city", "80 % interval held", "90 % interval held"):
        assert words in first.stdout.replace("\u202f", " "), words
    for noise in ("WARN", "INFO", "Traceback"):
        assert noise not in first.stderr + first.stdout
    for stage in ("ingest", "build_features", "train", "calibrate", "score", "evaluate"):
        assert re.search(rf"^{stage}$", first.stderr, re.MULTILINE), stage


def test_its_last_line_is_one_json_object(demo):
    result = json.loads(demo[0].stdout.splitlines()[-1])
    assert result["job"] == "demo"
    assert result["status"] == "done"
    assert set(result) == {"job", "status", "run_id", "identity", "metrics", "tables", "report"}
    metrics = result["metrics"]
    assert set(metrics) >= METRICS
    assert metrics["test_rmse"] < metrics["best_baseline_rmse"]
    # As they are fitted they hold 88 and 96 %: of errors of a model that knew less than the tested one. They follow.
    assert abs(metrics["coverage_80"] - 0.8) < 0.03
    assert abs(metrics["coverage_90"] - 0.9) < 0.02
    for state in result["tables"].values():
        assert Path(state["location"]).is_dir()
        assert state["version"] >= 1


def test_its_report_needs_nothing_else(demo):
    report = Path(json.loads(demo[0].stdout.splitlines()[-1])["report"])
    page = report.read_text(encoding="utf-8")
    assert len(page) < 3_000_000
    assert not re.search(r"""(src|href)\s*=\s*["']https?://""", page)
    assert "Nacogdoches" in page


def test_again_it_changes_nothing(demo):
    first, second = (json.loads(run.stdout.splitlines()[-1]) for run in demo)
    assert second["status"] == "unchanged"
    assert second["tables"] == first["tables"]
    assert second["identity"] == first["identity"]
    assert {k: second["metrics"][k] for k in METRICS} == {k: first["metrics"][k] for k in METRICS}
