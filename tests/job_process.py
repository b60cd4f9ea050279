"""Consumes the arguments of a job, produces a process of its own for it, as users run it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
CODE = "import sys; from assay.cli import main; main(sys.argv[1:])"


def environment() -> dict[str, str]:
    """The environment of a job that is not inside pytest's Spark."""
    found = {k: v for k, v in os.environ.items() if k not in {"PYSPARK_SUBMIT_ARGS", "PYSPARK_GATEWAY_PORT"}}
    return {**found, "PYTHONPATH": str(ROOT / "lib")}


def finished(*arguments: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Run a job to its end: finished("demo", "--json")."""
    return subprocess.run(
        [sys.executable, "-c", CODE, *arguments],
        cwd=cwd,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=400,
        check=False,
    )


def started(arguments: Sequence[str], stderr: Path) -> subprocess.Popen[bytes]:
    """Start a job as the head of a process group of its own, its standard error going to a file."""
    with stderr.open("wb") as sink:
        return subprocess.Popen(
            [sys.executable, "-c", CODE, *arguments],
            env=environment(),
            stdout=subprocess.DEVNULL,
            stderr=sink,
            start_new_session=True,
        )
