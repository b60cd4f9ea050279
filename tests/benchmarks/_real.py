"""Consumes the name of a real data set, produces what a contender works in: a workspace with its observations."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks._session import open_warm, settings

ROOT = Path(__file__).resolve().parents[2]


def generate(_: Path, __: int) -> None:
    """Nothing: the data are real."""


def talks() -> bool:
    """Whether contenders say how far they are: `$ASSAY_BENCHMARK_TALKS`."""
    return bool(os.environ.get("ASSAY_BENCHMARK_TALKS"))


def opened(dataset: str, workspace: Path, overrides: Sequence[str], profile: str = "production") -> Any:
    """The context of jobs on a data set. overrides: as `--set` has them."""
    from assay.config import load_run
    from assay.runtime.job import JobContext
    from assay.runtime.progress import Reporter

    config = load_run(
        dataset=ROOT / "conf" / "datasets" / f"{dataset}.yml",
        profile=profile,
        workspace=workspace,
        overrides=overrides,
    )
    return JobContext(config, settings(), Reporter(quiet=not talks()))


def observed(dataset: str, workspace: Path, overrides: Sequence[str], profile: str = "production") -> Any:
    """The same in a fresh workspace that holds the observations, with Spark warm."""
    from assay.pipeline import JOBS

    shutil.rmtree(workspace, ignore_errors=True)
    open_warm(str)
    context = opened(dataset, workspace, overrides, profile)
    JOBS["ingest"].run(context)
    return context
