"""Consumes real data sets, compares the three profiles: error, time and memory relative to `development`.

`production_raw` is the profile production on raw columns (`training.enable_advanced_features=false`): beside it one
sees what features alone cost, as the other profiles differ in rounds and refits, too. `production_selected` is the
profile production with the best 48 of its features (`preparation.selection`).

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
RAW, SELECTED = "production_raw", "production_selected"
VARIANTS = {
    RAW: ["training.enable_advanced_features=false"],
    SELECTED: ["preparation.selection={method: importance, max_features: 48}"],
}
FIRST = "development"
PROFILES = (FIRST, RAW, "production", SELECTED, "research")
FIGURES = ("test_rmse", "test_r2", "test_median_ape", "features")


def prepare(data: Path, dataset: str, profile: str) -> Any:
    """A fresh workspace with its observations."""
    told = ["training.force_production_quality=false", *VARIANTS.get(profile, [])]
    return observed(dataset, data / "runs" / f"{dataset}-{profile}", told, profile.partition("_")[0])


def outputs(metrics: Mapping[str, float]) -> Mapping[str, float]:
    """The figures of interest."""
    return {name: float(metrics[name]) for name in FIGURES}


def report(outcome: Outcome) -> tuple[str, Mapping[str, Any]]:
    """A line per data set and profile, relative to development; what its features cost production, relative to raw."""
    lines = [f"{'':32s}{'RMSE':>10s}{'R²':>8s}{'features':>10s}{'seconds':>9s}{'MB':>8s}"]
    summary: dict[str, Any] = {}
    for dataset in DATASETS:
        for profile in PROFILES:
            if (name := f"{dataset}:{profile}") not in outcome.outputs:
                continue
            found, seconds, peak = outcome.outputs[name], outcome.seconds[name], outcome.peak_mb[name]
            line: dict[str, Any] = {**found, "seconds": seconds, "peak_mb": peak}
            lines.append(
                f"{name:32s}{found['test_rmse']:10,.0f}{found['test_r2']:8.3f}{found['features']:10.0f}{seconds:9.1f}"
                f"{peak:8,.0f}"
            )
            for other in [FIRST] * (profile != FIRST) + [RAW] * (profile in ("production", SELECTED)):
                if (base := f"{dataset}:{other}") in outcome.outputs:
                    line[f"against_{other}"] = changes = _changes(outcome, name, base)
                    told = ", ".join(f"{figure} {change:+.0%}" for figure, change in changes.items())
                    lines.append(f"{'':34s}against {other}: {told}")
            summary[name] = line
    return "\n".join(lines), {"profiles": summary}


def _changes(outcome: Outcome, name: str, base: str) -> dict[str, float]:
    """How much more error, time and memory than the other, as shares."""
    error = {one: outcome.outputs[one]["test_rmse"] for one in (name, base)}
    pairs = {"error": error, "time": outcome.seconds, "memory": outcome.peak_mb}
    return {figure: each[name] / each[base] - 1 for figure, each in pairs.items()}


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
