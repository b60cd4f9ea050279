"""Consumes markets of awkward shapes, measures what build_features takes of time and memory on each.

* `even`: as many rows of 1,000 entities, daily: what the others are compared with;
* `hot_key`: 10 of 11 rows are of one entity, each at a time of its own;
* `wide_market`: 100,000 entities in one market.

All have the synthetic market's own data set: two columns with a history, two markets (one for `wide_market`), and the
production profile. Java may take 4 GB.
"""

from __future__ import annotations

import shutil
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks._session import open_warm
from benchmarks.features import import_ours
from benchmarks.features import outputs as rows_of
from benchmarks.harness import Benchmark, Contender

SHAPES: dict[str, dict[str, Any]] = {
    "even": {"entities": 1_000},
    "hot_key": {"entities": 1_001, "skew": 10 / 11},
    "wide_market": {"entities": 100_000, "frequency": "monthly", "regions": 1, "kinds": 1},
}


def generate(folder: Path, rows: int) -> None:
    """Each market, ingested; seed 7."""
    for name, shape in SHAPES.items():
        from assay.synthetic.config import market_config
        from assay.synthetic.job import generate as write

        config = market_config({"rows": rows, "seed": 7, **shape})
        context = open_warm(import_ours).sparkContext
        from assay.runtime.progress import Reporter

        write(config, folder / name, context=lambda context=context: context, reporter=Reporter(quiet=True))
        _run(folder, name, "ingest")


def _run(folder: Path, name: str, job: str) -> Any:
    from assay.config import load_run
    from assay.pipeline import JOBS
    from assay.runtime.job import JobContext
    from assay.runtime.progress import Reporter
    from assay.runtime.session import SparkSettings

    config = load_run(dataset=folder / name / "dataset.yml", workspace=folder / f"{name}-workspace")
    context = JobContext(config, SparkSettings(), Reporter(quiet=True))
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
