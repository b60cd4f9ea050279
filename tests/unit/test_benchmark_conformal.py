"""Consumes few scores, checks that contenders of `benchmark conformal` do the same work and tell ratios right."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

TESTS = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(TESTS))

from benchmarks import conformal  # noqa: E402
from benchmarks.harness import Outcome  # noqa: E402


@pytest.fixture(scope="module")
def figures(tmp_path_factory):
    """What every contender finds in 100,000 scores, and in 4 segments over 40 days."""
    pytest.importorskip("mapie")
    folder = tmp_path_factory.mktemp("build") / "conformal"
    folder.mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(conformal, "DAYS", 40)
        patch.setattr(conformal, "ROWS_PER_SEGMENT", 100_000)
        conformal.generate(folder, 100_000)
        contenders = conformal.BENCHMARK.contenders
        return {name: dict(one.outputs(one.run(one.prepare(folder)))) for name, one in contenders.items()}


def test_quantiles_of_polars_are_a_rank_or_so_from_ours(figures):
    for level in ("mean_80%", "mean_90%"):
        assert figures["polars"][level] == pytest.approx(figures["assay"][level], rel=0.1)
        assert figures["polars"][level] < figures["assay"][level], "of 100 rows a segment, the correction shows"
        assert figures["weighted"][level] > figures["assay"][level], "fewer effective rows, so a larger correction"


def test_mapie_s_loop_comes_to_our_coverage(figures):
    ours, theirs = figures["adaptive"], figures["mapie_adaptive"]
    assert ours["segments"] == theirs["segments"] == 4
    for level in (0.8, 0.9):
        assert ours[f"coverage_{level:.0%}"] == pytest.approx(theirs[f"coverage_{level:.0%}"], abs=0.01)
        assert ours[f"coverage_{level:.0%}"] == pytest.approx(level, abs=0.05)


def test_ratios_are_ours_over_theirs_at_as_many_segments(figures):
    seconds = {"assay": 1.0, "weighted": 3.0, "polars": 2.0, "adaptive": 5.0, "mapie_adaptive": 8.0}
    outputs = {**figures, "adaptive": {**figures["adaptive"], "segments": 1000.0}}
    outcome = Outcome(
        benchmark="conformal",
        rows=1,
        seconds=seconds,
        ratios={},
        spread=dict.fromkeys(seconds, 0.0),
        max_difference=0.0,
        peak_mb=dict.fromkeys(seconds, 1.0),
        peak_python_mb=dict.fromkeys(seconds, 1.0),
        outputs=outputs,
    )
    table, summary = conformal.report(outcome)
    assert summary["ratios"] == {"polars": 0.5, "polars_weighted": 1.5, "mapie_adaptive": pytest.approx(5 / 2000)}
    assert "400 times faster than MAPIE's loop, which ran 4 of 1000 segments in 8.0 s; scaled up, 2,000 s" in table


def test_data_are_what_the_docstring_says(tmp_path):
    conformal.generate(tmp_path, 50_000)
    weights = np.load(tmp_path / "weights.npy")
    assert weights.shape == (50_000,)
    assert 0 < weights.min() < weights.max() <= 1
    assert np.load(tmp_path / "panel.npy").shape == (5, conformal.WINDOW + conformal.DAYS, conformal.PER_DAY)
