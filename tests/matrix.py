"""Consumes versions of Python, Spark and MLflow, produces what the tests say under each: `matrix [CELL ...]`.

Each cell has an environment of its own below `build/matrix`: the libraries of requirements-dev.lock for its Python,
with the cell's other versions put over them, and Delta's jar for its Spark. The environment of the other commands stays
as it is. Without tests named, a cell runs the units, the demo and the jobs that touch every table (`TESTS`). What it
says in full is in `build/matrix/CELL.log`.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / "build" / "matrix"
TESTS = (
    "tests/unit",
    "tests/e2e/test_demo.py",
    "tests/spark/test_plane_flows.py",
    "tests/spark/test_plane_writes.py",
    "tests/spark/test_features_job.py",
    "tests/spark/test_scoring_job.py",
    "tests/spark/test_deploy_job.py",
)
SHOWN = ("pyspark", "delta-spark", "mlflow", "polars", "pyarrow", "numpy")


@dataclasses.dataclass(frozen=True)
class Cell:
    """Versions that are tested together. over: library -> version that replaces the locked one."""

    python: str
    over: Mapping[str, str] = dataclasses.field(default_factory=dict)


CELLS = {
    "python3.10": Cell("3.10"),
    "python3.11": Cell("3.11"),
    "python3.12": Cell("3.12"),
    "spark4.0": Cell("3.11", {"pyspark": "4.0.5"}),
    "mlflow3.8": Cell("3.11", {"mlflow": "3.8.1"}),
    "oldest": Cell("3.10", {"pyspark": "4.0.1", "mlflow": "3.8.1"}),
}


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What the tests said under a cell. failed: errors too; -1 where there was no environment to run them in."""

    cell: str
    python: str
    versions: Mapping[str, str]
    passed: int
    failed: int
    skipped: int
    seconds: float

    def line(self) -> str:
        """For people."""
        told = "no environment, see its log" if self.failed < 0 else f"{self.passed} passed, {self.failed} failed"
        versions = ", ".join(f"{name} {version}" for name, version in self.versions.items())
        return (
            f"{self.cell:12s}{told}, {self.skipped} skipped, {self.seconds:,.0f} s\n{'':12s}{self.python}, {versions}"
        )


def run(name: str, tests: list[str]) -> Outcome:
    """Make a cell's environment and run tests in it."""
    cell, folder, log = CELLS[name], FOLDER / name, FOLDER / f"{name}.log"
    python, start = folder / "bin" / "python", time.monotonic()
    with log.open("w", encoding="utf-8") as sink:
        try:
            _make(cell, folder, python, sink)
        except subprocess.CalledProcessError as error:
            print(error, file=sink)
            return Outcome(name, cell.python, cell.over, 0, -1, 0, time.monotonic() - start)
        versions = _versions(python)
        print(f"{name}: {', '.join(f'{k} {v}' for k, v in versions.items())}", file=sys.stderr, flush=True)
        command = [str(python), "-m", "pytest", "-p", "no:cacheprovider", *tests]
        done = subprocess.run(command, cwd=ROOT, env=_environment(folder), stdout=sink, stderr=sink, check=False)
    counts = counted(log.read_text(encoding="utf-8", errors="replace"))
    failed = counts["failed"] + counts["error"] or (-1 if done.returncode not in {0, 1} else 0)
    told = versions.pop("python")
    return Outcome(name, told, versions, counts["passed"], failed, counts["skipped"], time.monotonic() - start)


def counted(text: str) -> dict[str, int]:
    """Tests by how they ended, of pytest's last line."""
    last = next((line for line in reversed(text.splitlines()) if re.search(r"\d+ (passed|failed|error)", line)), "")
    found = {
        kind.rstrip("s"): int(number) for number, kind in re.findall(r"(\d+) (passed|failed|skipped|errors?)", last)
    }
    return {"passed": 0, "failed": 0, "skipped": 0, "error": 0, **found}


def _make(cell: Cell, folder: Path, python: Path, sink: object) -> None:
    ready = folder / "_READY"
    wanted = json.dumps([cell.python, dict(cell.over), (ROOT / "requirements-dev.lock").stat().st_mtime_ns])
    if ready.is_file() and ready.read_text(encoding="utf-8") == wanted:
        return
    uv = str(Path(sys.executable).parent / "uv")
    print(f"making an environment with Python {cell.python} {dict(cell.over) or ''}", file=sys.stderr, flush=True)
    shutil.rmtree(folder, ignore_errors=True)
    into = ["--python", str(python)]
    locks = ["--require-hashes", "--build-constraints", "requirements-uv.lock", "requirements-dev.lock"]
    steps = [
        [uv, "venv", "--quiet", "--seed", "--python", cell.python, str(folder)],
        [uv, "pip", "sync", *into, *locks],
    ]
    if cell.over:
        steps.append([uv, "pip", "install", *into, *(f"{name}=={version}" for name, version in cell.over.items())])
    steps.append([uv, "pip", "install", *into, "--no-deps", "--no-build-isolation", "--editable", "."])
    steps.append([str(python), "-m", "assay.runtime.jars"])
    for step in steps:
        subprocess.run(step, cwd=ROOT, env=_environment(folder), stdout=sink, stderr=sink, check=True)  # type: ignore[call-overload]
    ready.write_text(wanted, encoding="utf-8")


def _environment(folder: Path) -> dict[str, str]:
    """This process's, without what belongs to its own environment."""
    kept = {k: v for k, v in os.environ.items() if k not in {"PYTHONPATH", "VIRTUAL_ENV", "PYSPARK_PYTHON"}}
    return {**kept, "PATH": f"{folder / 'bin'}{os.pathsep}{os.environ['PATH']}"}


def _versions(python: Path) -> dict[str, str]:
    told = (
        "import json, platform, sys; from importlib.metadata import version; print(json.dumps({'python': 'Python ' + "
    )
    told += "platform.python_version(), **{name: version(name) for name in sys.argv[1:]}}))"
    found = subprocess.run([str(python), "-c", told, *SHOWN], capture_output=True, text=True, check=True)
    return dict(json.loads(found.stdout))


def main() -> int:
    """Parse, run, print."""
    parser = argparse.ArgumentParser(
        prog="assay matrix", description="The tests under other versions of what assay uses."
    )
    parser.add_argument("cells", nargs="*", metavar="CELL", help=f"of {', '.join(CELLS)}; default: all")
    parser.add_argument("--tests", nargs="+", default=list(TESTS), metavar="PATH", help="default: " + " ".join(TESTS))
    parser.add_argument("--json", action="store_true", help="make the last line of standard output one JSON object")
    options = parser.parse_args()
    unknown = sorted(set(options.cells) - set(CELLS))
    if unknown:
        parser.error(f"no such cell: {', '.join(unknown)}; there are {', '.join(CELLS)}")
    FOLDER.mkdir(parents=True, exist_ok=True)
    found = []
    for name in options.cells or CELLS:
        found.append(run(name, options.tests))
        print(found[-1].line(), flush=True)
    if options.json:
        print(json.dumps({"matrix": [dataclasses.asdict(one) for one in found]}))
    return int(any(one.failed for one in found))


if __name__ == "__main__":
    sys.exit(main())
