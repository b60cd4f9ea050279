"""Consumes real data sets, compares what families of features earn: R² and median error on the same later rows.

Each contender is ingest, build_features and train on a workspace of its own, with the production profile; the time is
that of features and training. Variants of each data set:

* `raw`: the columns of the row itself, of its target's past nothing (so `relative_to` is off);
* `temporal`: calendar and history added, and the target learned as the data set says;
* `market`: market features added to raw;
* `interactions`: interaction features added to raw;
* `all`: all of it.

The split is by time over the same rows, so all variants are tested on the same ones. The data are looked for where
their YAML says, in the current folder and in `$ASSAY_DATA`.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import yaml

from benchmarks._real import ROOT, generate, observed
from benchmarks.harness import Benchmark, Contender, Outcome

DATASETS = ("walmart_weekly", "kc_house")
FLAGS = {
    "raw": (),
    "temporal": ("temporal",),
    "market": ("market",),
    "interactions": ("interaction",),
    "all": ("temporal", "market", "interaction"),
}
FIGURES = ("test_r2", "test_median_ape", "test_rmse", "test_within_20pct", "best_baseline_rmse", "features")


def overrides(dataset: str, variant: str) -> list[str]:
    """The `--set` texts of a variant."""
    flags = FLAGS[variant]
    told = ["training.force_production_quality=false", f"training.enable_advanced_features={str(bool(flags)).lower()}"]
    told.append("serving.learns_until=tune")  # one fit is enough to compare inputs
    told += [
        f"training.enable_{family}_features={str(family in flags).lower()}"
        for family in ("temporal", "market", "interaction")
    ]
    if "temporal" not in flags:
        tree = yaml.safe_load((ROOT / "conf" / "datasets" / f"{dataset}.yml").read_text(encoding="utf-8"))
        bare = [{k: v for k, v in target.items() if k != "relative_to"} for target in tree["targets"]]
        told.append(f"dataset.targets={json.dumps(bare)}")
    return told


def prepare(data: Path, dataset: str, variant: str) -> Any:
    """A fresh workspace with its observations."""
    return observed(dataset, data / "runs" / f"{dataset}-{variant}", overrides(dataset, variant))


def run(context: Any) -> Mapping[str, float]:
    """Features, training, calibration."""
    from assay.pipeline import JOBS

    built = JOBS["build_features"].run(context)
    trained = JOBS["train"].run(context)
    context.close()
    return {**trained.metrics, "features": built.metrics["features"]}


def outputs(metrics: Mapping[str, float]) -> Mapping[str, float]:
    """The figures of interest, and those of every baseline."""
    names = [*FIGURES, *(name for name in metrics if name.startswith("baseline_"))]
    return {name: float(metrics[name]) for name in names if name in metrics}


@dataclasses.dataclass(frozen=True)
class Line:
    """One variant's line: figures, and what it earns over raw columns, relative to their R²."""

    r2: float
    median_ape: float
    features: int
    seconds: float
    peak_mb: float
    r2_gain: float | None


def report(outcome: Outcome) -> tuple[str, Mapping[str, Any]]:
    """One table over all data sets, and the same as data: {data set: {variant or "best_baseline": figures}}."""
    lines = [f"{'':32s}{'R²':>8s}{'over raw':>10s}{'median error':>14s}{'features':>10s}{'seconds':>9s}{'MB':>8s}"]
    summary: dict[str, dict[str, Any]] = {}
    for dataset in DATASETS:
        found = {v: outcome.outputs[name] for v in FLAGS if (name := f"{dataset}:{v}") in outcome.outputs}
        if not found:
            continue
        summary[dataset] = {"best_baseline": _best_baseline(found)}
        r2, error = summary[dataset]["best_baseline"]["r2"], summary[dataset]["best_baseline"]["median_ape"]
        lines.append(f"{dataset + ': best baseline':32s}{r2:8.3f}{'':10s}{error:14.1%}")
        raw = found.get("raw", {}).get("test_r2")
        for variant, figures in found.items():
            name = f"{dataset}:{variant}"
            r2 = figures["test_r2"]
            gain = r2 / raw - 1 if raw and raw > 0 else None
            line = Line(
                r2=r2,
                median_ape=figures["test_median_ape"],
                features=int(figures["features"]),
                seconds=outcome.seconds[name],
                peak_mb=outcome.peak_mb[name],
                r2_gain=gain,
            )
            summary[dataset][variant] = dataclasses.asdict(line)
            earned = f"{gain:+10.1%}" if gain is not None else f"{'':10s}"
            lines.append(
                f"{dataset + ': ' + variant:32s}{r2:8.3f}{earned}{line.median_ape:14.1%}{line.features:10d}"
                f"{line.seconds:9.1f}{line.peak_mb:8,.0f}"
            )
    return "\n".join(lines), {"accuracy": summary}


def _best_baseline(found: Mapping[str, Mapping[str, float]]) -> dict[str, Any]:
    """Of all baselines that any variant had, the one with the least error. All were tested on the same rows."""
    names = {
        n.removeprefix("baseline_").removesuffix("_rmse") for f in found.values() for n in f if n.endswith("_rmse")
    }
    best: dict[str, Any] = {"rmse": float("inf")}
    for figures in found.values():
        variance = figures["test_rmse"] ** 2 / (1 - figures["test_r2"])
        for name in sorted(names):
            rmse = figures.get(f"baseline_{name}_rmse", float("inf"))
            if rmse < best["rmse"]:
                error = figures[f"baseline_{name}_median_ape"]
                best = {"name": name, "rmse": rmse, "r2": 1 - rmse**2 / variance, "median_ape": error}
    return best


BENCHMARK = Benchmark(
    name="accuracy",
    rows=1,
    generate=generate,
    contenders={
        f"{dataset}:{variant}": Contender(
            partial(prepare, dataset=dataset, variant=variant), run, outputs, against=f"{dataset}:raw"
        )
        for dataset in DATASETS
        for variant in FLAGS
    },
    report=report,
    repeats=1,
)
