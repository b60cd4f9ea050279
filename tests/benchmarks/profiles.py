"""Consumes real data sets, compares the three profiles: error, time and memory relative to `development`.

Each contender is `build_features` and `train` (calibration included) on a workspace of its own that holds the
observations. All are tested on the same later rows. The data are looked for where their YAML says, in the current
folder and in `$ASSAY_DATA`; `--only 'kc_house:*'` runs one data set.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks._real import generate, observed
from benchmarks.accuracy import run
from benchmarks.harness import Benchmark, Contender, Outcome

DATASETS = ("kc_house", "walmart_weekly")
PROFILES = ("development", "production", "research")
FIRST = PROFILES[0]
FIGURES = ("test_rmse", "test_r2", "test_median_ape", "features")


def prepare(data: Path, dataset: str, profile: str) -> Any:
    """A fresh workspace with its observations."""
    told = ["training.force_production_quality=false"]
    return observed(dataset, data / "runs" / f"{dataset}-{profile}", told, profile)


def outputs(metrics: Mapping[str, float]) -> Mapping[str, float]:
    """The figures of interest."""
    return {name: float(metrics[name]) for name in FIGURES}


def report(outcome: Outcome) -> tuple[str, Mapping[str, Any]]:
    """A line per data set and profile; changes are relative to development."""
    lines = [f"{'':28s}{'RMSE':>10s}{'R²':>8s}{'features':>10s}{'seconds':>9s}{'MB':>8s}   against {FIRST}"]
    summary: dict[str, Any] = {}
    for dataset in DATASETS:
        base = f"{dataset}:{FIRST}"
        for profile in PROFILES:
            if (name := f"{dataset}:{profile}") not in outcome.outputs:
                continue
            found, seconds, peak = outcome.outputs[name], outcome.seconds[name], outcome.peak_mb[name]
            line = {**found, "seconds": seconds, "peak_mb": peak}
            told = ""
            if base in outcome.outputs and name != base:
                line |= {
                    "error_change": found["test_rmse"] / outcome.outputs[base]["test_rmse"] - 1,
                    "time_change": seconds / outcome.seconds[base] - 1,
                    "memory_change": peak / outcome.peak_mb[base] - 1,
                }
                told = f"error {line['error_change']:+.1%}, time {line['time_change']:+.0%}, "
                told += f"memory {line['memory_change']:+.0%}"
            summary[name] = line
            lines.append(
                f"{name:28s}{found['test_rmse']:10,.0f}{found['test_r2']:8.3f}{found['features']:10.0f}{seconds:9.1f}"
                f"{peak:8,.0f}   {told}"
            )
    return "\n".join(lines), {"profiles": summary}


BENCHMARK = Benchmark(
    name="profiles",
    rows=1,
    generate=generate,
    contenders={
        f"{dataset}:{profile}": Contender(
            partial(prepare, dataset=dataset, profile=profile), run, outputs, against=f"{dataset}:{FIRST}"
        )
        for dataset in DATASETS
        for profile in PROFILES
    },
    report=report,
    repeats=1,
)
