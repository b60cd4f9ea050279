"""Consumes a job's command line, produces its death in the middle; and a twin of the workspace that knows no death."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import assay
from assay.errors import AssayError

CODE = "import sys; from assay.cli import main; main(sys.argv[1:])"
OF_SPARK = ("PYSPARK_SUBMIT_ARGS", "PYSPARK_GATEWAY_PORT", "PYSPARK_GATEWAY_SECRET")
SECONDS = 300  # within which a job must come to its middle
LAKE, STORE = "lake", "mlflow.db"


def kill_in_the_middle(arguments: Sequence[str], workspace: Path) -> bool:
    """Run a job as a process of its own and end it by SIGKILL, with all that it started, once it writes.

    Its middle is the first new file below `lake`: rows are on their way, no commit has them.
    Returns:
        whether it died there; False where it had nothing to write.

    Raises:
        AssayError: it comes to no end.
    """
    before = _files(workspace / LAKE)
    log = workspace / "logs" / "killed.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("wb") as sink:
        process = subprocess.Popen(
            [sys.executable, "-c", CODE, *arguments],
            env=_environment(),
            stdout=sink,
            stderr=sink,
            start_new_session=True,
        )
    deadline = time.monotonic() + SECONDS
    try:
        while process.poll() is None:
            if _files(workspace / LAKE) - before:
                return True
            if time.monotonic() > deadline:
                raise AssayError(f"assay {arguments[0]} wrote nothing in {SECONDS} s; its log: {log}")
            time.sleep(0.005)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    if process.returncode:
        raise AssayError(f"assay {arguments[0]} failed before it could be killed; its log: {log}")
    return False


def make_twin(workspace: Path, twin: Path) -> None:
    """Copy what jobs know of a workspace: its tables, as links to the same files, and MLflow's store.

    Files of a table never change once they are there, so links are safe.
    """
    shutil.rmtree(twin, ignore_errors=True)
    twin.mkdir(parents=True)
    shutil.copytree(workspace / LAKE, twin / LAKE, copy_function=os.link)
    shutil.copy(workspace / STORE, twin / STORE)


def same_rows(workspace: Path, twin: Path, tables: Sequence[str]) -> bool:
    """Whether both have the same rows of each table, bit for bit."""
    return all(_rows(workspace, name) == _rows(twin, name) for name in tables)


def _rows(workspace: Path, table: str) -> list[tuple[object, ...]]:
    import polars as pl
    from deltalake import DeltaTable

    found = pl.from_arrow(DeltaTable(workspace / LAKE / table).to_pyarrow_table())
    assert isinstance(found, pl.DataFrame)
    names = sorted(found.columns)
    return sorted(found.select(names).rows(), key=repr)


def _files(folder: Path) -> set[str]:
    """Data files on their way or there; without Delta's own logs."""
    found: set[str] = set()
    for root, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if name != "_delta_log"]
        found.update(os.path.join(root, name) for name in names)
    return found


def _environment() -> dict[str, str]:
    """That of a process that starts its own Spark and finds this very package."""
    found = {name: value for name, value in os.environ.items() if name not in OF_SPARK}
    places = [str(Path(assay.__file__).parents[1]), *filter(None, [found.get("PYTHONPATH")])]
    return {**found, "PYTHONPATH": os.pathsep.join(places)}
