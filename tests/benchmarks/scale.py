"""Consumes markets of awkward shapes, measures what build_features takes of time and memory on each.

* `even`: as many rows of 1,000 entities, daily: what the others are compared with;
* `hot_key`: 10 of 11 rows are of one entity, each at a time of its own;
* `wide_market`: 100,000 entities in one market.

All have the synthetic market's own data set, two columns with a history among it, and the production profile.
"""

from __future__ import annotations

import shutil
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks._panel import import_ours
from benchmarks._session import open_warm, settings
from benchmarks.features import outputs as rows_of
from benchmarks.harness import Benchmark, Contender

SHAPES: dict[str, dict[str, Any]] = {
    "even": {"entities": 1_000},
    "hot_key": {"entities": 1_001, "skew": 10 / 11},
    "wide_market": {"entities": 100_000, "frequency": "monthly", "regions": 1, "kinds": 1},
}


def generate(folder: Path, rows: int) -> None:
    """Each market, ingested; seed 7."""
    from assay.runtime.progress import Reporter
    from assay.synthetic.config import market_config
    from assay.synthetic.job import generate as write

    spark = open_warm(import_ours).sparkContext
    for name, shape in SHAPES.items():
        config = market_config({"rows": rows, "seed": 7, **shape})
        write(config, folder / name, context=lambda: spark, reporter=Reporter(quiet=True))
        _run(folder, name, "ingest")


def _run(folder: Path, name: str, job: str) -> Any:
    from assay.config import load_run
    from assay.pipeline import JOBS
    from assay.runtime.job import JobContext
    from assay.runtime.progress import Reporter

    config = load_run(dataset=folder / name / "dataset.yml", workspace=folder / f"{name}-workspace")
    context = JobContext(config, settings(), Reporter(quiet=True))
    try:
        return JOBS[job].run(context)
    finally:
        context.close()


def prepare(data: Path, name: str) -> tuple[Path, str]:
    """No features yet; Spark started."""
    shutil.rmtree(data / f"{name}-workspace" / "lake" / "features", ignore_errors=True)
    open_warm(import_ours)
    return data, name


def run(state: tuple[Path, str]) -> str:
    """The job."""
    return str(_run(*state, "build_features").tables["features"].location)


BENCHMARK = Benchmark(
    name="scale",
    rows=5_500_000,
    generate=generate,
    contenders={name: Contender(partial(prepare, name=name), run, rows_of, against="even") for name in SHAPES},
    repeats=1,
)
