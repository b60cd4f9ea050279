"""Consumes a job's result, produces the last lines that a person reads of it, on standard output."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from assay.runtime.logs import redact
from assay.runtime.program import program

if TYPE_CHECKING:
    from assay.runtime.job import Result


def tell(name: str, result: Result, mlflow: str) -> None:
    """What came out, where the report is, and the command that opens MLflow."""
    for line in result.summary:
        print(line)
    print(f"{name}: {result.status}")
    if result.report:
        print(f"report: {Path(result.report).resolve()}")
    print(f"MLflow: {mlflow}", flush=True)


def command_of_each_day(dataset: Path, profile: str, workspace: Path | None, overrides: Sequence[str]) -> str:
    """The command that goes on each day with what `pipeline` began, as it was told; secrets are masked."""
    told = ["--dataset", str(dataset), *(["--profile", profile] if profile != "production" else [])]
    told += ["--workspace", str(workspace)] if workspace is not None else []
    for one in overrides:
        told += ["--set", redact(one)]
    return shlex.join([program(), "daily", *told])
