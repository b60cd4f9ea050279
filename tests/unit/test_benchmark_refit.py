"""Checks that `benchmark refit` says of every method what was measured, and calibrates by what is pooled."""

from __future__ import annotations

import math
from types import SimpleNamespace

import numpy as np
import polars as pl
import pytest

from assay.config.conformal import ConformalConfig
from benchmarks.harness import Outcome
from benchmarks.refit import FORWARD, _figures, report


def test_the_report_is_a_list_of_objects():
    told = {f"refit|0.8|{name}": 0.5 for name in ("coverage", "worst_month", "mean_width", "interval_score")}
    told |= {"refit|0.8|rows": 10.0, "refit|0.8|worst_segment": math.nan, "refit|point|r2": 0.9, "refit|point|rmse": 2}
    told |= {f"{name}|point|seconds": 7.0 for name in FORWARD.values()}
    text, summary = report(Outcome("refit", 0, {}, {}, {}, 0.0, {}, {}, {"kc_house:assay": told}))
    (line,) = summary["refit"]
    assert (line["dataset"], line["method"], line["level"], line["r2"]) == ("kc_house", "refit", 0.8, 0.9)
    assert line["worst_segment"] is line["seconds"] is None
    assert "kc_house 80% refit" in text
    assert "training with 3 blocks 7 s, 5 blocks 7 s" in text


def test_rows_of_all_blocks_calibrate_and_figures_are_in_the_targets_unit():
    def rows(y, centre, first=1):
        day = pl.datetime_range(pl.datetime(2020, first, 1), pl.datetime(2020, first, len(y)), "1d", eager=True)
        day = day.dt.replace_time_zone("UTC")
        columns = {"time": day, "segment": [""] * len(y), "y": y, "centre": centre, "zero": np.ones(len(y))}
        return pl.DataFrame(columns)

    blocks = [rows(np.full(n, error), np.zeros(n)) for n, error in ((15, 0.1), (5, 0.4))]
    dataset = SimpleNamespace(
        segments=(), targets=[SimpleNamespace(name="price", transform="log")], delay_days=lambda _: 0
    )
    pace = {"step_size": 0.0, "damping_rows": 50.0, "adaptive_way": "aci"}
    profile = SimpleNamespace(conformal=ConformalConfig(min_segment_rows=1, **pace))
    context = SimpleNamespace(config=SimpleNamespace(dataset=dataset, profile=profile))
    later = rows(np.array([0.2, -0.3, 0.5, 0.05]), np.zeros(4), first=2)
    found = _figures(context, "some", blocks, later)
    assert found["some|0.8|mean_width"] == pytest.approx(math.exp(0.4) - math.exp(-0.4))  # rank 17 of 20
    assert found["some|0.8|coverage"] == 0.75
    # Without steps towards the aim: ranks 17 of 20, 18 of 21, 19 of 22 and 20 of 23 scores are all 0.4.
    assert found["some + follows|0.8|mean_width"] == pytest.approx(found["some|0.8|mean_width"])
    assert found["some|point|rmse"] == pytest.approx(np.sqrt(np.mean((np.exp([0.2, -0.3, 0.5, 0.05]) - 1) ** 2)))
